//go:build e2e

package clickhouse

import (
	"fmt"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
)

// TestGuardedCompany: a large project is built twice, with nothing denied.
func TestGuardedCompany(t *testing.T) {
	t.Parallel()
	_, all := guarded(t, guard.Build)
	g := all[0]
	g.ExpectCompanyBuilt(t, setup.NewCompany(t, "clickhouse", setup.Models(t, 36),
		fmt.Sprintf("{type: clickhouse, host: 127.0.0.1, port: %d, user: dbt, password: %s, schema: marts, threads: 4, use_lw_deletes: true}",
			g.Address().Port, g.Address().Secret.Reveal())))
}
