package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// A tiny module takes a moment to build for six platforms.
var tiny = map[string]string{
	"go.mod":             "module github.com/oidc-dbt/oidc-dbt\n\ngo 1.26.8\n",
	"main.go":            "package main\n\nvar version = \"development\"\n\nfunc main() { println(version) }\n",
	"CHANGELOG.md":       "# Changelog\n\n## Unreleased\n\n## v1.2.3 (2026-11-28)\n\n### Start\n\n- It prints its version.\n\n## v1.2.2 (2026-10-01)\n\n- It is there.\n",
	"policy.schema.json": "{}\n",
	"LICENSE":            "Apache\n",
	"release/pypi.md":    "# A page\n",
	".gitattributes":     "*_test.go export-ignore\n",
	"main_test.go":       "package main\n",
}

// goPack packs with another implementation than releases do: unpacking must not depend on one.
func goPack(_ context.Context, file, base, out string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var options []zstd.EOption
	if base != "" {
		dictionary, err := os.ReadFile(base)
		if err != nil {
			return err
		}
		options = append(options, zstd.WithEncoderDictRaw(0, dictionary))
	}
	w, err := zstd.NewWriter(nil, options...)
	if err != nil {
		return err
	}
	return os.WriteFile(out, w.EncodeAll(text, nil), 0o644)
}

