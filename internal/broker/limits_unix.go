//go:build unix

package broker

import "syscall"

// openFiles returns how many files the process may have open, 0 for no limit.
// The soft limit is the hard one by now: package os raises it at the start, and
// gives commands the old one.
func openFiles() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return uint64(l.Cur)
}
