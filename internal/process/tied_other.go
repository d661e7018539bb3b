//go:build !linux

package process

import "syscall"

// tied would have a command end with this process, which only Linux can.
func tied() *syscall.SysProcAttr { return nil }
