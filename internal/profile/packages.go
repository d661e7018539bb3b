package profile

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A Project is a dbt project and the packages that its lock file pins.
type Project struct {
	Name     string
	Lock     string   // the SHA-256 of package-lock.yml, in hexadecimal; "" without one
	Packages []string // NAME@VERSION of dbt's package hub, URL@REVISION of git, a tarball's URL, a local path
}

// Projects returns what the projects say of themselves, for the record. Folders
// are relative to root; none means root itself. What cannot be read is left
// out: it is not for the record to judge it.
func Projects(root string, dirs []string) (projects []Project) {
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(root, filepath.FromSlash(dir))
		}
		var p Project
		if text, err := readFile(filepath.Join(dir, "dbt_project.yml")); err == nil {
			if doc, err := parse(text); err == nil {
				p.Name = literal(get(doc, "name"))
			}
		}
		if text, err := readFile(filepath.Join(dir, "package-lock.yml")); err == nil {
			sum := sha256.Sum256(text)
			p.Lock, p.Packages = hex.EncodeToString(sum[:]), lockedPackages(text)
		}
		if p.Name != "" || p.Lock != "" {
			projects = append(projects, p)
		}
	}
	return projects
}

// lockedPackages returns the packages of a lock file as one text each. (dbt-core,
// core/dbt/contracts/project.py, PackageConfig)
func lockedPackages(text []byte) (packages []string) {
	doc, err := parse(text)
	if err != nil {
		return nil
	}
	list := get(doc, "packages")
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	for _, entry := range list.Content {
		of := func(key string) string { return literal(get(entry, key)) }
		name := ""
		switch {
		case of("package") != "":
			name = of("package") + "@" + of("version")
		case of("git") != "":
			name = withoutLogin(of("git")) + "@" + of("revision")
		case of("tarball") != "":
			name = withoutLogin(of("tarball"))
		case of("local") != "":
			name = "local:" + of("local")
		default:
			continue
		}
		if sub := of("subdirectory"); sub != "" {
			name += "#" + sub
		}
		packages = append(packages, name)
	}
	return packages
}

// literal returns the text of a scalar, "" where there is none.
func literal(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// withoutLogin returns a URL without its user, password and query: private
// repositories are often named with a token.
func withoutLogin(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return scpLike(text)
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// scpLike is git's other form of an address, USER@HOST:PATH, without the user.
func scpLike(text string) string {
	if _, rest, found := strings.Cut(text, "@"); found {
		return rest
	}
	return text
}
