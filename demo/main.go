// Command demo shows the whole main job on this machine, with nothing but Go
// and Python: a CI issuer, a token service and an S3 store on loopback, the
// action as a runner starts it, and a real `dbt build` with the credential
// that it got. It exits non-zero when anything differs from what it says.
package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

//go:embed requirements.txt
var requirements []byte

//go:embed all:project
var project embed.FS

const role = "arn:aws:iam::123456789012:role/dbt-prod"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	start := time.Now()
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nthe demo failed:", err)
		os.Exit(1)
	}
	fmt.Printf("\nEverything was as said. (%s)\n", time.Since(start).Round(100*time.Millisecond))
}

func run(ctx context.Context) (err error) {
	root, err := os.MkdirTemp("", "oidc-dbt-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()

	d := demo{root: root}
	for _, part := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Getting ready: dbt-duckdb in a Python environment of its own, and the action's binary", d.prepare},
		{"Starting a CI issuer, a token service with one role, and an S3 store, all on loopback", d.startServers},
		{"Production: the action gets a credential, and the next step's `dbt build` uses it", d.production},
		{"Staging: the same job is denied", d.staging},
		{"A pull request from a fork: there is no identity at all", d.fork},
		{"The audit records of all three runs", d.audit},
		{"After the job: post removes what the step has written", d.post},
	} {
		fmt.Printf("\n── %s\n", part.title)
		began := time.Now()
		if err = part.do(ctx); err != nil {
			break
		}
		fmt.Printf("   (%s)\n", time.Since(began).Round(10*time.Millisecond))
	}
	d.stopServers()
	return err
}

type demo struct {
	root   string
	python pyenv.Python
	binary string
	issuer *standin.Issuer
	sts    *standin.STS
	store  *standin.Store
	state  map[string]string // of the production step
}

func (d *demo) prepare(ctx context.Context) (err error) {
	d.python, err = pyenv.Ensure(ctx, "demo", requirements, "from duckdb_extensions import import_extension; import_extension('httpfs')", indented{})
	if err != nil {
		return err
	}
	d.binary = filepath.Join(d.root, "bin", "oidc-dbt")
	if runtime.GOOS == "windows" {
		d.binary += ".exe"
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", d.binary, "github.com/oidc-dbt/oidc-dbt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the action: %w\n%s", err, out)
	}
	say("dbt and the binary are ready")
	return nil
}

func (d *demo) startServers(context.Context) (err error) {
	if d.issuer, err = standin.StartIssuer(nil); err != nil {
		return err
	}
	d.sts, err = standin.StartSTS(standin.STSConfig{
		IssuerURL: d.issuer.URL(),
		Roles: map[string]standin.Role{role: {
			Audience: "sts.amazonaws.com",
			Claims:   map[string][]string{"sub": {"repo:acme/analytics:environment:production"}},
		}},
	})
	if err != nil {
		return err
	}
	if d.store, err = standin.StartStore(d.sts, "lake"); err != nil {
		return err
	}
	say("issuer %s, token service %s, store %s", d.issuer.URL(), d.sts.URL(), d.store.URL())
	resp, err := http.Get(d.store.URL() + "/lake")
	if err != nil {
		return err
	}
	resp.Body.Close()
	return expect("the store's answer to a request without a credential", resp.StatusCode, http.StatusForbidden)
}

func (d *demo) stopServers() {
	if d.store != nil {
		d.store.Close()
	}
	if d.sts != nil {
		d.sts.Close()
	}
	if d.issuer != nil {
		d.issuer.Close()
	}
}

func (d *demo) production(ctx context.Context) error {
	step, err := d.step(ctx, "production", nil, d.issuer.RunnerEnv())
	if err != nil {
		return err
	}
	d.state = step.state
	fmt.Print(step.log)
	if err := expect("the step's exit status", step.status, 0); err != nil {
		return err
	}
	if err := step.checkSecrets(d); err != nil {
		return err
	}
	say("outputs: decision=%s target=%s type=%s expires-at=%s, and the credential, masked", step.outputs["decision"], step.outputs["target"], step.outputs["type"], step.outputs["expires-at"])
	profiles, err := os.ReadFile(filepath.Join(step.outputs["profiles-dir"], "profiles.yml"))
	if err != nil {
		return err
	}
	say("the profile that it wrote holds no secret:")
	fmt.Println(indent(string(profiles)))

	// The next step: env: ${{ fromJSON(steps.auth.outputs.env) }}
	var env map[string]string
	if err := json.Unmarshal([]byte(step.outputs["env"]), &env); err != nil {
		return fmt.Errorf("output env: %w", err)
	}
	build := exec.CommandContext(ctx, d.python.Program("dbt"), "build", "--no-use-colors")
	build.Dir, build.Env = d.workspace("production"), d.python.Environ()
	for name, value := range env {
		build.Env = append(build.Env, name+"="+value)
	}
	out, err := build.CombinedOutput()
	if leak := d.leak(string(out)); leak != "" {
		return fmt.Errorf("dbt printed a secret (%s)", leak)
	}
	fmt.Println(indent(string(out)))
	if err != nil {
		return fmt.Errorf("dbt build: %w", err)
	}
	puts, gets := d.store.Served(http.MethodPut), d.store.Served(http.MethodGet)
	say("the store served %d writes and %d reads with the temporary credential, and refused %d requests", puts, gets, d.store.Refused())
	if puts == 0 || gets == 0 {
		return errors.New("dbt neither wrote to nor read from the store")
	}
	return nil
}

