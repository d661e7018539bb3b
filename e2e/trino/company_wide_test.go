//go:build e2e && wide

package trino

import (
	"fmt"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// TestGuardedCompany: a large project is built twice in Iceberg's tables, with nothing denied.
func TestGuardedCompany(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	server := startWith(t, issuer, true)
	g := guarded(t, server, issuer, guard.Build, statement.Grant)
	g.ExpectCompanyBuilt(t, setup.NewCompany(t, "trino", setup.Models(t, 36),
		fmt.Sprintf("{type: trino, method: jwt, jwt_token: %s, host: 127.0.0.1, port: %d, user: %q, database: iceberg, schema: marts, threads: 4, cert: %q}",
			g.Address().Secret.Reveal(), g.Address().Port, user, g.Address().CAFile)))
}
