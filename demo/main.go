// Command demo shows the whole main job on this machine, with nothing but Go
// and Python: a CI issuer, a token service and an S3 store on loopback, the
// action as a runner starts it, and a real `dbt build` with the credential
// that it got. It exits non-zero when anything differs from what it says.
//
// With the arguments audit DIR it keeps the records, the policy and the warehouse
// in a folder, for the commands of docs/audit.md. With stored-key it goes the way
// from a stored key to none. With by-hand it shows what happens without the
// action when the ID token expires during the build.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

//go:embed requirements.txt
var requirements []byte

//go:embed all:project
var project embed.FS

const (
	role     = "arn:aws:iam::123456789012:role/dbt-prod"
	audience = "sts.amazonaws.com"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	start := time.Now()
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nthe demo failed:", err)
		os.Exit(1)
	}
	fmt.Printf("\nAll checks passed (%s).\n", time.Since(start).Round(100*time.Millisecond))
}

// A part of a story has a title, and checks what it says.
type part struct {
	title string
	do    func(context.Context) error
}

func run(ctx context.Context, args []string) (err error) {
	root, err := os.MkdirTemp("", "oidc-dbt-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()

	story, folder := strings.Join(args, " "), ""
	if len(args) == 2 && args[0] == "audit" {
		story, folder = args[0], args[1]
	}
	d := &demo{root: root, kept: filepath.Join(root, "audit"), jobs: map[string]*job{}, exercise: story == "audit"}
	stories := map[string][]part{
		"": d.mainJob(), "audit": d.auditStory(folder), "stored-key": d.storedKey(), "by-hand": d.byHand(),
	}
	parts, ok := stories[story]
	if !ok {
		return fmt.Errorf("unknown argument %q, valid ones are %q", story, slices.Sorted(maps.Keys(stories))[1:])
	}
	for _, part := range parts {
		fmt.Printf("\n── %s\n", part.title)
		began := time.Now()
		if err = part.do(ctx); err != nil {
			break
		}
		fmt.Printf("   (%s)\n", time.Since(began).Round(10*time.Millisecond))
	}
	return errors.Join(err, d.stopServers())
}

// onS3 are the parts with which stories begin that build on the S3 store.
func (d *demo) onS3(parts ...part) []part {
	return append([]part{
		{"Getting ready: dbt-duckdb in a Python environment of its own, and the action's binary", d.prepare},
		{"Starting a CI issuer, a token service with one role, and an S3 store, all on loopback", d.startServers},
	}, parts...)
}

// mainJob is the whole main job, the denials of others, and what an auditor
// finds: a login of which there is no record.
func (d *demo) mainJob() []part {
	forgotten := "Somewhere else: a forgotten script reads the lake with an old stored key"
	if d.exercise {
		forgotten = "Somewhere else: something reads the lake"
	}
	return d.onS3([]part{
		{"Production: the action gets a credential, and the next step's `dbt build` uses it", d.production},
		{"A long run: sessions live three seconds, and the build outlives them", d.long},
		{"Staging: the same job is denied", d.staging},
		{"A pull request from a fork: there is no identity at all", d.fork},
		{"The audit records of all four runs", d.audit},
		{"After the job: post removes what the step has written", d.post},
		{forgotten, d.useOldKey},
		{"The audit: the dbt package compares the records of all runs with the store's log", d.reconcile},
	}...)
}

// A job is the folders of one job, and the masks that it has set.
type job struct {
	dir   string
	run   string // of the CI system
	masks standin.Masks
}

func (j *job) workspace() string { return filepath.Join(j.dir, "workspace") }
func (j *job) temp() string      { return filepath.Join(j.dir, "temp") }
func (j *job) auditLog() string  { return filepath.Join(j.temp(), "oidc-dbt", "audit.jsonl") }

// step runs a step of the job and returns its results, and its log as the
// runner shows it.
func (j *job) step(ctx context.Context, inputs, env map[string]string, name string,
	args ...string) (s *standin.Step, shown string, err error) {
	s, err = standin.RunStep(ctx,
		standin.StepConfig{Binary: name, Args: args, Root: j.dir, Workspace: j.workspace(), Inputs: inputs, Env: env})
	if err != nil {
		return nil, "", err
	}
	shown, late := j.masks.Show(s.Raw)
	if late {
		return nil, "", errors.New("a mask comes after another line")
	}
	return s, shown, nil
}

type demo struct {
	root   string
	python pyenv.Python
	binary string
	issuer *standin.Issuer
	sts    *standin.STS
	store  *standin.Store
	jobs   map[string]*job
	atEnd  []func()          // stops further servers
	folder string            // the folder of production's profile
	state  map[string]string // the state that production's step saved for post
	kept   string            // the folder for an auditor

	exercise bool // what the auditor is to find is not said
}

func (d *demo) prepare(ctx context.Context) (err error) {
	d.python, err = pyenv.Ensure(ctx, "demo", requirements,
		"from duckdb_extensions import import_extension; import_extension('httpfs')", indented{})
	if err != nil {
		return err
	}
	return d.buildBinary(ctx)
}

func (d *demo) buildBinary(ctx context.Context) error {
	d.binary = filepath.Join(d.root, "bin", "oidc-dbt")
	if runtime.GOOS == "windows" {
		d.binary += ".exe"
	}
	stop := stillAt("building the action (the first time takes a minute or two)")
	defer stop()
	build := exec.CommandContext(ctx, "go", "build", "-o", d.binary, "github.com/oidc-dbt/oidc-dbt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the action: %w\n%s", err, out)
	}
	say("dbt is in %s, the binary is built", d.python.Bin)
	return nil
}

