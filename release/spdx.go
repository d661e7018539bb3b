package main

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The parts of SPDX 2.3 that describe binaries and what is linked into them.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		License       string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Files         []spdxFile         `json:"files"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		Name     string          `json:"name"`
		ID       string          `json:"SPDXID"`
		Version  string          `json:"versionInfo"`
		Location string          `json:"downloadLocation"`
		Analyzed bool            `json:"filesAnalyzed"`
		Source   string          `json:"sourceInfo,omitempty"`
		License  string          `json:"licenseDeclared"`
		External []spdxReference `json:"externalRefs"`
	}
	spdxReference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxFile struct {
		Name  string         `json:"fileName"`
		ID    string         `json:"SPDXID"`
		Types []string       `json:"fileTypes"`
		Sums  []spdxChecksum `json:"checksums"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// A module is one that is linked.
type module struct{ path, version, sum string }

// sbom writes the list of what is linked into the binaries, from their build information. The same binaries give the
// same list: its date is that of the version in CHANGELOG.md, or the epoch if the version is not there.
func (r release) sbom(context.Context) error {
	date := "1970-01-01"
	changelog, err := os.ReadFile(filepath.Join(r.source, "CHANGELOG.md"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, day, err := find(string(changelog), r.version); err == nil {
		date = day
	}
	doc := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "oidc-dbt-" + r.version,
		Creation: spdxCreation{Created: date + "T00:00:00Z", Creators: []string{"Organization: oidc-dbt", "Tool: oidc-dbt-release"}},
	}
	linked, all := map[string][]string{}, map[string]module{} // by package: its binaries; its module
	all["main"] = module{path: "github.com/oidc-dbt/oidc-dbt", version: r.version}
	for _, p := range platforms {
		file, modules, err := r.describe(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.asset(), err)
		}
		doc.Files = append(doc.Files, file)
		for _, m := range modules {
			all[m.path] = m
			linked[m.path] = append(linked[m.path], file.ID)
		}
	}
	ids := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		pkg := describeModule(all[path], r.version)
		ids[path] = pkg.ID
		doc.Packages = append(doc.Packages, pkg)
	}
	for _, file := range doc.Files {
		doc.Relationships = append(doc.Relationships, spdxRelationship{doc.ID, "DESCRIBES", file.ID},
			spdxRelationship{file.ID, "GENERATED_FROM", ids["main"]})
	}
	for _, path := range slices.Sorted(maps.Keys(linked)) {
		for _, file := range linked[path] {
			doc.Relationships = append(doc.Relationships, spdxRelationship{file, "STATIC_LINK", ids[path]})
		}
	}
	return r.writeSBOM(doc)
}

// writeSBOM names the document by its content, and writes it.
func (r release) writeSBOM(doc spdxDocument) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	doc.Namespace = fmt.Sprintf("https://github.com/oidc-dbt/oidc-dbt/spdx/%s-%x", r.version, sha256.Sum256(text))
	if text, err = json.MarshalIndent(doc, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(r.asset("oidc-dbt.spdx.json"), append(text, '\n'), 0o644)
}

// describe returns a binary and the modules that it links, with the standard library.
func (r release) describe(p platform) (spdxFile, []module, error) {
	path := r.asset(p.asset())
	content, err := os.ReadFile(path)
	if err != nil {
		return spdxFile{}, nil, err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return spdxFile{}, nil, err
	}
	modules := []module{{path: "std", version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			return spdxFile{}, nil, fmt.Errorf("%s is replaced: a release has only published modules", dep.Path)
		}
		modules = append(modules, module{dep.Path, dep.Version, dep.Sum})
	}
	return spdxFile{
		Name: "./" + p.asset(), ID: "SPDXRef-File-" + p.asset(), Types: []string{"BINARY"},
		Sums: []spdxChecksum{
			{"SHA1", fmt.Sprintf("%x", sha1.Sum(content))}, // which SPDX 2.3 requires
			{"SHA256", fmt.Sprintf("%x", sha256.Sum256(content))},
		},
	}, modules, nil
}

// notInID are characters that an SPDX identifier must not have.
func notInID(c rune) rune {
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
		return c
	}
	return '-'
}

func describeModule(m module, version string) spdxPackage {
	id := cmp.Or(m.path+"-"+m.version, version)
	pkg := spdxPackage{
		Name: m.path, ID: "SPDXRef-Package-" + strings.Map(notInID, id), Version: m.version, Location: "NOASSERTION", License: "NOASSERTION",
		External: []spdxReference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.path + "@" + url.PathEscape(m.version)}},
	}
	switch {
	case m.sum != "":
		pkg.Source = "go.sum: " + m.sum
	case m.path == "std":
		pkg.License = "BSD-3-Clause"
	default:
		pkg.License = "Apache-2.0"
	}
	return pkg
}