func (d *demo) staging(ctx context.Context) error {
	changes := map[string]any{"environment": "staging", "sub": "repo:acme/analytics:environment:staging"}
	before := d.sts.Requests("AssumeRoleWithWebIdentity")
	step, err := d.step(ctx, "staging", changes, d.issuer.RunnerEnv())
	if err != nil {
		return err
	}
	fmt.Print(step.log)
	err = errors.Join(
		expect("the step's exit status", step.status, 5),
		expect("output decision", step.outputs["decision"], "denied"),
		expect("output env", step.outputs["env"], ""),
		expect("requests to the token service", d.sts.Requests("AssumeRoleWithWebIdentity"), before),
		step.checkSecrets(d),
	)
	if err != nil {
		return err
	}
	say("The policy check is the guard rail. The wall is the role's own trust: the same token, sent past the action:")
	resp, err := http.PostForm(d.sts.URL(), url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role}, "RoleSessionName": {"staging"},
		"WebIdentityToken": {d.issuer.Sign("sts.amazonaws.com", changes)},
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var reply bytes.Buffer
	if _, err := reply.ReadFrom(resp.Body); err != nil {
		return err
	}
	say("%s %s", resp.Status, reply.String())
	return errors.Join(expect("its status", resp.StatusCode, http.StatusForbidden), expect("AccessDenied in it", strings.Contains(reply.String(), "<Code>AccessDenied</Code>"), true))
}

func (d *demo) fork(ctx context.Context) error {
	event := filepath.Join(d.root, "event.json")
	if err := os.WriteFile(event, []byte(`{"pull_request": {"head": {"repo": {"full_name": "mallory/analytics"}}}}`), 0o644); err != nil {
		return err
	}
	step, err := d.step(ctx, "fork", nil, map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_HEAD_REF": "patch-1", "GITHUB_EVENT_PATH": event})
	if err != nil {
		return err
	}
	fmt.Print(step.log)
	return errors.Join(expect("the step's exit status", step.status, 3), expect("outputs", len(step.outputs), 0))
}

func (d *demo) audit(context.Context) error {
	counts := map[string]int{"production": 2, "staging": 1, "fork": 1}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range counts {
			if !yield(n) {
				return
			}
		}
	}) {
		log, err := os.ReadFile(filepath.Join(d.temp(name), "oidc-dbt", "audit.jsonl"))
		if err != nil {
			return err
		}
		fmt.Println(indent(string(log)))
		if err := expect("records of "+name, bytes.Count(log, []byte("\n")), counts[name]); err != nil {
			return err
		}
		if leak := d.leak(string(log)); leak != "" {
			return fmt.Errorf("a secret is in the audit log (%s)", leak)
		}
	}
	return nil
}

