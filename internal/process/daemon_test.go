package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/process"
)

// daemon plays the background process: it writes to a file how it ended, since
// its output has no reader by then.
func daemon(how string) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if how == "daemon told by a signal" {
		cancel(process.Interrupt{Signal: syscall.SIGTERM})
	}
	ctx, leash := process.OnLeash(ctx, os.Stdin)
	told := func(what any) { fmt.Fprintln(os.Stderr, what) }
	fmt.Println("::add-mask::secret")
	switch how {
	case "daemon that fails":
		fmt.Println("::error::no")
		os.Exit(5)
	case "daemon that hangs":
		<-ctx.Done()
		told(context.Cause(ctx))
		os.Exit(6)
	}
	if err := leash.Ready(ctx, os.Stdout); err != nil {
		told(err)
		os.Exit(8)
	}
	_, err := fmt.Println("too late")
	told(err)
	for {
		if _, err := os.Stat(os.Getenv("PROCESS_TEST_END")); err == nil {
			told("ended")
			os.Exit(0)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// background starts how in the background. said returns what it told once it
// has told want.
func background(t *testing.T, how string) (d *process.Daemon, said func(want string) string, end func()) {
	t.Helper()
	dir := t.TempDir()
	notes, err := os.Create(filepath.Join(dir, "notes"))
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	c := self(t, how, nil, notes)
	over := filepath.Join(dir, "end")
	c.Env = append(c.Env, "PROCESS_TEST_END="+over)
	if d, err = process.StartDaemon(c); err != nil {
		t.Fatal(err)
	}
	end = func() {
		if err := os.WriteFile(over, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return d, func(want string) (text string) {
		for deadline := time.Now().Add(5 * time.Minute); !strings.Contains(text, want) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			data, err := os.ReadFile(notes.Name())
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		return text
	}, end
}

// TestDaemonGoesOn: its output before it is ready is passed on; after that it
// has neither a reader nor a parent, and prints nothing. It also goes on if it
// gets a signal while it becomes ready, since its parent has succeeded by then.
func TestDaemonGoesOn(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"daemon", "daemon told by a signal"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			d, said, end := background(t, how)
			var out bytes.Buffer
			released, status, err := d.Wait(t.Context(), &out)
			if !released || status != 0 || err != nil {
				t.Fatalf("released: %t, status %d, %v", released, status, err)
			}
			if got := out.String(); got != "::add-mask::secret\n" {
				t.Errorf("passed on is %q", got)
			}
			end()
			if got, want := said("ended"), "write /dev/stdout: file already closed\nended\n"; got != want {
				t.Errorf("it told %q, want %q", got, want)
			}
		})
	}
}

func TestDaemonFails(t *testing.T) {
	t.Parallel()
	d, _, _ := background(t, "daemon that fails")
	var out bytes.Buffer
	released, status, err := d.Wait(t.Context(), &out)
	if released || status != 5 || err != nil || out.String() != "::add-mask::secret\n::error::no\n" {
		t.Errorf("released: %t, status %d, %v, %q; want its own status 5 and all of its output", released, status, err, out.String())
	}
}

// TestDaemonIsCancelled: it ends as if by the signal that ended the parent.
func TestDaemonIsCancelled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cause error
		told  string
	}{
		{process.Interrupt{Signal: syscall.SIGINT}, "stopped by signal: interrupt\n"},
		{process.Interrupt{Signal: syscall.SIGTERM}, "stopped by signal: terminated\n"},
		{errors.New("another"), "stopped by signal: terminated\n"},
	} {
		d, said, _ := background(t, "daemon that hangs")
		ctx, cancel := context.WithCancelCause(t.Context())
		released, status, err := d.Wait(ctx, writer(func([]byte) error { cancel(tt.cause); return nil }))
		if released || status != 6 || err != nil {
			t.Errorf("%v: released: %t, status %d, %v, want its own status 6", tt.cause, released, status, err)
		}
		if got := said("\n"); got != tt.told {
			t.Errorf("%v: it told %q, want %q", tt.cause, got, tt.told)
		}
	}
}

// TestDaemonIsReadyTooLate: it does not go on if its parent ends as it becomes ready.
func TestDaemonIsReadyTooLate(t *testing.T) {
	t.Parallel()
	d, said, _ := background(t, "daemon")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(process.Interrupt{Signal: syscall.SIGINT})
	released, status, err := d.Wait(ctx, io.Discard)
	if released || status != 8 || err != nil {
		t.Errorf("released: %t, status %d, %v, want its own status 8", released, status, err)
	}
	if got, want := said("\n"), "stopped by signal: interrupt\n"; got != want {
		t.Errorf("it told %q, want %q", got, want)
	}
}

// TestDaemonLosesItsReader: the runner is gone, and with it all users of the credential.
func TestDaemonLosesItsReader(t *testing.T) {
	t.Parallel()
	d, said, _ := background(t, "daemon that hangs")
	released, _, err := d.Wait(t.Context(), writer(func([]byte) error { return io.ErrClosedPipe }))
	if want := "copy the output of the background process: io: read/write on closed pipe"; released || err == nil || err.Error() != want {
		t.Errorf("released: %t, %v, want %q", released, err, want)
	}
	if got, want := said("\n"), "stopped by signal: terminated\n"; got != want {
		t.Errorf("it told %q, want %q", got, want)
	}
}

func TestDaemonThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := process.StartDaemon(process.Command{Args: []string{"/nowhere/oidc-dbt"}})
	if want := "start the background process: fork/exec /nowhere/oidc-dbt: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %q", err, want)
	}
}

type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) { return len(p), w(p) }
