// Package disk opens files whose names come from outside: only regular ones, without blocking,
// and reads no more of them than the caller expects.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// NotRegular is why a file is not opened: a pipe never ends, opening is an act
// to some devices, and what is written to either is gone.
type NotRegular struct{ Mode fs.FileMode }

// Error implements error.
func (e NotRegular) Error() string {
	what := "a device"
	switch {
	case e.Mode&fs.ModeDir != 0:
		what = "a directory"
	case e.Mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case e.Mode&fs.ModeSocket != 0:
		what = "a socket"
	case e.Mode&fs.ModeSymlink != 0:
		what = "a symbolic link"
	case e.Mode&fs.ModeIrregular != 0:
		what = "neither a file nor a directory"
	}
	return "is " + what + ", want a regular file"
}

// TooLarge is why a file is not read; it is the number of bytes that it may have.
type TooLarge int64

// Error implements error.
func (limit TooLarge) Error() string {
	return fmt.Sprintf("is larger than %d KiB", int64(limit)>>10)
}

// Open is os.OpenFile for regular files. Symbolic links are followed. An error
// is an *fs.PathError; of anything but a regular file it holds a NotRegular.
func Open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	if err := Check(path); err != nil && (flag&os.O_CREATE == 0 || !os.IsNotExist(err)) {
		return nil, err
	}
	return open(path, flag, perm)
}

// Check returns the error that Open would return for what path names, as far
// as that can be seen without opening it.
func Check(path string) error {
	info, err := os.Stat(path)
	var perr *fs.PathError
	if errors.As(err, &perr) {
		return &fs.PathError{Op: "open", Path: perr.Path, Err: perr.Err} // the system's words for the same fault
	}
	if err != nil {
		return err
	}
	return regular(path, info)
}

func open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|noWait, perm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat() // of what is open: the name may lead elsewhere by now
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func regular(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: NotRegular{info.Mode()}}
}

// Read returns the content of a regular file of at most limit bytes. An error
// is an *fs.PathError; of a longer file it holds a TooLarge.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return readAll(f, limit)
}

// ReadOwn is Read for a file that this program wrote: it must be this user's,
// and not behind a symbolic link, which could lead to another user's.
func ReadOwn(path string, limit int64) ([]byte, error) {
	f, err := openOwn(path)
	if err != nil {
		return nil, err
	}
	return readAll(f, limit)
}

// ReadSecret is ReadOwn for a file that other users cannot read. On Windows
// only the owner is looked at.
func ReadSecret(path string, limit int64) ([]byte, error) {
	f, err := openOwn(path)
	if err != nil {
		return nil, err
	}
	if err := secretFile(f); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return readAll(f, limit)
}

func openOwn(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		return nil, err
	}
	f, err := open(path, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return nil, err
	}
	if err := ownFile(f); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1)) // a file of /proc says that it has no size
	if err == nil && int64(len(text)) > limit {
		err = &fs.PathError{Op: "read", Path: f.Name(), Err: TooLarge(limit)}
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

// Cause drops the operation and the path from a file error, for a message that
// has named the path as the user typed it.
func Cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
