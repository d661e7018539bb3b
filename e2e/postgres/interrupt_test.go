//go:build e2e && linux && amd64

package postgres

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestInterrupt: dbt is stopped in the middle of eight statements, with more to
// come. Its own pg_terminate_backend is refused, since its sessions have the
// role that owns what it builds. When the command has ended, the server does
// nothing for it any more, and none of its users is left.
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
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the statements take an hour
			defer cancel()
			cmd := setup.ExecCommand(ctx, t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "run", "--select", "path:models/slow*")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			active := func() [][]string {
				return server.SQL(t, "select usename, query from pg_stat_activity where state = 'active' and query like '%pg_sleep(3600)%' and pid <> pg_backend_pid()")
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			for len(active()) < threads {
				select {
				case err := <-ended:
					t.Fatalf("exec ended by itself: %v\n%s", err, out.String())
				case <-time.After(50 * time.Millisecond):
				}
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			err := <-ended
			if left := active(); len(left) > 0 || err == nil || ctx.Err() != nil {
				t.Errorf("exec ended with %v, and the server is still at %v\n%s", err, left, out.String())
			}
			if strings.Contains(out.String(), "oidc-dbt: warning") {
				t.Errorf("exec warns:\n%s", out.String())
			}
			bao.Gone(t, server)
		})
	}
}
