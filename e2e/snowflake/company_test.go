//go:build e2e

package snowflake

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// TestGuardedCompany: a large project is built twice, with nothing denied.
func TestGuardedCompany(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	_, port := start(t, issuer, nil)
	g := guarded(t, issuer, port, guard.Build, statement.Grant)
	sent := g.ExpectCompanyBuilt(t, setup.NewCompany(t, "snowflake", setup.Models(t, 36),
		strings.Replace(block(g.Address().Port), "user: DBT_PROD", "user: DBT_PROD, authenticator: jwt, token: "+g.Address().Secret.Reveal(), 1)))
	setup.KeepShapes(t, statement.Snowflake, sent)
}
