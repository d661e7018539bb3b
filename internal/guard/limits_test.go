package guard

import (
	"fmt"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	limits := Limits{StatementTimeout: 90 * time.Second, Scan: 5e11}
	for dialect, want := range map[statement.Dialect]string{
		statement.Postgres:   "[{statement_timeout 90000}]",
		statement.Redshift:   "[{statement_timeout 90000}]",
		statement.Snowflake:  "[{STATEMENT_TIMEOUT_IN_SECONDS 90}]",
		statement.Trino:      "[{query_max_run_time 90s} {query_max_scan_physical_bytes 500000000000B}]",
		statement.ClickHouse: "[{max_execution_time 90} {max_bytes_to_read 500000000000}]",
	} {
		for _, tt := range []struct {
			config Config
			want   string
		}{
			{Config{Dialect: dialect, Limits: limits}, want},
			{Config{Dialect: dialect}, "[]"},
			{Config{Dialect: dialect, Limits: limits, Observe: true}, "[]"},
		} {
			if got := fmt.Sprint(New(tt.config).Settings()); got != tt.want {
				t.Errorf("%s: got %s, want %s", dialect, got, tt.want)
			}
		}
	}
	g := New(Config{Dialect: statement.ClickHouse, Limits: Limits{Scan: 1}})
	if !g.Fixes("MAX_BYTES_TO_READ") || g.Fixes("max_execution_time") {
		t.Error("it fixes other settings than those of its limits")
	}
	var none *Guard
	if none.Settings() != nil || none.Fixes("max_bytes_to_read") || none.HasRole("") || none.Role() != "" {
		t.Error("no guard has limits or a role")
	}
}

// TestRoles: a message that chooses one of the policy's own roles, and nothing
// else, is of class session.
func TestRoles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dialect statement.Dialect
		role    string // as the profile has it
		text    string
		class   statement.Class
	}{
		{statement.Postgres, "builder", "set role builder", statement.Session},
		{statement.Postgres, "Builder", " SET ROLE BUILDER ; ", statement.Session},
		{statement.Postgres, `"Builder"`, `set role "Builder"`, statement.Session},
		{statement.Postgres, `"Builder"`, `set role builder`, statement.Admin},
		{statement.Postgres, "builder", `set role "BUILDER"`, statement.Admin},
		{statement.Postgres, "builder", "set role builder2", statement.Admin},
		{statement.Postgres, "builder", "set role 'builder'", statement.Admin},
		{statement.Postgres, "builder", "set role none", statement.Admin},
		{statement.Postgres, "builder", "reset role", statement.Admin},
		{statement.Postgres, "builder", "set session authorization builder", statement.Admin},
		{statement.Postgres, "builder", "set role builder; set role postgres", statement.Admin},
		{statement.Postgres, "builder", "set role builder -- \nset role postgres", statement.Admin},
		{statement.Postgres, "builder", "alter role builder", statement.Admin},
		{statement.Postgres, `"a""b"`, `set role "a""b"`, statement.Session},
		{statement.Redshift, "builder", "set role builder", statement.Session},
		{statement.Snowflake, "transformer", "use role TRANSFORMER", statement.Session},
		{statement.Snowflake, "transformer", `use role "TRANSFORMER"`, statement.Session},
		{statement.Snowflake, "transformer", `use role "transformer"`, statement.Admin},
		{statement.Snowflake, "transformer", "use secondary roles all", statement.Admin},
		{statement.Snowflake, "transformer", "use role accountadmin", statement.Admin},
		{statement.ClickHouse, "Builder", "set role Builder", statement.Session},
		{statement.ClickHouse, "Builder", "set role `Builder`", statement.Session},
		{statement.ClickHouse, "Builder", "set role builder", statement.Admin},
		{statement.ClickHouse, "builder", "set default role builder", statement.Admin},
		{statement.ClickHouse, `a\\b`, "set role `a\\\\b`", statement.Admin},
		{statement.Trino, "hive=builder", `set role "hive=builder"`, statement.Admin},
	} {
		var got statement.Class
		g := New(Config{Dialect: tt.dialect, Statements: Build, Roles: []string{RoleName(tt.dialect, tt.role)},
			Record: func(e Entry) error { got = e.Verdict.Class; return nil }})
		err := g.Check("1", tt.text)
		if got != tt.class || (err == nil) != (tt.class == statement.Session) {
			t.Errorf("%s, role %s: %q is of class %s, %v, want %s", tt.dialect, tt.role, tt.text, got, err, tt.class)
		}
	}
	g := New(Config{Dialect: statement.Postgres, Statements: Build})
	if g.Check("1", "set role builder") == nil {
		t.Error("a role passes that no policy names")
	}
	two := New(Config{Dialect: statement.Snowflake, Roles: []string{"A", "B"}})
	if two.Role() != "" || !two.HasRole("B") || New(Config{Roles: []string{"A"}}).Role() != "A" {
		t.Error("of several roles none is the one")
	}
}
