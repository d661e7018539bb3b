//go:build unix

package audit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// sizeLimit names a variable with the largest size that a file may have in
// the process that appends: a disk that is full in the middle of a record.
const sizeLimit = "AUDIT_TEST_SIZE_LIMIT"

func limitFileSize() {
	if limit, err := strconv.ParseUint(os.Getenv(sizeLimit), 10, 64); err == nil {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			panic(err)
		}
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "oidc-dbt", "audit.jsonl")
	if err := appendRecords(path, 1); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %v, want %v", p, got, want)
		}
	}
}

func TestFullDiskIsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), appendTo+"="+path, sizeLimit+"=100000")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != int(fault.Internal) {
		t.Fatalf("got %v, want exit status %d\n%s", err, fault.Internal, out)
	}
	if got, want := string(out), "append audit record: write "+path+": file too large\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	// When there is room again, only the line that was cut is lost.
	if err := appendRecords(path, 1); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i, line := range lines {
		if torn := i == len(lines)-2; json.Valid([]byte(line)) == torn {
			t.Errorf("line %d of %d: whole is %t, want %t", i+1, len(lines), torn, !torn)
		}
	}
}

// TestOpenNothingButAFile: a record is a promise, which neither a device nor
// a pipe keeps, even with a reader.
func TestOpenNothingButAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), syscall.Mkfifo(at("read"), 0o600), os.Symlink("pipe", at("to-pipe")), os.Symlink("/dev/null", at("to-null")))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(at("read"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for path, what := range map[string]string{
		at("pipe"): "a named pipe", at("to-pipe"): "a named pipe", at("read"): "a named pipe",
		"/dev/null": "a device", "/dev/zero": "a device", at("to-null"): "a device", dir: "a directory",
	} {
		_, err := audit.Open(path)
		if want := fmt.Sprintf("open audit log: %q is %s, want a regular file", path, what); err == nil || err.Error() != want || fault.ClassOf(err) != fault.Usage {
			t.Errorf("Open(%q): %v, of class %v, want %s, of class %v", path, err, fault.ClassOf(err), want, fault.Usage)
		}
	}
}