// newRepository returns a repository with the tiny module as its only commit.
func newRepository(t *testing.T) repository {
	t.Helper()
	repo := repository{dir: filepath.Join(t.TempDir(), "a repository")}
	for name, text := range tiny {
		write(t, filepath.Join(repo.dir, name), text)
	}
	for _, args := range [][]string{
		{"init", "--quiet"}, {"config", "user.name", "A"}, {"config", "user.email", "a@example.com"},
		{"config", "commit.gpgsign", "false"}, {"add", "."}, {"commit", "--quiet", "--message", "Source"},
	} {
		ask(t, repo, args...)
	}
	return repo
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ask(t *testing.T, repo repository, args ...string) string {
	t.Helper()
	out, err := repo.git(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// built is a release of the tiny module, which no test changes.
var built = sync.OnceValues(func() (release, error) {
	dir, err := os.MkdirTemp("", "oidc-dbt-release-test-*")
	if err != nil {
		return release{}, err
	}
	for name, text := range tiny {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			return release{}, err
		}
	}
	r := release{source: dir, out: filepath.Join(dir, "out"), version: "v1.2.3", compress: goPack, log: io.Discard}
	return r, r.build(context.Background())
})

func TestMain(m *testing.M) {
	status := m.Run()
	if r, _ := built(); r.source != "" {
		os.RemoveAll(r.source)
	}
	os.Exit(status)
}

// theRelease returns a copy of it.
func theRelease(t *testing.T) release {
	t.Helper()
	r, err := built()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := os.CopyFS(out, os.DirFS(r.out)); err != nil {
		t.Fatal(err)
	}
	r.out = out
	return r
}

// TestBuild: what a release consists of. The list of what is linked has nothing of the day or the machine.
func TestBuild(t *testing.T) {
	t.Parallel()
	r := theRelease(t)
	want := []string{
		"assets/SHA256SUMS", "assets/oidc-dbt-darwin-amd64", "assets/oidc-dbt-darwin-arm64", "assets/oidc-dbt-linux-amd64",
		"assets/oidc-dbt-linux-arm64", "assets/oidc-dbt-windows-amd64.exe", "assets/oidc-dbt-windows-arm64.exe",
		"assets/oidc-dbt.spdx.json", "assets/policy.schema.json",
		"dist/SHA256SUMS", "dist/oidc-dbt-linux-arm64.zst", "dist/oidc-dbt-linux-x64.zst", "dist/oidc-dbt-macos-arm64.zst",
		"dist/oidc-dbt-macos-x64.zst", "dist/oidc-dbt-windows-arm64.exe.zst", "dist/oidc-dbt-windows-x64.exe.zst",
	}
	var got []string
	for _, dir := range []string{"assets", "dist"} {
		entries, err := os.ReadDir(filepath.Join(r.out, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			got = append(got, dir+"/"+entry.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("a release has %q, want %q", got, want)
	}
	if _, err := checkSums(filepath.Join(r.out, "dist")); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(r.asset("oidc-dbt.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.sbom(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(r.asset("oidc-dbt.spdx.json"))
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("the list of what is linked differs when it is made again: %v", err)
	}
	var doc spdxDocument
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Creation.Created != "2026-11-28T00:00:00Z" || len(doc.Files) != 6 || len(doc.Packages) != 2 || len(doc.Relationships) != 18 {
		t.Errorf("the list of what is linked is\n%s", text)
	}
	golden.Compare(t, "testdata/std.json", pretty(t, doc.Packages[1])+"\n")
}

func pretty(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestBuildRefuses: a release is not mixed with what a folder has.
func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	write(t, filepath.Join(full, "file"), "")
	for _, tt := range []struct {
		name string
		r    release
		err  string
	}{
		{"a version", release{version: "1.2"}, `version "1.2" must be like v1.2.3`},
		{"a folder", release{version: "v1.2.3", out: full}, full + " is not empty: name a new folder with --out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantError(t, tt.r.build(t.Context()), tt.err)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("the error is\n%s\nwant\n%s", got, want)
	}
}

// TestCheck: a release commit passes, and one with any alteration does not. In the messages, COMMIT and PARENT are for
// the two commits.
func TestCheck(t *testing.T) {
	t.Parallel()
	const all = "dist/SHA256SUMS, dist/oidc-dbt-linux-arm64.zst, dist/oidc-dbt-linux-x64.zst, dist/oidc-dbt-macos-arm64.zst, " +
		"dist/oidc-dbt-macos-x64.zst, dist/oidc-dbt-windows-arm64.exe.zst, dist/oidc-dbt-windows-x64.exe.zst"
	for _, tt := range []struct {
		name string
		// alter returns the commit to check; commit makes one of what alter has changed in the work tree.
		alter func(t *testing.T, repo repository, sha string, commit func(parents ...string) string) string
		err   string
	}{
		{name: "as it was made", alter: func(_ *testing.T, _ repository, sha string, _ func(...string) string) string { return sha }},
		{
			name: "a changed byte",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				file := filepath.Join(repo.dir, "dist", "oidc-dbt-macos-x64.zst")
				text := read(t, file)
				text[len(text)-1]++
				write(t, file, string(text))
				return commit("HEAD")
			},
			err: "COMMIT: oidc-dbt-macos-x64.zst: SHA-256 is GOT, dist/SHA256SUMS says WANT",
		},
		{
			name: "an extra file",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				write(t, filepath.Join(repo.dir, "dist", "extra"), "")
				return commit("HEAD")
			},
			err: `COMMIT changes "dist/extra", which a release commit must not: it only adds ` + all,
		},
		{
			name: "a change of the source",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				write(t, filepath.Join(repo.dir, "main.js"), "")
				return commit("HEAD")
			},
			err: `COMMIT changes "main.js", which a release commit must not: it only adds ` + all,
		},
		{
			name: "another mode",
			alter: func(t *testing.T, repo repository, _ string, _ func(...string) string) string {
				ask(t, repo, "add", "--force", "dist")
				ask(t, repo, "update-index", "--chmod=+x", "dist/oidc-dbt-macos-x64.zst")
				return ask(t, repo, "commit-tree", ask(t, repo, "write-tree"), "-p", "HEAD", "-m", "Release v1.2.3")
			},
			err: `COMMIT changes "dist/oidc-dbt-macos-x64.zst" in another way than by adding a plain file (mode 100755)`,
		},
		{
			name: "a second parent",
			alter: func(t *testing.T, repo repository, sha string, commit func(...string) string) string {
				return commit("HEAD", ask(t, repo, "commit-tree", "HEAD^{tree}", "-m", "Other"))
			},
			err: "COMMIT has 2 parents, want one: the commit that it was built from",
		},
		{
			name:  "no parent",
			alter: func(_ *testing.T, _ repository, _ string, commit func(...string) string) string { return commit() },
			err:   "COMMIT has 0 parents, want one: the commit that it was built from",
		},
		{
			name: "a missing sum",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				editSums(t, repo, func(lines []string) []string {
					return slices.DeleteFunc(lines, func(line string) bool { return strings.HasSuffix(line, "  oidc-dbt-linux-amd64\n") })
				})
				return commit("HEAD")
			},
			err: "COMMIT: dist/SHA256SUMS has no sum of oidc-dbt-linux-amd64",
		},
		{
			name: "a sum of another file",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				editSums(t, repo, func(lines []string) []string { return append(lines, strings.Repeat("0", 64)+"  other\n") })
				return commit("HEAD")
			},
			err: `COMMIT: dist/SHA256SUMS has a sum of "other", which is not in a release`,
		},
		{
			name: "a sum twice",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				editSums(t, repo, func(lines []string) []string {
					return append(lines, strings.Repeat("0", 64)+"  oidc-dbt-linux-amd64\n")
				})
				return commit("HEAD")
			},
			err: `COMMIT: dist/SHA256SUMS: "` + strings.Repeat("0", 64) + `  oidc-dbt-linux-amd64" is malformed, or there twice`,
		},
		{
			name: "a binary that rebuilds otherwise", // with sums that agree with it
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				r := theRelease(t)
				binary := r.asset("oidc-dbt-windows-arm64.exe")
				write(t, binary, string(read(t, binary))+"\x00")
				for _, again := range []func(context.Context) error{r.pack, r.sums} {
					if err := again(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				copyDist(t, r, repo)
				return commit("HEAD")
			},
			err: "oidc-dbt-windows-arm64.exe: the parent PARENT builds another binary: SHA-256 is GOT, want WANT",
		},
		{
			name: "another version",
			alter: func(t *testing.T, repo repository, sha string, _ func(...string) string) string {
				return ask(t, repo, "commit-tree", sha+"^{tree}", "-p", "HEAD", "-m", "Release v1.2.4")
			},
			err: "oidc-dbt-linux-amd64: the parent PARENT builds another binary: SHA-256 is GOT, want WANT",
		},
		{
			name: "no version",
			alter: func(t *testing.T, repo repository, sha string, _ func(...string) string) string {
				return ask(t, repo, "commit-tree", sha+"^{tree}", "-p", "HEAD", "-m", "Release of today")
			},
			err: `COMMIT has the subject "Release of today", want Release and a version: it is not a release commit`,
		},
		{
			name: "no dist",
			alter: func(t *testing.T, repo repository, _ string, _ func(...string) string) string {
				return ask(t, repo, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "Release v1.2.3")
			},
			err: "COMMIT has no dist/SHA256SUMS: it is not a release commit",
		},
		{
			name: "a submodule that settings hide",
			alter: func(t *testing.T, repo repository, sha string, _ func(...string) string) string {
				write(t, filepath.Join(repo.dir, ".gitmodules"), "[submodule \"x\"]\n\tpath = x\n\turl = ./x\n\tignore = all\n")
				ask(t, repo, "add", ".gitmodules")
				ask(t, repo, "commit", "--quiet", "--message", "Source")
				ask(t, repo, "add", "--force", "dist")
				ask(t, repo, "update-index", "--add", "--cacheinfo", "160000,"+sha+",x")
				return ask(t, repo, "commit-tree", ask(t, repo, "write-tree"), "-p", "HEAD", "-m", "Release v1.2.3")
			},
			err: `COMMIT changes "x", which a release commit must not: it only adds ` + all,
		},
		{
			name: "a link in dist",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				file := filepath.Join(repo.dir, "dist", "oidc-dbt-macos-x64.zst")
				if err := errors.Join(os.Remove(file), os.Symlink("oidc-dbt-linux-x64.zst", file)); err != nil {
					t.Fatal(err)
				}
				return commit("HEAD")
			},
			err: `COMMIT changes "dist/oidc-dbt-macos-x64.zst" in another way than by adding a plain file (mode 120000)`,
		},
		{
			name: "a second name of dist in the parent",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				write(t, filepath.Join(repo.dir, "DIST", "oidc-dbt-macos-arm64"), "hostile")
				ask(t, repo, "add", "DIST")
				ask(t, repo, "commit", "--quiet", "--message", "Source")
				return commit("HEAD")
			},
			err: `the parent PARENT has "DIST", which some systems may take for dist: rename it`,
		},
		{
			name: "an archive with other files",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				write(t, filepath.Join(repo.dir, ".gitattributes"), "main.js export-subst\n")
				ask(t, repo, "add", ".gitattributes")
				ask(t, repo, "commit", "--quiet", "--message", "Source")
				return commit("HEAD")
			},
			err: `the parent PARENT has export-subst in ".gitattributes": archives would have other files than the commit`,
		},
		{
			name: "a link in the parent",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				if err := os.Symlink("/etc/hostname", filepath.Join(repo.dir, "policy.txt")); err != nil {
					t.Fatal(err)
				}
				ask(t, repo, "add", "policy.txt")
				ask(t, repo, "commit", "--quiet", "--message", "Source")
				return commit("HEAD")
			},
			err: `PARENT has "policy.txt", which is not a plain file (mode 120000)`,
		},
		{
			name: "a graft in place of a second parent",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				sha := commit("HEAD", ask(t, repo, "commit-tree", "HEAD^{tree}", "-m", "Other"))
				write(t, filepath.Join(repo.dir, ".git", "info", "grafts"), sha+" "+ask(t, repo, "rev-parse", "HEAD")+"\n")
				return sha
			},
			err: "COMMIT has 2 parents, want one: the commit that it was built from",
		},
		{
			name: "a subject of two lines",
			alter: func(t *testing.T, repo repository, sha string, _ func(...string) string) string {
				return ask(t, repo, "commit-tree", sha+"^{tree}", "-p", "HEAD", "-m", "Release\nv1.2.3")
			},
			err: `COMMIT has the subject "Release", want Release and a version: it is not a release commit`,
		},
		{
			name: "another version's tag",
			alter: func(t *testing.T, repo repository, sha string, _ func(...string) string) string {
				ask(t, repo, "tag", "v1.2.4", sha)
				return "v1.2.4"
			},
			err: "the tag COMMIT names SHA, which is the release commit of v1.2.3",
		},
		{
			name: "bytes behind a file",
			alter: func(t *testing.T, repo repository, _ string, commit func(...string) string) string {
				behind(t, repo, "\x50\x2a\x4d\x18\x02\x00\x00\x00##") // to be skipped
				return commit("HEAD")
			},
			err: "COMMIT: unpack dist/oidc-dbt-macos-x64.zst: 10 bytes follow its end",
		},
		{
			name:  "no commit",
			alter: func(*testing.T, repository, string, func(...string) string) string { return "v9" },
			err:   `"v9" is not a commit of this repository: fetch it, or correct it`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			repo := newRepository(t)
			r := theRelease(t)
			sha := releaseCommit(t, repo, r)
			copyDist(t, r, repo)
			commit := func(parents ...string) string {
				ask(t, repo, "add", "--all", "--force", ".")
				args := []string{"commit-tree", ask(t, repo, "write-tree"), "-m", "Release v1.2.3"}
				for _, parent := range parents {
					args = append(args, "-p", parent)
				}
				return ask(t, repo, args...)
			}
			altered := tt.alter(t, repo, sha, commit)
			_, err := checker{repo: repo, log: io.Discard}.check(t.Context(), altered)
			if err != nil && altered != "v9" {
				err = fmt.Errorf("%s", sumsOf.ReplaceAllString(strings.NewReplacer(altered, "COMMIT", ask(t, repo, "rev-parse", "HEAD"), "PARENT", sha, "SHA").
					Replace(err.Error()), "is GOT$1 WANT"))
			}
			wantError(t, err, tt.err)
		})
	}
}

