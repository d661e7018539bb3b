package action

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// inputs are the action's inputs, checked.
type inputs struct {
	job.Settings
	exportEnv bool
	keepFresh bool
	run       string
	shell     string
	dir       string // for run

	awsProfile *awsProfile // the step's
}

func readInputs(env job.Env, r *runner.Runner) (in inputs, err error) {
	workspace := env.Getenv("GITHUB_WORKSPACE")
	temp := env.Getenv("RUNNER_TEMP")
	if workspace == "" || temp == "" {
		return in, fault.New(fault.Usage, errors.New("read the runner's variables: GITHUB_WORKSPACE or RUNNER_TEMP is not set"),
			"the action runs as a step of a workflow; at a terminal use `oidc-dbt exec -- COMMAND`")
	}
	var errs []error
	boolean := func(name string) bool {
		switch v := r.Input(name); v {
		case "true", "True", "TRUE": // YAML 1.2's core schema, as the runner's own getBooleanInput
			return true
		case "", "false", "False", "FALSE":
		default:
			errs = append(errs, fmt.Errorf("input %s: got %q, want true or false", name, v))
		}
		return false
	}
	in = inputs{
		Settings: job.Settings{
			Target:      r.Input(inTarget),
			Policy:      r.Input(inPolicy),
			ProjectDirs: lines(r.Input(inProjectDir)),
			Profiles:    lines(r.Input(inProfiles)),
			AuditLog:    r.Input(inAuditLog),
			DryRun:      boolean(inDryRun),
			ProfileOnly: boolean(inProfileOnly),
			StateDir:    filepath.Join(temp, "oidc-dbt"),
			Timeout:     job.DefaultTimeout,
			Root:        workspace,
			Workspace:   workspace,
		},
		exportEnv: boolean(inExportEnv),
		keepFresh: boolean(inKeepFresh),
		run:       r.Input(inRun),
		shell:     r.Input(inShell),
		dir:       r.Input(inWorkingDirectory),
	}
	in.Broker = in.run != "" || in.keepFresh
	in.exportEnv = in.exportEnv || in.keepFresh
	if t := r.Input(inTimeout); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil || d <= 0 {
			errs = append(errs, fmt.Errorf("input timeout: got %q, want a duration such as 90s or 2m", t))
		}
		in.Timeout = d
	}
	if strings.ContainsAny(in.AuditLog, "\r\n\x00") { // it becomes an output
		errs = append(errs, errors.New("input audit-log: has a line break in it, want one path"))
		in.AuditLog = ""
	}
	if in.AuditLog == "" {
		in.AuditLog = env.AuditLog()
	}
	if in.run == "" {
		for _, name := range []string{inShell, inWorkingDirectory} {
			if r.Input(name) != "" {
				errs = append(errs, fmt.Errorf("input %s: requires `run`", name))
			}
		}
	} else if in.DryRun {
		errs = append(errs, errors.New("input run: a dry run has no credential to run it with"))
	} else if script, err := process.Shell(in.shell, runtime.GOOS, in.run); err != nil {
		errs = append(errs, err)
	} else {
		in.Program = script.Args[0]
		if info, err := os.Stat(in.commandDir()); in.dir != "" && (err != nil || !info.IsDir()) {
			errs = append(errs, fmt.Errorf("input working-directory: %q is not a folder", in.dir))
		}
	}
	switch {
	case in.keepFresh && in.run != "":
		errs = append(errs, errors.New("input keep-fresh: is for the steps that follow, "+
			"and `run` keeps its own credential fresh: give one of them"))
	case in.keepFresh && in.DryRun:
		errs = append(errs, errors.New("input keep-fresh: a dry run has no credential to keep"))
	case in.keepFresh && in.ProfileOnly:
		errs = append(errs, errors.New("input keep-fresh: with profile-only there is no credential to keep"))
	}
	if err := in.CheckProfileOnly(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return in, fault.New(fault.Usage, err, "")
	}
	return in, nil
}

// commandDir is where `run` runs.
func (in inputs) commandDir() string {
	if in.dir == "" {
		return in.Path(in.FirstProject())
	}
	return in.Path(in.dir)
}

func lines(s string) (list []string) {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}