func (d *demo) post(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, d.binary, "post")
	cmd.Env = append(os.Environ(), "GITHUB_ACTIONS=true", "RUNNER_TEMP="+d.temp("production"))
	for name, value := range d.state {
		cmd.Env = append(cmd.Env, "STATE_"+name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("post: %w\n%s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(d.temp("production"), "*"))
	if err != nil {
		return err
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	say("left in RUNNER_TEMP: %q, the audit log", left)
	return expect("what is left", strings.Join(left, " "), "oidc-dbt")
}

func (d *demo) workspace(job string) string { return filepath.Join(d.root, job, "workspace") }
func (d *demo) temp(job string) string      { return filepath.Join(d.root, job, "temp") }

// A step is what came of one step of a job.
type step struct {
	status  int
	log     string // as the runner shows it: masks applied
	raw     string
	outputs map[string]string
	state   map[string]string
	summary string
}

// step runs the action's main as the runner would: inputs and files by
// variables, in a checkout of the project.
func (d *demo) step(ctx context.Context, job string, changes map[string]any, env map[string]string) (*step, error) {
	claims := standin.GitHubClaims()
	for name, v := range changes {
		claims[name] = v
	}
	d.issuer.SetClaims(claims)
	if err := d.checkout(d.workspace(job)); err != nil {
		return nil, err
	}
	files := filepath.Join(d.root, job, "files")
	if err := errors.Join(os.MkdirAll(files, 0o755), os.MkdirAll(d.temp(job), 0o755)); err != nil {
		return nil, err
	}
	vars := []string{
		"GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=push", "GITHUB_REPOSITORY=acme/analytics",
		"GITHUB_WORKSPACE=" + d.workspace(job), "RUNNER_TEMP=" + d.temp(job),
		"INPUT_TARGET=prod", "INPUT_POLICY=.github/oidc-dbt.yml", "INPUT_PROJECT-DIR=.",
	}
	for _, name := range []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"} {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return nil, err
		}
		vars = append(vars, "GITHUB_"+name+"="+path)
	}
	for name, value := range env {
		vars = append(vars, name+"="+value)
	}
	cmd := exec.CommandContext(ctx, d.binary)
	cmd.Dir, cmd.Env = d.workspace(job), append(os.Environ(), vars...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("run the action: %w", err)
	}
	s := &step{status: cmd.ProcessState.ExitCode(), raw: string(out)}
	s.log = show(s.raw)
	summary, err := os.ReadFile(filepath.Join(files, "STEP_SUMMARY"))
	if err != nil {
		return nil, err
	}
	s.summary = string(summary)
	if s.outputs, err = fileCommands(filepath.Join(files, "OUTPUT")); err != nil {
		return nil, err
	}
	s.state, err = fileCommands(filepath.Join(files, "STATE"))
	return s, err
}

// checkout puts the embedded project where a checkout would.
func (d *demo) checkout(workspace string) error {
	places := strings.NewReplacer("$ISSUER", d.issuer.URL(), "$STS", d.sts.URL(), "$STORE", d.store.Host(), "$TODAY", time.Now().Format(time.DateOnly))
	return fs.WalkDir(project, "project", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := project.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(workspace, filepath.FromSlash(strings.TrimPrefix(path, "project/")))
		if path == "project/policy.yml" {
			to = filepath.Join(workspace, ".github", "oidc-dbt.yml")
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, []byte(places.Replace(string(text))), 0o644)
	})
}

// show applies the masks, as the runner does to everything that is printed
// behind them, and indents.
func show(raw string) string {
	var masks []string
	var out strings.Builder
	for line := range strings.Lines(raw) {
		if mask, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "::add-mask::"); ok {
			masks = append(masks, mask)
			continue
		}
		for _, m := range masks {
			line = strings.ReplaceAll(line, m, "***")
		}
		out.WriteString("   │ " + strings.ReplaceAll(line, "%0A", "\n   │ "))
	}
	if len(masks) > 0 {
		return fmt.Sprintf("   │ (%d masks)\n%s", len(masks), out.String())
	}
	return out.String()
}

// checkSecrets fails when anything secret is to be seen, or a mask came late.
func (s *step) checkSecrets(d *demo) error {
	printed, masks := "", true
	for line := range strings.Lines(s.raw) {
		isMask := strings.HasPrefix(line, "::add-mask::")
		if isMask && !masks {
			return errors.New("a mask stands behind another line")
		}
		if masks = isMask; !isMask {
			printed += line
		}
	}
	for where, text := range map[string]string{"the log": printed, "the summary": s.summary} {
		if leak := d.leak(text); leak != "" {
			return fmt.Errorf("a secret is in %s (%s)", where, leak)
		}
	}
	return nil
}

// leak names the secret that is in a text, "" for none.
func (d *demo) leak(text string) string {
	secrets := map[string]string{"request token": d.issuer.RequestToken()}
	for i, token := range d.issuer.Issued() {
		secrets[fmt.Sprintf("ID token %d", i)] = token
	}
	for _, s := range d.sts.Sessions() {
		secrets["access key id"], secrets["secret access key"], secrets["session token"] = s.AccessKeyID, s.SecretAccessKey, s.SessionToken
	}
	for name, s := range secrets {
		if strings.Contains(text, s) {
			return name
		}
	}
	return ""
}

// fileCommands reads a file as the runner does.
func fileCommands(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	lines := strings.Split(string(data), "\n")
	for i := 0; i < len(lines); i++ {
		name, delimiter, ok := strings.Cut(lines[i], "<<")
		if !ok {
			continue
		}
		var value []string
		for i++; i < len(lines) && lines[i] != delimiter; i++ {
			value = append(value, lines[i])
		}
		values[name] = strings.Join(value, "\n")
	}
	return values, nil
}

func expect[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func indent(text string) string {
	return "   │ " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n   │ ")
}

// indented is where progress goes.
type indented struct{}

func (indented) Write(p []byte) (int, error) {
	fmt.Println(indent(string(p)))
	return len(p), nil
}
