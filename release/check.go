package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A checker verifies release commits.
type checker struct {
	repo    repository
	environ []string // further variables of the go command
	log     io.Writer
}

// check verifies a release commit and returns its full name. What a commit says of itself comes first, and costs
// little; the rebuild, which takes minutes, is last.
func (c checker) check(ctx context.Context, commit string) (string, error) {
	sha, err := c.repo.resolve(ctx, commit)
	if err != nil {
		return "", err
	}
	parent, version, err := c.origin(ctx, sha)
	if err != nil {
		return "", err
	}
	if tagged := checkVersion(commit) == nil; tagged && commit != version {
		return "", fmt.Errorf("the tag %s names %s, which is the release commit of %s", commit, sha, version)
	}
	if err := c.difference(ctx, parent, sha); err != nil {
		return "", err
	}
	if err := c.parent(ctx, parent); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "oidc-dbt check *") // with spaces: no path must get into a binary
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	dist := filepath.Join(dir, "dist")
	if err := os.Mkdir(dist, 0o755); err != nil {
		return "", err
	}
	for _, name := range distFiles() {
		content, err := c.repo.blob(ctx, sha, "dist/"+name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dist, name), content, 0o644); err != nil {
			return "", err
		}
	}
	binaries, err := checkSums(dist)
	if err != nil {
		return "", fmt.Errorf("%s: %w", sha, err)
	}
	r := release{source: filepath.Join(dir, "source"), out: filepath.Join(dir, "out"), version: version, environ: c.environ, log: c.log}
	if err := c.repo.export(ctx, parent, r.source); err != nil {
		return "", err
	}
	return sha, c.rebuild(ctx, r, parent, binaries)
}

// origin returns a commit's only parent, and its version. It reads the commit itself, of which git's settings and
// grafts can show something else.
func (c checker) origin(ctx context.Context, sha string) (parent, version string, err error) {
	out, err := c.repo.git(ctx, "cat-file", "commit", sha)
	if err != nil {
		return "", "", err
	}
	header, message, _ := strings.Cut(out, "\n\n")
	var parents []string
	for line := range strings.Lines(header) {
		if name, ok := strings.CutPrefix(line, "parent "); ok {
			parents = append(parents, strings.TrimSpace(name))
		}
	}
	if len(parents) != 1 {
		return "", "", fmt.Errorf("%s has %d parents, want one: the commit that it was built from", sha, len(parents))
	}
	subject, _, _ := strings.Cut(message, "\n")
	version, ok := strings.CutPrefix(subject, "Release ")
	if !ok || checkVersion(version) != nil {
		return "", "", fmt.Errorf("%s has the subject %q, want Release and a version: it is not a release commit", sha, subject)
	}
	return parents[0], version, nil
}

// difference fails unless a commit has the entries of its parent, and exactly the files of a release.
func (c checker) difference(ctx context.Context, parent, sha string) error {
	before, err := c.repo.entries(ctx, parent)
	if err != nil {
		return err
	}
	after, err := c.repo.entries(ctx, sha)
	if err != nil {
		return err
	}
	want := map[string]string{"dist": "040000"} // the modes, by path
	for _, path := range distPaths() {
		want[path] = plainMode
	}
	var rest []entry // of after, without the release's
	for _, e := range after {
		mode, ok := want[e.path]
		switch {
		case !ok:
			rest = append(rest, e)
		case mode != e.mode || slices.ContainsFunc(before, func(b entry) bool { return b.path == e.path }):
			return fmt.Errorf("%s changes %q in another way than by adding a plain file (mode %s)", sha, e.path, e.mode)
		}
		delete(want, e.path) // a second one of the name goes to rest
	}
	if path := differing(before, rest); path != "" {
		return fmt.Errorf("%s changes %q, which a release commit must not: it only adds %s", sha, path, strings.Join(distPaths(), ", "))
	}
	for _, path := range distPaths() {
		if want[path] != "" {
			return fmt.Errorf("%s has no %s: it is not a release commit", sha, path)
		}
	}
	return nil
}

// differing returns a path at which two lists of entries differ, or "". If it is a folder, its files differ as well, and
// it returns the path of one.
func differing(before, after []entry) (at string) {
	for _, side := range [][2][]entry{{after, before}, {before, after}} {
		there := map[entry]int{}
		for _, e := range side[1] {
			there[e]++
		}
		for _, e := range side[0] {
			if there[e]--; there[e] < 0 && (at == "" || strings.HasPrefix(e.path, at+"/")) {
				at = e.path
			}
		}
	}
	return at
}

// plainName is a name that no system takes for another one, except for the case of its letters.
var plainName = regexp.MustCompile(`^[A-Za-z0-9._-]*[A-Za-z0-9_-]$`)

// altering finds an attribute by which git writes other bytes into an archive than a commit has.
var altering = regexp.MustCompile(`(?m)^[^#\n][^\n]*\s(export-subst|ident|working-tree-encoding|eol=crlf)(?:[\s=]|$)`)

// parent fails if a parent has something that changes, for some users, what a release commit adds to it: a second
// dist/, where names are not compared byte by byte, or an attribute by which an archive, such as the one that a runner
// downloads, has other bytes than the commit.
func (c checker) parent(ctx context.Context, parent string) error {
	entries, err := c.repo.entries(ctx, parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if top, _, _ := strings.Cut(e.path, "/"); !plainName.MatchString(top) || strings.EqualFold(top, "dist") {
			return fmt.Errorf("the parent %s has %q, which some systems may take for dist: rename it", parent, e.path)
		}
		if path.Base(e.path) != ".gitattributes" {
			continue
		}
		text, err := c.repo.blob(ctx, parent, e.path)
		if err != nil {
			return err
		}
		if m := altering.FindSubmatch(text); m != nil {
			return fmt.Errorf("the parent %s has %s in %q: archives would have other files than the commit", parent, m[1], e.path)
		}
	}
	return nil
}

func distPaths() []string {
	paths := distFiles()
	for i := range paths {
		paths[i] = "dist/" + paths[i]
	}
	return paths
}

// rebuild fails unless the parent's files, in a folder without .git, build the same binaries.
func (c checker) rebuild(ctx context.Context, r release, parent string, binaries map[string][]byte) error {
	if err := os.MkdirAll(filepath.Join(r.out, "assets"), 0o755); err != nil {
		return err
	}
	fmt.Fprintln(c.log, "release: parent, difference and sums are right; rebuilding", parent)
	if err := r.binaries(ctx); err != nil {
		return fmt.Errorf("rebuild %s: %w", parent, err)
	}
	for _, p := range platforms {
		got, err := os.ReadFile(r.asset(p.asset()))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, binaries[p.asset()]) {
			return fmt.Errorf("%s: the parent %s builds another binary: SHA-256 is %x, want %x", p.asset(), parent,
				sha256.Sum256(got), sha256.Sum256(binaries[p.asset()]))
		}
	}
	if err := r.image(ctx); err != nil {
		return fmt.Errorf("rebuild %s: %w", parent, err)
	}
	return r.checkImage()
}
