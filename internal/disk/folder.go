package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Private returns an error unless path is an Own folder that others cannot put
// another in the place of. On Windows only the owner is looked at.
func Private(path string) error { return private(path, filepath.Dir) }

// PrivateInVolume is Private for a folder at the top of a volume: who else
// mounts the volume can put another in the place of the folder.
func PrivateInVolume(path string) error {
	return private(path, func(real string) string { return filepath.Dir(filepath.Dir(real)) })
}

// private is Private, for the folders from first on.
func private(path string, first func(real string) string) error {
	if err := Own(path); err != nil {
		return err
	}
	if err := guarded(path, first); err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// Own returns an error unless path is a folder, and no link to one, that is
// this user's and that other users cannot enter. On Windows only the owner is
// looked at.
func Own(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: path, Err: errors.New("not a folder")}
	}
	err = owner(path, info)
	if err == nil {
		err = closed(info)
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// guarded returns an error when others may rename what is in the first folder
// above path, or in one of those above that, and put something else in its
// place. On Windows it returns nil.
func guarded(path string, first func(real string) string) error {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return err
	}
	for p := first(real); ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if err := renamable(info); err != nil {
			return fmt.Errorf("%q above it %w", p, err)
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}
