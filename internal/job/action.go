package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// stateFolder carries the step's folder from main to post.
const stateFolder = "folder"

// short is the life under which a dbt run of usual length may outlive its credential.
const short = 15 * time.Minute

// Action runs the action's main step and returns the exit status.
func Action(ctx context.Context, env Env) int {
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: env.Stdout, HTTP: env.client()})
	in, err := readInputs(env, r)
	if err != nil {
		if r.Writable() == nil {
			err = errors.Join(err, publishDecision(r, in.Settings, Result{}, err))
		}
		return report(env, r, 0, err)
	}
	status, err := action(ctx, env, r, in)
	return report(env, r, status, err)
}

// report tells the error, and returns the step's exit status.
func report(env Env, r *runner.Runner, status int, err error) int {
	if err == nil {
		return status
	}
	text := withHint(err)
	if werr := r.Error(text, fault.Places(err)...); werr != nil {
		fmt.Fprintln(env.Stderr, runner.Printable(text)) // stdout is gone: say it where one still may read
	}
	return ExitStatus(err)
}

// withHint returns what an error says, and what to do about it.
func withHint(err error) string {
	if hint := fault.Hint(err); hint != "" {
		return err.Error() + "\nhint: " + hint
	}
	return err.Error()
}

// inputs are the action's inputs, checked.
type inputs struct {
	Settings
	timeout   time.Duration
	exportEnv bool
	keepFresh bool
	run       string
	shell     string
	dir       string // for run

	awsProfile *awsProfile // the step's
}

