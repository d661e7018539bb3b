// Package action is the step of a workflow: it reads the inputs, calls the job, hands the credential to the next steps and cleans up.
//
// Inputs and outputs are declared here, once: action.yml and the tables of docs/reference.md are rendered from that.
package action

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// stateFolder carries the step's folder from main to post.
const stateFolder = "folder"

// short is a lifetime that a dbt run of usual length may exceed.
const short = 15 * time.Minute

// Main runs the action's main step and returns the exit status.
func Main(ctx context.Context, env job.Env) int {
	return mainStep(ctx, env, containerOf(env))
}

func mainStep(ctx context.Context, env job.Env, c *container) int {
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: env.Stdout, HTTP: env.Client()})
	in, err := readInputs(env, r, c)
	if err != nil {
		if r.Writable() == nil {
			err = errors.Join(err, publishDecision(r, in, job.Result{}, err))
		}
		return report(env, r, 0, err)
	}
	status, err := action(ctx, env, r, in)
	return report(env, r, status, err)
}

// report tells the error, and returns the step's exit status.
func report(env job.Env, r *runner.Runner, status int, err error) int {
	if err == nil {
		return status
	}
	text := fault.WithHint(err)
	if werr := r.Error(text, fault.Places(err)...); werr != nil {
		fmt.Fprintln(env.Stderr, runner.Printable(text)) // standard output is closed: standard error may not be
	}
	return job.ExitStatus(err)
}

func action(ctx context.Context, env job.Env, r *runner.Runner, in inputs) (status int, err error) {
	if in.keepFresh {
		return startKeepFresh(ctx, env, r)
	}
	dir, err := job.NewFolder(env.Getenv("RUNNER_TEMP"))
	if err != nil {
		return 0, err
	}
	in.Say = func(text string) { _ = r.Info(text) }
	if in.run == "" {
		_, err := obtain(ctx, env, r, in, dir)
		return 0, err
	}
	ctx, control, err := job.Controlled(ctx, env, dir, in.Target)
	if err != nil {
		return 0, errors.Join(err, dir.Remove())
	}
	defer control.Close()
	in.Halt = control.Halt
	res, err := obtain(ctx, env, r, in, dir)
	if err != nil {
		return 0, err
	}
	if err = control.Serves(res); err == nil {
		status, err = runScript(ctx, env, r, in, res, dir, control)
	}
	if lerr := res.End(ctx, env); lerr != nil {
		_ = r.Warning("clean up: " + fault.WithHint(lerr)) // post tries again; the command's own status is kept
	}
	return status, err
}

// obtain gets the credential and hands it to the job's next steps, within the
// step's time limit. After an error, and after a dry run, nothing of it is left.
func obtain(ctx context.Context, env job.Env, r *runner.Runner, in inputs, dir job.Folder) (res job.Result, err error) {
	if err := r.Writable(); err != nil {
		return res, errors.Join(err, dir.Remove()) // before anything is issued that could then not be handed over
	}
	in.Dir, in.CommandDir = dir.Path(), in.commandDir()
	in.awsProfile = profileOf(dir.Path())
	if in.keepFresh {
		in.Renewed = in.awsProfile.write
	}
	res, err = job.Authenticate(ctx, env, in.Settings, r)
	if err != nil || in.DryRun {
		return res, errors.Join(err, publishDecision(r, in, res, err), dir.Remove())
	}
	hand := publish
	if in.ProfileOnly {
		hand = publishProfile
	}
	if err := hand(env, r, in, res, dir); err != nil {
		return res, errors.Join(err, res.End(ctx, env), in.awsProfile.remove(), dir.Remove())
	}
	return res, nil
}

// runScript is the input `run`: the command, with the credential, in this step.
func runScript(
	ctx context.Context, env job.Env, r *runner.Runner, in inputs, res job.Result, dir job.Folder, control *job.Control,
) (status int, err error) {
	script, err := process.Shell(in.shell, runtime.GOOS, in.run)
	if err != nil {
		return 0, err
	}
	path, err := dir.Write(script.Name, []byte(script.Text))
	if err != nil {
		return 0, err
	}
	for _, w := range res.Misleading(script.Text) {
		if err := r.Warning(w); err != nil {
			return 0, err
		}
	}
	if res.Broker != nil {
		in.Say(res.Ceiling.Announce(env.Now()))
	}
	say := func(text string) error { return r.Info(text) }
	return control.RunCommand(ctx, env, res, dir, script.Command(path), in.commandDir(), false, say)
}
