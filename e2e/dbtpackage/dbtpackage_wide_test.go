//go:build e2e && linux && amd64 && wide

package dbtpackage

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// Logs that a warehouse of these tests builds. Structures are DuckDB's only.
const (
	allLogs  = "[snowflake, bigquery, redshift, databricks, cloudtrail, postgres, trino, clickhouse, table]"
	flatLogs = "[snowflake, redshift, postgres, trino, clickhouse, table]"
	// Snowflake reserves the names of ClickHouse's columns.
	snowflakeLogs = "[snowflake, redshift, postgres, trino, table]"
)

// build makes the logs, and then the package, with the tests of both.
func (p project) build(t *testing.T, target, logs string) {
	t.Helper()
	options := []string{"--target", target, "--vars", "{oidc_dbt_logs: " + logs + "}", "--select"}
	p.dbt(t, append(append([]string{"build"}, options...), "package:oidc_dbt_integration", "--exclude", "resource_type:test")...)
	out := p.dbt(t, append(append([]string{"build"}, options...), "package:oidc_dbt_audit")...)
	for _, test := range []string{
		"decisions_have_their_outcomes", "every_other_login_is_matched", "exactly_the_planted_logins_are_found", "fleet_says_what_to_do",
		"review_has_a_row_for_each_rule", "statements_find_their_queries",
	} {
		if !strings.Contains(out, "PASS "+test) {
			t.Errorf("%s did not pass:\n%s", test, out)
		}
	}
	want := fmt.Sprintf("WARN %d oidc_dbt_no_unmatched_logins", map[string]int{allLogs: 12, flatLogs: 8, snowflakeLogs: 7}[logs])
	if !strings.Contains(out, want) {
		t.Errorf("the package's own test did not say %q:\n%s", want, out)
	}
	if want := "WARN 1 oidc_dbt_every_user_is_watched"; !strings.Contains(out, want) { // a person
		t.Errorf("the package's own test did not say %q:\n%s", want, out)
	}
	p.parse(t, target)
}

// parse parses the compiled SQL in the target's dialect.
func (p project) parse(t *testing.T, dialect string) {
	t.Helper()
	out, err := exec.Command(p.python.Program("python"), "parse.py", p.folder, dialect).CombinedOutput()
	if count, _ := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || count < models {
		t.Errorf("parse as %s: %v\n%s", dialect, err, out)
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := setup.Postgres(t, false)
	newProject(t, map[string]string{"OIDC_DBT_PORT": fmt.Sprint(server.Port), "OIDC_DBT_PASSWORD": server.Password}).build(t, "postgres", flatLogs)
}

func TestTrino(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	token := func() string { return issuer.Sign("trino", map[string]any{"exp": time.Now().Add(time.Hour).Unix()}) }
	server := setup.Trino(t, setup.TrinoConfig{
		Issuer: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks", Audience: "trino", Claim: "sub", UserPattern: `repo:([^/]+)/analytics:environment:production`,
	}, "acme", token)
	newProject(t, map[string]string{
		"OIDC_DBT_PORT": fmt.Sprint(server.Port), "OIDC_DBT_PASSWORD": token(), "OIDC_DBT_CA": server.CA, "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "",
	}).build(t, "trino", flatLogs)
}

func TestClickHouse(t *testing.T) {
	t.Parallel()
	python, port := setup.Python(t), setup.Port(t)
	setup.Start(t, port, python.Environ(), python.Program("python"), filepath.Join("..", "clickhouse", "server.py"), fmt.Sprint(port), filepath.Join(t.TempDir(), "data"))
	newProject(t, map[string]string{"OIDC_DBT_PORT": fmt.Sprint(port)}).build(t, "clickhouse", flatLogs)
}

func TestSnowflake(t *testing.T) {
	t.Parallel()
	python, port := setup.Python(t), setup.Port(t)
	setup.Start(t, port, python.Environ(), python.Program("python"), "-m", "uvicorn", "--host", "127.0.0.1", "--port", fmt.Sprint(port), "fakesnow.server:app")
	newProject(t, map[string]string{"OIDC_DBT_PORT": fmt.Sprint(port)}).build(t, "snowflake", snowflakeLogs)
}

func TestDuckDB(t *testing.T) {
	t.Parallel()
	p := newProject(t, nil)
	p.build(t, "duckdb", allLogs)
	if out := p.dbt(t, "source", "freshness", "--select", "source:oidc_dbt"); !strings.Contains(out, "PASS freshness of oidc_dbt.records") {
		t.Errorf("the freshness of what was loaded just now:\n%s", out)
	}
	p.env["DBT_TARGET_PATH"] = "docs"
	p.dbt(t, "docs", "generate", "--vars", "{oidc_dbt_logs: "+allLogs+"}")

	// What is found fails a run only where that is asked for.
	out, err := setup.DBT(t, p.python, p.folder, p.env, "test", "--vars", "{oidc_dbt_logs: "+allLogs+", oidc_dbt_severity: error}", "--select", "oidc_dbt_no_unmatched_logins")
	if err == nil || !strings.Contains(out, "Got 12 results, configured to fail if != 0") {
		t.Errorf("with severity error: %v\n%s", err, out)
	}
	out, err = setup.DBT(t, p.python, p.folder, p.env, "parse", "--no-partial-parse", "--vars", "{oidc_dbt_logs: [oracle]}")
	if want := "var oidc_dbt_logs has oracle, want any of snowflake, bigquery, redshift, databricks, cloudtrail, postgres, trino, clickhouse, table"; err == nil || !strings.Contains(out, want) {
		t.Errorf("with an unknown log: %v\n%s\nwant %s", err, out, want)
	}
}
