package action

import (
	"context"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// cleanUp ends the credential where it can be ended, and removes what the
// step wrote. It warns of what it cannot do.
func cleanUp(ctx context.Context, env job.Env, r *runner.Runner, dir job.Folder) {
	warn := func(err error) {
		if err != nil {
			_ = r.Warning("clean up: " + fault.WithHint(err)) // there is no other place to report it
		}
	}
	warn(dir.EndRun(ctx))
	notes, err := notesOf(dir)
	warn(err)
	if notes != "" {
		_ = r.Warning("while the credential was kept fresh:\n" + notes)
	}
	dir.EndLeases(ctx, env, warn)
	if dir.Path() != "" {
		warn(profileOf(dir.Path()).remove())
	}
	warn(dir.Remove())
}

// Post ends the credential where it can be ended, and removes what the step
// wrote. It never fails the job, and warns of what it cannot do.
func Post(ctx context.Context, env job.Env) {
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: env.Stdout, HTTP: env.Client()})
	cleanUp(ctx, env, r, job.OwnFolder(env.Getenv("RUNNER_TEMP"), r.State(stateFolder)))
}
