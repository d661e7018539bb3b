package command_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
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
	asked := make(chan struct{}, 8)
	sts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		hang(r)
	}))
	t.Cleanup(sts.Close)
	s := newStep(t)
	s.write("workspace/dbt_project.yml", "name: a\nprofile: a\n")
	s.policy(`
  prod:
    dbt: {type: duckdb, path: ":memory:"}
    exchange:
      aws: {role: "` + prodRole + `", region: eu-central-1, endpoint: ` + sts.URL + `}`)
	s.env["INPUT_TARGET"] = "prod"
	p := s.process()
	p.begin(t)
	select {
	case <-asked:
	case <-time.After(5 * time.Minute):
		t.Fatalf("the exchange did not begin: %s", p.said)
	}
	if status := p.end(t, syscall.SIGTERM); status != 143 {
		t.Errorf("status is %d, want 143", status)
	}
	if want := "\n::error::stopped by signal: terminated: nothing was published\n"; !strings.HasSuffix(p.said.String(), want) {
		t.Errorf("it says %s, at last %s", p.said, want)
	}
	if text := s.file("commands/OUTPUT"); strings.Contains(text, "token") {
		t.Errorf("outputs are %q, want no credential", text)
	}
	s.checkFolders()
	if log := s.audit(); strings.Count(log, "\n") != 2 {
		t.Errorf("the audit log is %q, want the decision and the failure", log)
	}
}
