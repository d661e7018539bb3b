//go:build unix

package audit_test

import (
	"encoding/json"
	"errors"
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

func TestFullDevice(t *testing.T) {
	t.Parallel()
	const device = "/dev/full" // Linux alone has it
	if _, err := os.Stat(device); errors.Is(err, os.ErrNotExist) {
		return
	}
	log, err := audit.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	err = log.Append(long("1"))
	if want := "append audit record: write /dev/full: no space left on device"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if fault.ClassOf(err) != fault.Internal || fault.Hint(err) == "" {
		t.Errorf("class %v, hint %q, want %v and a hint", fault.ClassOf(err), fault.Hint(err), fault.Internal)
	}
}
