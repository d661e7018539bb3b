//go:build e2e && linux && amd64 && wide

package postgres

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// TestObserveReportsWhatEnforceDenies: the statements of a dbt project and those
// that deceive guards are sent to both, each in a session of its own, so that a
// denial changes nothing of what follows.
func TestObserveReportsWhatEnforceDenies(t *testing.T) {
	t.Parallel()
	server := setup.Postgres(t, true)
	server.SQL(t, "create role dbt login password '"+server.Password+"'") // it may do nothing: what goes on is not what is tested
	r := route.Route{Kind: route.Postgres, Upstream: route.Upstream{Host: server.Host, Port: server.Port, Database: "postgres", CAFile: server.CA}}
	c := credential.Credential{User: "dbt", Password: secret.New(server.Password), Expiry: time.Now().Add(time.Hour)}
	statements := append(setup.Shapes(t, statement.Postgres), allowed...)
	for _, b := range bypasses {
		statements = append(statements, b.sql)
	}
	for _, level := range []guard.Level{guard.Read, guard.Build} {
		refusals := func(observe bool) map[string][]string {
			g := setup.GuardBy(t, r, c, guard.Config{Dialect: statement.Postgres, Statements: level, Observe: observe})
			all, clients := map[string][]string{}, clientsOf(t, g)
			for _, name := range []string{"psycopg2", "pgx", "pgx_extended"} {
				clients[name](t, statements)
				all[name] = g.Refusals()
				if len(all[name]) < 20 {
					t.Errorf("%s, %s: %d refusals", level, name, len(all[name]))
				}
			}
			return all
		}
		if diff := cmp.Diff(refusals(true), refusals(false)); diff != "" {
			t.Errorf("%s: what is observed is not what is denied (-observed +denied)\n%s", level, diff)
		}
	}
}
