package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

const (
	// ContainerCommand is the argument of the container action; the host's RUNNER_TEMP follows.
	ContainerCommand = "container"
	// ContainerPostProgram is the image's other name of this program, the action's post-entrypoint.
	ContainerPostProgram = "oidc-dbt-post"
)

// containerTemp is RUNNER_TEMP in a container of the runner's: the host's folder is mounted there.
const containerTemp = "/github/runner_temp"

// insteadOfContainer is what to do where a container's limits are in the way.
const insteadOfContainer = "use oidc-dbt/oidc-dbt in place of oidc-dbt/oidc-dbt/container"

// A container is the one that a step runs in, with a file system and processes of its own; nil for none.
type container struct {
	temp string // RUNNER_TEMP in here
	host string // the same folder for the job's other steps, "" if that is not known
}

// containerOf recognises a step that names the image itself (`uses: docker://…`), for which the host's folder is unknown.
func containerOf(env job.Env) *container {
	if temp := env.Getenv("RUNNER_TEMP"); temp == containerTemp {
		return &container{temp: temp}
	}
	return nil
}

// MainInContainer is Main as the container action (container/action.yml), with RUNNER_TEMP as the host has it.
func MainInContainer(ctx context.Context, env job.Env, host string) int {
	c := &container{temp: env.Getenv("RUNNER_TEMP"), host: host}
	if err := c.enter(); err != nil {
		r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: env.Stdout, HTTP: env.Client()})
		return report(env, r, 0, err)
	}
	return mainStep(ctx, env, c)
}

// PostInContainer is Post as the container action.
func PostInContainer(ctx context.Context, env job.Env) {
	c := &container{temp: env.Getenv("RUNNER_TEMP")}
	if err := c.enter(); err != nil {
		r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: env.Stdout, HTTP: env.Client()})
		_ = r.Warning("clean up: " + fault.WithHint(err)) // there is no other place to report it
		return
	}
	Post(ctx, env)
}

// enter gives up root, as which the runner starts containers. Otherwise the job's next steps could not read the profile,
// and this one would not trust a checkout of another user's.
func (c *container) enter() error {
	if c.temp == "" {
		return nil // readInputs reports it
	}
	info, err := os.Stat(c.temp)
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	if err != nil {
		return fault.New(fault.Internal, fmt.Errorf("open RUNNER_TEMP %q in the container: %w", c.temp, disk.Cause(err)),
			"the container action needs Docker and a runner of version 2.329 or later, which mounts this folder")
	}
	if err := process.Become(info); err != nil {
		return fmt.Errorf("continue as the owner of RUNNER_TEMP %q: %w", c.temp, err)
	}
	return nil
}

// outside returns a path below RUNNER_TEMP as the job's other steps know it.
func (c *container) outside(path string) string {
	if c == nil || c.host == "" || c.temp != containerTemp {
		return path
	}
	if rest, ok := strings.CutPrefix(path, c.temp); ok && (rest == "" || rest[0] == '/') {
		return strings.TrimSuffix(c.host, "/") + rest
	}
	return path
}

// variables returns them for other steps: those that are paths are changed.
func (c *container) variables(vars []adapter.Variable) []adapter.Variable {
	changed := make([]adapter.Variable, len(vars))
	for i, v := range vars {
		if !v.Secret {
			v.Value = secret.New(c.outside(v.Value.Reveal()))
		}
		changed[i] = v
	}
	return changed
}
