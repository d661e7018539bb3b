package job

import (
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// TestEveryGuardIsAsked: where a policy may have a guard, the route's proxy asks it.
func TestEveryGuardIsAsked(t *testing.T) {
	t.Parallel()
	kinds := map[string]route.Kind{
		"clickhouse": route.ClickHouse, "postgres": route.Postgres, "redshift": route.Postgres, "snowflake": route.Snowflake, "trino": route.Trino,
	}
	guarded := 0
	for dbtType, spec := range adapter.Specs() {
		for _, provider := range spec.Providers {
			dialect := adapter.Dialect(dbtType, provider)
			if dialect == "" {
				continue
			}
			guarded++
			if string(dialect) != dbtType {
				t.Errorf("%s × %s: the dialect is %q", dbtType, provider, dialect)
			}
			b, err := broker.Start(broker.Config{
				Target: "prod", Route: route.Route{Kind: kinds[dbtType]}, Guard: guard.New(guard.Config{Dialect: dialect, Statements: guard.Read}),
				Dir: t.TempDir(), Now: time.Now, Refused: func(int) {}, Failed: func(error) {},
			})
			if err == nil {
				b.Close()
			} else if strings.Contains(err.Error(), "has no guard") || strings.Contains(err.Error(), "unknown route") {
				t.Errorf("%s × %s: %v", dbtType, provider, err)
			}
		}
	}
	if guarded < 15 {
		t.Errorf("%d pairs may have a guard, want those of five types", guarded)
	}
}