// sumsOf finds the two sums of a message.
var sumsOf = regexp.MustCompile(`is [0-9a-f]{64}(, dist/SHA256SUMS says|, want) [0-9a-f]{64}`)

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// releaseCommit makes a release commit of HEAD and what is built.
func releaseCommit(t *testing.T, repo repository, r release) string {
	t.Helper()
	head := ask(t, repo, "rev-parse", "HEAD")
	tree, err := repo.tree(t.Context(), head, r)
	if err != nil {
		t.Fatal(err)
	}
	sha, err := commitAndTag(t.Context(), repo, head, tree, r, false)
	if err != nil {
		t.Fatal(err)
	}
	return sha
}

func copyDist(t *testing.T, r release, repo repository) {
	t.Helper()
	for _, name := range distFiles() {
		write(t, filepath.Join(repo.dir, "dist", name), string(read(t, r.dist(name))))
	}
}

func editSums(t *testing.T, repo repository, edit func(lines []string) []string) {
	t.Helper()
	file := filepath.Join(repo.dir, "dist", sumsFile)
	write(t, file, strings.Join(edit(slices.Collect(strings.Lines(string(read(t, file))))), ""))
}

// behind appends to a packed file, and makes its sum right.
func behind(t *testing.T, repo repository, text string) {
	t.Helper()
	const name = "oidc-dbt-macos-x64.zst"
	file := filepath.Join(repo.dir, "dist", name)
	content := string(read(t, file)) + text
	write(t, file, content)
	editSums(t, repo, func(lines []string) []string {
		for i, line := range lines {
			if strings.HasSuffix(line, "  "+name+"\n") {
				lines[i] = fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(content)), name)
			}
		}
		return lines
	})
}

