package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A repository is where release commits are made and checked.
type repository struct{ dir string }

// git runs git and returns what it prints. An error has git's own words.
func (r repository) git(ctx context.Context, args ...string) (string, error) {
	return r.gitWith(ctx, nil, args...)
}

// gitWith is git with more variables. It sees no other object in place of one that was asked for.
func (r repository) gitWith(ctx context.Context, environ []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-replace-objects", "-c", "core.autocrlf=false"}, args...)...)
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), environ...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimPrefix(strings.TrimSpace(string(exit.Stderr)), "fatal: "))
	}
	return string(out), err
}

// resolve returns the full name of a commit.
func (r repository) resolve(ctx context.Context, commit string) (string, error) {
	sha, err := r.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", commit+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%q is not a commit of this repository: fetch it, or correct it", commit)
	}
	return strings.TrimSpace(sha), nil
}

// withIndex runs do with variables by which git uses an index of its own, which has a commit's files.
func (r repository) withIndex(ctx context.Context, commit string, do func(environ []string) error) error {
	dir, err := os.MkdirTemp("", "oidc-dbt-index-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	environ := []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}
	if _, err := r.gitWith(ctx, environ, "read-tree", commit); err != nil {
		return err
	}
	return do(environ)
}

// export writes a commit's files, and no .git, into a new folder.
func (r repository) export(ctx context.Context, commit, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return r.withIndex(ctx, commit, func(environ []string) error {
		_, err := r.gitWith(ctx, environ, "checkout-index", "--all", "--prefix="+dir+string(filepath.Separator))
		return err
	})
}

// distFiles are the names of all files of dist/, sorted.
func distFiles() []string {
	names := []string{sumsFile}
	for _, p := range platforms {
		names = append(names, p.packed())
	}
	slices.Sort(names)
	return names
}

// message is that of a release commit; --check reads the version from it.
func message(version, parent string) string {
	return fmt.Sprintf("Release %s\n\nThis commit adds to its parent, %s,\nwhat `go run ./release --version %s` builds from it into dist/.\n",
		version, parent, version)
}

// tree makes the tree of a release commit: that of parent, and the built dist/.
func (r repository) tree(ctx context.Context, parent string, built release) (string, error) {
	old, err := r.git(ctx, "ls-tree", "--name-only", parent, "--", "dist")
	if err != nil {
		return "", err
	}
	if old != "" {
		return "", fmt.Errorf("%s has dist/ already: release from a source commit", parent)
	}
	var tree string
	err = r.withIndex(ctx, parent, func(environ []string) error {
		for _, name := range distFiles() {
			file, err := filepath.Abs(built.dist(name))
			if err != nil {
				return err
			}
			blob, err := r.git(ctx, "hash-object", "-w", "--no-filters", "--", file)
			if err != nil {
				return err
			}
			entry := "100644," + strings.TrimSpace(blob) + ",dist/" + name
			if _, err := r.gitWith(ctx, environ, "update-index", "--add", "--cacheinfo", entry); err != nil {
				return err
			}
		}
		out, err := r.gitWith(ctx, environ, "write-tree")
		tree = strings.TrimSpace(out)
		return err
	})
	if err != nil {
		return "", err
	}
	archive, err := r.git(ctx, "archive", "--format=tar", tree)
	if err != nil {
		return "", err
	}
	if err := checkDownload([]byte(archive), built.log); err != nil {
		return "", err
	}
	return tree, nil
}

// commit makes a release commit and returns its name. No branch moves.
func (r repository) commit(ctx context.Context, parent, tree string, built release) (string, error) {
	sha, err := r.git(ctx, "commit-tree", tree, "-p", parent, "-m", message(built.version, parent))
	return strings.TrimSpace(sha), err
}

// tag makes an annotated tag.
func (r repository) tag(ctx context.Context, sha, version string) error {
	_, err := r.git(ctx, "tag", "--annotate", "--message", version, version, sha)
	return err
}

// blob returns the content of a commit's file.
func (r repository) blob(ctx context.Context, commit, path string) ([]byte, error) {
	out, err := r.git(ctx, "cat-file", "blob", commit+":"+path)
	return []byte(out), err
}
