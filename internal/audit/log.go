package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

const fullHint = "free some disk space, or name another file in `audit-log`: no credential is issued without an audit record"

// A Log is a file that records are appended to. Several processes may append to one file.
type Log struct {
	f    *os.File
	torn bool // the file ends within a line: an earlier disk was full
}

// CheckPath returns an error of class Usage when path is inside the
// workspace, also through symbolic links: files there end up in images,
// commits and sites. It accepts any path when workspace is "".
func CheckPath(path, workspace string) error {
	if workspace == "" {
		return nil
	}
	inside, err := disk.Within(path, workspace)
	if err != nil {
		return fault.New(fault.Usage, fmt.Errorf("check audit log %q: %w", path, err), "")
	}
	if inside {
		return fault.New(fault.Usage, fmt.Errorf("audit log %q is inside the workspace %q", path, workspace),
			"remove `audit-log`, or name a file below ${{ runner.temp }}")
	}
	return nil
}

// Open opens the log for appending. A new file has mode 0600, a new folder
// 0700. The error is of class Usage if path is not a regular file, else of
// class Internal, and Lasting if the file must not be written.
func Open(path string) (*Log, error) {
	l, err := open(path)
	var not disk.NotRegular
	if errors.As(err, &not) {
		return nil, fault.New(fault.Usage, fmt.Errorf("open audit log: %q %w", path, not),
			"name a regular file in `audit-log`")
	}
	if err != nil {
		return nil, marked(err, fault.New(fault.Internal, fmt.Errorf("open audit log: %w", err),
			"name a file in `audit-log` that this job may write"))
	}
	return l, nil
}

func open(path string) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := disk.Open(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{f: f}
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

// lasting are errors that another attempt would meet again: they are about the
// name of the file or its permissions. A full disk or an unreachable file
// server may recover.
var lasting = []error{
	fs.ErrPermission, syscall.EROFS, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EISDIR,
}

// marked returns words, as fault.Lasting if err is one of lasting.
func marked(err, words error) error {
	if slices.ContainsFunc(lasting, func(e error) bool { return errors.Is(err, e) }) {
		return fault.Lasting(words)
	}
	return words
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
// The error is of class Internal, as that of Open: the caller must not continue.
func (l *Log) Append(r Record) error {
	err := l.write(r.Line())
	if err == nil {
		err = failed(l.f.Sync())
	}
	return err
}

// write writes a line in one write. Its errors are those of Append.
func (l *Log) write(line []byte, err error) error {
	if err == nil {
		if l.torn {
			line = append([]byte{'\n'}, line...)
		}
		_, err = l.f.Write(line)
		l.torn = err != nil
	}
	return failed(err)
}

// failed returns the error of an append, nil for none.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return marked(err, fault.New(fault.Internal, fmt.Errorf("append audit record: %w", err), fullHint))
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }
