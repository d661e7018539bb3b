//go:build e2e && wide

package clickhouse

import (
	"fmt"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
)

// TestGuardedBuild: dbt builds under build with nothing denied, and reads under
// read, where each request is read-only to the engine.
func TestGuardedBuild(t *testing.T) {
	t.Parallel()
	_, all := guarded(t, guard.Build, guard.Read)
	profile := func(g *setup.Guarded, further string) (string, map[string]string) {
		return setup.GuardedProject(t, fmt.Sprintf("{type: clickhouse, host: 127.0.0.1, port: %d, user: dbt, password: %s, schema: marts, threads: 4%s}",
			g.Address().Port, g.Address().Secret.Reveal(), further))
	}
	workspace, env := profile(all[0], "")
	all[0].ExpectBuilt(t, workspace, env)
	// dbt-clickhouse creates two tables to find out whether it can exchange them.
	workspace, env = profile(all[1], ", check_exchange: false")
	all[1].ExpectRead(t, workspace, env)
}
