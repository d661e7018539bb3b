package standin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// IdentityCenterConfig is an instance of IAM Identity Center with one customer
// managed application, whose JWT bearer grant takes tokens of one trusted token
// issuer.
type IdentityCenterConfig struct {
	Region      string
	Application string            // its ARN
	Roles       []string          // ARNs of those that the application's authentication method admits
	IssuerURL   string            // the trusted token issuer
	Audiences   []string          // of its tokens
	Claim       string            // what maps a token to a user
	Users       map[string]string // user ids, by what the claim is
	Now         func() time.Time  // time.Now where nil
}

// An IdentityCenter gives identity contexts to the sessions of a token
// service, which takes them when a role is assumed.
type IdentityCenter struct {
	config IdentityCenterConfig
	sts    *STS
	keys   keyring
	server *httptest.Server

	mu       sync.Mutex
	contexts map[string]identityContext // by assertion
}

type identityContext struct {
	user    string
	expires time.Time
}

// StartIdentityCenter starts the instance's OIDC service on loopback. Close it.
func StartIdentityCenter(sts *STS, config IdentityCenterConfig) (*IdentityCenter, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	c := &IdentityCenter{config: config, sts: sts, keys: keyring{issuer: config.IssuerURL}, contexts: map[string]identityContext{}}
	server, err := serve(http.HandlerFunc(c.handle))
	if err != nil {
		return nil, err
	}
	c.server = server
	sts.mu.Lock()
	defer sts.mu.Unlock()
	sts.identities = c
	return c, nil
}

// URL returns the endpoint.
func (c *IdentityCenter) URL() string { return c.server.URL }

// Close stops the server.
func (c *IdentityCenter) Close() { c.server.Close() }

// user returns the user of an assertion.
func (c *IdentityCenter) user(assertion string) (user string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.contexts[assertion]
	return found.user, ok && c.config.Now().Before(found.expires)
}

// An identityError is an error reply of CreateTokenWithIAM.
type identityError struct {
	kind, code, description string
}

func (c *IdentityCenter) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodPost || r.URL.Path != "/token" || r.URL.RawQuery != "aws_iam=t" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	user, failed := c.exchange(r, body)
	if failed != nil {
		w.Header().Set("X-Amzn-ErrorType", failed.kind)
		w.WriteHeader(http.StatusBadRequest)
		reply := map[string]string{"error": failed.code, "error_description": failed.description}
		if failed.code == "" { // IAM's own, before the service
			reply = map[string]string{"message": failed.description}
		}
		_ = json.NewEncoder(w).Encode(reply) // the client may be gone
		return
	}
	assertion := "standin-context+" + rand.Text() + rand.Text() + "=="
	c.mu.Lock()
	c.contexts[assertion] = identityContext{user, c.config.Now().Add(time.Hour)}
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{
		"accessToken": "aoa" + rand.Text(), "idToken": "eyJ" + rand.Text(), "tokenType": "Bearer", "expiresIn": 3600,
		"issuedTokenType": "urn:ietf:params:oauth:token-type:access_token", "scope": []string{"sts:identity_context", "openid", "aws"},
		"awsAdditionalDetails": map[string]string{"identityContext": assertion},
	})
}

// exchange returns the user whom the token's claim names.
func (c *IdentityCenter) exchange(r *http.Request, body []byte) (user string, failed *identityError) {
	session, err := c.sts.AuthenticateIn(r, body, "sso-oauth", c.config.Region)
	if err != nil {
		var e stsError
		errors.As(err, &e)
		return "", &identityError{e.code, "", e.message}
	}
	var in struct{ ClientID, GrantType, Assertion string }
	if err := json.Unmarshal(body, &in); err != nil {
		return "", &identityError{"InvalidRequestException", "invalid_request", "Invalid request"}
	}
	switch {
	case in.ClientID != c.config.Application:
		return "", &identityError{"InvalidClientException", "invalid_client", "Invalid client provided"}
	case !slices.Contains(c.config.Roles, session.RoleARN) || !session.may("sso-oauth:CreateTokenWithIAM", in.ClientID):
		return "", &identityError{"AccessDeniedException", "",
			"User: " + session.SessionARN + " is not authorized to perform: sso-oauth:CreateTokenWithIAM on resource: " + in.ClientID}
	case in.GrantType != "urn:ietf:params:oauth:grant-type:jwt-bearer":
		return "", &identityError{"UnsupportedGrantTypeException", "unsupported_grant_type", "Unsupported grant type"}
	}
	user, ok := c.tokenUser(r.Context(), in.Assertion)
	if !ok {
		return "", &identityError{"InvalidGrantException", "invalid_grant", "Invalid grant provided"}
	}
	return user, nil
}

// tokenUser verifies a token of the trusted issuer, and returns the one user
// whom its claim names.
func (c *IdentityCenter) tokenUser(ctx context.Context, token string) (user string, ok bool) {
	claims := jwt.MapClaims{}
	c.sts.mu.Lock()
	grace := c.sts.grace
	c.sts.mu.Unlock()
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256", "RS512", "ES384"}),
		jwt.WithExpirationRequired(), jwt.WithIssuer(c.config.IssuerURL),
		jwt.WithTimeFunc(c.config.Now), jwt.WithLeeway(grace))
	if _, err := parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return c.keys.key(ctx, t) }); err != nil {
		return "", false
	}
	audiences, err := claims.GetAudience()
	if err != nil || !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(c.config.Audiences, a) }) {
		return "", false
	}
	name, _ := claims[c.config.Claim].(string)
	user, ok = c.config.Users[name]
	return user, ok
}

// LogIn is Redshift's part: it exchanges an ID token, which a client sends in
// the place of a password, by itself, and returns the user.
func (c *IdentityCenter) LogIn(ctx context.Context, token string) (user string, ok bool) {
	return c.tokenUser(ctx, strings.TrimSuffix(token, "\x00"))
}
