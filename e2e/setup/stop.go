package setup

import (
	"bytes"
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// stopDeadline is far beyond what a stop takes: how fast the machine is does not
// decide.
const stopDeadline = 2 * time.Minute

// Stop runs a command by exec, and `oidc-dbt stop --all` as soon as running is
// true. It waits until running is false, which looks at the server, logs how long
// that took, and returns what exec printed, which must have been stopped.
func Stop(t *testing.T, issuer *standin.Issuer, workspace string, flags []string, running func() bool, command ...string) (out string) {
	t.Helper()
	temp := "TMPDIR=" + t.TempDir() // other tests' runs go on
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := ExecCommand(ctx, t, issuer, workspace, flags, command...)
	cmd.Env = append(cmd.Env, temp)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for !running() {
		select {
		case err := <-ended:
			t.Fatalf("exec ended by itself: %v\n%s", err, text.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	stop := exec.CommandContext(ctx, Binary(t), "stop", "--all")
	stop.Env = slices.DeleteFunc(append(Python(t).Environ(), temp), func(v string) bool { return strings.HasPrefix(v, "RUNNER_TEMP=") })
	begun := time.Now()
	stopped := make(chan string, 1)
	go func() {
		said, err := stop.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(said), "stopped: target \"prod\", process ") {
			t.Errorf("stop: %v: %s", err, said)
		}
		stopped <- string(said)
	}()
	for running() {
		if time.Since(begun) > stopDeadline {
			t.Fatalf("the server is still at work after %s", stopDeadline)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("nothing runs at the server %s after the call", time.Since(begun).Round(time.Millisecond))
	<-stopped
	<-ended
	t.Logf("the run is gone %s after the call", time.Since(begun).Round(time.Millisecond))
	// A helper of Python's may outlive exec, and print after its last line.
	last := max(0, strings.LastIndex(text.String(), "\noidc-dbt: "))
	ends := strings.HasPrefix(text.String()[last:], "\noidc-dbt: stopped by `oidc-dbt stop`\n")
	if status := cmd.ProcessState.ExitCode(); status != 143 || !ends {
		t.Errorf("exec's status is %d, want 143\n%s", status, text.String())
	}
	NoSecrets(t, issuer, "the output", text.String())
	return text.String()
}