// TestAltering: attributes that change what an archive has, and those that do not.
func TestAltering(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"* text=auto eol=lf\n# main.js ident\n\nident/** -text\n*_test.go export-ignore\nmain.js -ident\n": "",
		"/dist/** -text\nmain.js\texport-subst\n":                                                          "export-subst",
		"*.js ident": "ident",
		"[attr]x text working-tree-encoding=UTF-7\n": "working-tree-encoding",
		"*.js text eol=crlf\n":                       "eol=crlf",
		"*.js ident=x\r\n":                           "ident",
	} {
		got := ""
		if m := altering.FindStringSubmatch(text); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%q has %q, want %q", text, got, want)
		}
	}
	if m := altering.Find(read(t, "../.gitattributes")); m != nil {
		t.Errorf("this repository has %q", m)
	}
}

// TestOneFrame: a packed file is one frame, so that the limit of what it unpacks to is one.
func TestOneFrame(t *testing.T) {
	t.Parallel()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 300<<10) // three blocks
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	frame := string(w.EncodeAll(noise, nil))
	zeros := string(w.EncodeAll(make([]byte, 1<<20), nil))
	const skip = "\x50\x2a\x4d\x18\x02\x00\x00\x00##"
	for _, tt := range []struct{ name, file, err string }{
		{"raw blocks", frame, ""},
		{"repeated bytes", zeros, ""},
		{"nothing", "", "unexpected EOF"},
		{"something else", "#!/bin/sh\n", "invalid input: magic number mismatch"},
		{"a part to skip in front", skip + frame, "it begins with a part that is to be skipped"},
		{"a part to skip behind", frame + skip, "10 bytes follow its end"},
		{"a second frame", zeros + zeros, fmt.Sprintf("%d bytes follow its end", len(zeros))},
		{"a byte behind", frame + "x", "1 bytes follow its end"},
		{"cut off", frame[:200<<10], "unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantError(t, oneFrame([]byte(tt.file)), tt.err)
		})
	}
}

