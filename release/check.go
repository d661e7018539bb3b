package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	if err := c.difference(ctx, parent, sha); err != nil {
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

// origin returns a commit's only parent, and its version.
func (c checker) origin(ctx context.Context, sha string) (parent, version string, err error) {
	out, err := c.repo.git(ctx, "rev-list", "--parents", "--max-count=1", sha)
	if err != nil {
		return "", "", err
	}
	parents := strings.Fields(out)[1:]
	if len(parents) != 1 {
		return "", "", fmt.Errorf("%s has %d parents, want one: the commit that it was built from", sha, len(parents))
	}
	subject, err := c.repo.git(ctx, "show", "--no-patch", "--no-show-signature", "--format=%s", sha)
	if err != nil {
		return "", "", err
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(subject), "Release ")
	if !ok || checkVersion(version) != nil {
		return "", "", fmt.Errorf("%s has the subject %q, want Release and a version: it is not a release commit", sha, strings.TrimSpace(subject))
	}
	return parents[0], version, nil
}

// difference fails unless a commit adds exactly the files of a release to its parent.
func (c checker) difference(ctx context.Context, parent, sha string) error {
	out, err := c.repo.git(ctx, "diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-ext-diff", parent, sha)
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, name := range distFiles() {
		want["dist/"+name] = true
	}
	fields := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		path, entry := fields[i+1], strings.Fields(fields[i]) // :000000 100644 0000… 1234… A
		switch {
		case !want[path]:
			return fmt.Errorf("%s changes %q, which a release commit must not: it only adds %s", sha, path, strings.Join(distPaths(), ", "))
		case entry[4] != "A" || entry[1] != "100644":
			return fmt.Errorf("%s changes %q in another way than by adding a plain file (mode %s, status %s)", sha, path, entry[1], entry[4])
		}
		delete(want, path)
	}
	for _, path := range distPaths() {
		if want[path] {
			return fmt.Errorf("%s has no %s: it is not a release commit", sha, path)
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
