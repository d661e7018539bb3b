package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A repository is where release commits are made and checked.
type repository struct{ dir string }

// git runs git and returns what it prints. An error has git's own words.
func (r repository) git(ctx context.Context, args ...string) (string, error) {
	return r.gitWith(ctx, nil, nil, args...)
}

// gitWith is git with more variables and an input. It sees no other object in place of one that was asked for.
func (r repository) gitWith(ctx context.Context, environ []string, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-replace-objects", "-c", "core.autocrlf=false"}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdin = r.dir, append(os.Environ(), environ...), stdin
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
	if _, err := r.gitWith(ctx, environ, nil, "read-tree", commit); err != nil {
		return err
	}
	return do(environ)
}

// An entry is what a commit's tree has: a file, a folder, or something else by its mode.
type entry struct{ mode, object, path string }

// The modes that a plain file may have.
const plainMode, programMode = "100644", "100755"

// entries returns all entries of a commit's tree in its order, with the folders.
func (r repository) entries(ctx context.Context, commit string) ([]entry, error) {
	out, err := r.git(ctx, "ls-tree", "-r", "-t", "-z", "--full-tree", commit)
	if err != nil {
		return nil, err
	}
	var list []entry
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		head, path, _ := strings.Cut(line, "\t") // 100644 blob 1234…
		if fields := strings.Fields(head); len(fields) == 3 {
			list = append(list, entry{mode: fields[0], object: fields[2], path: path})
		}
	}
	return list, nil
}

// export writes a commit's files, and no .git, into a new folder. They have the bytes that the commit has: attributes
// and filters, by which git would write others, do not count. A link or a submodule could bring files in that the
// commit does not have, so both are refused.
func (r repository) export(ctx context.Context, commit, dir string) error {
	entries, err := r.entries(ctx, commit)
	if err != nil {
		return err
	}
	var files []entry
	var objects strings.Builder
	for _, e := range entries {
		switch e.mode {
		case "040000":
		case plainMode, programMode:
			files = append(files, e)
			objects.WriteString(e.object + "\n")
		default:
			return fmt.Errorf("%s has %q, which is not a plain file (mode %s)", commit, e.path, e.mode)
		}
	}
	contents, err := r.gitWith(ctx, nil, strings.NewReader(objects.String()), "cat-file", "--batch=%(objectsize)")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // names such as .. do not lead out of it
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		line, rest, _ := strings.Cut(contents, "\n")
		size, err := strconv.Atoi(line)
		if err != nil || size < 0 || size >= len(rest) {
			return fmt.Errorf("read %q of %s: git says %q", f.path, commit, line)
		}
		if err := writeNew(root, f, rest[:size]); err != nil {
			return err
		}
		contents = rest[size+1:]
	}
	return nil
}

// writeNew writes a file that is not there yet: on some systems two names of a commit are the same.
func writeNew(root *os.Root, f entry, content string) error {
	name := filepath.FromSlash(f.path)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	perm := os.FileMode(0o644)
	if f.mode == programMode {
		perm = 0o755
	}
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	return errors.Join(err, file.Close())
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
			if _, err := r.gitWith(ctx, environ, nil, "update-index", "--add", "--cacheinfo", entry); err != nil {
				return err
			}
		}
		out, err := r.gitWith(ctx, environ, nil, "write-tree")
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
	if err := checkDownload([]byte(archive), built.log); err != nil && !built.fast {
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
