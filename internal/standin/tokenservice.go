package standin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A TokenService is an OAuth token endpoint: Entra ID's, Databricks' or a
// company's own. It verifies ID tokens with another library than the product,
// and issues bearers that die by its own clock: opaque ones, unless SignWith or
// IssueJWTs says otherwise. Close it.
type TokenService struct {
	now    func() time.Time
	server *httptest.Server

	mu      sync.Mutex
	keys    map[string]*keyring // by issuer
	bearers map[string]Bearer
	sign    func(Bearer) string // nil: bearers are opaque
	grace   time.Duration
}

// A Bearer is an access token that was issued.
type Bearer struct {
	Value  string
	Client string // the client, service principal or user
	Scopes []string
	Expiry time.Time
}

func startTokenService(now func() time.Time, routes func(*TokenService, *http.ServeMux)) (*TokenService, error) {
	if now == nil {
		now = time.Now
	}
	s := &TokenService{now: now, keys: map[string]*keyring{}, bearers: map[string]Bearer{}}
	mux := http.NewServeMux()
	routes(s, mux)
	server, err := serve(mux)
	if err != nil {
		return nil, err
	}
	s.server = server
	return s, nil
}

// URL returns the service's address, without a path.
func (s *TokenService) URL() string { return s.server.URL }

// Close stops the server.
func (s *TokenService) Close() { s.server.Close() }

// Bearer returns what was issued under a token, while it lives.
func (s *TokenService) Bearer(token string) (Bearer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bearers[token]
	return b, ok && s.now().Before(b.Expiry.Add(s.grace))
}

// SetGrace has ID tokens and bearers taken for so long after their end; see Grace.
func (s *TokenService) SetGrace(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grace = d
}

// Valid reports whether a token lives and has a scope; "" is any.
func (s *TokenService) Valid(token, scope string) bool {
	b, ok := s.Bearer(token)
	return ok && (scope == "" || slices.Contains(b.Scopes, scope))
}

// Bearers returns everything that was issued, for leak tests.
func (s *TokenService) Bearers() (all []Bearer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.bearers {
		all = append(all, b)
	}
	return all
}

// SignWith has bearers be JWTs that others can verify: sign makes one for what
// was issued, whose Value is not yet set.
func (s *TokenService) SignWith(sign func(Bearer) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sign = sign
}

// IssueJWTs has bearers say whose they are and when they die, for clients that
// look into them. Nobody can check the signature, and the service needs none.
func (s *TokenService) IssueJWTs(issuer string) {
	s.SignWith(func(b Bearer) string {
		claims := jwt.MapClaims{"iss": issuer, "sub": b.Client, "exp": b.Expiry.Unix(), "jti": rand.Text()}
		signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(rand.Text()))
		if err != nil {
			panic(err) // strings and a number can be encoded
		}
		return signed
	})
}

func (s *TokenService) issue(client string, scopes []string, life time.Duration) Bearer {
	b := Bearer{Client: client, Scopes: scopes, Expiry: s.now().Add(life)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sign != nil {
		b.Value = s.sign(b)
	} else {
		b.Value = "standin-bearer-" + rand.Text() + rand.Text()
	}
	s.bearers[b.Value] = b
	return b
}

// Why a token was not verified.
var (
	errMalformed = errors.New("malformed")
	errSignature = errors.New("signature")
	errTimes     = errors.New("times")
)

// unverified returns a token's claims without verification, to choose the trust
// that it is then verified against.
func unverified(raw string) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(raw, claims); err != nil {
		return nil, errMalformed
	}
	return claims, nil
}

// verify checks signature and times: the keys are those that the issuer, which
// is one that is trusted, publishes.
func (s *TokenService) verify(ctx context.Context, raw, issuer string) error {
	s.mu.Lock()
	keys := s.keys[issuer]
	if keys == nil {
		keys = &keyring{issuer: issuer}
		s.keys[issuer] = keys
	}
	grace := s.grace
	s.mu.Unlock()
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithExpirationRequired(),
		jwt.WithIssuer(issuer), jwt.WithTimeFunc(s.now), jwt.WithLeeway(grace))
	_, err := parser.ParseWithClaims(raw, jwt.MapClaims{}, func(t *jwt.Token) (any, error) { return keys.key(ctx, t) })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return errTimes
	case err != nil:
		return errSignature
	}
	return nil
}

// claim returns a claim that is a string, else "".
func claim(claims jwt.MapClaims, name string) string {
	s, _ := claims[name].(string)
	return s
}

// audienceIs reports whether a token is for exactly one audience, and that is one of the wanted.
func audienceIs(claims jwt.MapClaims, want ...string) bool {
	audience, err := claims.GetAudience()
	return err == nil && len(audience) == 1 && slices.Contains(want, audience[0])
}

// oauthError writes an error reply. (RFC 6749 §5.2)
func oauthError(w http.ResponseWriter, status int, code, description string, more map[string]any) {
	fields := map[string]any{"error": code, "error_description": description}
	for name, v := range more {
		fields[name] = v
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(fields)
}

// parameters returns a form, or false where the body is none or a parameter
// is there twice. (RFC 6749 §3.2)
func parameters(r *http.Request) (func(string) string, bool) {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") || r.ParseForm() != nil {
		return nil, false
	}
	for _, values := range r.PostForm {
		if len(values) != 1 {
			return nil, false
		}
	}
	return r.PostForm.Get, true
}

const (
	clientAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	tokenExchangeGrant  = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtBearerGrant      = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	jwtType             = "urn:ietf:params:oauth:token-type:jwt"
	accessTokenType     = "urn:ietf:params:oauth:token-type:access_token"
)
