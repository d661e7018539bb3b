//go:build e2e && linux && amd64

package redshift

import (
	"fmt"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestVault: a dbt build as the user of a lease, who is refused after the lease
// has ended.
func TestVault(t *testing.T) {
	t.Parallel()
	issuer, clock, server := setup.Issuer(t), &clock{}, setup.Postgres(t, false)
	server.SQL(t, fmt.Sprintf("create role dbt login password '%s'; grant create on database postgres to dbt", server.Password))
	vault, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(), Now: clock.now,
		Roles: map[string]standin.VaultRole{"dbt-prod": {
			BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"sub": {setup.Subject}}, TokenTTL: 2 * time.Hour, Policies: []string{"database/creds/dbt-prod"},
		}},
		Secrets: map[string]standin.VaultSecret{"database/creds/dbt-prod": {TTL: time.Hour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vault.Close)
	f := startFront(t, server, func(l login) (string, string, error) {
		if !vault.Login(l.user, l.password) {
			return "", "", fmt.Errorf("password authentication failed for user %q", l.user)
		}
		return "dbt", server.Password, nil
	})
	workspace := setup.Project(t, issuer, f.block(""), fmt.Sprintf("{vault: {address: %q, role: dbt-prod, audience: vault, secret: database/creds/dbt-prod}}", vault.URL()))
	env, step := setup.Authenticate(t, issuer, workspace)
	env["SSL_CERT_FILE"] = f.CA
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	f.checkLogins(t)
	clock.forward(time.Hour + time.Second)
	expectRefused(t, "a lease that has ended", workspace, env, fmt.Sprintf("password authentication failed for user %q", step.Outputs["user"]))
}
