//go:build e2e && linux && amd64

package postgres

import (
	"context"
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

// TestLimits: the server has the guard's limit in each session, whatever a
// client asks for, and ends what takes longer. Only the policy's own role may be
// chosen.
func TestLimits(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	server.SQL(t, "create role builder; create role other; grant builder, other to dbt")
	r := route.Route{Kind: route.Postgres, Upstream: route.Upstream{Host: server.Host, Port: server.Port, Database: "postgres", CAFile: server.CA, Plain: server.CA == ""}}
	c := credential.Credential{User: "dbt", Password: secret.New("p-" + server.Password), Expiry: time.Now().Add(time.Hour)}
	g := setup.GuardBy(t, r, c, guard.Config{Dialect: statement.Postgres, Statements: guard.Build, Roles: []string{"builder"},
		Limits: guard.Limits{StatementTimeout: 2 * time.Second}})
	ask := func(sql string) string {
		conn := connect(t, g)
		defer conn.Close(context.Background())
		results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		if err != nil {
			return err.Error()
		}
		var said []string
		for _, result := range results {
			for _, row := range result.Rows {
				said = append(said, string(row[0]))
			}
		}
		return strings.Join(said, " ")
	}
	for sql, want := range map[string]string{
		"show statement_timeout":                                 "2s",
		"reset statement_timeout; show statement_timeout":        "2s",
		"reset all; show statement_timeout":                      "2s",
		"discard all":                                            "DISCARD ALL at byte 0 is of class admin",
		"select pg_sleep(600)":                                   "canceling statement due to statement timeout",
		"set statement_timeout = 0":                              "SET statement_timeout at byte 0 changes statement_timeout, and the guard's `limits` are fixed",
		"select 1; set local statement_timeout to '9h'":          "SET statement_timeout at byte 10 changes statement_timeout",
		"set role builder":                                       "",
		"set role other":                                         "SET ROLE at byte 0 is of class admin",
		"set role builder; set role other":                       "SET ROLE at byte 0 is of class admin",
		"set role none":                                          "SET ROLE at byte 0 is of class admin",
		"select set_config('role', 'other', false), set_byte(0)": "SELECT SET_CONFIG() at byte 0 is of class run",
	} {
		if got := ask(sql); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
}
