package job

import (
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
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

// TestRenewedGuard: a token that matches another rule later does not loosen, or
// change, what decides on the run's statements.
func TestRenewedGuard(t *testing.T) {
	t.Parallel()
	read := &policy.Guard{Statements: guard.Read}
	for name, tt := range map[string]struct {
		began *guarding
		now   *policy.Guard
		err   string
	}{
		"none":     {nil, nil, ""},
		"the same": {&guarding{policy: *read}, &policy.Guard{Statements: guard.Read}, ""},
		"lost":     {&guarding{policy: *read}, nil, "the run began with the guard (statements: read), and its token now has another (none)"},
		"with another limit": {&guarding{policy: *read}, &policy.Guard{Statements: guard.Read, Limits: guard.Limits{Scan: 5e11}},
			"the run began with the guard (statements: read), and its token now has another (statements: read, limits: {scan: 500GB})"},
		"tightened": {nil, read, "the run began with the guard (none), and its token now has another (statements: read)"},
		"loosened": {&guarding{policy: *read}, &policy.Guard{Statements: guard.Build},
			"the run began with the guard (statements: read), and its token now has another (statements: build)"},
	} {
		got := ""
		if err := tt.began.same(tt.now); err != nil {
			got = err.Error()
		}
		if got != tt.err {
			t.Errorf("%s: got %q, want %q", name, got, tt.err)
		}
	}
}