func (d *demo) startServers(ctx context.Context) (err error) {
	if d.issuer, err = standin.StartIssuer(nil); err != nil {
		return err
	}
	trust, err := d.generateTrust(ctx)
	if err != nil {
		return err
	}
	d.sts, err = standin.StartSTS(standin.STSConfig{
		IssuerURL: d.issuer.URL(), Audiences: []string{audience}, Roles: map[string]standin.Role{role: {Trust: trust}},
	})
	if err != nil {
		return err
	}
	if d.store, err = standin.StartStore(d.sts, "lake"); err != nil {
		return err
	}
	say("issuer %s, token service %s, store %s", d.issuer.URL(), d.sts.URL(), d.store.URL())
	say("the role trusts whom the policy allows: its trust policy is from `oidc-dbt trust generate`")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.store.URL()+"/lake", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	say("the store's answer to a request without a credential: %s", resp.Status)
	return expect("the store's answer to a request without a credential", resp.StatusCode, http.StatusForbidden)
}

// generateTrust returns the trust policy of the role, which the policy asks for.
func (d *demo) generateTrust(ctx context.Context) (string, error) {
	text, err := project.ReadFile("project/policy.yml")
	if err != nil {
		return "", err
	}
	// What the role trusts does not depend on where its service and its store are.
	const elsewhere = "127.0.0.1:1"
	places := strings.NewReplacer("$ISSUER", d.issuer.URL(), "$STS", "http://"+elsewhere, "$STORE", elsewhere,
		"$TODAY", time.Now().Format(time.DateOnly))
	path, out := filepath.Join(d.root, "policy.yml"), filepath.Join(d.root, "trust")
	if err := os.WriteFile(path, []byte(places.Replace(string(text))), 0o644); err != nil {
		return "", err
	}
	generate := exec.CommandContext(ctx, d.binary, "trust", "generate", "--policy", path, "--target", "prod", "--out", out)
	if said, err := generate.CombinedOutput(); err != nil {
		return "", fmt.Errorf("trust generate: %w\n%s", err, said)
	}
	doc, err := os.ReadFile(filepath.Join(out, "prod.aws.json"))
	return string(doc), err
}

// stopServers stops the servers and checks that their ports are closed.
func (d *demo) stopServers() (err error) {
	for _, stop := range d.atEnd {
		stop()
	}
	var addresses []string
	if d.store != nil {
		addresses = append(addresses, d.store.URL())
		d.store.Close()
	}
	if d.sts != nil {
		addresses = append(addresses, d.sts.URL())
		d.sts.Close()
	}
	if d.issuer != nil {
		addresses = append(addresses, d.issuer.URL())
		d.issuer.Close()
	}
	for _, a := range addresses {
		if conn, dial := net.DialTimeout("tcp", strings.TrimPrefix(a, "http://"), time.Second); dial == nil {
			conn.Close()
			err = errors.Join(err, fmt.Errorf("%s still listens", a))
		}
	}
	return err
}

func (d *demo) production(ctx context.Context) error {
	j, err := d.job("production")
	if err != nil {
		return err
	}
	auth, _, err := d.authenticate(ctx, j, nil, d.issuer.RunnerEnv())
	if err != nil {
		return err
	}
	if err := d.checkHandedOver(j, auth); err != nil {
		return err
	}
	return d.build(ctx, j, auth.Outputs["env"])
}