// TestExport: what is built is what the commit has, whatever attributes and filters say.
func TestExport(t *testing.T) {
	t.Parallel()
	repo := newRepository(t)
	write(t, filepath.Join(repo.dir, "a", "$Id$ .txt"), "$Id$\n")
	write(t, filepath.Join(repo.dir, "empty"), "")
	write(t, filepath.Join(repo.dir, ".gitattributes"), "*.txt ident eol=crlf filter=other\n")
	ask(t, repo, "config", "filter.other.smudge", "echo other")
	ask(t, repo, "add", ".")
	ask(t, repo, "update-index", "--chmod=+x", "empty")
	ask(t, repo, "commit", "--quiet", "--message", "Source")
	dir := filepath.Join(t.TempDir(), "new")
	if err := repo.export(t.Context(), "HEAD", dir); err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, filepath.Join(dir, "a", "$Id$ .txt"))); got != "$Id$\n" {
		t.Errorf("the file is %q", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "empty")); err != nil || info.Mode().Perm()&0o100 == 0 || info.Size() != 0 {
		t.Errorf("the program is %v, %v", info, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(tiny)+2 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	for _, entry := range []string{"160000," + ask(t, repo, "rev-parse", "HEAD") + ",sub", "120000," + ask(t, repo, "rev-parse", "HEAD:empty") + ",sub"} {
		ask(t, repo, "update-index", "--add", "--cacheinfo", entry)
		sha := ask(t, repo, "commit-tree", ask(t, repo, "write-tree"), "-m", "Source")
		wantError(t, repo.export(t.Context(), sha, filepath.Join(t.TempDir(), "new")),
			fmt.Sprintf("%s has %q, which is not a plain file (mode %s)", sha, "sub", entry[:6]))
	}
}

// TestCommit: HEAD, index and work tree stay as they are, a second release on top of the first is refused, and the
// tag is annotated.
func TestCommit(t *testing.T) {
	t.Parallel()
	repo := newRepository(t)
	r := theRelease(t)
	head := ask(t, repo, "rev-parse", "HEAD")
	sha := releaseCommit(t, repo, r)
	if now := ask(t, repo, "rev-parse", "HEAD"); now != head || ask(t, repo, "status", "--porcelain") != "" {
		t.Errorf("HEAD is %s, was %s; changed: %s", now, head, ask(t, repo, "status", "--porcelain"))
	}
	if err := repo.tag(t.Context(), sha, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	if kind := ask(t, repo, "cat-file", "-t", "v1.2.3"); kind != "tag" || ask(t, repo, "rev-parse", "v1.2.3^{commit}") != sha {
		t.Errorf("the tag is a %s of %s, want a tag of %s", kind, ask(t, repo, "rev-parse", "v1.2.3^{commit}"), sha)
	}
	_, err := repo.tree(t.Context(), sha, r)
	wantError(t, err, sha+" has dist/ already: release from a source commit")
}

// TestGitHub: GitHub's API makes the same tree, gets neither author nor committer, and a tree that differs is refused.
func TestGitHub(t *testing.T) {
	t.Parallel()
	repo := newRepository(t)
	r := theRelease(t)
	head := ask(t, repo, "rev-parse", "HEAD")
	local := releaseCommit(t, repo, r)
	tree := ask(t, repo, "rev-parse", local+"^{tree}")
	want := tree
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil || req.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("%s: %v, authorization %q", req.URL, err, req.Header.Get("Authorization"))
		}
		sha := strings.Repeat("e", 40)
		switch req.URL.Path {
		case "/repos/a/b/git/blobs":
			content, err := base64.StdEncoding.DecodeString(body["content"].(string))
			if err != nil {
				t.Error(err)
			}
			sha = fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content)))
		case "/repos/a/b/git/trees":
			sha = tree
			for _, e := range body["tree"].([]any) {
				e := e.(map[string]any)
				if want := ask(t, repo, "rev-parse", local+":"+e["path"].(string)); e["sha"] != want || e["mode"] != "100644" {
					t.Errorf("the tree has %v, want the blob %s", e, want)
				}
			}
			delete(body, "tree")
		}
		delete(body, "content")
		text, _ := json.Marshal(body)
		requests = append(requests, strings.TrimPrefix(req.URL.Path, "/repos/a/b/git/")+" "+string(text))
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"sha": %q}`, sha)
	}))
	t.Cleanup(server.Close)
	api := github{url: server.URL, repository: "a/b", token: "token", repo: repo}
	sha, err := api.commit(t.Context(), head, want, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.tag(t.Context(), sha, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(map[string]any{"message": message("v1.2.3", head), "parents": []string{head}, "tree": tree})
	all := append(slices.Repeat([]string{`blobs {"encoding":"base64"}`}, 7),
		fmt.Sprintf(`trees {"base_tree":%q}`, ask(t, repo, "rev-parse", "HEAD^{tree}")), "commits "+string(text),
		fmt.Sprintf(`tags {"message":"v1.2.3","object":%q,"tag":"v1.2.3","type":"commit"}`, sha),
		fmt.Sprintf(`refs {"ref":"refs/tags/v1.2.3","sha":%q}`, sha))
	if got := strings.Join(requests, "\n"); got != strings.Join(all, "\n") {
		t.Errorf("the requests are\n%s\nwant\n%s", got, strings.Join(all, "\n"))
	}
	tree = strings.Repeat("0", 40)
	_, err = api.commit(t.Context(), head, want, r)
	wantError(t, err, fmt.Sprintf("GitHub has made the tree %s, want %s, which git has made here", tree, want))
}

// TestGitHubRefuses: the error has GitHub's own words.
func TestGitHubRefuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"message": "Reference already exists"}`, http.StatusUnprocessableEntity)
	}))
	t.Cleanup(server.Close)
	err := github{url: server.URL, repository: "a/b"}.tag(t.Context(), "", "v1.2.3")
	wantError(t, err, `make tags on GitHub: status 422: "{\"message\": \"Reference already exists\"}\n"`)
}

