// Package process runs the user's command transparently, with its own output, signals and
// exit status, in an environment without any other credential.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"golang.org/x/term"
)

// forwarded are the signals that end a run, ours or the command's.
var forwarded = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// A Command is what to run. The streams are passed as they are: if they are
// files, the command uses them directly.
type Command struct {
	Args   []string // the program and its arguments; at least one
	Dir    string   // "" for the current directory
	Env    []string // the whole environment
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Signalled, if not nil, is called by Run for each signal after the command
	// got it. Run does not wait for it.
	Signalled func()
	// Stop, if not nil, is closed when the command must end: by SIGTERM, and a
	// while later without asking it. On Windows it is ended at once.
	Stop <-chan struct{}
}

// stopPatience is how long a command that is stopped may take to end.
const stopPatience = 5 * time.Second

// Find returns the path of a program, so that a typing error is found before a
// credential is requested. The error is of class Usage.
func Find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return "", fault.New(fault.Usage, fmt.Errorf("find the command: %w", err),
			"check the spelling and PATH; write the command after `--`, each argument separately")
	}
	return path, nil
}

// Run starts the command, forwards SIGINT, SIGTERM and SIGHUP to it, and
// returns its exit status: 128 plus the signal's number if a signal ended it.
// It waits as long as the command runs, if nobody stops it, and on Linux ends it with SIGTERM when
// this process is killed. If the command could not be started, err is set and
// status means nothing.
func Run(ctx context.Context, c Command) (status int, err error) {
	defer Hold(ctx)()
	// From here on signals are forwarded to the command and do not end ctx.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	if err := context.Cause(ctx); err != nil {
		return 0, fmt.Errorf("start %q: %w", c.Args[0], err)
	}

	cmd := &exec.Cmd{Path: c.Args[0], Args: c.Args, Dir: c.Dir, Env: c.Env, Stdin: c.Stdin, Stdout: c.Stdout,
		Stderr: c.Stderr, SysProcAttr: tied()}
	if cmd.Path, err = Find(c.Args[0]); err != nil {
		return 0, err
	}
	// The command is tied to a thread: this one must not end before it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fault.New(fault.Usage, fmt.Errorf("start %q: %w", c.Args[0], err), "")
	}
	done := make(chan struct{})
	go func() {
		stop := c.Stop
		var kill <-chan time.Time
		for {
			select {
			case <-stop:
				stop, kill = nil, time.After(stopPatience)
				if cmd.Process.Signal(syscall.SIGTERM) != nil {
					_ = cmd.Process.Kill()
				}
			case <-kill:
				_ = cmd.Process.Kill()
			case s := <-signals:
				// A terminal sends ^C to the whole foreground group: the
				// command has it already, and dbt takes a second one for
				// "abort at once".
				if s != os.Interrupt || !isTerminal(c.Stdin) {
					// It may have ended meanwhile. On Windows no signal can be
					// sent: the console has notified the command itself.
					_ = cmd.Process.Signal(s)
				}
				if c.Signalled != nil {
					go c.Signalled()
				}
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(done)
	if err != nil && cmd.ProcessState == nil {
		return 0, fmt.Errorf("wait for %q: %w", c.Args[0], err)
	}
	return exitStatus(cmd.ProcessState), nil
}

// An Interrupt is the cause of a context that a signal ended.
type Interrupt struct{ Signal os.Signal }

// Error implements error.
func (i Interrupt) Error() string { return "stopped by signal: " + i.Signal.String() }

// Status is the exit status that a shell reports for a process that the signal ended.
func (i Interrupt) Status() int {
	if s, ok := i.Signal.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return 1
}

// Interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP
// ends, with an Interrupt as its cause. stop restores the signals' default.
func Interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, forwarded...)
	go func() {
		select {
		case s := <-signals:
			cancel(Interrupt{s})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

func exitStatus(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