// checkHandedOver checks what the action's step left for the next steps.
func (d *demo) checkHandedOver(j *job, auth *standin.Step) error {
	sessions := d.sts.Sessions()
	if err := errors.Join(
		expect("the step's exit status", auth.Status, 0),
		expect("credentials that the token service has issued", len(sessions), 1),
	); err != nil {
		return err
	}
	session := sessions[0]
	d.state, d.folder = auth.State, auth.Outputs["profiles-dir"]
	o := auth.Outputs
	say("outputs: decision=%s target=%s type=%s profile=%s expires-at=%s", o["decision"], o["target"], o["type"],
		o["profile"], o["expires-at"])
	say("and masked: aws-access-key-id=%s aws-secret-access-key=%s aws-session-token=%s",
		j.masks.Hide(o["aws-access-key-id"]), j.masks.Hide(o["aws-secret-access-key"]), j.masks.Hide(o["aws-session-token"]))
	if err := errors.Join(
		expect("output decision", o["decision"], "allowed"),
		expect("output target", o["target"], "prod"),
		expect("output type", o["type"], "duckdb"),
		expect("output profile", o["profile"], "shop"),
		expect("output subject", o["subject"], "repo:acme/analytics:environment:production"),
		expect("output expires-at", o["expires-at"], session.Expiration.UTC().Format(time.RFC3339)),
		expect("output aws-access-key-id is the token service's", o["aws-access-key-id"] == session.AccessKeyID, true),
		expect("output aws-secret-access-key is the token service's", o["aws-secret-access-key"] == session.SecretAccessKey, true),
		expect("output aws-session-token is the token service's", o["aws-session-token"] == session.SessionToken, true),
		expect("OIDC_DBT_TARGET for later steps", auth.Env["OIDC_DBT_TARGET"], "prod"),
		expect("folder put on PATH", auth.Path, filepath.Dir(d.binary)),
	); err != nil {
		return err
	}
	profiles, err := os.ReadFile(filepath.Join(d.folder, "profiles.yml"))
	if err != nil {
		return err
	}
	if leak := d.leak(string(profiles)); leak != "" {
		return fmt.Errorf("the profile contains a secret (%s)", leak)
	}
	say("the profile that it wrote contains no secret:")
	quote(string(profiles))
	return nil
}

// build runs the next step: dbt, with the output `env` of the action's step.
func (d *demo) build(ctx context.Context, j *job, variables string) error {
	say("the next step, with `env: ${{ fromJSON(steps.auth.outputs.env) }}`: dbt build")
	var env map[string]string
	if err := json.Unmarshal([]byte(variables), &env); err != nil {
		return fmt.Errorf("output env: %w", err)
	}
	env["HOME"], env["USERPROFILE"] = d.python.Home, d.python.Home // DuckDB's extensions are there
	env["PATH"] = d.python.Bin + string(os.PathListSeparator) + os.Getenv("PATH")
	build, shown, err := j.step(ctx, nil, env, d.python.Program("dbt"), "build", "--no-use-colors")
	if err != nil {
		return err
	}
	quote(shown)
	if err := expect("dbt's exit status", build.Status, 0); err != nil {
		return err
	}
	if leak := d.leak(build.Raw); leak != "" {
		return fmt.Errorf("dbt printed a secret (%s)", leak)
	}
	if err := d.checkResults(j); err != nil {
		return err
	}
	puts, gets := d.store.Served(http.MethodPut), d.store.Served(http.MethodGet)
	say("the store served %d writes and %d reads with the temporary credential; refused: %d, "+
		"the one before without a credential", puts, gets, d.store.Refused())
	return errors.Join(
		expect("writes to the store", puts > 0, true),
		expect("reads from the store", gets > 0, true),
		expect("requests that the store refused", d.store.Refused(), 1),
	)
}

// short is the lifetime of a session in the long run, and slow the duration of
// its slowest model.
const short, slow = 3 * time.Second, 4 * time.Second

