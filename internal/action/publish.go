package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// publishDecision writes what a step without a credential leaves: who asked
// for what, what was decided ("" where it did not come to that), and why not.
func publishDecision(r *runner.Runner, in inputs, res job.Result, failure error) error {
	var errs []error
	for _, o := range decisionOutputs(in, res) {
		errs = append(errs, r.SetOutput(o.name, o.value))
	}
	if res.Allowed != "" {
		errs = append(errs, r.Info(res.Allowed))
	}
	for _, w := range res.Warnings {
		errs = append(errs, r.Warning(w.Text, w.Places...))
	}
	if in.DryRun && failure == nil {
		errs = append(errs, r.Info(job.DryRunDone))
	}
	summary := res.Summary
	if summary == "" && failure != nil {
		summary = audit.Failure(failure, fault.Hint(failure))
	}
	return errors.Join(append(errs, r.Summary(summary))...)
}

type output struct{ name, value string }

func decisionOutputs(in inputs, res job.Result) []output {
	return []output{
		{outDecision, res.Decision},
		{outTarget, res.Target},
		{outType, res.Type},
		{outSubject, res.Subject},
		{outAuditLog, in.container.outside(in.AuditLogPath())},
	}
}

type secretOutput struct {
	name  string
	value secret.Value
}

// secretOutputs are the outputs that hold one secret each; a zero one is not
// written. With a broker they hold what the profile reads, which is not the
// credential but what leads to it.
func secretOutputs(res job.Result) []secretOutput {
	c := res.Credential
	if res.Broker != nil {
		c = adapter.Held(res.Variables)
	}
	outputs := []secretOutput{{outToken, c.Token}, {outPassword, c.Password}, {outPrivateKey, c.PrivateKey}}
	if c.AWS != nil {
		outputs = append(outputs, secretOutput{outAWSAccessKeyID, c.AWS.AccessKeyID},
			secretOutput{outAWSSecretAccessKey, c.AWS.SecretAccessKey}, secretOutput{outAWSSessionToken, c.AWS.SessionToken})
	}
	return outputs
}

// publish hands the credential to the job's next steps. Every mask comes
// before everything else.
func publish(env job.Env, r *runner.Runner, in inputs, res job.Result, dir job.Folder) error {
	fill := dir.Fill
	if in.keepsFresh(res) {
		fill = func(res job.Result) ([]adapter.Variable, error) { return dir.Provide(env, res) }
	}
	vars, err := fill(res)
	if err != nil {
		return err
	}
	vars = in.container.variables(vars)
	policyCopy, err := dir.KeepPolicy(res)
	if err != nil {
		return err
	}
	if in.hasAWSProfile(res) {
		if err := in.awsProfile.write(res.Target, res.Credential); err != nil {
			return err
		}
	}
	environment := environmentJSON(vars)
	warnings := slices.Concat(res.Warnings, fault.Warnings(handOverWarnings(env, in, res, vars)...))
	return inOrder(slices.Concat(
		[]write{
			func() error { return r.Mask(environment) },
			func() error { return r.SaveState(stateFolder, dir.Path()) },
		},
		outputWrites(r, handedOver(in, res, dir), append(secretOutputs(res), secretOutput{outEnv, environment})),
		exports(r, in, vars),
		[]write{func() error { return r.Info(res.Allowed) }},
		warningWrites(r, warnings),
		[]write{
			// For `oidc-dbt exec` in a later step. Neither is secret.
			func() error { return r.SetEnv("OIDC_DBT_POLICY", in.container.outside(policyCopy)) },
			func() error { return r.SetEnv("OIDC_DBT_TARGET", res.Target) },
			func() error { return in.addPath(env, r) },
			func() error { return r.Summary(res.Summary) },
		},
	))
}

// addPath puts this program on the job's PATH, unless only this step's container has it.
func (in inputs) addPath(env job.Env, r *runner.Runner) error {
	if in.container != nil {
		return nil
	}
	return r.AddPath(filepath.Dir(env.Executable))
}

// keepsFresh reports whether the credential outlives this step, in the background.
func (in inputs) keepsFresh(res job.Result) bool { return in.keepFresh && res.Broker != nil }

// hasAWSProfile reports whether later steps find the credential in a section
// of shared AWS credentials: of `run` nothing is handed on.
func (in inputs) hasAWSProfile(res job.Result) bool { return res.Credential.AWS != nil && in.run == "" }

