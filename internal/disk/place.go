package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Within reports whether path is in dir, or would be when it is made,
// through any symbolic links and under any name of dir. Nothing is in a folder
// that does not exist.
func Within(path, dir string) (bool, error) {
	root, way, err := between(path, dir)
	if root == nil || err != nil {
		return false, err
	}
	// By identity, not by name: file systems fold case, and mounts have several names.
	for p := way.end; ; p = filepath.Dir(p) {
		if info, err := os.Stat(p); err == nil && os.SameFile(info, root) {
			return true, nil
		}
		if p == filepath.Dir(p) {
			return false, nil
		}
	}
}

// between returns what the folder is, nil where there is none, and the way that
// leads to path.
func between(path, dir string) (root fs.FileInfo, way way, err error) {
	if root, err = os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, way, nil
	}
	if err == nil {
		way, err = follow(path)
	}
	return root, way, err
}

// Supplied reports whether the contents of dir can decide what is read at path:
// it, or a link on the way to it, is in dir; it has a second name in dir by a
// hard link; or a folder on the way is mounted from there. It looks through all
// of dir unless the answer is yes before.
func Supplied(ctx context.Context, path, dir string) (bool, error) {
	root, way, err := between(path, dir)
	if root == nil || err != nil {
		return false, err
	}
	var passed []fs.FileInfo
	for _, p := range way.places {
		info, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it supplies nothing yet
		}
		if err != nil {
			return false, err
		}
		if os.SameFile(info, root) {
			return true, nil
		}
		passed = append(passed, info)
	}
	// A link of /proc leads where its text does not: into another process's root, say.
	if info, err := os.Stat(path); err == nil {
		if end, err := os.Stat(way.end); err != nil || !os.SameFile(info, end) {
			return false, fmt.Errorf("leads to a different file than its links say (%q)", way.end)
		}
	}
	return contains(ctx, dir, passed)
}

// contains reports whether one of the files has a name in dir.
func contains(ctx context.Context, dir string, files []fs.FileInfo) (found bool, err error) {
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			if path == dir {
				return err
			}
			return nil // gone meanwhile, or another user's folder
		}
		info, err := d.Info()
		if err == nil && path != dir && slices.ContainsFunc(files, func(f fs.FileInfo) bool { return os.SameFile(f, info) }) {
			found = true
			return filepath.SkipAll
		}
		return nil
	})
	return found, err
}

// A way is how the system gets to a file.
type way struct {
	places []string // each folder and link on the way, and the end; without links in their folders' names
	end    string   // the last of them
}

// maxLinks is how many symbolic links are followed. (Linux follows 40, Windows 63)
const maxLinks = 255

// follow returns the way to path. The last elements of path need not exist.
func follow(path string) (w way, err error) {
	if !filepath.IsAbs(path) {
		// Not by filepath.Abs: ".." counts from where the link before it leads.
		here, err := os.Getwd()
		if err != nil {
			return w, err
		}
		path = here + string(filepath.Separator) + path
	}
	begin := func(path string) (rest []string) {
		volume := filepath.VolumeName(path)
		w.visit(volume + string(filepath.Separator))
		return elements(path[len(volume):])
	}
	links := 0
	for rest := begin(path); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case ".":
			continue
		case "..":
			w.visit(filepath.Dir(w.end))
			continue
		}
		next := filepath.Join(w.end, name)
		info, err := os.Lstat(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return w, err
		}
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			w.visit(next)
			continue
		}
		if links++; links > maxLinks {
			return w, &fs.PathError{Op: "follow", Path: path, Err: errors.New("too many symbolic links")}
		}
		to, err := os.Readlink(next)
		if err != nil {
			return w, err
		}
		w.places = append(w.places, next)
		if filepath.IsAbs(to) {
			rest = slices.Concat(begin(to), rest)
		} else {
			rest = slices.Concat(elements(to), rest)
		}
	}
	return w, nil
}

func elements(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c < utf8.RuneSelf && os.IsPathSeparator(uint8(c)) })
}

func (w *way) visit(place string) {
	w.end = place
	w.places = append(w.places, place)
}
