//go:build e2e && wide

package clickhouse

import (
	"fmt"
	"path/filepath"
	"strings"
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

// TestGuardedCompany: a large project is built twice, with nothing denied.
func TestGuardedCompany(t *testing.T) {
	t.Parallel()
	_, all := guarded(t, guard.Build)
	g := all[0]
	sent := g.ExpectCompanyBuilt(t, setup.NewCompany(t, "clickhouse", setup.Models(t, 36),
		fmt.Sprintf("{type: clickhouse, host: 127.0.0.1, port: %d, user: dbt, password: %s, schema: marts, threads: 4, use_lw_deletes: true}",
			g.Address().Port, g.Address().Secret.Reveal())))
	setup.KeepShapes(t, statement.ClickHouse, sent)
}

// TestObserveReportsWhatEnforceDenies: see e2e/postgres.
func TestObserveReportsWhatEnforceDenies(t *testing.T) {
	t.Parallel()
	engine, _ := guarded(t)
	r := route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{Host: "127.0.0.1", Port: engine, Plain: true}}
	c := credential.Credential{User: user, Password: secret.New("p"), Expiry: time.Now().Add(time.Hour)}
	place := filepath.Join(t.TempDir(), "made")
	statements := append(setup.Shapes(t, statement.ClickHouse), reads...)
	for _, sql := range bypasses {
		statements = append(statements, strings.ReplaceAll(sql, "/tmp/made-by-clickhouse", place))
	}
	for _, level := range []guard.Level{guard.Read, guard.Build} {
		refusals := func(observe bool) []string {
			g := setup.GuardBy(t, r, c, guard.Config{Dialect: statement.ClickHouse, Statements: level, Observe: observe})
			each(g, func(sql string) (string, string, bool) { return "", sql, false })(t, statements)
			return g.Refusals()
		}
		observed := refusals(true)
		if diff := cmp.Diff(observed, refusals(false)); diff != "" || len(observed) < 15 {
			t.Errorf("%s: %d observed; what is observed is not what is denied (-observed +denied)\n%s", level, len(observed), diff)
		}
	}
}
