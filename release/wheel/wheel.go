// Package wheel packs a release's binaries as wheels, from which pip, pipx and uv install the command. The same binary
// makes the same bytes.
package wheel

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"
)

// tags are the platforms of each binary in the words of Python's packages, sorted as file names have them. A static
// binary runs with every libc; Go 1.26 needs macOS 12.
var tags = map[string][]string{
	"linux/amd64":   {"manylinux2014_x86_64", "manylinux_2_17_x86_64", "musllinux_1_1_x86_64"},
	"linux/arm64":   {"manylinux2014_aarch64", "manylinux_2_17_aarch64", "musllinux_1_1_aarch64"},
	"darwin/amd64":  {"macosx_12_0_x86_64"},
	"darwin/arm64":  {"macosx_12_0_arm64"},
	"windows/amd64": {"win_amd64"},
	"windows/arm64": {"win_arm64"},
}

// A Wheel is a binary and what is packed with it.
type Wheel struct {
	Version      string // of the release, such as v1.2.3 or v1.2.3-rc.1
	GOOS, GOARCH string
	Binary       []byte
	License      []byte
	Description  []byte // the project's page on PyPI, in Markdown
}

// Pack writes the wheel into a folder, under the name that its contents demand, and returns its path.
func (w Wheel) Pack(dir string) (path string, err error) {
	version, err := Version(w.Version)
	if err != nil {
		return "", err
	}
	platforms, ok := tags[w.GOOS+"/"+w.GOARCH]
	if !ok {
		return "", fmt.Errorf("no wheels for %s/%s", w.GOOS, w.GOARCH)
	}
	program := "oidc-dbt"
	if w.GOOS == "windows" {
		program += ".exe"
	}
	name := "oidc_dbt-" + version
	files := []file{ // the format recommends to have dist-info at the end
		{name + ".data/scripts/" + program, w.Binary, 0o755},
		{name + ".dist-info/licenses/LICENSE", w.License, 0o644},
		{name + ".dist-info/METADATA", metadata(version, w.Description), 0o644},
		{name + ".dist-info/WHEEL", description(platforms), 0o644},
	}
	files = append(files, record(name+".dist-info/RECORD", files))
	text, err := archive(files)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, name+"-py3-none-"+strings.Join(platforms, ".")+".whl")
	return path, os.WriteFile(path, text, 0o644)
}

// preRelease is what a version may have after its three numbers.
var preRelease = regexp.MustCompile(`^-(alpha|beta|rc|dev|development)(?:\.?(0|[1-9][0-9]*))?$`)

// Version returns a release's version in the form that Python's packages have it in (PEP 440).
func Version(version string) (string, error) {
	if semver.Canonical(version) != version {
		return "", fmt.Errorf("version %q must be like v1.2.3", version)
	}
	pre := semver.Prerelease(version)
	number := strings.TrimPrefix(strings.TrimSuffix(version, pre), "v")
	if pre == "" {
		return number, nil
	}
	parts := preRelease.FindStringSubmatch(pre)
	if parts == nil {
		return "", fmt.Errorf("version %q: PyPI has no pre-release %q, want alpha, beta, rc or dev and a number, such as -rc.1", version, pre[1:])
	}
	kind := map[string]string{"alpha": "a", "beta": "b", "rc": "rc", "dev": ".dev", "development": ".dev"}[parts[1]]
	if parts[2] == "" {
		parts[2] = "0"
	}
	return number + kind + parts[2], nil
}

// metadata describes the project (https://packaging.python.org/en/latest/specifications/core-metadata/).
func metadata(version string, description []byte) []byte {
	return []byte(`Metadata-Version: 2.4
Name: oidc-dbt
Version: ` + version + `
Summary: Gives one dbt run a short-lived warehouse credential, bound to a verified identity
Keywords: dbt,oidc,github-actions,workload-identity-federation,credentials
License-Expression: Apache-2.0
License-File: LICENSE
Classifier: Environment :: Console
Classifier: Operating System :: MacOS
Classifier: Operating System :: Microsoft :: Windows
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Go
Requires-Python: >=3.8
Project-URL: Documentation, https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/README.md
Project-URL: Source, https://github.com/oidc-dbt/oidc-dbt
Project-URL: Changelog, https://github.com/oidc-dbt/oidc-dbt/blob/main/CHANGELOG.md
Description-Content-Type: text/markdown

` + string(description))
}

// description is the wheel's own, for each platform.
func description(platforms []string) []byte {
	text := "Wheel-Version: 1.0\nGenerator: oidc-dbt\nRoot-Is-Purelib: false\n"
	for _, p := range platforms {
		text += "Tag: py3-none-" + p + "\n"
	}
	return []byte(text)
}

// A file is one in a wheel.
type file struct {
	name string
	text []byte
	mode fs.FileMode
}

// record lists the files with their hashes, and itself without.
func record(name string, files []file) file {
	var text strings.Builder
	for _, f := range files {
		sum := sha256.Sum256(f.text)
		fmt.Fprintf(&text, "%s,sha256=%s,%d\n", f.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.text))
	}
	text.WriteString(name + ",,\n")
	return file{name, []byte(text.String()), 0o644}
}

// day is the first that a zip file can have, 1980-01-01, in its own form.
const day = 1<<5 | 1

// archive makes the zip file. It is written raw, with sizes in front of contents: readers of streams, such as uv's, and
// PyPI refuse many of those that have them behind.
func archive(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range files {
		var packed bytes.Buffer
		deflate, err := flate.NewWriter(&packed, flate.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := deflate.Write(f.text); err != nil {
			return nil, err
		}
		if err := deflate.Close(); err != nil {
			return nil, err
		}
		header := &zip.FileHeader{
			Name: f.name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(f.text),
			CompressedSize64: uint64(packed.Len()), UncompressedSize64: uint64(len(f.text)),
		}
		header.ModifiedDate = day //nolint:staticcheck // Modified, which replaces it, is not used for raw files
		header.SetMode(f.mode)
		part, err := w.CreateRaw(header)
		if err != nil {
			return nil, err
		}
		if _, err := part.Write(packed.Bytes()); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
