package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// ServeSettings are the settings of Serve, other than those of the credential.
type ServeSettings struct {
	Dir        string // "" for a new folder
	PodVolume  bool   // only containers of this pod mount what Dir is in
	ReadyFile  string // "" for none
	ReadyFD    int    // 0 for none
	HealthPort int    // 0 for any
}

// Serve keeps a credential fresh for other processes of the user, until a
// signal: then it returns nil. What it wrote is gone by then.
func Serve(ctx context.Context, env Env, s Settings, o ServeSettings) (err error) {
	ready, err := o.readyFD()
	if err != nil {
		return err
	}
	dir, err := o.folder(ctx, env, s)
	if err != nil {
		return err
	}
	if o.ReadyFile != "" {
		o.ReadyFile = s.Path(o.ReadyFile)
		_ = os.Remove(o.ReadyFile) // of a run that was killed; if it cannot be removed, tell fails
	}
	s.StateDir = "" // another container may share only the folder
	ctx, run, err := begin(ctx, env, s, dir)
	if err != nil {
		return err
	}
	defer run.end()
	if run.Broker == nil {
		return fault.New(fault.Usage,
			fmt.Errorf("serve target %q: clients read its credential once, so it cannot be kept fresh", run.Target),
			"use `oidc-dbt exec -- COMMAND`")
	}
	vars, err := dir.Provide(env, run.Result)
	if err != nil {
		return err
	}
	environ, err := dir.Write("env", shellVariables(append(vars, dir.engine(run.Result)...)))
	if err != nil {
		return err
	}
	health, err := run.Broker.ServeHealth(o.HealthPort)
	if err != nil {
		return err
	}
	defer health.Close()
	if err := run.say(run.Ceiling.Announce(env.Now())); err != nil {
		return err
	}
	if o.ReadyFile != "" {
		defer os.Remove(o.ReadyFile) // nothing is ready any more
	}
	err = o.tell(ready, map[string]string{"profiles_dir": dir.path, "env": environ, "health": "http://" + health.Address() + "/healthz"})
	if err != nil {
		return err
	}
	err = run.wait(ctx, env)
	if stopped := run.control.Stopped(); stopped != nil {
		return stopped
	}
	return err
}

// folder returns the folder that the caller named, or a new one.
func (o ServeSettings) folder(ctx context.Context, env Env, s Settings) (Folder, error) {
	if o.Dir == "" {
		return sessionFolder(ctx, env)
	}
	private := disk.Private
	if o.PodVolume {
		private = disk.PrivateInVolume
	}
	return claimFolder(s.Path(o.Dir), private, func(left Folder) { left.endLeft(ctx, env) })
}

// tell reports, in the ready file and at the descriptor, that the credential
// can be used, and where everything is.
func (o ServeSettings) tell(ready *os.File, places map[string]string) error {
	told, err := json.Marshal(places)
	if err != nil {
		return err
	}
	told = append(told, '\n')
	if o.ReadyFile != "" {
		if err := disk.Replace(o.ReadyFile, told); err != nil {
			return fmt.Errorf("write ready file %q: %w", o.ReadyFile, disk.Cause(err))
		}
	}
	if ready == nil {
		return nil
	}
	_, err = ready.Write(told)
	if err = errors.Join(err, ready.Close()); err != nil {
		return fmt.Errorf("write to the descriptor %d: %w", o.ReadyFD, err)
	}
	return nil
}

// wait returns when the credential can no longer be kept fresh or, nil, at a signal.
func (run *session) wait(ctx context.Context, env Env) error {
	var ceiling <-chan time.Time // a guess ends nothing
	if run.Ceiling.known {
		ceiling = time.After(run.Ceiling.end.Sub(env.Now()))
	}
	select {
	case <-ctx.Done():
		var signal process.Interrupt
		if errors.As(context.Cause(ctx), &signal) {
			return nil
		}
		return context.Cause(ctx)
	case <-ceiling:
		return run.Ceiling.Over(env.Now())
	}
}

// readyFD opens the descriptor that the caller handed over; nil for none.
func (o ServeSettings) readyFD() (*os.File, error) {
	if o.ReadyFD == 0 {
		return nil, nil
	}
	if o.ReadyFD <= 2 {
		return nil, fault.New(fault.Usage, fmt.Errorf("flag --ready-fd: got %d, want 3 or more", o.ReadyFD), "")
	}
	f := os.NewFile(uintptr(o.ReadyFD), "ready")
	if _, err := f.Stat(); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("flag --ready-fd: %d: %w", o.ReadyFD, disk.Cause(err)), "")
	}
	return f, nil
}

// claim marks a folder as one whose whole content is ours.
const claim = ".oidc-dbt-serve"

// claimFolder returns an empty folder of this user's that other users can
// neither enter nor replace, since dbt does what its env says: a new one, an
// empty one, or one that an earlier process could not clear. endLeft ends the
// leases that such a process has left; private says whether others can replace
// the folder. The error is of class Usage.
func claimFolder(path string, private func(string) error, endLeft func(Folder)) (Folder, error) {
	fail := func(err error, hint string) (Folder, error) {
		return Folder{}, fault.New(fault.Usage, fmt.Errorf("flag --dir: %q: %w", path, disk.Cause(err)), hint)
	}
	made := true
	if err := os.Mkdir(path, 0o700); errors.Is(err, fs.ErrExist) {
		made = false
	} else if err != nil {
		return fail(err, "")
	}
	const name = "name a folder that does not exist yet: it is created"
	if err := private(path); err != nil {
		if made {
			_ = os.Remove(path) // empty, and of no use
		}
		return fail(err, name+", in a folder that only you may write, or that has the sticky bit; in a volume of a pod add --pod-volume")
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fail(err, "")
	}
	if _, err := os.Lstat(filepath.Join(path, claim)); err != nil && len(entries) > 0 {
		return fail(errors.New("the folder contains other files, which would be removed at the end"), name)
	}
	endLeft(Folder{path: path})
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return fail(err, "")
		}
	}
	f := Folder{path: path}
	_, err = f.Write(claim, nil)
	return f, err
}

// endLeft ends the leases of a run that was killed, as post does.
func (f Folder) endLeft(ctx context.Context, env Env) {
	f.EndLeases(ctx, env, func(err error) {
		fmt.Fprintln(env.Stderr, runner.Printable("oidc-dbt: warning: end the leases of the previous run: "+fault.WithHint(err)))
	})
}

// shellVariables returns lines for a POSIX shell and for readers of dotenv
// files: nothing within single quotes has a meaning.
func shellVariables(vars []adapter.Variable) []byte {
	var b strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&b, "%s='%s'\n", v.Name, strings.ReplaceAll(v.Value.Reveal(), "'", `'\''`))
	}
	return []byte(b.String())
}
