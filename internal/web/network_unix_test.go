//go:build unix

package web_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestExtraCAIsAFile: what never ends, or is no path, is not waited for.
func TestExtraCAIsAFile(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		fifo:                          "does not name a regular file",
		"/dev/zero":                   "does not name a regular file",
		strings.Repeat("hunter2", 99): "names a file that cannot be read: file name too long",
	} {
		if err := network(map[string]string{"NODE_EXTRA_CA_CERTS": path}).Check(); text(err) != "NODE_EXTRA_CA_CERTS "+want {
			t.Errorf("%q: error is %q, want %q", path, text(err), want)
		}
	}
}