// TestNotes: a version's section, and the changelog of a version that is prepared.
func TestNotes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "CHANGELOG.md")
	write(t, file, "# Changelog\n\n## Unreleased\n\n- New.\n\n## v1.2.3 (2026-11-28)\n\n- Old.\n")
	_, err := notes(file, "v1.3.0")
	wantError(t, err, "CHANGELOG.md has no section v1.3.0: prepare the release first (--prepare v1.3.0)")
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for name, text := range tiny {
		if name != "CHANGELOG.md" {
			write(t, filepath.Join(dir, name), text)
		}
	}
	action := filepath.Join(dir, "container", "action.yml")
	write(t, action, "runs:\n  using: docker\n  image: ../Dockerfile\n")
	r := release{source: dir, version: "v1.3.0"}
	wantError(t, r.prepare(t.Context(), day), "")
	want := "# Changelog\n\n## Unreleased\n\n## v1.3.0 (2026-12-01)\n\n- New.\n\n## v1.2.3 (2026-11-28)\n\n- Old.\n"
	if got := string(read(t, file)); got != want {
		t.Errorf("the changelog is\n%s\nwant\n%s", got, want)
	}
	if text, err := notes(file, "v1.3.0"); text != "- New.\n" || err != nil {
		t.Errorf("the notes are %q, %v", text, err)
	}
	_, named, ok := strings.Cut(string(read(t, action)), "  image: docker://ghcr.io/oidc-dbt/oidc-dbt@")
	if named = strings.TrimSuffix(named, "\n"); !ok || len(named) != len("sha256:")+64 {
		t.Fatalf("the container action is\n%s", read(t, action))
	}
	r.out = filepath.Join(t.TempDir(), "out")
	for _, step := range []func(context.Context) error{r.binaries, r.image} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, r.checkImage(), "")
	right := "docker://ghcr.io/oidc-dbt/oidc-dbt@" + named
	other := "docker://ghcr.io/oidc-dbt/oidc-dbt@sha256:" + strings.Repeat("0", 64)
	for _, tt := range []struct{ runs, image string }{
		{"  image: " + other, other},
		{"  image: docker://example.com/other", "docker://example.com/other"},
		{"  image: docker://ghcr.io/oidc-dbt/oidc-dbt:v1.3.0", "docker://ghcr.io/oidc-dbt/oidc-dbt:v1.3.0"},
		{"  image: " + right + "-", right + "-"},
		{"  'image': " + other + "\ndescription: |\n  image: " + right, other},
		{"  args: []", ""},
	} {
		write(t, action, "runs:\n  using: docker\n"+tt.runs+"\n")
		wantError(t, r.checkImage(), fmt.Sprintf("container/action.yml has the image %q, want %q: prepare the release again (--prepare v1.3.0)", tt.image, right))
	}
	r.version = "v1.4.0"
	wantError(t, r.prepare(t.Context(), day), `CHANGELOG.md has nothing under "## Unreleased"`)
}

// TestDownload: what a job downloads is limited.
func TestDownload(t *testing.T) {
	t.Parallel()
	noise := make([]byte, maxDownload)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	wantError(t, checkDownload(noise[:1<<20], io.Discard), "")
	size, err := downloadSize(bytes.NewReader(noise))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, checkDownload(noise, io.Discard),
		fmt.Sprintf("a job would download %d bytes, want at most 26214400: look for what has made the binaries larger", size))
}

// TestUsage: flags that do not belong together are refused.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"--out", "x", "--check", "y"}, {"--commit"}, {"--out", "x", "--tag"}, {"--out", "x", "--github", "a/b"}, {"--out", "x", "--push", "a/b"}, {"--from", "x"},
		{"--from", "x", "--commit", "--push", "a/b"}, {"--from", "x", "--commit", "--busybox"}, {"--notes", "v1.2.3", "--commit"},
	} {
		var stderr bytes.Buffer
		if err := run(t.Context(), args, io.Discard, &stderr); !errors.Is(err, flag.ErrHelp) || stderr.String() != usage {
			t.Errorf("%q: %v, %s", args, err, stderr.String())
		}
	}
	wantError(t, run(t.Context(), []string{"x"}, io.Discard, io.Discard), `unexpected argument "x"`)
}
