//go:build e2e && wide

package trino

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestBroker runs several times longer than its token is valid. It has a server
// of its own, since the issuer's tokens expire soon.
func TestBroker(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	as := login{start(t, issuer), user, func() string { return issuer.Sign(audience, nil) }}
	as.slowTable(t)
	issuer.SetLife(tokenLife)
	t.Run("at once", func(t *testing.T) {
		t.Run("with the broker", func(t *testing.T) {
			t.Parallel()
			as.outlive(t, issuer, "oidc", idTokens, 1)
		})
		t.Run("without", func(t *testing.T) {
			t.Parallel()
			as.without(t, issuer, idTokens)
		})
	})
	t.Run("an identity that is lost", func(t *testing.T) { as.lost(t, issuer) })
}
