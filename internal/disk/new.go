package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// New makes a file with content, with the permissions that the user's other new
// files have. It is there whole or not at all, and what is there is never
// replaced: the error is then an fs.ErrExist.
func New(path string, content []byte) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "." // not the system's folder for temporary files
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("write %s: %w", name, fs.ErrExist)
	}
	next, err := os.CreateTemp(dir, "."+name+".*"+half)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, Cause(err))
	}
	defer func() { _ = os.Remove(next.Name()) }()
	_, err = next.Write(content)
	if cerr := next.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(next.Name(), newFile)
	}
	if err == nil {
		err = os.Link(next.Name(), path) // fails where the name is taken, as a rename does not
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = Cause(err)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// newFile are the permissions of a file that anyone may read, as git checks it out.
const newFile = 0o644
