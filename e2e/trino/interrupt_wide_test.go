//go:build e2e && wide

package trino

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestInterrupt: dbt is stopped in the middle of four queries, with more to
// come. When the command has ended, Trino runs none of them any longer.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	const threads = 4
	issuer := setup.Issuer(t)
	server := start(t, issuer)
	query := func(t *testing.T, sql string) [][]any {
		rows, err := server.Query(t.Context(), user, issuer.Sign(audience, nil), sql)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	query(t, "create schema if not exists memory.marts")
	query(t, "create table blackhole.default.endless (x bigint) with (split_count = 1, pages_per_split = 100000, rows_per_page = 1, page_processing_delay = '1s')")
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			workspace := setup.Project(t, issuer, output(server, user), idTokens)
			for i := range 3 * threads {
				setup.Write(t, workspace, fmt.Sprintf("models/endless%d.sql", i), fmt.Sprintf("{{ config(materialized='table') }}\nselect count(*) + %d as n from blackhole.default.endless", i))
			}
			running := func() [][]any {
				return query(t, "select state, query from system.runtime.queries where state not in ('FINISHED', 'FAILED') and query like '%from blackhole.default.endless%' and query not like '%runtime.queries%'")
			}
			out := setup.Interrupt(t, issuer, workspace, "models/endless*", signal, threads, func() int { return len(running()) })
			if left := running(); len(left) > 0 {
				t.Errorf("Trino is still at %v\n%s", left, out)
			}
		})
	}
}
