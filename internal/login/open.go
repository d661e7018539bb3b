package login

import (
	"errors"
	"os/exec"
	"runtime"
	"strings"
)

// Browser returns what shows an address of this machine's loopback in the
// person's browser, nil where there is none.
func Browser(getenv func(string) string, environ []string) func(address string) error {
	args := []string{"xdg-open"}
	switch {
	case runtime.GOOS == "darwin":
		args = []string{"/usr/bin/open"}
	case runtime.GOOS == "windows":
		args = []string{"rundll32", "url.dll,FileProtocolHandler"}
	case getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "":
		return nil
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return nil
	}
	return func(address string) error {
		if !strings.HasPrefix(address, "http://127.0.0.1:") { // so that it is no option, and no other program's
			return errors.New("not an address of loopback")
		}
		cmd := exec.Command(program, append(args[1:], address)...)
		cmd.Env = environ
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { _ = cmd.Wait() }()
		return nil
	}
}
