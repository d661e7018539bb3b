//go:build e2e && linux && amd64

package postgres

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestInterrupt: dbt is stopped in the middle of eight statements, with more to
// come. Its own pg_terminate_backend is refused, since its sessions have the
// role that owns what it builds. When the command has ended, the server runs
// none of its statements, and none of its users is left.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	const threads = 8
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
			trust(t, bao, issuer)
			lend(t, bao, server)
			workspace := setup.Project(t, issuer,
				fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: marts, threads: %d, sslmode: verify-full, sslrootcert: %q}", server.Host, server.Port, threads, server.CA),
				fmt.Sprintf("{vault: {address: %q, role: dbt-prod, audience: %q, secret: database/creds/dbt-prod}}", bao.URL, audience))
			for i := range 3 * threads {
				setup.Write(t, workspace, fmt.Sprintf("models/slow%d.sql", i), "{{ config(materialized='table') }}\nselect 1 as n from pg_sleep(3600)")
			}
			active := func() [][]string {
				return server.SQL(t, "select usename, query from pg_stat_activity where state = 'active' and query like '%pg_sleep(3600)%' and pid <> pg_backend_pid()")
			}
			out := setup.Interrupt(t, issuer, workspace, "models/slow*", signal, threads, func() int { return len(active()) })
			if left := active(); len(left) > 0 {
				t.Errorf("the server is still at %v\n%s", left, out)
			}
			if strings.Contains(out, "oidc-dbt: warning") {
				t.Errorf("exec warns:\n%s", out)
			}
			bao.Gone(t, server)
		})
	}
}
