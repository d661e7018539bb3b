//go:build unix

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Become continues as the owner of a file, with no other user's rights, if this process is root and the owner is not.
func Become(file fs.FileInfo) error {
	owner, ok := file.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the system does not say whose it is")
	}
	if os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	// In this order: a user who is not root may change neither.
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(int(owner.Gid)), syscall.Setuid(int(owner.Uid))} {
		if err != nil {
			return fmt.Errorf("become user %d: %w", owner.Uid, err)
		}
	}
	return nil
}
