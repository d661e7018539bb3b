package process

import "syscall"

// detachedProcess gives the process no console. (Microsoft, Process Creation Flags)
const detachedProcess = 0x00000008

// detached keeps the console's events, ^C and the window's end, from a process.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: detachedProcess | syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}
