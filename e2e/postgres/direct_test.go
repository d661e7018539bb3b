//go:build e2e && linux && amd64

package postgres

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// direct has the target of a workspace connect to the server itself.
func direct(t *testing.T, workspace string) string {
	t.Helper()
	path := filepath.Join(workspace, ".github", "oidc-dbt.yml")
	policy, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	setup.Write(t, workspace, ".github/oidc-dbt.yml", string(policy)+"    proxy: false\n")
	return workspace
}

// TestRenewsLeases: without the proxy dbt has one user of OpenBao's for the
// whole run, whose lease of six seconds is renewed. None is left.
func TestRenewsLeases(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	lendFor(t, bao, "6s", "5m")
	bao.Write(t, "sys/policies/acl/dbt-prod", map[string]any{"policy": `path "database/creds/dbt-prod" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`})
	t.Run("dbt", func(t *testing.T) {
		outlive(t, issuer, func(schema string) string { return direct(t, leased(t, issuer, bao, server, schema)) }, "password authentication failed for user")
	})
	bao.Gone(t, server)
}

// TestPasswordFile: without the proxy libpq finds what a role's session signs,
// and is taken for six seconds, in the file that PGPASSFILE names.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	const life = 6 * time.Second
	issuer := setup.Issuer(t)
	sts := setup.STS(t, issuer)
	f := startRDS(t, sts, life)
	outlive(t, issuer, func(schema string) string {
		return direct(t, f.project(t, issuer, schema, shortSessions(t, sts.URL(), life)))
	}, "the token is expired")
}
