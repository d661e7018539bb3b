//go:build e2e

// Package trino runs a real Trino that verifies tokens itself.
package trino

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const (
	audience = "trino"
	user     = "acme"
)

// TestTrino has one server, which takes a quarter of a minute to start, for all its cases.
func TestTrino(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	server := setup.Trino(t, setup.TrinoConfig{
		Issuer: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks", Audience: audience, Claim: "sub", UserPattern: `repo:([^/]+)/analytics:environment:production`,
	}, user, func() string { return issuer.Sign(audience, nil) })
	t.Run("verifies the token itself", func(t *testing.T) { verifies(t, server, issuer) })
}

// verifies sends tokens past the action: what the policy would stop, Trino refuses too.
func verifies(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer) {
	other := setup.Issuer(t)
	for _, tt := range []struct{ name, user, token, refusal string }{
		{"good", user, issuer.Sign(audience, nil), ""},
		{"another audience", user, issuer.Sign("other", nil), "401 Unauthorized: Invalid Audience: [other]. Allowed audiences: trino"},
		{"expired", user, issuer.Sign(audience, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "401 Unauthorized: JWT expired "},
		{"another key", user, setup.Forge(t, issuer, audience), "401 Unauthorized: JWT signature does not match locally computed signature."},
		{"another issuer", user, issuer.Sign(audience, map[string]any{"iss": other.URL()}), "401 Unauthorized: Expected iss claim to be: " + issuer.URL() + ", but was: " + other.URL()},
		{"another subject", user, issuer.Sign(audience, map[string]any{"sub": "repo:acme/analytics:environment:staging"}), "401 Unauthorized: No user mapping patterns match the principal"},
		{"another user", "root", issuer.Sign(audience, nil), "PERMISSION_DENIED: Access Denied: User acme cannot impersonate user root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := server.Query(t.Context(), tt.user, tt.token, "select current_user")
			switch {
			case tt.refusal == "" && (err != nil || fmt.Sprint(rows) != "[[acme]]"):
				t.Errorf("got %v, %v, want [[acme]]", rows, err)
			case tt.refusal != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.refusal)):
				t.Errorf("got %v, %v\nwant an error that starts with %s", rows, err, tt.refusal)
			}
		})
	}
}
