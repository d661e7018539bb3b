//go:build e2e && linux && amd64

package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// direct changes the workspace's target so that dbt connects to the server itself.
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

// TestRenewsLeases: with the proxy and without it, each run has one user from
// OpenBao until its end, whose lease of ten seconds is renewed. None is left.
func TestRenewsLeases(t *testing.T) {
	t.Parallel()
	for _, proxy := range setup.Few(1, false, true) {
		t.Run(fmt.Sprintf("proxy %v", proxy), func(t *testing.T) {
			t.Parallel()
			bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
			trust(t, bao, issuer)
			lend(t, bao, server)
			lendFor(t, bao, leaseLife.String(), "10m")
			bao.Write(t, "sys/policies/acl/dbt-prod", map[string]any{"policy": `path "database/creds/dbt-prod" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`})
			t.Run("dbt", func(t *testing.T) {
				outlive(t, issuer, leaseLife, leaseLife+time.Second, func(schema string) string {
					if workspace := leased(t, issuer, bao, server, schema); proxy {
						return workspace
					} else {
						return direct(t, workspace)
					}
				}, "password authentication failed for user")
			})
			bao.Gone(t, server)
			runs := len(setup.Threads()) + 1 // one is without the broker
			if made := server.SQL(t, "select name from made"); len(made) != runs {
				t.Errorf("%d runs had the users %v, want a user each", runs, made)
			}
		})
	}
}

// TestPasswordFile: without the proxy, libpq finds tokens signed by a role's
// session, with an announced lifetime of six seconds, in the file PGPASSFILE.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	const life = 6 * time.Second
	issuer := setup.Issuer(t)
	sts := setup.STS(t, issuer)
	c := startRDS(t, sts, life)
	t.Run("dbt", func(t *testing.T) {
		outlive(t, issuer, life, taken(life), func(schema string) string {
			return direct(t, c.project(t, issuer, schema, shortSessions(t, sts.URL(), life)))
		}, c.refusal())
	})
	c.expectRefusals(t, "the token is expired")
}
