//go:build e2e

package duckdb

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// startGCS starts a lake on fake-gcs-server, where looking at an object that is
// slow may take long, and uploads four of these and four others.
func startGCS(t *testing.T, change func(*standin.GoogleConfig)) *lakeOfGoogle {
	t.Helper()
	server, python, dir := setup.FakeGCS(t, "lake"), setup.Python(t), t.TempDir()
	const program = `import duckdb, sys
for n in range(4):
    duckdb.sql(f"copy (select {n} as part, range as id from range(1000)) to '{sys.argv[1]}/{n}.parquet'")`
	out, err := exec.CommandContext(t.Context(), python.Program("python"), "-c", program, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for n := range 4 {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.parquet", n)))
		if err != nil {
			t.Fatal(err)
		}
		server.Upload(t, "lake", fmt.Sprintf("slow_%d.parquet", n), string(text))
		server.Upload(t, "lake", fmt.Sprintf("parts/%d.parquet", n), string(text))
	}
	to, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	return startLakeOn(t, proxy, http.MethodHead, change)
}

// readers is a project with a chain of four models, each of which reads a slow
// object, and one that lists the others. A test of dbt's counts the rows.
func (l *lakeOfGoogle) readers(t *testing.T, threads int) (workspace string) {
	t.Helper()
	workspace = l.empty(t, threads)
	after := ""
	for n := range 4 {
		setup.Write(t, workspace, fmt.Sprintf("models/read_%d.sql", n),
			fmt.Sprintf("%sselect * from read_parquet('gs://lake/slow_%d.parquet')\n", after, n))
		after = fmt.Sprintf("-- depends_on: {{ ref('read_%d') }}\n", n)
	}
	setup.Write(t, workspace, "models/parts.sql",
		"{{ config(materialized='table') }}\nselect * from read_parquet('gs://lake/parts/*.parquet')\n")
	setup.Write(t, workspace, "tests/rows.sql",
		"select 1 from (select count(*) as n, sum(part) as parts from {{ ref('parts') }}) where n <> 4000 or parts <> 6000\n")
	return workspace
}

// TestGoogleCloudStorageReads: a step's token reads until it expires.
func TestGoogleCloudStorageReads(t *testing.T) {
	t.Parallel()
	clock := &clock{}
	l := startGCS(t, func(c *standin.GoogleConfig) { c.Now = clock.now })
	l.slow = func() {}
	workspace := l.readers(t, 1)
	env, _ := setup.Authenticate(t, l.issuer, workspace)
	setup.Build(t, setup.Python(t), l.issuer, workspace, env)
	if len(l.served) != 1 || l.refused.Load() > 0 {
		t.Errorf("%d tokens were used, %d requests refused; want one, and none", len(l.served), l.refused.Load())
	}
	good := env["DBT_ENV_SECRET_OIDC_TOKEN"]
	l.refuses(t, workspace, env, "ya29.made-up")
	clock.forward()
	l.refuses(t, workspace, env, good)
}

// refuses lists and reads with a token that the lake must refuse.
func (l *lakeOfGoogle) refuses(t *testing.T, workspace string, env map[string]string, token string) {
	t.Helper()
	before, served := l.refused.Load(), l.served[token]
	env["DBT_ENV_SECRET_OIDC_TOKEN"] = token
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "build", "--select", "parts")
	if err == nil || l.refused.Load() == before || l.served[token] > served {
		t.Errorf("dbt with a token that must be refused: %v\n%s", err, out)
	}
}

// TestReadsOutliveGooglesToken: each of the four slow objects takes as long as the
// announced lifetime of a token.
func TestReadsOutliveGooglesToken(t *testing.T) {
	t.Parallel()
	const life = 2 * time.Second
	for _, threads := range setup.Threads() {
		t.Run(fmt.Sprint(threads, " threads"), func(t *testing.T) {
			t.Parallel()
			l := startGCS(t, func(c *standin.GoogleConfig) { c.Life = life })
			l.slow = func() { time.Sleep(life) }
			workspace := l.readers(t, threads)
			out, err := setup.Exec(t, l.issuer, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
			if err != nil || !strings.Contains(out, "Completed successfully") {
				t.Fatalf("dbt build: %v\n%s", err, out)
			}
			if refused := l.refused.Load(); len(l.served) < 3 || refused > 0 {
				t.Errorf("%d tokens were used, %d requests refused; want three at least, and none", len(l.served), refused)
			}
		})
	}
}
