package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// StopSettings say which runs are stopped: with neither the one that there is.
type StopSettings struct {
	Dir string // the folder of a run
	All bool
}

// notFound is where the run may be that is looked for.
const notFound = "\nhint: a run of another user, with another TMPDIR or in another container is found only from there, " +
	"or by its folder (--dir); `oidc-dbt trust revoke` ends it at the warehouse"

// NoRun is the status of a stop that has found no run.
const NoRun = 3

// Stop ends runs of this user's on this machine, with all that they have the
// warehouse do, and says a line of each. The error is of those that are still
// running, or of class Usage.
func Stop(ctx context.Context, env Env, o StopSettings) (status int, err error) {
	runs, where, err := o.runs(env)
	if err != nil {
		return 0, err
	}
	if len(runs) == 0 {
		return NoRun, say(env, "no run of yours was found in "+where+notFound)
	}
	if o.Dir == "" && !o.All {
		if err := onlyOne(ctx, runs); err != nil {
			return 0, err
		}
	}
	ended := each(runs, func(r keptControl) error { return r.halt(ctx) })
	if slices.ContainsFunc(ended, func(err error) bool { return errors.Is(err, broker.ErrGone) }) {
		sweepFolders(ctx, env, func(left Folder) { left.endLeft(ctx, env) })
	}
	var failed []error
	for i, err := range ended {
		switch {
		case err == nil:
			err = say(env, "stopped: "+runs[i].String())
		case errors.Is(err, broker.ErrGone):
			err = say(env, "not running: "+runs[i].String()+": its process had ended without removing the folder"+swept(runs[i].Dir))
		default:
			err = fmt.Errorf("stop the run (%s): %w", runs[i], err)
		}
		failed = append(failed, err)
	}
	if err := errors.Join(failed...); err != nil {
		return 0, fault.New(fault.Internal, err, "it may still be running: end its process; `oidc-dbt trust revoke` ends it at the warehouse")
	}
	return 0, nil
}

// swept says so if what a killed process had left is gone now. What is not is for
// the next start, or for the runner.
func swept(dir string) string {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return ", which is removed now"
	}
	return ""
}

func say(env Env, text string) error {
	_, err := fmt.Fprintln(env.Stdout, runner.Printable(text))
	return err
}

// each calls f for all runs at once.
func each(runs []keptControl, f func(keptControl) error) []error {
	errs := make([]error, len(runs))
	var all sync.WaitGroup
	for i, r := range runs {
		all.Go(func() { errs[i] = f(r) })
	}
	all.Wait()
	return errs
}

// runs returns those that are found, and where they were looked for.
func (o StopSettings) runs(env Env) (runs []keptControl, where string, err error) {
	if o.Dir != "" {
		dir := o.Dir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(env.Dir, dir)
		}
		err := disk.Own(dir)
		if err == nil {
			var c keptControl
			switch c, err = readControl(dir); {
			case err == nil:
				runs = append(runs, c)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the folder of a run goes with it
			return nil, "", fault.New(fault.Usage, fmt.Errorf("flag --dir: %q: %w", o.Dir, disk.Cause(err)),
				"name the folder of a run, such as the --dir of `oidc-dbt serve`")
		}
		return runs, fmt.Sprintf("%q", o.Dir), nil
	}
	places := []string{env.TempDir}
	if temp := env.Getenv("RUNNER_TEMP"); filepath.IsAbs(temp) && filepath.Clean(temp) != filepath.Clean(env.TempDir) {
		places = append(places, temp)
	}
	var errs []error
	for i, place := range places {
		found, err := runsIn(place)
		runs, errs = append(runs, found...), append(errs, err)
		places[i] = fmt.Sprintf("%q", place)
	}
	if err := errors.Join(errs...); err != nil && len(runs) == 0 {
		return nil, "", err
	}
	slices.SortStableFunc(runs, func(a, b keptControl) int { return a.Started.Compare(b.Started) })
	return slices.CompactFunc(runs, func(a, b keptControl) bool { return a.Secret == b.Secret }), strings.Join(places, " and "), nil
}

// runsIn returns the runs that have their folders, or signposts, in a place.
// Folders of others, and those that others can enter, are passed over.
func runsIn(place string) (runs []keptControl, err error) {
	prefix, _, _ := strings.Cut(dirPattern, "*")
	entries, err := os.ReadDir(place)
	if err != nil {
		return nil, fmt.Errorf("look for runs: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(place, e.Name())
		if !strings.HasPrefix(e.Name(), prefix) || disk.Own(dir) != nil {
			continue
		}
		switch c, err := readControl(dir); {
		case err == nil:
			runs = append(runs, c)
		case !errors.Is(err, fs.ErrNotExist):
			runs = append(runs, keptControl{Dir: dir, failed: err})
		}
	}
	return runs, nil
}

// answerTime is how long a run may take to show that it is alive.
const answerTime = 5 * time.Second

// onlyOne returns an error that lists the runs if several are alive, or may be.
func onlyOne(ctx context.Context, runs []keptControl) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var alive []string
	for i, err := range each(runs, func(r keptControl) error { return r.ask(ctx, broker.Answer) }) {
		if !errors.Is(err, broker.ErrGone) {
			alive = append(alive, runs[i].String())
		}
	}
	if len(alive) < 2 {
		return nil
	}
	return fault.New(fault.Usage, fmt.Errorf("%d runs are found:\n%s", len(alive), strings.Join(alive, "\n")),
		"name the folder of one with --dir, or stop all with --all")
}

// haltTries are how often a run is asked that does not answer as it should, and
// haltPause is between them: a process that is ending may listen a moment longer.
const (
	haltTries = 3
	haltPause = 100 * time.Millisecond
)

// halt stops the run, and waits until its process has ended.
func (c keptControl) halt(ctx context.Context) (err error) {
	if c.failed != nil {
		return c.failed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, endTimeout, fmt.Errorf("not finished after %s", endTimeout))
	defer cancel()
	for range haltTries {
		if err = c.ask(ctx, broker.Halt); err == nil || errors.Is(err, broker.ErrGone) || ctx.Err() != nil {
			break
		}
		time.Sleep(haltPause)
	}
	return err
}

// String is how a run is named to the user.
func (c keptControl) String() string {
	if c.PID == 0 {
		return fmt.Sprintf("folder %q", c.Dir)
	}
	target := "no target yet"
	if c.Target != "" {
		target = fmt.Sprintf("target %q", c.Target)
	}
	return fmt.Sprintf("%s, process %d, folder %q", target, c.PID, c.Dir)
}
