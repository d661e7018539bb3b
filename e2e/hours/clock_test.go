//go:build e2e && hours && linux && amd64

package hours

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// stepped is the program's clock where it is set while a run goes on: what a
// wall shows changes, and the monotonic clock goes on. Time name spaces of Linux
// have no wall clock of their own, and the whole machine's is not a test's to set.
const stepped = `package main

import (
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// steppedNow is the wall clock plus the seconds that a file has. A time.Time with
// a monotonic reading has the wall's seconds above its 30 bits of nanoseconds.
func steppedNow() time.Time {
	now := time.Now()
	text, _ := os.ReadFile(os.Getenv("STEPPED_CLOCK"))
	seconds, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	*(*uint64)(unsafe.Pointer(&now)) += uint64(seconds) << 30
	return now
}
`

// clocked builds the program with such a clock.
func clocked(t *testing.T) (binary string) {
	t.Helper()
	root, dir := setup.Repository(t), t.TempDir()
	text, err := os.ReadFile(filepath.Join(root, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "Now: time.Now,", "Now: steppedNow,", 1)
	changed = strings.Replace(changed, "\t\"time\"\n", "", 1)
	if !strings.Contains(changed, "steppedNow") {
		t.Fatal("main.go has another clock")
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "main.go"): setup.Write(t, dir, "main.go", changed), filepath.Join(root, "stepped.go"): setup.Write(t, dir, "stepped.go", stepped),
	}})
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "oidc-dbt")
	build := exec.Command("go", "build", "-overlay", setup.Write(t, dir, "overlay.json", string(overlay)), "-o", binary, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// stages runs a command each time that the test asks for it, and says how it ended.
const stages = `n=1
while :; do
  until [ -e ask.$n ]; do [ ! -e stop ] || exit 0; sleep 0.2; done
  dbt --no-use-colors show --inline 'select 1 as one' >log 2>&1; status=$?
  cp log said.$n; echo $status >status.tmp; mv status.tmp status.$n
  n=$((n + 1))
done
`

// TestClock: users live a minute. While the clock is wrong by less than is
// tolerated of an ID token's times, nothing fails: ahead that is its life, behind
// a minute. Beyond that no token is valid, and dbt is told so; then all goes on.
func TestClock(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	workspace, gone := lent(t, issuer, time.Minute, time.Minute)
	audit, clock := filepath.Join(t.TempDir(), "audit.jsonl"), setup.Write(t, t.TempDir(), "clock", "0")
	cmd := setup.ExecCommand(t.Context(), t, issuer, workspace, []string{"--audit-log", audit}, "sh", "-c", stages)
	cmd.Path = clocked(t)
	cmd.Env = append(cmd.Env, "PATH="+setup.Python(t).Bin+":"+os.Getenv("PATH"), "STEPPED_CLOCK="+clock)
	said := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // nothing, unless the test failed

	for i, tt := range []struct {
		step  time.Duration
		waits time.Duration // before dbt logs in
		fails string
	}{
		{0, 0, ""},
		{2 * time.Minute, 0, ""},
		{2 * time.Minute, 90 * time.Second, ""},
		{0, 0, ""}, // set back: by the wall the last user would live for three minutes
		{0, 90 * time.Second, ""},
		{-45 * time.Second, 90 * time.Second, ""},
		{-5 * time.Minute, 90 * time.Second, "verify ID token: it was issued at "},
		{0, 0, ""},
		{time.Hour, 0, "verify ID token: it expired at "},
		{0, 0, ""},
		{0, 90 * time.Second, ""},
	} {
		next := clock + ".next"
		if err := os.WriteFile(next, []byte(fmt.Sprint(int(tt.step.Seconds()))), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, clock); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tt.waits)
		status, out := stage(t, workspace, i+1)
		if (status == "0") != (tt.fails == "") || !strings.Contains(out, tt.fails) {
			t.Errorf("%d: with a clock that is wrong by %s: status %s, want %q in\n%s", i, tt.step, status, tt.fails, out)
		}
	}
	setup.Write(t, workspace, "stop", "")
	if err := cmd.Wait(); err != nil {
		t.Errorf("exec: %v", err)
	}
	issued, _ := outcomes(t, audit)
	if t.Logf("%d users were lent; exec says\n%s", issued, said); issued < 5 {
		t.Errorf("%d users, want 5 at least", issued)
	}
	gone()
}

// stage asks for a command, and returns its status and what it printed.
func stage(t *testing.T, workspace string, n int) (status, out string) {
	t.Helper()
	setup.Write(t, workspace, fmt.Sprintf("ask.%d", n), "")
	for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(workspace, fmt.Sprintf("status.%d", n)))
		if err == nil {
			log, err := os.ReadFile(filepath.Join(workspace, fmt.Sprintf("said.%d", n)))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(text)), string(log)
		}
		if time.Now().After(deadline) {
			t.Fatalf("stage %d: %v", n, err)
		}
	}
}
