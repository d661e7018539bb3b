// Package setup is what the end-to-end tests start with: the built binary, dbt in a Python
// environment, the stand-ins, and steps as a runner runs them.
package setup

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A role and a pool of the stand-ins that trust production.
const (
	Subject        = "repo:acme/analytics:environment:production"
	Role           = "arn:aws:iam::123456789012:role/dbt-prod"
	Pool           = "projects/123/locations/global/workloadIdentityPools/gh/providers/gh"
	ServiceAccount = "dbt@acme-dbt.iam.gserviceaccount.com"
)

// Rule is the rule of every test's policy.
const Rule = `{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}`

var repository = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(out))), err
})

// Repository returns the root of the repository.
func Repository(t testing.TB) string {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// built is the folder in which Binary has built.
var built struct{ dir string }

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("OIDC_DBT_E2E_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "oidc-dbt-e2e-*")
	if err != nil {
		return "", err
	}
	built.dir = dir
	path := filepath.Join(dir, "oidc-dbt")
	build := exec.Command("go", "build", "-o", path, "github.com/oidc-dbt/oidc-dbt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return path, nil
})

// Binary returns the built binary, one for each test package, or the one that
// OIDC_DBT_E2E_BINARY names.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var python = sync.OnceValues(func() (pyenv.Python, error) {
	root, err := repository()
	if err != nil {
		return pyenv.Python{}, err
	}
	requirements, err := os.ReadFile(filepath.Join(root, "e2e", "requirements.txt"))
	if err != nil {
		return pyenv.Python{}, err
	}
	const prepare = "from duckdb_extensions import import_extension\nfor name in ('httpfs', 'aws', 'azure'): import_extension(name)"
	return pyenv.Ensure(context.Background(), "e2e", requirements, prepare, os.Stderr)
})

