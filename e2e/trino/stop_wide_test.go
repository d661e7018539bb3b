//go:build e2e && wide

package trino

import (
	"fmt"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestStop: `oidc-dbt stop` ends dbt's queries at Trino, as Trino sees it.
func TestStop(t *testing.T) {
	t.Parallel()
	const threads = 2
	issuer := setup.Issuer(t)
	server := start(t, issuer)
	query := func(sql string) [][]any {
		rows, err := server.Query(t.Context(), user, issuer.Sign(audience, nil), sql)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	query("create schema if not exists memory.marts")
	query("create table blackhole.default.endless (x bigint) with (split_count = 1, pages_per_split = 100000, rows_per_page = 1, page_processing_delay = '1s')")
	workspace := setup.Project(t, issuer, output(server, user), idTokens)
	for i := range 2 * threads {
		setup.Write(t, workspace, fmt.Sprintf("models/endless%d.sql", i), fmt.Sprintf("{{ config(materialized='table') }}\nselect count(*) + %d as n from blackhole.default.endless", i))
	}
	begun := false
	running := func() bool {
		n := len(query("select query from system.runtime.queries where state not in ('FINISHED', 'FAILED') and query like '%from blackhole.default.endless%' and query not like '%runtime.queries%'"))
		begun = begun || n >= threads
		return begun && n > 0
	}
	setup.Stop(t, issuer, workspace, nil, running, setup.Python(t).Program("dbt"), "--no-use-colors", "run", "--select", "path:models/endless*")
}
