package setup

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// Verify checks what a service checks before it accepts an issuer's token:
// issuer, audience, subject, signature and expiry. The library is not the
// product's.
func Verify(ctx context.Context, issuer *standin.Issuer, audience, subject, token string) error {
	return VerifyLate(ctx, issuer, audience, subject, token, 0)
}

// VerifyLate is Verify for a service that accepts tokens until grace after they expire.
func VerifyLate(ctx context.Context, issuer *standin.Issuer, audience, subject, token string, grace time.Duration) error {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithExpirationRequired(),
		jwt.WithIssuer(issuer.URL()), jwt.WithAudience(audience), jwt.WithSubject(subject), jwt.WithLeeway(grace))
	_, err := parser.Parse(token, Keys(ctx, issuer))
	return err
}

// Keys returns the function by which a parser finds the key, among those that the
// issuer publishes.
func Keys(ctx context.Context, issuer *standin.Issuer) jwt.Keyfunc {
	return func(t *jwt.Token) (any, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer.URL()+"/.well-known/jwks", nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var set jose.JSONWebKeySet
		if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
			return nil, err
		}
		kid, _ := t.Header["kid"].(string)
		for _, key := range set.Key(kid) {
			return key.Key, nil
		}
		return nil, errors.New("unknown key")
	}
}
