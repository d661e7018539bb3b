package process

import "syscall"

// tied has a command end with the thread that starts it: one whose broker was
// killed would only try again and again, some clients for twenty minutes.
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