func readInputs(env Env, r *runner.Runner) (in inputs, err error) {
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
		Settings: Settings{
			Target:      r.Input("target"),
			Policy:      r.Input("policy"),
			ProjectDirs: lines(r.Input("project-dir")),
			Profiles:    lines(r.Input("profiles")),
			AuditLog:    r.Input("audit-log"),
			DryRun:      boolean("dry-run"),
			ProfileOnly: boolean("profile-only"),
			StateDir:    filepath.Join(temp, "oidc-dbt"),
			Root:        workspace,
			Workspace:   workspace,
		},
		timeout:   DefaultTimeout,
		exportEnv: boolean("export-env"),
		keepFresh: boolean("keep-fresh"),
		run:       r.Input("run"),
		shell:     r.Input("shell"),
		dir:       r.Input("working-directory"),
	}
	in.Broker = in.run != "" || in.keepFresh
	in.exportEnv = in.exportEnv || in.keepFresh
	if t := r.Input("timeout"); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil || d <= 0 {
			errs = append(errs, fmt.Errorf("input timeout: got %q, want a duration such as 90s or 2m", t))
		}
		in.timeout = d
	}
	if strings.ContainsAny(in.AuditLog, "\r\n\x00") { // it becomes an output
		errs = append(errs, errors.New("input audit-log: has a line break in it, want one path"))
		in.AuditLog = ""
	}
	if in.AuditLog == "" {
		in.AuditLog = filepath.Join(temp, "oidc-dbt", "audit.jsonl")
	}
	if in.run == "" {
		for _, name := range []string{"shell", "working-directory"} {
			if r.Input(name) != "" {
				errs = append(errs, fmt.Errorf("input %s: is for `run`, which is not given", name))
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
	if err := in.errProfileOnly(); err != nil {
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
		return in.path(in.firstProject())
	}
	return in.path(in.dir)
}

func lines(s string) (list []string) {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

func action(ctx context.Context, env Env, r *runner.Runner, in inputs) (status int, err error) {
	if in.keepFresh {
		return startKeepFresh(ctx, env, r)
	}
	dir, err := newFolder(env.Getenv("RUNNER_TEMP"))
	if err != nil {
		return 0, err
	}
	in.Say = func(text string) { _ = r.Info(text) }
	res, err := obtain(ctx, env, r, in, dir)
	if err != nil || in.run == "" {
		return 0, err
	}
	defer res.Broker.Close()
	status, err = runScript(ctx, env, r, in, res, dir)
	res.Broker.Close()
	if lerr := res.leases.end(ctx, env); lerr != nil {
		_ = r.Warning("clean up: " + withHint(lerr)) // post tries again; the command's own status stands
	}
	return status, err
}

// obtain gets the credential and hands it to the job's next steps, within the
// step's time-out. After an error, and after a dry run, nothing of it is left.
func obtain(ctx context.Context, env Env, r *runner.Runner, in inputs, dir folder) (res Result, err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, in.timeout, errTimeout(in.timeout))
	defer cancel()
	if err := r.Writable(); err != nil {
		return res, errors.Join(err, dir.remove()) // before anything is issued that could then not be handed over
	}
	in.Dir, in.CommandDir = dir.path, in.commandDir()
	in.awsProfile = dir.awsProfile()
	if in.keepFresh {
		in.Renewed = in.awsProfile.write
	}
	res, err = authenticate(bounded, env, in.Settings, r)
	if err != nil || in.DryRun {
		return res, errors.Join(err, publishDecision(r, in.Settings, res, err), dir.remove())
	}
	hand := publish
	if in.ProfileOnly {
		hand = publishProfile
	}
	if err := hand(env, r, in, res, dir); err != nil {
		res.Broker.Close()
		return res, errors.Join(err, res.leases.end(ctx, env), in.awsProfile.remove(), dir.remove())
	}
	return res, nil
}

// publishDecision writes what a step without a credential leaves: who asked
// for what, what was decided ("" where it did not come to that), and why not.
func publishDecision(r *runner.Runner, s Settings, res Result, failure error) error {
	var errs []error
	for _, o := range decisionOutputs(s, res) {
		errs = append(errs, r.SetOutput(o.name, o.value))
	}
	if res.Allowed != "" {
		errs = append(errs, r.Info(res.Allowed))
	}
	for _, w := range res.Warnings {
		errs = append(errs, r.Warning(w.Text, w.Places...))
	}
	if s.DryRun && failure == nil {
		errs = append(errs, r.Info(dryRunDone))
	}
	summary := res.Summary
	if summary == "" && failure != nil {
		summary = audit.Failure(failure, fault.Hint(failure))
	}
	return errors.Join(append(errs, r.Summary(summary))...)
}

// dryRunDone is the last line of a dry run that was allowed.
const dryRunDone = "dry run: nothing was exchanged"

type output struct{ name, value string }

func decisionOutputs(s Settings, res Result) []output {
	return []output{
		{"decision", res.Decision},
		{"target", res.Target},
		{"type", res.Type},
		{"subject", res.Subject},
		{"audit-log", s.auditLog()},
	}
}

type secretOutput struct {
	name  string
	value secret.Value
}

// secretOutputs are the outputs that hold one secret each; a zero one is not
// written. With a broker they hold what the profile reads, which is not the
// credential but what leads to it.
func secretOutputs(res Result) []secretOutput {
	c := res.Credential
	if res.Broker != nil {
		c = adapter.Held(res.Variables)
	}
	outputs := []secretOutput{{"token", c.Token}, {"password", c.Password}, {"private-key", c.PrivateKey}}
	if c.AWS != nil {
		outputs = append(outputs, secretOutput{"aws-access-key-id", c.AWS.AccessKeyID},
			secretOutput{"aws-secret-access-key", c.AWS.SecretAccessKey}, secretOutput{"aws-session-token", c.AWS.SessionToken})
	}
	return outputs
}

// publish hands the credential to the job's next steps. Every mask stands
// before everything else.
func publish(env Env, r *runner.Runner, in inputs, res Result, dir folder) error {
	fill := dir.fill
	if in.keepFresh && res.Broker != nil {
		fill = dir.provide
	}
	vars, err := fill(env, res)
	if err != nil {
		return err
	}
	policyCopy, err := dir.write("policy.yml", res.PolicyText)
	if err != nil {
		return err
	}
	environment := environmentJSON(vars)

	if res.policyDir != "" {
		if _, err := dir.write(policyFolder, []byte(res.policyDir)); err != nil {
			return err
		}
	}

	// Each in its order, and nothing behind the first that fails.
	writes := []func() error{
		func() error { return r.Mask(environment) },
		func() error { return r.SaveState(stateFolder, dir.path) },
	}
	output := func(name, value string) {
		writes = append(writes, func() error { return r.SetOutput(name, value) })
	}
	for _, o := range decisionOutputs(in.Settings, res) {
		output(o.name, o.value)
	}
	expiry := res.Credential.Expiry
	if in.keepFresh && res.Broker != nil {
		expiry = res.ceiling.end
	}
	output("expires-at", expiry.UTC().Format(time.RFC3339))
	if res.Profile != nil {
		output("profiles-dir", dir.path)
		output("profile", res.ProfileNames[0])
	}
	if in.keepFresh && res.route.Kind == route.GoogleADC { // with `run` its end is the step's
		output("google-credentials-file", res.Broker.Address().File)
	}
	if res.Credential.AWS != nil && in.run == "" { // of `run` nothing is handed on
		if err := in.awsProfile.write(res.Target, res.Credential); err != nil {
			return err
		}
		output("aws-profile", res.Target)
		output("aws-credentials-file", in.awsProfile.path())
	}
	if user := res.Credential.User; user != "" {
		output("user", user)
	}
	for _, o := range append(secretOutputs(res), secretOutput{"env", environment}) {
		if !o.value.IsZero() {
			writes = append(writes, func() error { return r.SetSecretOutput(o.name, o.value) })
		}
	}
	for _, v := range vars {
		switch {
		case !in.exportEnv:
		case v.Secret:
			writes = append(writes, func() error { return r.SetSecretEnv(v.Name, v.Value) })
		default:
			writes = append(writes, func() error { return r.SetEnv(v.Name, v.Value.Reveal()) })
		}
	}
	res.Warnings = append(res.Warnings, fault.Warnings(handOverWarnings(env, in, res, vars)...)...)
	writes = append(writes, func() error { return r.Info(res.Allowed) })
	for _, w := range res.Warnings {
		writes = append(writes, func() error { return r.Warning(w.Text, w.Places...) })
	}
	writes = append(writes,
		// For `oidc-dbt exec` in a later step. Neither is secret.
		func() error { return r.SetEnv("OIDC_DBT_POLICY", policyCopy) },
		func() error { return r.SetEnv("OIDC_DBT_TARGET", res.Target) },
		func() error { return r.AddPath(filepath.Dir(env.Executable)) },
		func() error { return r.Summary(res.Summary) },
	)
	for _, write := range writes {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// publishProfile hands on a profile without a credential. Nothing of it is
// secret, and nothing of it is for `oidc-dbt exec`, which is to decide anew.
func publishProfile(env Env, r *runner.Runner, in inputs, res Result, dir folder) error {
	vars, err := dir.fill(env, res)
	if err != nil {
		return err
	}
	errs := []error{r.SaveState(stateFolder, dir.path)}
	for _, o := range []output{
		{"target", res.Target}, {"type", res.Type}, {"profiles-dir", dir.path}, {"profile", res.ProfileNames[0]},
		{"env", environmentJSON(vars).Reveal()},
	} {
		errs = append(errs, r.SetOutput(o.name, o.value))
	}
	for _, v := range vars {
		if in.exportEnv {
			errs = append(errs, r.SetEnv(v.Name, v.Value.Reveal()))
		}
	}
	for _, w := range res.Warnings {
		errs = append(errs, r.Warning(w.Text, w.Places...))
	}
	return errors.Join(append(errs, r.AddPath(filepath.Dir(env.Executable)), r.Info(res.nothingDecided()))...)
}

// handOverWarnings is what the next steps should know of the credential.
func handOverWarnings(env Env, in inputs, res Result, vars []adapter.Variable) (warnings []string) {
	left := res.Credential.Expiry.Sub(env.Now())
	switch {
	case in.keepFresh && res.Broker != nil:
		// Of later steps nothing can be taken out.
		var set []string
		for _, v := range vars {
			set = append(set, v.Name+"=")
		}
		_, outrank := process.Environment(env.Environ, set, res.kinds(), true)
		outrank = slices.DeleteFunc(outrank, func(name string) bool {
			return strings.HasPrefix(name, process.SecretPrefix) // an earlier step's, for its own profile
		})
		if len(outrank) > 0 {
			warnings = append(warnings,
				fmt.Sprintf("set in the job's environment, where dbt may obey them before the credential of target %q: %s",
					res.Target, strings.Join(outrank, ", ")))
		}
	case in.keepFresh:
		warnings = append(warnings, fmt.Sprintf("the credential of target %q is not kept fresh: whatever uses it reads it "+
			"once. It dies in %s", res.Target, left.Round(time.Second)))
	case left < short && in.run == "":
		warnings = append(warnings, fmt.Sprintf("the credential of target %q dies in %s, "+
			"and dbt may log in later than that: set `keep-fresh: true`, give the command to this step as `run:`, "+
			"or call `oidc-dbt exec -- COMMAND` in the next one",
			res.Target, left.Round(time.Second)))
	}
	return warnings
}

// environmentJSON is the output `env`: a JSON object for `env: ${{ fromJSON(…) }}`.
func environmentJSON(vars []adapter.Variable) secret.Value {
	object := make(map[string]string, len(vars))
	for _, v := range vars {
		object[v.Name] = v.Value.Reveal()
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // a secret with & in it would slip through its mask as \u0026
	if err := enc.Encode(object); err != nil {
		panic(err) // strings always encode
	}
	return secret.New(strings.TrimSpace(text.String()))
}

// runScript is the input `run`: the command beside the credential, in this step.
func runScript(ctx context.Context, env Env, r *runner.Runner, in inputs, res Result, dir folder) (status int, err error) {
	script, err := process.Shell(in.shell, runtime.GOOS, in.run)
	if err != nil {
		return 0, err
	}
	path, err := dir.write(script.Name, []byte(script.Text))
	if err != nil {
		return 0, err
	}
	for _, w := range res.misleading(script.Text) {
		if err := r.Warning(w); err != nil {
			return 0, err
		}
	}
	if res.Broker != nil {
		in.Say(res.ceiling.announce(env.Now()))
	}
	return runCommand(ctx, env, res, dir, script.Command(path), in.commandDir(), false, func(text string) error { return r.Info(text) })
}

// Post ends the credential where it can be ended, and removes what the step
// wrote. It never fails the job: what it cannot do it names.
func Post(ctx context.Context, env Env) {
	r := runner.New(runner.Env{Getenv: env.Getenv, Stdout: env.Stdout, HTTP: env.client()})
	cleanUp(ctx, env, r, ownFolder(env.Getenv("RUNNER_TEMP"), r.State(stateFolder)))
}
