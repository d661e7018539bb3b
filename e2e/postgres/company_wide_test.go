//go:build e2e && linux && amd64 && wide

package postgres

import (
	"fmt"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// company writes the large project, whose profile leads to a broker.
func company(t *testing.T, g *setup.Guarded, models int) *setup.Company {
	t.Helper()
	return setup.NewCompany(t, "postgres", models, fmt.Sprintf("{type: postgres, host: 127.0.0.1, port: %d, user: dbt, password: %s, dbname: postgres, schema: marts, threads: 8, sslmode: disable}",
		g.Address().Port, g.Address().Secret.Reveal()))
}

// TestGuardedCompany: a project of 300 models is built twice with nothing denied.
func TestGuardedCompany(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	server.SQL(t, "create role reporter; create role auditor")
	g := guarded(t, server, guard.Build, statement.Grant)
	sent := g.ExpectCompanyBuilt(t, company(t, g, setup.Models(t, 300)))
	setup.KeepShapes(t, statement.Postgres, sent)
}
