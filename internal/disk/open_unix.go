//go:build unix

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const (
	// noWait: a pipe that takes the file's place after it was looked at would
	// be waited for, and a terminal would become this process's own.
	noWait   = syscall.O_NONBLOCK | syscall.O_NOCTTY
	noFollow = syscall.O_NOFOLLOW
)

// ownFile returns an error unless f is this user's.
func ownFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return owned(info)
}

// secretFile returns an error when others may read f, or write to it.
func secretFile(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("is accessible to other users (%v), want mode 0600", info.Mode().Perm())
	}
	return err
}

func owned(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("has no owner")
	}
	if uid := os.Geteuid(); int(stat.Uid) != uid {
		return fmt.Errorf("is owned by user %d, want %d, the user running this program", stat.Uid, uid)
	}
	return nil
}

// owner returns an error unless the folder is this user's.
func owner(_ string, info fs.FileInfo) error { return owned(info) }

// renamable returns an error when others than this user and the system's may
// put another folder in the place of one that is in it.
func renamable(info fs.FileInfo) error {
	if info.Mode()&fs.ModeSticky != 0 {
		return nil // only a file's owner renames it
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.New("has no owner")
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("is writable by everyone (%v)", info.Mode())
	case info.Mode().Perm()&0o020 != 0 && stat.Gid != 0 && int(stat.Gid) != os.Getegid():
		return fmt.Errorf("is writable by group %d (%v)", stat.Gid, info.Mode())
	}
	return nil
}

// closed returns an error when others may enter the folder.
func closed(info fs.FileInfo) error {
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("is accessible to other users (%v)", info.Mode().Perm())
	}
	return nil
}
