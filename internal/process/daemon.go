package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// ready is the byte that a daemon prints when it is ready. Lines for the runner
// do not contain it.
const ready = 0

// goOn is the byte that releases a daemon. Any other byte is the number of the
// signal that ends it; end of input means that its parent has ended.
const goOn = 0

// stopTimeout is how long a daemon that is not ready may take to end. The runner
// kills a cancelled step after ten seconds.
const stopTimeout = 8 * time.Second

// A Daemon is another process of this program in its own session: a terminal's
// ^C or a runner's signal to the process group does not reach it. Until it is
// released it ends when this process ends, for any reason.
type Daemon struct {
	cmd   *exec.Cmd
	out   *os.File // its standard output
	leash *os.File // its standard input
}

// StartDaemon starts the program c.Args with c.Env and c.Dir; Stderr must be a
// file, since the daemon keeps writing to it. The daemon inherits none of this
// process's streams: a reader that waits for their end would wait for the
// daemon.
func StartDaemon(c Command) (d *Daemon, err error) {
	var opened []*os.File
	defer func() {
		if err != nil {
			for _, f := range opened {
				f.Close()
			}
			err = fmt.Errorf("start the background process: %w", err)
		}
	}()
	in, leash, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	opened = append(opened, in, leash)
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	opened = append(opened, out, stdout)
	cmd := &exec.Cmd{Path: c.Args[0], Args: c.Args, Dir: c.Dir, Env: c.Env, Stdin: in, Stdout: stdout, Stderr: c.Stderr,
		SysProcAttr: detached()}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	in.Close()
	stdout.Close()
	return &Daemon{cmd: cmd, out: out, leash: leash}, nil
}

// Wait copies the daemon's output to out until the daemon is ready, and then
// releases it. If the daemon ends before that, status is its exit status. If
// ctx ends first, the daemon is stopped.
func (d *Daemon) Wait(ctx context.Context, out io.Writer) (released bool, status int, err error) {
	defer Hold(ctx)()
	defer d.out.Close()
	defer d.leash.Close()
	type end struct {
		ready bool
		err   error
	}
	copied := make(chan end, 1)
	go func() {
		ready, err := copyUntilReady(out, d.out)
		copied <- end{ready, err}
	}()
	var e end
	select {
	case e = <-copied:
	case <-ctx.Done():
		d.stop(ctx)
		select {
		case e = <-copied:
		case <-time.After(stopTimeout):
			d.kill()
			e = <-copied
		}
	}
	if e.ready && ctx.Err() == nil {
		if _, err := d.leash.Write([]byte{goOn}); err == nil {
			return true, 0, d.cmd.Process.Release()
		}
	} else if e.ready {
		d.stop(ctx)
	} else if e.err != nil {
		d.leash.Close() // the reader of our output is gone
	}
	timer := time.AfterFunc(stopTimeout, d.kill)
	defer timer.Stop()
	err = d.cmd.Wait()
	switch {
	case e.err != nil:
		return false, 0, fmt.Errorf("copy the output of the background process: %w", e.err)
	case d.cmd.ProcessState == nil:
		return false, 0, fmt.Errorf("wait for the background process: %w", err)
	}
	return false, exitStatus(d.cmd.ProcessState), nil
}

// stop forwards the signal that ended ctx, or SIGTERM for another cause.
func (d *Daemon) stop(ctx context.Context) {
	number := syscall.SIGTERM
	var interrupt Interrupt
	if errors.As(context.Cause(ctx), &interrupt) {
		if s, ok := interrupt.Signal.(syscall.Signal); ok {
			number = s
		}
	}
	_, _ = d.leash.Write([]byte{byte(number)}) // it may have ended meanwhile
}

func (d *Daemon) kill() { _ = d.cmd.Process.Kill() }

// copyUntilReady copies until the end of in, or the byte ready.
func copyUntilReady(out io.Writer, in io.Reader) (isReady bool, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, rerr := in.Read(buf)
		text, _, isReady := bytes.Cut(buf[:n], []byte{ready})
		if _, err := out.Write(text); err != nil {
			return false, err
		}
		if isReady || rerr != nil {
			return isReady, nil // an error means that the writer has ended
		}
	}
}

// A Leash is the daemon's side of a Daemon.
type Leash struct{ released, ended chan struct{} }

// OnLeash returns a context that ends with the parent, with its signal as the
// cause, until Ready has returned. in is the standard input.
func OnLeash(ctx context.Context, in io.Reader) (context.Context, *Leash) {
	// Without a parent, output has no reader. Writing must return an error, so
	// that this process can clean up, rather than kill it.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(ctx)
	l := &Leash{released: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		var b [1]byte
		_, err := io.ReadFull(in, b[:])
		switch {
		case err != nil:
			cancel(Interrupt{syscall.SIGTERM})
		case b[0] == goOn:
			close(l.released)
			return
		default:
			cancel(Interrupt{syscall.Signal(b[0])})
		}
		close(l.ended)
	}()
	return ctx, l
}

// Ready tells the parent that this process is ready, and waits until the parent
// releases it. ctx comes from OnLeash. Ready closes out, which is the standard
// output. After an error this process must end.
func (l *Leash) Ready(ctx context.Context, out io.WriteCloser) error {
	_, err := out.Write([]byte{ready})
	if err != nil {
		return fmt.Errorf("tell the step that the background process is ready: %w", err)
	}
	select {
	case <-l.released:
		return out.Close()
	case <-l.ended:
		return context.Cause(ctx)
	case <-ctx.Done():
	}
	// This process got a signal itself. The parent may have released it already,
	// and reported success: wait for its answer.
	select {
	case <-l.released:
		return out.Close()
	case <-l.ended:
	case <-time.After(stopTimeout):
	}
	return context.Cause(ctx)
}
