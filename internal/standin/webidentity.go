package standin

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// conditionKeys are the claims that AWS compares: the standard ones for every
// provider, and GitHub's. (IAM User Guide, "Available keys for AWS OIDC
// federation", since January 2026)
var conditionKeys = []string{
	"sub", "aud", "amr",
	"actor", "actor_id", "job_workflow_ref", "repository", "repository_id", "repository_owner_id", "workflow", "ref",
	"environment", "enterprise_id",
}

// webIdentity verifies the token: an OIDC provider for its issuer must exist
// in the account, its key must have signed it, it must be of now and for one
// of the provider's audiences.
func (s *STS) webIdentity(ctx context.Context, raw string) (jwt.MapClaims, error) {
	bad := func(text string) stsError { return stsError{http.StatusBadRequest, "InvalidIdentityToken", text} }
	claims := jwt.MapClaims{}
	now := s.config.Now()
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}), // what AWS lists
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(func() time.Time { return now }), jwt.WithLeeway(30*time.Second))
	_, err := parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) {
		if iss, err := t.Claims.GetIssuer(); err != nil || iss != s.config.IssuerURL {
			return nil, bad("No OpenIDConnect provider found in your account for " + iss)
		}
		return s.keys.key(ctx, t)
	})
	var failed stsError
	switch {
	case errors.As(err, &failed):
		return nil, failed
	case errors.Is(err, jwt.ErrTokenMalformed):
		return nil, bad("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	case errors.Is(err, jwt.ErrTokenExpired):
		expiry, _ := claims.GetExpirationTime()
		return nil, stsError{http.StatusBadRequest, "ExpiredTokenException",
			fmt.Sprintf("Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), expiry.Unix())}
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return nil, bad("Missing a required claim: exp")
	case err != nil:
		return nil, bad("Couldn't verify the token's signature or times")
	}
	for _, name := range []string{"sub", "iat"} {
		if claims[name] == nil {
			return nil, bad("Missing a required claim: " + name)
		}
	}
	audience, err := claims.GetAudience()
	if err != nil || len(audience) != 1 || !slices.Contains(s.config.Audiences, audience[0]) {
		return nil, bad("Incorrect token audience")
	}
	return claims, nil
}

// trusts evaluates the trust policy's conditions: all of them, each by any of
// its values. A claim that is not there, or that AWS does not compare, fails.
func (r Role) trusts(claims jwt.MapClaims) bool {
	audience, err := claims.GetAudience()
	if err != nil || len(audience) != 1 || r.Audience == "" || audience[0] != r.Audience {
		return false
	}
	meets := func(conditions map[string][]string, equal func(want, got string) bool) bool {
		for name, values := range conditions {
			got, ok := claims[name].(string)
			if !ok || !slices.Contains(conditionKeys, name) || !slices.ContainsFunc(values, func(want string) bool { return equal(want, got) }) {
				return false
			}
		}
		return true
	}
	return meets(r.Claims, stringLike) && meets(r.Equals, func(want, got string) bool { return want == got })
}

// stringLike is IAM's StringLike: `*` for any run of characters, `?` for one.
func stringLike(pattern, value string) bool {
	quoted := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile(`(?s)^(?:` + quoted + `)$`).MatchString(value)
}

// A keyring holds an issuer's keys by id, found by discovery. Like the vendors'
// services it keeps them, and asks again for an id that it does not know.
// The keys are decoded here, not by the product's library.
type keyring struct {
	issuer string
	client *http.Client // http.DefaultClient where nil

	mu   sync.Mutex
	keys map[string]any
}

// issuerKey returns the issuer's key for a token, without keeping it.
func issuerKey(ctx context.Context, issuer string, t *jwt.Token) (any, error) {
	return (&keyring{issuer: issuer}).key(ctx, t)
}

func (k *keyring) key(ctx context.Context, t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, ok := k.keys[id]; ok {
		return key, nil
	}
	var discovery struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := k.fetch(ctx, k.issuer+"/.well-known/openid-configuration", &discovery); err != nil {
		return nil, err
	}
	var set struct{ Keys []jwk }
	if err := k.fetch(ctx, discovery.JWKS, &set); err != nil {
		return nil, err
	}
	k.keys = map[string]any{}
	for _, j := range set.Keys {
		if key, err := j.public(); err == nil && j.ID != "" {
			k.keys[j.ID] = key
		}
	}
	if key, ok := k.keys[id]; ok && discovery.Issuer == k.issuer {
		return key, nil
	}
	return nil, stsError{http.StatusBadRequest, "InvalidIdentityToken",
		"Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity " +
			"documentation for requirements"}
}

func (k *keyring) fetch(ctx context.Context, address string, v any) error {
	unreachable := stsError{http.StatusBadRequest, "IDPCommunicationError", "Couldn't reach the identity provider"}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return unreachable
	}
	resp, err := cmp.Or(k.client, http.DefaultClient).Do(req)
	if err != nil {
		return unreachable
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(v) != nil {
		return unreachable
	}
	return nil
}

// A jwk is a public key of RFC 7518 §6.
type jwk struct {
	ID    string `json:"kid"`
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	N, E  string
	X, Y  string
}

func (j jwk) public() (any, error) {
	decode := base64.RawURLEncoding.DecodeString
	switch j.Type {
	case "RSA":
		n, err1 := decode(j.N)
		e, err2 := decode(j.E)
		exponent := new(big.Int).SetBytes(e)
		if err := errors.Join(err1, err2); err != nil || !exponent.IsInt64() {
			return nil, fmt.Errorf("RSA key %q: invalid number", j.ID)
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case "EC":
		curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
		x, err1 := decode(j.X)
		y, err2 := decode(j.Y)
		if err := errors.Join(err1, err2); err != nil || curves[j.Curve] == nil {
			return nil, fmt.Errorf("EC key %q: invalid number or curve", j.ID)
		}
		return ecdsa.ParseUncompressedPublicKey(curves[j.Curve], slices.Concat([]byte{4}, x, y))
	}
	return nil, fmt.Errorf("key %q: unknown type %q", j.ID, j.Type)
}
