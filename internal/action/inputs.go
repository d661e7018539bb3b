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
	container  *container  // that the step runs in, nil for none
}

// readInputs returns the inputs, or all that is wrong with them in one error of class Usage.
func readInputs(env job.Env, r *runner.Runner, c *container) (in inputs, err error) {
	workspace := env.Getenv("GITHUB_WORKSPACE")
	temp := env.Getenv("RUNNER_TEMP")
	if workspace == "" || temp == "" {
		return in, fault.New(fault.Usage, errors.New("read the runner's variables: GITHUB_WORKSPACE or RUNNER_TEMP is not set"),
			"the action runs as a step of a workflow; at a terminal use `oidc-dbt exec -- COMMAND`")
	}
	read := reader{runner: r}
	in = inputs{
		Settings: job.Settings{
			Target:      r.Input(inTarget),
			Policy:      r.Input(inPolicy),
			ProjectDirs: lines(r.Input(inProjectDir)),
			Profiles:    lines(r.Input(inProfiles)),
			DryRun:      read.boolean(inDryRun),
			ProfileOnly: read.boolean(inProfileOnly),
			StateDir:    filepath.Join(temp, "oidc-dbt"),
			Root:        workspace,
			Workspace:   workspace,
		},
		exportEnv: read.boolean(inExportEnv),
		keepFresh: read.boolean(inKeepFresh),
		run:       r.Input(inRun),
		shell:     r.Input(inShell),
		dir:       r.Input(inWorkingDirectory),
		container: c,
	}
	in.Script, in.Shell = in.run, in.shell
	in.Broker = in.run != "" || in.keepFresh
	in.exportEnv = in.exportEnv || in.keepFresh
	in.Timeout = read.timeout()
	if in.AuditLog = read.auditLog(); in.AuditLog == "" {
		in.AuditLog = env.AuditLog()
	}
	if in.run == "" {
		read.without(inRun, inShell, inWorkingDirectory)
	} else if in.Program, err = in.checkRun(); err != nil {
		read.errs = append(read.errs, err)
	}
	read.errs = append(read.errs, in.checkKeepFresh(), in.CheckProfileOnly())
	if err := errors.Join(read.errs...); err != nil {
		return in, fault.New(fault.Usage, err, "")
	}
	return in, nil
}

// A reader reads inputs that are not just text, and collects what is wrong with them.
type reader struct {
	runner *runner.Runner
	errs   []error
}

// boolean takes the words of YAML 1.2's core schema, as the runner's own getBooleanInput.
func (r *reader) boolean(name string) bool {
	switch v := r.runner.Input(name); v {
	case "true", "True", "TRUE":
		return true
	case "", "false", "False", "FALSE":
	default:
		r.errs = append(r.errs, fmt.Errorf("input %s: got %q, want true or false", name, v))
	}
	return false
}

func (r *reader) timeout() time.Duration {
	t := r.runner.Input(inTimeout)
	if t == "" {
		return job.DefaultTimeout
	}
	d, err := time.ParseDuration(t)
	if err != nil || d <= 0 {
		r.errs = append(r.errs, fmt.Errorf("input timeout: got %q, want a duration such as 90s or 2m", t))
	}
	return d
}

// auditLog returns "" where the input is not usable: the error needs a log, too.
func (r *reader) auditLog() string {
	path := r.runner.Input(inAuditLog)
	if strings.ContainsAny(path, "\r\n\x00") { // it becomes an output
		r.errs = append(r.errs, errors.New("input audit-log: contains a line break, want one path"))
		return ""
	}
	return path
}

// without refuses inputs that mean nothing without another one.
func (r *reader) without(required string, names ...string) {
	for _, name := range names {
		if r.runner.Input(name) != "" {
			r.errs = append(r.errs, fmt.Errorf("input %s: requires `%s`", name, required))
		}
	}
}

// checkRun returns the program that runs the script of the input `run`.
func (in inputs) checkRun() (program string, err error) {
	if in.container != nil {
		return "", errors.New("input run: cannot be used in the container action, whose image has neither a shell nor dbt: " + insteadOfContainer)
	}
	if in.DryRun {
		return "", errors.New("input run: cannot be combined with dry-run, which has no credential")
	}
	script, err := process.Shell(in.shell, runtime.GOOS, in.run)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(in.commandDir()); in.dir != "" && (err != nil || !info.IsDir()) {
		return "", fmt.Errorf("input working-directory: %q is not a folder", in.dir)
	}
	return script.Args[0], nil
}

func (in inputs) checkKeepFresh() error {
	switch {
	case !in.keepFresh:
	case in.container != nil:
		return errors.New("input keep-fresh: cannot be used in the container action, whose processes end with the step: " + insteadOfContainer)
	case in.run != "":
		return errors.New("input keep-fresh: cannot be combined with run, which keeps its own credential fresh")
	case in.DryRun:
		return errors.New("input keep-fresh: cannot be combined with dry-run, which has no credential")
	case in.ProfileOnly:
		return errors.New("input keep-fresh: cannot be combined with profile-only, which has no credential")
	}
	return nil
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
