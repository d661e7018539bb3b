//go:build e2e && linux

package mcp

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

const guide = "guides/terminal.md"

// lines returns the commands of a block of the guide.
func lines(t *testing.T, with string) []string {
	t.Helper()
	return strings.Split(strings.TrimSpace(block(t, guide, "sh", with)), "\n")
}

// shell returns a command line of the guide.
func (d *desk) shell(line string) *exec.Cmd { return d.command(nil, "bash", "-c", line) }

// TestPython: what the guide has for the cells of a notebook, for longer than a credential lives.
func TestPython(t *testing.T) {
	t.Parallel()
	for _, with := range []string{"dbtRunner", "subprocess"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			d := sit(t, guide, "dbt-dev")
			d.slow("enabled=true")
			setup.Write(t, d.workspace, "build.py", block(t, guide, "python", with))
			out, status := d.run("exec", "--target", "dev", "--", "python", "build.py")
			if status != 0 || !strings.Contains(out, "PASS=5 ") {
				t.Errorf("status %d\n%s", status, out)
			}
			if used, refused := d.store.Used(), d.store.Refused(); used < 3 || refused > 0 {
				t.Errorf("%d credentials were used, %d requests refused; want three at least, and none", used, refused)
			}
			d.nothingLeft()
		})
	}
}

// served waits until a page can be had.
func (d *desk) served(address string, ended chan error, text *said) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(address)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ended:
			d.t.Fatalf("it has ended\n%s", text)
		default:
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("nothing is served: %v\n%s", err, text)
		}
	}
}

// terminal gives a command a terminal of its own as its standard input, and returns the keyboard.
func terminal(t *testing.T, cmd *exec.Cmd) (keyboard *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	cmd.Stdin = tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return keyboard
}
