//go:build e2e && linux && amd64

package postgres

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
)

// TestStop: `oidc-dbt stop` ends a run at the server, as the server sees it:
// statements, idle sessions, open transactions, and the user that was lent; with a
// guard and without, of a client of its own and of dbt.
func TestStop(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("stop.py")
	if err != nil {
		t.Fatal(err)
	}
	const threads = 4
	for _, tt := range []struct {
		name, guard string
		sessions    int
		where       string // which of pg_stat_activity must be there
		command     []string
	}{
		{"sessions", "", 3, "application_name = 'stopped'", []string{setup.Python(t).Program("python"), script}},
		{"sessions with a guard", "{statements: read}", 3, "application_name = 'stopped'", []string{setup.Python(t).Program("python"), script}},
		{"dbt", "", threads, "state = 'active' and query like '%pg_sleep(3600)%'",
			[]string{setup.Python(t).Program("dbt"), "--no-use-colors", "run", "--select", "path:models/slow*"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
			block := fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: marts, threads: %d, sslmode: verify-full, sslrootcert: %q}",
				server.Host, server.Port, threads, server.CA)
			trust(t, bao, issuer)
			lend(t, bao, server)
			workspace := setup.Project(t, issuer, block,
				fmt.Sprintf("{vault: {address: %q, role: dbt-prod, audience: %q, secret: database/creds/dbt-prod}}", bao.URL, audience))
			for i := range 2 * threads {
				setup.Write(t, workspace, fmt.Sprintf("models/slow%d.sql", i), "{{ config(materialized='table') }}\nselect 1 as n from pg_sleep(3600)")
			}
			if tt.guard != "" {
				guardPolicy(t, workspace, tt.guard)
			}
			log := filepath.Join(t.TempDir(), "audit.jsonl")
			begun := false // from then on no session of the run's may be left
			running := func() bool {
				where := tt.where
				if begun {
					where = "usename like 'v-%' and backend_type = 'client backend'"
				}
				n := len(server.SQL(t, "select pid from pg_stat_activity where "+where+" and pid <> pg_backend_pid()"))
				begun = begun || n >= tt.sessions
				return begun && n > 0
			}
			out := setup.Stop(t, issuer, workspace, []string{"--audit-log", log}, running, tt.command...)
			if left := server.SQL(t, "select query from pg_stat_activity where usename like 'v-%'"); len(left) > 0 {
				t.Errorf("the server still has %v\n%s", left, out)
			}
			bao.Gone(t, server)
			var outcomes []string
			for e, err := range auditlog.Read(t.Context(), []string{log}, auditlog.Options{}) {
				if err != nil {
					t.Fatal(err)
				}
				if o := e.Record.Unmapped.Outcome; o != "" {
					outcomes = append(outcomes, o)
				}
			}
			if got := strings.Join(outcomes, " "); got != "issued stopped revoked" {
				t.Errorf("the records are %s\n%s", got, out)
			}
		})
	}
}