// handedOver are the outputs of a step with a credential that are no secrets.
func handedOver(in inputs, res job.Result, dir job.Folder) []output {
	outputs := decisionOutputs(in, res)
	add := func(name, value string) { outputs = append(outputs, output{name, value}) }
	expiry := res.Credential.Expiry
	if in.keepsFresh(res) {
		expiry = res.Ceiling.End()
	}
	add(outExpiresAt, expiry.UTC().Format(time.RFC3339))
	if res.Profile != nil {
		add(outProfilesDir, in.container.outside(dir.Path()))
		add(outProfile, res.ProfileNames[0])
	}
	if in.keepFresh && res.Route.Kind == route.GoogleADC { // with `run` its end is the step's
		add(outGoogleCredentialsFile, res.Broker.Address().File)
	}
	if in.hasAWSProfile(res) {
		add(outAWSProfile, res.Target)
		add(outAWSCredentialsFile, in.container.outside(in.awsProfile.path()))
	}
	if user := res.Credential.User; user != "" {
		add(outUser, user)
	}
	return outputs
}

// A write tells the runner one thing.
type write func() error

// inOrder does all of them, and nothing after the first that fails.
func inOrder(writes []write) error {
	for _, w := range writes {
		if err := w(); err != nil {
			return err
		}
	}
	return nil
}

func outputWrites(r *runner.Runner, outputs []output, secrets []secretOutput) (writes []write) {
	for _, o := range outputs {
		writes = append(writes, func() error { return r.SetOutput(o.name, o.value) })
	}
	for _, o := range secrets {
		if !o.value.IsZero() {
			writes = append(writes, func() error { return r.SetSecretOutput(o.name, o.value) })
		}
	}
	return writes
}

// exports are the variables for every later step, where the user asked for that.
func exports(r *runner.Runner, in inputs, vars []adapter.Variable) (writes []write) {
	if !in.exportEnv {
		return nil
	}
	for _, v := range vars {
		if v.Secret {
			writes = append(writes, func() error { return r.SetSecretEnv(v.Name, v.Value) })
		} else {
			writes = append(writes, func() error { return r.SetEnv(v.Name, v.Value.Reveal()) })
		}
	}
	return writes
}

func warningWrites(r *runner.Runner, warnings []fault.Warning) (writes []write) {
	for _, w := range warnings {
		writes = append(writes, func() error { return r.Warning(w.Text, w.Places...) })
	}
	return writes
}

// publishProfile hands on a profile without a credential. Nothing of it is
// secret, and nothing of it is for `oidc-dbt exec`, which makes its own decision.
func publishProfile(env job.Env, r *runner.Runner, in inputs, res job.Result, dir job.Folder) error {
	vars, err := dir.Fill(res)
	if err != nil {
		return err
	}
	vars = in.container.variables(vars)
	errs := []error{r.SaveState(stateFolder, dir.Path())}
	for _, o := range []output{
		{outTarget, res.Target}, {outType, res.Type}, {outProfilesDir, in.container.outside(dir.Path())},
		{outProfile, res.ProfileNames[0]}, {outEnv, environmentJSON(vars).Reveal()},
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
	return errors.Join(append(errs, in.addPath(env, r), r.Info(res.NothingDecided()))...)
}

// handOverWarnings is what the next steps should know of the credential.
func handOverWarnings(env job.Env, in inputs, res job.Result, vars []adapter.Variable) (warnings []string) {
	left := res.Credential.Expiry.Sub(env.Now())
	switch {
	case in.keepsFresh(res):
		// The environment of later steps cannot be changed.
		var set []string
		for _, v := range vars {
			set = append(set, v.Name+"=")
		}
		_, outrank := process.Environment(env.Environ, set, res.Kinds(), nil)
		outrank = slices.DeleteFunc(outrank, func(name string) bool {
			return strings.HasPrefix(name, process.SecretPrefix) // an earlier step's, for its own profile
		})
		if len(outrank) > 0 {
			warnings = append(warnings,
				fmt.Sprintf("set in the job's environment, where they may take precedence over the credential of target %q: %s",
					res.Target, strings.Join(outrank, ", ")))
		}
	case in.keepFresh:
		warnings = append(warnings, fmt.Sprintf("the credential of target %q is not kept fresh: clients read it "+
			"once. It expires in %s", res.Target, left.Round(time.Second)))
	case left < short && in.container != nil:
		warnings = append(warnings, fmt.Sprintf("the credential of target %q expires in %s, "+
			"and dbt may log in later than that: %s with `keep-fresh: true` or `run:`",
			res.Target, left.Round(time.Second), insteadOfContainer))
	case left < short && in.run == "":
		warnings = append(warnings, fmt.Sprintf("the credential of target %q expires in %s, "+
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
