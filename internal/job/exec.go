package job

import (
	"context"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// DryRunDone is the last line of a dry run that was allowed.
const DryRunDone = "dry run: nothing was exchanged"

// Exec gets a credential, runs the command with it, cleans up, and returns
// the command's own exit status. Its own words go to standard error; the
// command's output is untouched.
func Exec(ctx context.Context, env Env, s Settings, args []string, passIdentity bool) (status int, err error) {
	dir, err := sessionFolder(ctx, env)
	if err != nil {
		return 0, err
	}
	s.Program, s.dbtArgs, s.PassIdentity = args[0], args, passIdentity
	ctx, run, err := begin(ctx, env, s, dir)
	if err != nil {
		return 0, err
	}
	defer run.end()
	if s.DryRun {
		return 0, run.say(DryRunDone)
	}
	for _, w := range run.Misleading(args...) {
		if err := run.say("warning: " + w); err != nil {
			return 0, err
		}
	}
	if s.ProfileOnly {
		if err := run.say(run.NothingDecided()); err != nil {
			return 0, err
		}
	}
	if run.Broker != nil {
		if err := run.say(run.Ceiling.Announce(env.Now())); err != nil {
			return 0, err
		}
	}
	return run.control.RunCommand(ctx, env, run.Result, dir, args, "", passIdentity, run.say)
}

// RunCommand starts the command in an environment that holds this credential
// and no other. The error of a run that is stopped says so.
func (c *Control) RunCommand(ctx context.Context, env Env, res Result, dir Folder, args []string, where string, passIdentity bool,
	say func(string) error) (status int, err error) {
	defer func() {
		if stopped := c.Stopped(); stopped != nil {
			status, err = 0, stopped
		}
	}()
	vars, err := dir.Provide(env, res)
	if err != nil {
		return 0, err
	}
	var set []string
	for _, v := range append(vars, dir.engine(res)...) {
		set = append(set, v.Name+"="+v.Value.Reveal())
	}
	var withheld []string
	if !passIdentity {
		withheld = source.Withheld(res.Identity)
	}
	environ, removed := process.Environment(env.Environ, set, res.Kinds(), withheld)
	if len(removed) > 0 {
		if err := say("removed from the command's environment: " + strings.Join(removed, ", ")); err != nil {
			return 0, err
		}
	}
	return process.Run(ctx, process.Command{
		Args: args, Dir: where, Env: environ, Stdin: env.Stdin, Stdout: env.Stdout, Stderr: env.Stderr,
		Signalled: res.Broker.Interrupt, Stop: c.stop,
	})
}
