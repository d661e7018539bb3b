package setup

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// Interrupt runs `dbt run` for the models of a path, and sends exec the signal
// when the server executes so many of their statements. It returns what was
// printed when exec has ended, which must fail. The statements take longer than
// the test would wait.
func Interrupt(t *testing.T, issuer *standin.Issuer, workspace, models string, signal os.Signal, statements int,
	running func() int) (out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := ExecCommand(ctx, t, issuer, workspace, nil, Python(t).Program("dbt"), "--no-use-colors", "run", "--select", "path:"+models)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for running() < statements {
		select {
		case err := <-ended:
			t.Fatalf("exec ended by itself: %v\n%s", err, text.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || ctx.Err() != nil {
		t.Errorf("exec ended with %v\n%s", err, text.String())
	}
	return text.String()
}
