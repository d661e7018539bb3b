package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

const fullHint = "make room, or name another file in `audit-log`; no credential is issued without its record"

// A Log is a file that records are appended to. Several processes may append to one file.
type Log struct {
	f       *os.File
	regular bool
	torn    bool // the file ends within a line: an earlier disk was full
}

// CheckPath returns an error of class Usage when path is inside the
// workspace, by whatever symbolic links: what is there ends up in images,
// commits and sites. It accepts any path when workspace is "".
func CheckPath(path, workspace string) error {
	if workspace == "" {
		return nil
	}
	real, err := resolve(path)
	if err != nil {
		return fault.New(fault.Usage, fmt.Errorf("check audit log %q: %w", path, err), "")
	}
	root, err := os.Stat(workspace)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing can be inside it; a job without a checkout
	}
	if err != nil {
		return fault.New(fault.Internal, fmt.Errorf("check audit log %q: %w", path, err), "")
	}
	// By identity, not by name: file systems fold case, and mounts have several names.
	for p := real; ; p = filepath.Dir(p) {
		if info, err := os.Stat(p); err == nil && os.SameFile(info, root) {
			return fault.New(fault.Usage, fmt.Errorf("audit log %q is inside the workspace %q", path, workspace),
				"leave `audit-log` out, or name a file below ${{ runner.temp }}")
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// resolve returns path without symbolic links; its last elements need not exist.
func resolve(path string) (string, error) {
	p, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for range 255 { // a path has no more elements and links than the system would follow
		real, err := filepath.EvalSymlinks(p)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		// A link to a file that is yet to be made decides where it is made.
		if to, err := os.Readlink(p); err == nil {
			if !filepath.IsAbs(to) {
				// The link's own folder may be reached by a link: ".." counts from the real one.
				dir, err := filepath.EvalSymlinks(filepath.Dir(p))
				if err != nil {
					return "", err
				}
				to = filepath.Join(dir, to)
			}
			p = filepath.Clean(to)
			continue
		}
		rest = filepath.Join(filepath.Base(p), rest)
		p = filepath.Dir(p)
	}
	return "", fmt.Errorf("resolve %q: too many symbolic links", path)
}

// Open opens the log for appending. A file that is made has mode 0600, a
// folder 0700. The error is of class Internal.
func Open(path string) (*Log, error) {
	l, err := open(path)
	if err != nil {
		return nil, fault.New(fault.Internal, fmt.Errorf("open audit log: %w", err), "name a file that this job may write in `audit-log`")
	}
	return l, nil
}

func open(path string) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	l := &Log{f: f, regular: info.Mode().IsRegular()}
	if !l.regular {
		return l, nil
	}
	// Another process may be in the middle of its line.
	for range 10 {
		if l.torn, err = torn(f); err != nil {
			f.Close()
			return nil, err
		}
		if !l.torn {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return l, nil
}

// torn reports whether a file ends within a line.
func torn(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}

// Append writes the record in one write and waits until it is on the disk.
// The error is of class Internal: the caller must not go on.
func (l *Log) Append(r Record) error {
	line, err := r.line()
	if err == nil {
		if l.torn {
			line = append([]byte{'\n'}, line...)
		}
		_, err = l.f.Write(line)
		l.torn = err != nil
	}
	if err == nil && l.regular { // a device or pipe has nothing to sync
		err = l.f.Sync()
	}
	if err != nil {
		return fault.New(fault.Internal, fmt.Errorf("append audit record: %w", err), fullHint)
	}
	return nil
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }
