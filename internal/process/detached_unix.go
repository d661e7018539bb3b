//go:build unix

package process

import "syscall"

// detached puts a process into a session of its own, away from the terminal
// and the group of this one.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
