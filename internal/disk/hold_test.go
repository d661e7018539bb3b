package disk_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// holdFile names a variable that turns this test's binary into a process that
// holds a file until it is killed.
const holdFile = "DISK_TEST_HOLD"

func TestHold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	if _, err := disk.Take(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("take what is not there: %v", err)
	}
	f, err := disk.Hold(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Take(path); !errors.Is(err, disk.ErrHeld) {
		t.Errorf("take what is held: %v", err)
	}
	if names := namesIn(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("the folder has %q", names)
	}
	f.Close()
	taken, err := disk.Take(path)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := disk.Take(path); !errors.Is(err, disk.ErrHeld) {
		t.Errorf("take what is taken: %v", err)
	}
	if _, err := disk.Take(filepath.Dir(path)); err == nil || errors.Is(err, disk.ErrHeld) {
		t.Errorf("take a folder: %v", err)
	}
}

// TestHoldEndsWithTheProcess that is killed, and not before.
func TestHoldEndsWithTheProcess(t *testing.T) {
	if path := os.Getenv(holdFile); path != "" {
		f, err := disk.Hold(path)
		fmt.Println(f != nil, err)
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(exe, "-test.run=^TestHoldEndsWithTheProcess$")
	cmd.Env = append(os.Environ(), holdFile+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "true <nil>\n" {
		t.Errorf("it says %q, %v", line, err)
	}
	if _, err := disk.Take(path); !errors.Is(err, disk.ErrHeld) {
		t.Errorf("while it lives: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	f, err := disk.Take(path)
	if err != nil {
		t.Fatalf("when it is gone: %v", err)
	}
	f.Close()
}
