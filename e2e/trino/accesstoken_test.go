//go:build e2e

package trino

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// application is the client that Trino knows as its user: an access token of
// Entra ID for an application names it in azp.
// (learn.microsoft.com, "Access token claims reference")
const (
	tenantID    = "99999999-8888-7777-6666-555555555555"
	application = "11111111-2222-3333-4444-555555555555"
	resource    = "77777777-6666-5555-4444-333333333333" // Trino's own application, whose id is the tokens' audience
)

// TestAccessTokens has a Trino that trusts the authorization server only: its
// keys, issuer and audience are not those of the job's ID tokens.
func TestAccessTokens(t *testing.T) {
	t.Parallel()
	issuer, authority := setup.Issuer(t), newAuthority(t)
	tenant, company := authority.services(t, issuer)
	server := setup.Trino(t, setup.TrinoConfig{
		Issuer: authority.URL(), JWKS: authority.URL() + "/.well-known/jwks", Audience: resource, Claim: "azp", UserPattern: "(" + application + ")",
	}, application, authority.token)
	as := login{server, application, authority.token}
	as.slowTable(t)
	t.Run("Trino verifies the token itself", func(t *testing.T) { as.verifies(t, issuer, authority) })
	issuer.SetLife(tokenLife)
	entra := fmt.Sprintf(`{entra: {tenant: %s, client_id: %s, scope: "api://trino/.default", authority: %q}}`, tenantID, application, tenant.URL())
	t.Run("at once", func(t *testing.T) {
		for _, tt := range []struct{ provider, exchange string }{
			{"entra", entra},
			{"token_exchange", fmt.Sprintf(`{token_exchange: {token_url: %q, grant: client_assertion, audience: "https://auth.example"}}`, company.URL()+"/token")},
		} {
			t.Run(tt.provider, func(t *testing.T) {
				t.Parallel()
				as.outlive(t, issuer, tt.provider, tt.exchange, 8)
			})
		}
		t.Run("without the broker", func(t *testing.T) {
			t.Parallel()
			as.without(t, issuer, entra)
		})
	})
}

// An authority issues access tokens as Entra ID does, with a key of its own.
type authority struct{ *standin.Issuer }

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{setup.Issuer(t)}
	a.SetClaims(map[string]any{
		"sub": "88888888-7777-6666-5555-444444444444", "oid": "88888888-7777-6666-5555-444444444444", "azp": application,
		"azpacr": "2", "idtyp": "app", "tid": tenantID, "ver": "2.0",
	})
	return a
}

// token expires later than the services' replies announce: a machine may stall.
func (a authority) token() string {
	return a.Sign(resource, map[string]any{"exp": time.Now().Add(tokenLife + standin.Grace).Unix()})
}

// services starts a tenant of Entra ID and a company's authorization server, which give the job such tokens.
func (a authority) services(t *testing.T, issuer *standin.Issuer) (tenant, company *standin.TokenService) {
	t.Helper()
	tenant, errTenant := standin.StartEntra(standin.EntraConfig{
		Tenant: tenantID, Resources: []string{"api://trino"}, Lifetime: tokenLife,
		Applications: map[string][]standin.FederatedCredential{application: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}},
	})
	company, errCompany := standin.StartAuthServer(standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Audience: "https://auth.example", Lifetime: tokenLife,
		Clients: map[string]standin.AuthClient{application: {Subject: setup.Subject}},
	})
	if err := errors.Join(errTenant, errCompany); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*standin.TokenService{tenant, company} {
		t.Cleanup(s.Close)
		s.SetGrace(standin.Grace)
		s.SignWith(func(standin.Bearer) string { return a.token() })
	}
	return tenant, company
}

// verifies bypasses the action: what the server does not issue, Trino refuses.
func (as login) verifies(t *testing.T, issuer *standin.Issuer, a authority) {
	good := as.token()
	head, _, _ := strings.Cut(good, ".")
	_, signed, _ := strings.Cut(a.Sign(resource, map[string]any{"azp": "other"}), ".")
	for _, tt := range []struct{ name, token, refusal string }{
		{"good", good, ""},
		{"the job's ID token", issuer.Sign(audience, nil), "401 Unauthorized: Unknown signing key ID"},
		{"an ID token with the server's words", issuer.Sign(resource, map[string]any{"iss": a.URL(), "azp": application}), "401 Unauthorized: Unknown signing key ID"},
		{"another resource", a.Sign("api://other", nil), "401 Unauthorized: Invalid Audience: [api://other]. Allowed audiences: " + resource},
		{"another tenant", a.Sign(resource, map[string]any{"iss": "https://issuer.example"}), "401 Unauthorized: Expected iss claim to be: " + a.URL() + ", but was: https://issuer.example"},
		{"another application", a.Sign(resource, map[string]any{"azp": "00000000-0000-0000-0000-000000000000"}), "401 Unauthorized: No user mapping patterns match the principal"},
		{"expired", a.Sign(resource, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "401 Unauthorized: JWT expired "},
		{"another key", setup.Forge(t, a.Issuer, resource), "401 Unauthorized: JWT signature does not match locally computed signature."},
		{"no signature", head + "." + signed[:strings.LastIndex(signed, ".")+1], "401 Unauthorized: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := as.Query(t.Context(), as.user, tt.token, "select current_user")
			switch {
			case tt.refusal == "" && (err != nil || fmt.Sprint(rows) != "[["+application+"]]"):
				t.Errorf("got %v, %v", rows, err)
			case tt.refusal != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.refusal)):
				t.Errorf("got %v, %v\nwant an error that starts with %s", rows, err, tt.refusal)
			}
		})
	}
}
