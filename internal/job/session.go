package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// A session is a credential with its broker, for as long as a command of this
// machine uses it.
type session struct {
	Result
	dir     Folder
	control *Control
	say     func(string) error
	end     func() // closes the broker, ends the leases and removes the folder
}

// begin gets the credential; what it says goes to standard error. The context that
// it returns ends when the run is stopped. After an error nothing is left of it.
func begin(ctx context.Context, env Env, s Settings, dir Folder) (context.Context, *session, error) {
	ctx, control, err := Controlled(ctx, env, dir, s.Target)
	if err != nil {
		return ctx, nil, errors.Join(err, dir.Remove())
	}
	// A mask shows what it hides: only what leaves this process is masked.
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: io.Discard, HTTP: env.Client()})
	kind := source.Here(env.Getenv)
	var mu sync.Mutex // renewals say something too
	run := &session{dir: dir, control: control, say: func(text string) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintln(env.Stderr, runner.Said(kind, text))
		return err
	}}
	run.end = func() {
		for _, err := range []error{run.End(ctx, env), dir.Remove()} {
			if err != nil {
				_ = run.say("warning: clean up: " + fault.WithHint(err)) // the command's own status is kept
			}
		}
		control.Close()
	}
	s.Broker, s.Dir = true, dir.path
	if s.CommandDir = env.Dir; len(s.ProjectDirs) == 0 {
		if project := s.dbtProject(env); project != "" {
			s.ProjectDirs, s.CommandDir = []string{project}, project // dbt goes there, too
		}
	}
	s.Say = func(text string) { _ = run.say(text) }
	s.Halt = control.Halt
	run.Result, err = Authenticate(ctx, env, s, r)
	if unmasked, why := run.mask(ctx, env, kind); len(unmasked) > 0 && err == nil {
		run.warn("not masked in the job's log, since %v: %s; do not print them", why, strings.Join(unmasked, ", "))
	}
	if run.Allowed != "" {
		err = errors.Join(err, run.say(run.Allowed))
	}
	for _, w := range run.Warnings {
		err = errors.Join(err, run.say("warning: "+w.Text))
	}
	if err == nil {
		err = control.Serves(run.Result)
	}
	if err != nil {
		run.end()
		return ctx, nil, err
	}
	return ctx, run, nil
}

// masker returns what has the CI system hide a secret; nil where there is none,
// or it cannot while a job runs.
func masker(ctx context.Context, env Env, kind string) func(secret.Value) error {
	stream := func() io.Writer {
		if env.Masks == nil {
			return nil
		}
		return env.Masks()
	}
	if policy.LikeGitHub(kind) {
		out := stream()
		if out == nil {
			return func(secret.Value) error { return runner.ErrNoStream }
		}
		r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: out, HTTP: env.Client()})
		return func(v secret.Value) error {
			if r.Mask(v) != nil {
				return runner.ErrNoStream
			}
			return nil
		}
	}
	m := runner.NewMasker(kind, stream, env.Environ)
	if m == nil {
		return nil
	}
	return func(v secret.Value) error { return m.Mask(ctx, v) }
}

// mask has the CI system hide what the command gets to know of the credential:
// what its environment and files hold. It returns the names of what could not
// be masked, and why.
func (res Result) mask(ctx context.Context, env Env, kind string) (unmasked []string, why error) {
	mask := masker(ctx, env, kind)
	if mask == nil {
		return nil, nil
	}
	hide := func(name string, v secret.Value) {
		if err := mask(v); err != nil && !slices.Contains(unmasked, name) {
			unmasked, why = append(unmasked, name), err
		}
	}
	held := map[string]bool{} // by a variable
	for _, v := range res.Variables {
		if v.Secret {
			held[v.Value.SHA256()] = true
			hide(v.Name, v.Value)
		}
	}
	if res.Broker != nil {
		address := res.Broker.Address()
		if address.Host != "" && !held[address.Secret.SHA256()] {
			hide("the broker's secret", address.Secret)
		}
	}
	switch res.Route.Kind {
	case route.AzureTokenFile, route.PasswordFile:
		for _, v := range []secret.Value{res.Credential.Token, res.Credential.Password} {
			if !v.IsZero() {
				hide("the credential's file", v)
			}
		}
	}
	return unmasked, why
}
