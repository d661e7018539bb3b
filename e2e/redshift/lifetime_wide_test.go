//go:build e2e && linux && amd64 && wide

package redshift

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestOutlivesLeases: Vault's users live for three seconds.
func TestOutlivesLeases(t *testing.T) {
	t.Parallel()
	issuer, server := setup.Issuer(t), setup.Postgres(t, false)
	server.SQL(t, fmt.Sprintf("create role dbt login password '%s'; grant create on database postgres to dbt", server.Password))
	vault, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(),
		Roles: map[string]standin.VaultRole{"dbt-prod": {
			BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"sub": {setup.Subject}}, TokenTTL: 2 * time.Hour, Policies: []string{"database/creds/dbt-prod"},
		}},
		Secrets: map[string]standin.VaultSecret{"database/creds/dbt-prod": {TTL: life}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vault.Close)
	vault.SetGrace(standin.Grace)
	f := startFront(t, server, func(l login) (string, string, error) {
		if !vault.Login(l.user, l.password) {
			return "", "", errors.New("the lease has ended")
		}
		return "dbt", server.Password, nil
	})
	project := func(schema string) string {
		return setup.Project(t, issuer, f.inSchema(schema, ""), fmt.Sprintf("{vault: {address: %q, role: dbt-prod, audience: vault, secret: database/creds/dbt-prod}}", vault.URL()))
	}
	setup.OutlivePostgres(t, issuer, life, project, "SSL_CERT_FILE="+f.CA)
	setup.ExpirePostgres(t, issuer, life+standin.Grace, project, "the lease has ended", "SSL_CERT_FILE="+f.CA)
}

// TestOutlivesIDTokens: dbt asks the token endpoint at each login, and each token
// is valid for three seconds. This pair requires the broker, so that the failure
// without it is shown with the tokens themselves.
func TestOutlivesIDTokens(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.issuer.SetLife(life)
	w.sts.SetGrace(standin.Grace)
	people, err := standin.StartIdentityCenter(w.sts, standin.IdentityCenterConfig{
		Region: region, IssuerURL: w.issuer.URL(), Audiences: []string{"redshift.acme.example"}, Claim: "actor", Users: map[string]string{"octocat": "dbt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(people.Close)
	var mu sync.Mutex
	tokens := map[string]bool{}
	f := startFront(t, w.server, func(l login) (string, string, error) {
		user, ok := people.LogIn(t.Context(), l.token)
		if !ok || l.user != "" {
			return "", "", errors.New("authentication with Identity Center failed")
		}
		mu.Lock()
		defer mu.Unlock()
		tokens[l.token] = true
		return user, w.server.Password, nil
	})
	t.Run("runs", func(t *testing.T) {
		setup.OutlivePostgres(t, w.issuer, life, func(schema string) string {
			return setup.Project(t, w.issuer, f.inSchema(schema, ""), fmt.Sprintf("{identity_center: {region: %s, audience: redshift.acme.example}}", region))
		}, "SSL_CERT_FILE="+f.CA)
	})
	if len(tokens) < 3 {
		t.Errorf("the runs logged in with %d tokens, want 3 at least", len(tokens))
	}
	time.Sleep(life + standin.Grace)
	for token := range tokens {
		if _, ok := people.LogIn(t.Context(), token); ok {
			t.Error("a token is taken after its end")
		}
	}
}
