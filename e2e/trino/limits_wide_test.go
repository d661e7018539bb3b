//go:build e2e && wide

package trino

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// TestLimits: Trino has the guard's limits with each statement, and ends what
// goes beyond one, whatever the client's session asks for.
func TestLimits(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	server := start(t, issuer)
	for _, sql := range []string{
		"create schema if not exists memory.marts", "create table memory.marts.facts as select 1 as n",
		"create table blackhole.default.endless (x bigint) with (split_count = 1, pages_per_split = 100000, rows_per_page = 1, page_processing_delay = '1s')",
	} {
		if _, err := server.Query(t.Context(), user, issuer.Sign(audience, nil), sql); err != nil {
			t.Fatal(err)
		}
	}
	limited := func(timeout time.Duration) *setup.Guarded {
		return setup.GuardBy(t, route.Route{Kind: route.Trino, Upstream: route.Upstream{Host: server.Host, Port: server.Port, CAFile: server.CA}},
			credential.Credential{Token: secret.New(issuer.Sign(audience, nil)), Expiry: time.Now().Add(time.Hour)},
			guard.Config{Dialect: statement.Trino, Statements: guard.Any, Limits: guard.Limits{StatementTimeout: timeout, Scan: 5e8}})
	}
	expected := []struct{ sql, want string }{
		{"show session like 'query_max_run_time'", `"query_max_run_time", "7200s", `},
		{"show session like 'query_max_scan_physical_bytes'", `"query_max_scan_physical_bytes", "500000000B", `},
		{"show session like 'join_distribution_type'", `"join_distribution_type", "PARTITIONED", `},
		{"set session query_max_run_time = '9h'", "SET SESSION at byte 0 changes query_max_run_time, and the guard's `limits` are fixed"},
		{"reset session query_max_run_time", "RESET SESSION at byte 0 changes query_max_run_time"},
		{"execute immediate 'set session \"query_max_run_time\" = ''9h'''", "changes query_max_run_time"},
		{"with session query_max_run_time = '9h' select count(*) from facts", "changes session properties"},
		{"set session join_distribution_type = 'BROADCAST'", "[]"},
		{"show session like 'join_distribution_type'", `"join_distribution_type", "BROADCAST", `},
		{"show session like 'query_max_run_time'", `"query_max_run_time", "7200s", `},
		{"select count(*) from facts", "[[1]]"},
	}
	statements := make([]string, len(expected))
	for i, e := range expected {
		statements[i] = e.sql
	}
	for i, end := range sendLimited(t, limited(2*time.Hour), statements) {
		if !strings.Contains(end, expected[i].want) {
			t.Errorf("%s: got %s, want %s", expected[i].sql, end, expected[i].want)
		}
	}
	end := sendLimited(t, limited(5*time.Second), []string{"select count(*) from blackhole.default.endless"})[0]
	if !strings.Contains(end, "Query exceeded maximum time limit of 5.00s") {
		t.Errorf("an endless statement: %s", end)
	}
}

// sendLimited sends statements in one session, and returns what came of each.
func sendLimited(t *testing.T, g *setup.Guarded, statements []string) (ends []string) {
	t.Helper()
	text, err := json.Marshal(statements)
	if err != nil {
		t.Fatal(err)
	}
	python := setup.Python(t)
	cmd := exec.CommandContext(t.Context(), python.Program("python"), "limits.py", fmt.Sprint(g.Address().Port), g.Address().CAFile)
	cmd.Env = append(python.Environ(), "TOKEN="+g.Address().Secret.Reveal(), "REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &ends)
	}
	if err != nil || len(ends) != len(statements) {
		t.Fatalf("%v\n%s", err, out)
	}
	return ends
}
