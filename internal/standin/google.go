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

// GoogleConfig is a workload identity pool's provider, and the service
// accounts that its principals may act as.
type GoogleConfig struct {
	IssuerURL        string
	Provider         string                    // projects/NUMBER/…/providers/NAME, or that of a workforce pool
	ClientID         string                    // of a workforce pool's provider
	UserProjects     []string                  // on which its people have serviceusage.services.use
	AllowedAudiences []string                  // none: https://iam.googleapis.com/ and the provider's name
	Condition        func(map[string]any) bool // the attribute condition; nil for none
	// ServiceAccounts are, by address, the subjects that have workloadIdentityUser on them.
	ServiceAccounts map[string][]string
	Life            time.Duration    // the most that an access token lives; 0: as Google has it
	Now             func() time.Time // time.Now where it is nil; ID tokens are verified by the machine's clock
}

// A Google is Google Cloud's Security Token Service and IAM Credentials
// service. It verifies tokens with another library than the product.
type Google struct {
	config GoogleConfig
	server *httptest.Server

	mu        sync.Mutex
	tokens    map[string]GoogleToken
	exchanges int
	grace     time.Duration
}

// A GoogleToken is an access token that was issued.
type GoogleToken struct {
	Value     string
	Principal string // the subject, or the service account
	Federated bool
	Scopes    []string
	Expiry    time.Time
}

// StartGoogle starts both services on loopback. Close it.
func StartGoogle(config GoogleConfig) (*Google, error) {
	if config.ClientID != "" {
		config.AllowedAudiences = []string{config.ClientID}
	}
	if len(config.AllowedAudiences) == 0 {
		config.AllowedAudiences = []string{"https://iam.googleapis.com/" + config.Provider}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	g := &Google{config: config, tokens: map[string]GoogleToken{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/token", g.token)
	mux.HandleFunc("POST /v1/projects/-/serviceAccounts/{call}", g.generate)
	server, err := serve(mux)
	if err != nil {
		return nil, err
	}
	g.server = server
	return g, nil
}

// URL returns the endpoint of both services.
func (g *Google) URL() string { return g.server.URL }

// Close stops the server.
func (g *Google) Close() { g.server.Close() }

// Token returns what was issued under a bearer, while it lives.
func (g *Google) Token(bearer string) (GoogleToken, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.tokens[bearer]
	return t, ok && g.config.Now().Before(t.Expiry.Add(g.grace))
}

// SetGrace has tokens taken for so long after their end; see Grace.
func (g *Google) SetGrace(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grace = d
}

// Tokens returns everything that was issued, for leak tests.
func (g *Google) Tokens() (all []GoogleToken) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tokens {
		all = append(all, t)
	}
	return all
}

// Exchanges returns how many tokens the Security Token Service was asked for.
func (g *Google) Exchanges() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.exchanges
}

func (g *Google) issue(principal string, federated bool, scopes []string, life time.Duration) GoogleToken {
	if g.config.Life > 0 {
		life = min(life, g.config.Life)
	}
	t := GoogleToken{Value: "ya29.standin-" + rand.Text() + rand.Text(), Principal: principal, Federated: federated,
		Scopes: scopes, Expiry: g.config.Now().Add(life)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tokens[t.Value] = t
	return t
}

// token is sts.googleapis.com/v1/token.
func (g *Google) token(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.exchanges++
	g.mu.Unlock()
	t, refused := g.exchange(r)
	if refused != nil {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(refused.status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": refused.code, "error_description": refused.description})
		return
	}
	reply(w, map[string]any{"access_token": t.Value,
		"issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer",
		"expires_in": int(t.Expiry.Sub(g.config.Now()).Round(time.Second).Seconds())})
}

// A googleExchange is a request for a federated token.
type googleExchange struct {
	Audience, GrantType, RequestedTokenType, Scope, SubjectToken, SubjectTokenType, Options string
}

// readExchange takes JSON and RFC 8693's form.
func readExchange(r *http.Request) (in googleExchange, err error) {
	if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return in, json.NewDecoder(r.Body).Decode(&in)
	}
	return googleExchange{
		Audience: r.PostFormValue("audience"), GrantType: r.PostFormValue("grant_type"), Scope: r.PostFormValue("scope"),
		RequestedTokenType: r.PostFormValue("requested_token_type"),
		SubjectToken:       r.PostFormValue("subject_token"), SubjectTokenType: r.PostFormValue("subject_token_type"),
		Options: r.PostFormValue("options"),
	}, nil
}

func (g *Google) exchange(r *http.Request) (t GoogleToken, refused *refusal) {
	fail := func(status int, code, description string) (GoogleToken, *refusal) {
		return t, &refusal{status, code, description}
	}
	in, err := readExchange(r)
	switch {
	case err != nil:
		return fail(http.StatusBadRequest, "invalid_request", "Invalid JSON payload received.")
	case r.Header.Get("Authorization") != "":
		return fail(http.StatusBadRequest, "invalid_request", "Authorization header is not allowed.")
	case in.GrantType != "urn:ietf:params:oauth:grant-type:token-exchange", in.SubjectTokenType != g.tokenType(),
		in.RequestedTokenType != "urn:ietf:params:oauth:token-type:access_token", in.Scope == "":
		return fail(http.StatusBadRequest, "invalid_request", "Invalid value for grant_type, token type or scope.")
	case in.Audience != "//iam.googleapis.com/"+g.config.Provider:
		return fail(http.StatusBadRequest, "invalid_target", "The target service indicated by the \"audience\" parameters is invalid.")
	}
	if words := g.project(in.Options); words != "" {
		return fail(http.StatusBadRequest, "invalid_request", words)
	}
	claims, words := g.verify(r.Context(), in.SubjectToken)
	if words != "" {
		return fail(http.StatusBadRequest, "invalid_grant", words)
	}
	if g.config.Condition != nil && !g.config.Condition(claims) {
		return fail(http.StatusUnauthorized, "unauthorized_client", "The given credential is rejected by the attribute condition.")
	}
	subject, _ := claims["sub"].(string)
	if len(subject) > 127 {
		return fail(http.StatusBadRequest, "invalid_grant", "The size of mapped attribute google.subject exceeds the 127 bytes limit.")
	}
	expiry, err := claims.GetExpirationTime()
	if err != nil {
		return fail(http.StatusBadRequest, "invalid_grant", "exp")
	}
	// A federated token expires with the token that it was exchanged for.
	return g.issue(subject, true, strings.Fields(in.Scope), time.Until(expiry.Time).Truncate(time.Second)), nil
}

func (g *Google) isWorkforce() bool {
	return strings.HasPrefix(g.config.Provider, "locations/global/workforcePools/")
}

// tokenType is what an ID token is called in each kind of pool.
func (g *Google) tokenType() string {
	if g.isWorkforce() {
		return "urn:ietf:params:oauth:token-type:id_token"
	}
	return "urn:ietf:params:oauth:token-type:jwt"
}

// project returns what is wrong with the project that people use: a token of
// theirs without one is of no use at any API, and a workload's has its own.
func (g *Google) project(options string) string {
	var in struct {
		UserProject string `json:"userProject"`
	}
	if options != "" && json.Unmarshal([]byte(options), &in) != nil {
		return "Invalid value for options."
	}
	switch {
	case !g.isWorkforce() && in.UserProject != "":
		return "userProject is for workforce pools only."
	case g.isWorkforce() && !slices.Contains(g.config.UserProjects, in.UserProject):
		return "The caller does not have permission serviceusage.services.use on the user project."
	}
	return ""
}

// verify returns the token's claims, or Google's words of refusal.
func (g *Google) verify(ctx context.Context, raw string) (claims jwt.MapClaims, refusal string) {
	claims = jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithExpirationRequired(), jwt.WithIssuer(g.config.IssuerURL))
	_, err := parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) { return issuerKey(ctx, g.config.IssuerURL, t) })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, "ID Token issued is stale to sign-in."
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return nil, "The issuer in ID Token does not match the expected one."
	case err != nil:
		return nil, "Error connecting to the given credential's issuer, or invalid signature."
	}
	audience, err := claims.GetAudience()
	if err != nil || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(g.config.AllowedAudiences, a) }) {
		return nil, "The audience in ID Token [" + strings.Join(audience, " ") + "] does not match the expected audience."
	}
	return claims, ""
}