// Environment returns an environment of its own for the tests in a folder of e2e: its requirements.txt does not go with
// those of all. prepare is that of pyenv.Ensure.
func Environment(t testing.TB, folder, prepare string) pyenv.Python {
	t.Helper()
	requirements, err := os.ReadFile(filepath.Join(Repository(t), "e2e", folder, "requirements.txt"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := pyenv.Ensure(t.Context(), folder, requirements, prepare, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Engine returns the environment of dbt's second engine.
func Engine(t testing.TB) pyenv.Python {
	t.Helper()
	return Environment(t, "engine2", "from duckdb_extensions import import_extension\nimport_extension('httpfs')")
}

// Python returns the environment of all end-to-end tests.
func Python(t testing.TB) pyenv.Python {
	t.Helper()
	p, err := python()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Issuer starts an issuer of GitHub's claims.
func Issuer(t testing.TB) *standin.Issuer {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}

// STS starts a token service whose Role trusts only production's subject.
func STS(t testing.TB, issuer *standin.Issuer) *standin.STS { return STSOf(t, issuer, 0) }

// STSOf is STS with sessions whose announced lifetime is life, and which are
// accepted for standin.Grace longer; if life is 0, they are as AWS's.
func STSOf(t testing.TB, issuer *standin.Issuer, life time.Duration) *standin.STS {
	t.Helper()
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Life: life, Roles: map[string]standin.Role{
		Role: {Audience: "sts.amazonaws.com", Claims: map[string][]string{"sub": {Subject}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	if life > 0 {
		sts.SetGrace(standin.Grace)
	}
	return sts
}

// Write writes a file below dir and returns its path.
func Write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Project writes a dbt project with one seed and one model, and the policy
// with the target prod.
func Project(t testing.TB, issuer *standin.Issuer, dbt, exchange string) (workspace string) {
	t.Helper()
	workspace = t.TempDir()
	Write(t, workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
	Write(t, workspace, "seeds/raw_orders.csv", "order_id,customer,amount\n1,ada,12\n2,grace,40\n3,ada,7\n")
	Write(t, workspace, "models/customers.sql", "select customer, count(*) as orders from {{ ref('raw_orders') }} group by customer\n")
	Write(t, workspace, "models/schema.yml",
		"models:\n  - name: customers\n    columns:\n      - name: customer\n        data_tests: [not_null]\n")
	Write(t, workspace, ".github/oidc-dbt.yml", Policy(issuer, dbt, exchange))
	return workspace
}

// Policy returns a policy with the one target prod.
func Policy(issuer *standin.Issuer, dbt, exchange string) string {
	kind, rule := standin.Identity(exchange)
	if kind == "kind: github" {
		rule = Rule
	}
	return fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, %s}\ntargets:\n  prod:\n    dbt: %s\n"+
		"    exchange: %s\n    allow:\n      - %s\n",
		issuer.URL(), kind, dbt, exchange, rule)
}

// Authenticate runs the action in the workspace and returns the variables of its
// output `env`. more is added to the job's environment ("NAME=value"). The log,
// the summary and the profile must contain no secret.
func Authenticate(t testing.TB, issuer *standin.Issuer, workspace string, more ...string) (env map[string]string, step *standin.Step) {
	t.Helper()
	job := issuer.RunnerEnv()
	for _, v := range more {
		name, value, _ := strings.Cut(v, "=")
		job[name] = value
	}
	step, err := standin.RunStep(context.Background(), standin.StepConfig{
		Binary: Binary(t), Root: t.TempDir(), Workspace: workspace, Inputs: map[string]string{"target": "prod"}, Env: job,
	})
	if err != nil {
		t.Fatal(err)
	}
	log, _, err := step.Log()
	if err != nil {
		t.Error(err)
	}
	if step.Status != 0 {
		t.Fatalf("the step ended with status %d:\n%s", step.Status, log)
	}
	if err := json.Unmarshal([]byte(step.Outputs["env"]), &env); err != nil {
		t.Fatalf("output env: %v", err)
	}
	NoSecrets(t, issuer, "the log and the summary", log+step.Summary)
	return env, step
}

// Exec runs a command through `oidc-dbt exec` in the workspace, as a step of a
// job does, and returns what both printed.
func Exec(t testing.TB, issuer *standin.Issuer, workspace string, flags []string, command ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	text, err := ExecCommand(ctx, t, issuer, workspace, flags, command...).CombinedOutput()
	return string(text), err
}

// ExecCommand returns the command of Exec without starting it.
func ExecCommand(ctx context.Context, t testing.TB, issuer *standin.Issuer, workspace string, flags []string, command ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, Binary(t), slices.Concat([]string{"exec", "--target", "prod"}, flags, []string{"--"}, command)...)
	cmd.Dir, cmd.Env = workspace, Python(t).Environ()
	for name, value := range issuer.RunnerEnv() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// NoSecrets fails the test if text contains one of the issuer's tokens or its request token.
func NoSecrets(t testing.TB, issuer *standin.Issuer, where, text string) {
	t.Helper()
	for _, s := range append(issuer.Issued(), issuer.RequestToken()) {
		if strings.Contains(text, s) {
			t.Errorf("a secret is in %s:\n%s", where, text)
		}
	}
}

// DBT runs dbt in the workspace with only the variables, as a later step does.
func DBT(t testing.TB, python pyenv.Python, workspace string, env map[string]string, args ...string) (out string, err error) {
	t.Helper()
	return dbtWithin(10*time.Minute, python, workspace, env, args...)
}

func dbtWithin(limit time.Duration, python pyenv.Python, workspace string, env map[string]string, args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, python.Program("dbt"), args...)
	cmd.Dir, cmd.Env = workspace, append(python.Environ(), "NO_COLOR=1", "DBT_USE_COLORS=false")
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// Build runs a dbt build that must pass.
func Build(t testing.TB, python pyenv.Python, issuer *standin.Issuer, workspace string, env map[string]string) string {
	t.Helper()
	out, err := DBT(t, python, workspace, env, "build")
	if err != nil || !strings.Contains(out, "Completed successfully") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	NoSecrets(t, issuer, "dbt's output", out)
	return out
}

// Port returns a port of 127.0.0.1 where nothing listens.
func Port(t testing.TB) int {
	t.Helper()
	port, err := standin.Port()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Serve starts a handler on loopback.
func Serve(t testing.TB, h http.Handler) (host string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1", serve(t, l, h)
}

// ServeTLS starts a handler on loopback, over TLS with a certificate of
// Certificate. It returns the path of the authority's certificate.
func ServeTLS(t testing.TB, h http.Handler, names ...string) (port int, ca string) {
	t.Helper()
	ca, server := Certificate(t, names...)
	pair, err := tls.LoadX509KeyPair(server, server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l, h), ca
}

func serve(t testing.TB, l net.Listener, h http.Handler) (port int) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// Tunnel answers CONNECT of HTTP with a connection to a port of loopback, for
// any name that is asked for.
func Tunnel(w http.ResponseWriter, r *http.Request, port int) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	there, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	w.WriteHeader(http.StatusOK)
	here, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	go func() { _, _ = io.Copy(there, rest); there.Close() }()
	_, _ = io.Copy(here, there)
}
