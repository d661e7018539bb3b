package job

import (
	"context"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/process"
)

// Exec gets a credential, runs the command with it, cleans up, and returns
// the command's own exit status. Its own words go to standard error; the
// command's output is untouched.
func Exec(ctx context.Context, env Env, s Settings, args []string, passIdentity bool) (status int, err error) {
	dir, err := sessionFolder(ctx, env)
	if err != nil {
		return 0, err
	}
	s.Program, s.dbtArgs = args[0], args
	run, err := begin(ctx, env, s, dir)
	if err != nil {
		return 0, err
	}
	defer run.end()
	if s.DryRun {
		return 0, run.say(dryRunDone)
	}
	for _, w := range run.misleading(args...) {
		if err := run.say("warning: " + w); err != nil {
			return 0, err
		}
	}
	if s.ProfileOnly {
		if err := run.say(run.nothingDecided()); err != nil {
			return 0, err
		}
	}
	if run.Broker != nil {
		if err := run.say(run.ceiling.announce(env.Now())); err != nil {
			return 0, err
		}
	}
	return runCommand(ctx, env, run.Result, dir, args, "", passIdentity, run.say)
}

// runCommand starts the command in an environment that holds this credential
// and no other.
func runCommand(ctx context.Context, env Env, res Result, dir folder, args []string, where string, passIdentity bool,
	say func(string) error) (int, error) {
	vars, err := dir.provide(env, res)
	if err != nil {
		return 0, err
	}
	var set []string
	for _, v := range append(vars, dir.engine(res)...) {
		set = append(set, v.Name+"="+v.Value.Reveal())
	}
	environ, removed := process.Environment(env.Environ, set, res.kinds(), passIdentity)
	if len(removed) > 0 {
		if err := say("not passed on to the command: " + strings.Join(removed, ", ")); err != nil {
			return 0, err
		}
	}
	return process.Run(ctx, process.Command{
		Args: args, Dir: where, Env: environ, Stdin: env.Stdin, Stdout: env.Stdout, Stderr: env.Stderr, Signalled: res.Broker.Interrupt,
	})
}
