package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// KeepFreshCommand is the argument with which this program starts itself in
// the background; the step's folder follows. Nothing secret is an argument:
// the request token is inherited with the environment, and never on a disk.
const KeepFreshCommand = "keep-fresh"

// notesFile holds the messages of the background process, for post: its output is
// no longer read.
const notesFile = "notes.log"

// startKeepFresh has the whole step done by this program in the background,
// and returns when the credential is handed over.
func startKeepFresh(ctx context.Context, env job.Env, r *runner.Runner) (status int, err error) {
	if err := r.Writable(); err != nil {
		return 0, err
	}
	temp := env.Getenv("RUNNER_TEMP")
	dir, err := job.NewFolder(temp)
	if err != nil {
		return 0, err
	}
	// If this process is killed, post finds what it left.
	if err := r.SaveState(stateFolder, dir.Path()); err != nil {
		return 0, errors.Join(err, dir.Remove())
	}
	notes, err := os.OpenFile(filepath.Join(dir.Path(), notesFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("write %s: %w", notesFile, disk.Cause(err)), dir.Remove())
	}
	daemon, err := process.StartDaemon(process.Command{
		Args: []string{env.Executable, KeepFreshCommand, dir.Path()}, Dir: temp, Env: env.Environ, Stderr: notes,
	})
	notes.Close()
	released := false
	if err == nil {
		released, status, err = daemon.Wait(ctx, env.Stdout)
	}
	if !released && (err != nil || status != 0) {
		cleanUp(ctx, env, r, dir)
	}
	return status, err
}

// KeepFresh is the background process: it does what the step would do, and
// then serves the credential until post, the runner or the ceiling ends it. It
// returns the exit status; path is the step's folder.
func KeepFresh(ctx context.Context, env job.Env, path string) int {
	ctx, leash := process.OnLeash(ctx, env.Stdin)
	gone := process.WorkerGone(ctx) // now that there are ancestors
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: env.Stdout, HTTP: env.Client()})
	return report(env, r, 0, keepFresh(ctx, env, r, leash, gone, path))
}

func keepFresh(ctx context.Context, env job.Env, r *runner.Runner, leash *process.Leash, workerGone <-chan struct{}, path string) error {
	stdout, ok := env.Stdout.(io.WriteCloser)
	dir := job.OwnFolder(env.Getenv("RUNNER_TEMP"), path)
	if !ok || dir.Path() == "" {
		return errors.New("keep the credential fresh: not started by a step of the action") // a bug, or called by hand
	}
	in, err := readInputs(env, r, nil)
	if err != nil {
		return err
	}
	in.Say = func(text string) {
		if r.Info(text) != nil { // the step has ended
			note := strings.TrimPrefix(strings.ReplaceAll(runner.Printable(text), "\n", "; "), "warning: ")
			fmt.Fprintf(env.Stderr, "%s: %s\n", env.Now().UTC().Format(time.TimeOnly+"Z"), note)
		}
	}
	ctx, control, err := job.Controlled(ctx, env, dir, in.Target)
	if err != nil {
		return err
	}
	defer control.Close()
	in.Halt = control.Halt
	res, err := obtain(ctx, env, r, in, dir)
	if err != nil || res.Broker == nil {
		return err // without a broker the step is done
	}
	defer func() {
		_ = res.End(ctx, env) // what is left has its file, and post tries again
	}()
	if err := control.Serves(res); err != nil {
		return err
	}
	in.Say(res.Ceiling.Announce(env.Now()))
	if err := leash.Ready(ctx, stdout); err != nil {
		return err
	}
	select {
	case <-control.Ended():
	case <-ctx.Done():
		if stopped := control.Stopped(); stopped != nil {
			in.Say(fault.WithHint(stopped))
		}
	case <-workerGone:
	case <-time.After(res.Ceiling.End().Sub(env.Now())):
		in.Say(fault.WithHint(res.Ceiling.Over(env.Now())))
	}
	return nil
}

// maxNotes is how many of the notes' lines are shown, the last ones: a
// provider that is down for hours leaves one for each renewal.
const maxNotes = 20

// maxNotesFile bounds the notes: a line is under 1 KiB, and a job has at most five days.
const maxNotesFile = 64 << 20

// notesOf returns what the background process had to say, "" for nothing.
func notesOf(f job.Folder) (string, error) {
	if f.Path() == "" {
		return "", nil
	}
	text, err := disk.ReadOwn(filepath.Join(f.Path(), notesFile), maxNotesFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", notesFile, disk.Cause(err))
	}
	list := lines(string(text))
	if more := len(list) - maxNotes; more > 0 {
		list = slices.Concat([]string{fmt.Sprintf("(%d earlier lines)", more)}, list[more:])
	}
	return strings.Join(list, "\n"), nil
}
