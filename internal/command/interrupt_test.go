package command_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// TestMain lets the test binary be the product's binary, for what can only be
// seen from outside a process.
func TestMain(m *testing.M) {
	// Most tests wait: for a credential to expire, for a bound to be reached.
	_ = flag.Set("test.parallel", "8") // before the flags are parsed, so that one of the command line wins
	if os.Getenv("OIDC_DBT_TEST_BINARY") == "" {
		os.Exit(m.Run())
	}
	executable, err := os.Executable()
	dir, derr := os.Getwd()
	if err != nil || derr != nil {
		panic(errors.Join(err, derr))
	}
	os.Exit(process.Main(os.Stderr, func(ctx context.Context) int {
		return command.Run(ctx, job.Env{
			Getenv: os.Getenv, Environ: os.Environ(), Now: time.Now, Transport: web.ReadNetwork(os.Getenv).Transport(),
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Dir: dir, TempDir: os.TempDir(), Executable: executable, Version: "test",
			Masks: func() io.Writer { return process.RunnerStream(os.Getenv, os.Stderr) },
		}, os.Args[1:])
	}))
}

func TestSIGTERMDuringTheExchange(t *testing.T) {
	t.Parallel()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	asked := make(chan struct{}, 8)
	sts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // the server notices the client's end only when the body was read
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(sts.Close)

	root := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("workspace/dbt_project.yml", "name: a\nprofile: a\n")
	write("workspace/.github/oidc-dbt.yml", `version: 1
identities:
  github: {issuer: `+issuer.URL()+`, kind: github}
targets:
  prod:
    dbt: {type: duckdb, path: ":memory:"}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1, endpoint: `+sts.URL+`}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`)
	temp := filepath.Join(root, "temp")
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	output := write("commands/OUTPUT", "")

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(exe)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(),
		"OIDC_DBT_TEST_BINARY=1", "GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=push",
		"GITHUB_WORKSPACE="+filepath.Join(root, "workspace"), "RUNNER_TEMP="+temp, "INPUT_TARGET=prod",
		"GITHUB_OUTPUT="+output, "GITHUB_ENV="+write("commands/ENV", ""), "GITHUB_STATE="+write("commands/STATE", ""),
		"GITHUB_PATH="+write("commands/PATH", ""), "GITHUB_STEP_SUMMARY="+write("commands/SUMMARY", ""),
		"ACTIONS_ID_TOKEN_REQUEST_URL="+issuer.RequestURL(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+issuer.RequestToken())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-time.After(5 * time.Minute):
		t.Fatalf("the exchange did not begin: %s%s", stdout.String(), stderr.String())
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 143 {
		t.Errorf("ended with %v, want exit status 143", err)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if want := "::error::stopped by signal: terminated: nothing was published"; lines[len(lines)-1] != want {
		t.Errorf("the last line is %q, want %q", lines[len(lines)-1], want)
	}
	text, err := os.ReadFile(output)
	if err != nil || strings.Contains(string(text), "token") {
		t.Errorf("outputs are %q, %v, want no credential", text, err)
	}
	left, err := filepath.Glob(filepath.Join(temp, "oidc-dbt-step-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	log, err := os.ReadFile(filepath.Join(temp, "oidc-dbt", "audit.jsonl"))
	if err != nil || strings.Count(string(log), "\n") != 2 {
		t.Errorf("the audit log is %q, %v, want the decision and the failure", log, err)
	}
}