// long runs dbt through `exec`: each request to the store is signed with a
// session that is valid at that time.
func (d *demo) long(ctx context.Context) error {
	j, err := d.job("long")
	if err != nil {
		return err
	}
	d.issuer.SetClaims(j.claims(nil))
	d.sts.SetLife(short)
	defer d.sts.SetLife(0)
	env := d.issuer.RunnerEnv()
	env["HOME"], env["USERPROFILE"] = d.python.Home, d.python.Home
	env["PATH"] = d.python.Bin + string(os.PathListSeparator) + os.Getenv("PATH")
	env["FORECAST_SECONDS"] = fmt.Sprint(slow.Seconds())
	known, used, refused := d.sts.Sessions(), d.store.Used(), d.store.Refused()
	say("oidc-dbt exec --target prod -- dbt build; one of its models takes %s", slow)
	build, shown, err := j.step(ctx, nil, env, d.binary, "exec", "--target", "prod", "--", d.python.Program("dbt"), "build", "--no-use-colors")
	if err != nil {
		return err
	}
	ended := time.Now()
	quote(shown)
	if err := expect("the command's exit status", build.Status, 0); err != nil {
		return err
	}
	if leak := d.leak(shown); leak != "" {
		return fmt.Errorf("the run printed a secret (%s)", leak)
	}
	if err := d.checkResults(j); err != nil {
		return err
	}
	sessions := slices.DeleteFunc(d.sts.Sessions(), func(s standin.Session) bool {
		return slices.ContainsFunc(known, func(k standin.Session) bool { return k.AccessKeyID == s.AccessKeyID })
	})
	if len(sessions) < 2 {
		return fmt.Errorf("sessions of the long run: got %d, want several", len(sessions))
	}
	first := slices.MinFunc(sessions, func(a, b standin.Session) int { return a.Expiration.Compare(b.Expiration) })
	used = d.store.Used() - used
	say("the token service has issued %d sessions, the store has served requests with %d of them; "+
		"the first had expired %s before the end; refused: %d",
		len(sessions), used, ended.Sub(first.Expiration).Round(100*time.Millisecond), d.store.Refused()-refused)
	return errors.Join(
		expect("several sessions have been used at the store", used > 1, true),
		expect("the first session had expired before the end", first.Expiration.Before(ended), true),
		expect("requests that the store refused", d.store.Refused(), refused),
	)
}

