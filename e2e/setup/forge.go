package setup

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// Forge returns an issuer's valid token for audience, signed again with another
// key under the same key id: only its signature is wrong.
func Forge(t testing.TB, issuer *standin.Issuer, audience string) string {
	t.Helper()
	good, _, err := jwt.NewParser().ParseUnverified(issuer.Sign(audience, nil), jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	forged := jwt.NewWithClaims(jwt.SigningMethodRS256, good.Claims)
	forged.Header = good.Header
	token, err := forged.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
