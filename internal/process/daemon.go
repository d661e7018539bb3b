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

// ready is what a daemon prints when it is ready: a byte that no line for the
// runner has in it.
const ready = 0

// goOn is what a daemon is sent when it may go on alone. Any other byte is the
// number of the signal that ends it, and an end without one is its parent's.
const goOn = 0

// stopTimeout is how long a daemon that is not ready yet may take to end. The
// runner kills a cancelled step after ten seconds.
const stopTimeout = 8 * time.Second

// A Daemon is this program once more, in a session of its own: what ends this
// process, a terminal's ^C or a runner's signal to the group, does not reach
// it. Until it is released it ends with this process, however that ends.
type Daemon struct {
	cmd   *exec.Cmd
	out   *os.File // what it prints
	leash *os.File // its standard input
}

// StartDaemon starts the program c.Args with c.Env and c.Dir; Stderr must be a
// file, since it is written to for as long as the daemon runs. None of this
// process's own streams is handed on: whoever waits for their end would wait
// for the daemon's.
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

// Wait copies what the daemon prints to out until it says that it is ready,
// and releases it, or until it ends by itself: then status is its exit status.
// When ctx ends first, the daemon is stopped.
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
		d.leash.Close() // whoever reads our output is gone
	}
	timer := time.AfterFunc(stopTimeout, d.kill)
	defer timer.Stop()
	err = d.cmd.Wait()
	switch {
	case e.err != nil:
		return false, 0, fmt.Errorf("pass on what the background process prints: %w", e.err)
	case d.cmd.ProcessState == nil:
		return false, 0, fmt.Errorf("wait for the background process: %w", err)
	}
	return false, exitStatus(d.cmd.ProcessState), nil
}

// stop hands on the signal that ended ctx. (Where it is another cause, the
// leash ends with this process.)
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

// copyUntilReady copies until the end, or the byte that says ready.
func copyUntilReady(out io.Writer, in io.Reader) (isReady bool, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, rerr := in.Read(buf)
		text, _, isReady := bytes.Cut(buf[:n], []byte{ready})
		if _, err := out.Write(text); err != nil {
			return false, err
		}
		if isReady || rerr != nil {
			return isReady, nil // an error is the end: the writer's process is gone
		}
	}
}

// A Leash is the daemon's side of a Daemon.
type Leash struct{ released, ended chan struct{} }

// OnLeash returns a context that ends with the parent, as by its signal, until
// Ready has returned. in is the standard input.
func OnLeash(ctx context.Context, in io.Reader) (context.Context, *Leash) {
	// Without a parent there is nobody to read what is printed: an error to
	// clean up after, not the end.
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

// Ready tells the parent that this process is ready, and waits until it may go
// on alone. ctx is that of OnLeash. It closes out, which is the standard
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
	// A signal of this process's own: whether the parent took the word, and has
	// succeeded, is for the parent to say.
	select {
	case <-l.released:
		return out.Close()
	case <-l.ended:
	case <-time.After(stopTimeout):
	}
	return context.Cause(ctx)
}