// checkResults reads dbt's run_results.json.
func (d *demo) checkResults(j *job) error {
	var results struct {
		Metadata struct {
			Env map[string]string `json:"env"`
		} `json:"metadata"`
		Results []struct {
			ID     string `json:"unique_id"`
			Status string `json:"status"`
		} `json:"results"`
	}
	text, err := os.ReadFile(filepath.Join(j.workspace(), "target", "run_results.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &results); err != nil {
		return fmt.Errorf("run_results.json: %w", err)
	}
	if leak := d.leak(string(text)); leak != "" {
		return fmt.Errorf("run_results.json contains a secret (%s)", leak)
	}
	done := map[string]int{}
	for _, r := range results.Results {
		kind, _, _ := strings.Cut(r.ID, ".")
		done[kind+" "+r.Status]++
	}
	traces := slices.Sorted(maps.Keys(results.Metadata.Env))
	say("run_results.json: %d seed, %d models, %d tests; it names the run by %s", done["seed success"],
		done["model success"], done["test pass"], strings.Join(traces, ", "))
	return errors.Join(
		expect("nodes", len(results.Results), 9),
		expect("seeds that succeeded", done["seed success"], 1),
		expect("models that succeeded", done["model success"], 3),
		expect("tests that passed", done["test pass"], 5),
		expect("variables in dbt's artifact that name the run", len(traces) > 0, true),
	)
}

func (d *demo) staging(ctx context.Context) error {
	j, err := d.job("staging")
	if err != nil {
		return err
	}
	changes := map[string]any{"environment": "staging", "sub": "repo:acme/analytics:environment:staging"}
	before := d.sts.Requests("AssumeRoleWithWebIdentity")
	auth, shown, err := d.authenticate(ctx, j, changes, d.issuer.RunnerEnv())
	if err != nil {
		return err
	}
	if err := errors.Join(
		expect("the step's exit status", auth.Status, 5),
		expect("output decision", auth.Outputs["decision"], "denied"),
		expect("the claim diff is shown", strings.Contains(shown, `environment: got "staging", want "production"`), true),
		expect("requests to the token service", d.sts.Requests("AssumeRoleWithWebIdentity"), before),
	); err != nil {
		return err
	}
	for name := range auth.Outputs {
		if name == "env" || name == "token" || name == "profiles-dir" || strings.HasPrefix(name, "aws-") {
			return fmt.Errorf("a denied step has output %q", name)
		}
	}
	say("Exit status 5; no request went to the token service; the dbt step does not run.")

	say("The role's own trust policy refuses it, too: the same token, without the action:")
	status, reply, err := d.assume(ctx, d.issuer.Sign(audience, changes))
	if err != nil {
		return err
	}
	quote(fmt.Sprintf("%d %s", status, reply))
	if err := errors.Join(
		expect("its status", status, http.StatusForbidden),
		expect("AccessDenied in the reply", strings.Contains(reply, "<Code>AccessDenied</Code>"), true),
	); err != nil {
		return err
	}
	status, _, err = d.assume(ctx,
		d.issuer.Sign(audience, map[string]any{"environment": "production", "sub": "repo:acme/analytics:environment:production"}))
	if err != nil {
		return err
	}
	say("The same request with production's token: %d. Only the claims differ.", status)
	return expect("the status with production's token", status, http.StatusOK)
}

// assume asks the token service for the role, without the action.
func (d *demo) assume(ctx context.Context, token string) (status int, reply string, err error) {
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role},
		"RoleSessionName": {"by-hand"}, "WebIdentityToken": {token},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.sts.URL(), strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func (d *demo) fork(ctx context.Context) error {
	j, err := d.job("fork")
	if err != nil {
		return err
	}
	event := filepath.Join(j.dir, "event.json")
	if err := os.WriteFile(event, []byte(`{"pull_request": {"head": {"repo": {"full_name": "mallory/analytics"}}}}`), 0o644); err != nil {
		return err
	}
	auth, shown, err := d.authenticate(ctx, j, nil,
		map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_HEAD_REF": "patch-1", "GITHUB_EVENT_PATH": event})
	if err != nil {
		return err
	}
	say("Exit status %d.", auth.Status)
	return errors.Join(
		expect("the step's exit status", auth.Status, 3),
		expect("the outputs' decision", auth.Outputs["decision"], ""),
		expect("the outputs' token", auth.Outputs["token"], ""),
		expect("the log names the fork", strings.Contains(shown, "fork"), true),
	)
}

func (d *demo) audit(context.Context) error {
	for _, want := range []struct{ job, records string }{
		{"production", "Preauth Success, Logon Success"},
		{"long", "Preauth Success, Logon Success"}, // for each session
		{"staging", "Preauth Failure"},
		{"fork", "Logon Failure"},
	} {
		text, err := os.ReadFile(d.jobs[want.job].auditLog())
		if err != nil {
			return err
		}
		lines := slices.Collect(strings.Lines(string(text)))
		say("%s: %d", want.job, len(lines))
		if !d.exercise {
			quote(strings.Join(lines[:min(len(lines), 2)], ""))
		}
		// An access key's id is no secret by itself: CloudTrail is joined by it.
		if leak := d.leak(string(text), "access key id"); leak != "" {
			return fmt.Errorf("a secret is in the audit log (%s)", leak)
		}
		var records []string
		ids := map[string]bool{}
		for _, line := range lines {
			var r struct {
				Class    int    `json:"class_uid"`
				Activity string `json:"activity_name"`
				Status   string `json:"status"`
				Metadata struct {
					ID string `json:"correlation_uid"`
				} `json:"metadata"`
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return fmt.Errorf("audit record: %w", err)
			}
			if err := expect("the record's OCSF class", r.Class, 3002); err != nil {
				return err
			}
			records, ids[r.Metadata.ID] = append(records, r.Activity+" "+r.Status), true
		}
		sessions, wanted := 1, want.records
		if want.job == "long" {
			sessions = len(records) / 2
			wanted = strings.Join(slices.Repeat([]string{wanted}, sessions), ", ")
		}
		if err := errors.Join(
			expect("records of "+want.job, strings.Join(records, ", "), wanted),
			expect("ids in the records of "+want.job, len(ids), sessions),
		); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) post(ctx context.Context) error {
	env := map[string]string{}
	for name, value := range d.state {
		env["STATE_"+name] = value
	}
	j := d.jobs["production"]
	s, shown, err := j.step(ctx, nil, env, d.binary, "post")
	if err != nil {
		return err
	}
	quote(shown)
	if err := expect("post's exit status", s.Status, 0); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(j.temp(), "*"))
	if err != nil {
		return err
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	say("left in RUNNER_TEMP: %q, with the audit log to upload", left)
	_, gone := os.Stat(d.folder)
	_, kept := os.Stat(j.auditLog())
	return errors.Join(
		expect("what is left", strings.Join(left, " "), "oidc-dbt"),
		expect("the profile is gone", errors.Is(gone, fs.ErrNotExist), true),
		kept,
	)
}

// firstRun is the number of the first job's run; each job has its own.
const firstRun = 16055869479

// claims are those of the job's ID tokens.
func (j *job) claims(changes map[string]any) map[string]any {
	claims := standin.GitHubClaims()
	maps.Copy(claims, changes)
	claims["run_id"] = j.run
	return claims
}

// job makes a job's folders, with the embedded project as its checkout.
func (d *demo) job(name string) (*job, error) {
	j := &job{dir: filepath.Join(d.root, name), run: fmt.Sprint(firstRun + len(d.jobs))}
	d.jobs[name] = j
	if err := errors.Join(os.MkdirAll(j.workspace(), 0o755), os.MkdirAll(j.temp(), 0o755)); err != nil {
		return nil, err
	}
	places := strings.NewReplacer("$ISSUER", d.issuer.URL(), "$STS", d.sts.URL(), "$STORE", d.store.Host(), "$TODAY",
		time.Now().Format(time.DateOnly))
	return j, fs.WalkDir(project, "project", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := project.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(j.workspace(), filepath.FromSlash(strings.TrimPrefix(path, "project/")))
		if path == "project/policy.yml" {
			to = filepath.Join(j.workspace(), ".github", "oidc-dbt.yml")
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, []byte(places.Replace(string(text))), 0o644)
	})
}

// authenticate runs the action's step, shows its log, and checks what must hold
// for every run: masks come first, and secrets are only in outputs.
func (d *demo) authenticate(ctx context.Context, j *job, changes map[string]any,
	env map[string]string) (s *standin.Step, shown string, err error) {
	d.issuer.SetClaims(j.claims(changes))
	inputs := map[string]string{"target": "prod", "policy": ".github/oidc-dbt.yml", "project-dir": "."}
	tokens, sessions := len(d.issuer.Issued()), len(d.sts.Sessions())
	s, shown, err = j.step(ctx, inputs, env, d.binary)
	if err != nil {
		return nil, "", err
	}
	say("%d masks, then:", len(j.masks))
	quote(shown)
	// All secrets of this step must be masked from now on.
	for what, secret := range d.secrets(tokens, sessions) {
		if got := j.masks.Hide("x " + secret + " y"); got != "x *** y" {
			return nil, "", fmt.Errorf("a step that prints the %s would show %d of its characters", what, len(got))
		}
	}
	places := map[string]string{"log": shown, "step summary": s.Summary, "path file": s.Path}
	for name, value := range s.Env {
		places["variable "+name] = value
	}
	for name, value := range s.State {
		places["state "+name] = value
	}
	for where, text := range places {
		if leak := d.leak(text); leak != "" {
			return nil, "", fmt.Errorf("a secret is in the %s (%s)", where, leak)
		}
	}
	return s, shown, nil
}

// secrets returns by name what was issued after so many tokens and sessions.
func (d *demo) secrets(tokens, sessions int) map[string]string {
	all := map[string]string{}
	for i, token := range d.issuer.Issued()[tokens:] {
		all[fmt.Sprintf("ID token %d", i+1)] = token
	}
	if issued := d.sts.Sessions(); len(issued) > sessions {
		for i, s := range issued {
			all[fmt.Sprintf("access key id %d", i+1)] = s.AccessKeyID
			all[fmt.Sprintf("secret access key %d", i+1)] = s.SecretAccessKey
			all[fmt.Sprintf("session token %d", i+1)] = s.SessionToken
		}
	}
	return all
}

// leak returns the name of a secret that is in the text, "" if there is none.
// Names that begin with one of known may be there.
func (d *demo) leak(text string, known ...string) string {
	all := d.secrets(0, 0)
	all["request token"] = d.issuer.RequestToken()
	for name, secret := range all {
		isKnown := slices.ContainsFunc(known, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if !isKnown && strings.Contains(text, secret) {
			return name
		}
	}
	return ""
}

func expect[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// quote prints the output of a program.
func quote(text string) {
	if text = strings.TrimRight(text, "\n"); text != "" {
		fmt.Println("   │ " + strings.ReplaceAll(text, "\n", "\n   │ "))
	}
}

// indented writes progress messages.
type indented struct{}

func (indented) Write(p []byte) (int, error) {
	quote(string(p))
	return len(p), nil
}

// stillAt reports every ten seconds that work is still in progress, until stop is called.
func stillAt(what string) (stop func()) {
	say("%s", what)
	began, ticker, done := time.Now(), time.NewTicker(10*time.Second), make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				say("… still running after %s", time.Since(began).Round(time.Second))
			case <-done:
				return
			}
		}
	}()
	return func() { ticker.Stop(); close(done) }
}