// generate is iamcredentials.googleapis.com's generateAccessToken.
func (g *Google) generate(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, code, message string) {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": status, "message": message, "status": code}})
	}
	account, ok := strings.CutSuffix(r.PathValue("call"), ":generateAccessToken")
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	caller, known := g.Token(bearer)
	if !ok || !known || !caller.Federated {
		fail(http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
		return
	}
	allowed := false
	for _, subject := range g.config.ServiceAccounts[account] {
		allowed = allowed || subject == caller.Principal
	}
	if !allowed {
		fail(http.StatusForbidden, "PERMISSION_DENIED",
			"Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).")
		return
	}
	var in struct {
		Scope    []string
		Lifetime string
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Scope) == 0 {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Request contains an invalid argument.")
		return
	}
	life := time.Hour
	if in.Lifetime != "" {
		d, err := time.ParseDuration(in.Lifetime)
		if err != nil || d <= 0 || d > time.Hour {
			fail(http.StatusBadRequest, "INVALID_ARGUMENT",
				"lifetime must be at most 3600s unless constraints/iam.allowServiceAccountCredentialLifetimeExtension is set")
			return
		}
		life = d
	}
	t := g.issue(account, false, in.Scope, life)
	reply(w, map[string]string{"accessToken": t.Value, "expireTime": t.Expiry.UTC().Format(time.RFC3339)})
}
