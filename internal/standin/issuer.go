// Package standin is the servers that tests, the demo and the benchmarks run against: they
// speak the real protocols on loopback and refuse what the real ones refuse. Nothing of it
// is linked into the product.
package standin

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// tokenLife is how long GitHub's ID tokens live.
const tokenLife = 5 * time.Minute

// An Issuer is a CI system's identity provider together with the runner's token
// endpoint: discovery, keys, and ID tokens for all who have the request token.
type Issuer struct {
	server *httptest.Server

	mu           sync.Mutex
	requestToken string
	requestsEnd  time.Time // zero for never
	life         time.Duration
	key          *rsa.PrivateKey
	keyID        string
	old          []jose.JSONWebKey
	claims       map[string]any
	issued       []string
	counts       map[string]int
}

// StartIssuer starts an issuer on loopback. Its tokens carry claims, or
// GitHubClaims where claims is nil. Close it.
func StartIssuer(claims map[string]any) (*Issuer, error) {
	if claims == nil {
		claims = GitHubClaims()
	}
	i := &Issuer{requestToken: "request-token-" + rand.Text(), life: tokenLife, claims: maps.Clone(claims), counts: map[string]int{}}
	if err := i.RotateKey(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /.well-known/jwks", i.jwks)
	mux.HandleFunc("GET /token", i.token)
	server, err := serve(i.counting(mux))
	if err != nil {
		return nil, err
	}
	i.server = server
	return i, nil
}

// serve starts a server on loopback; unlike httptest.NewServer it does not panic.
func serve(h http.Handler) (*httptest.Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}}
	server.Start()
	return server, nil
}

// GitHubClaims returns the claims of a push to main with the environment
// production, without those that the issuer sets (iss, aud, times, jti).
func GitHubClaims() map[string]any {
	return map[string]any{
		"actor": "octocat", "actor_id": "583231", "base_ref": "", "check_run_id": "31337", "environment": "production",
		"event_name": "push", "head_ref": "", "job_workflow_ref": "acme/platform/.github/workflows/dbt.yml@refs/tags/v3",
		"job_workflow_sha": "7f93c5e6a1b20d4f8e9c3a5b7d1f2e4c6a8b0d2f", "ref": "refs/heads/main", "ref_protected": "true",
		"ref_type": "branch", "repository": "acme/analytics", "repository_id": "487920697", "repository_owner": "acme",
		"repository_owner_id": "9919", "repository_visibility": "private", "run_attempt": "1", "run_id": "16055869479",
		"run_number": "33", "runner_environment": "github-hosted", "sha": "7f93c5e6a1b20d4f8e9c3a5b7d1f2e4c6a8b0d2f",
		"sub": "repo:acme/analytics:environment:production", "workflow": "dbt",
		"workflow_ref": "acme/analytics/.github/workflows/dbt.yml@refs/heads/main", "workflow_sha": "7f93c5e6a1b20d4f8e9c3a5b7d1f2e4c6a8b0d2f",
	}
}

// URL returns the issuer: the tokens' iss.
func (i *Issuer) URL() string { return i.server.URL }

// Close stops the server.
func (i *Issuer) Close() { i.server.Close() }

// RequestURL returns the value of ACTIONS_ID_TOKEN_REQUEST_URL.
func (i *Issuer) RequestURL() string { return i.server.URL + "/token?api-version=2.0" }

// RequestToken returns the value of ACTIONS_ID_TOKEN_REQUEST_TOKEN.
func (i *Issuer) RequestToken() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requestToken
}

// EndRequests gives the job a request token that says when it ends, as
// GitHub's does, and refuses it from then on. Call it before RequestToken.
func (i *Issuer) EndRequests(at time.Time) {
	token := i.Sign("job", map[string]any{"exp": at.Unix()})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requestToken, i.requestsEnd = token, time.Unix(at.Unix(), 0)
}

// RunnerEnv returns the two variables that a job with `id-token: write` has.
func (i *Issuer) RunnerEnv() map[string]string {
	return map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": i.RequestURL(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN": i.RequestToken()}
}

// SetClaims replaces the claims of tokens from now on.
func (i *Issuer) SetClaims(claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.claims = maps.Clone(claims)
}

// SetLife changes how long tokens live from now on.
func (i *Issuer) SetLife(life time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.life = life
}

// Issued returns every token that was handed out or signed, for leak tests.
func (i *Issuer) Issued() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]string(nil), i.issued...)
}

// Requests returns how often a path was asked for.
func (i *Issuer) Requests(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counts[path]
}

// Key returns the current signing key, for tests that forge, and its id.
func (i *Issuer) Key() (crypto.Signer, string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key, i.keyID
}

// RotateKey signs with a new key from now on. Keys published before stay published.
func (i *Issuer) RotateKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.key != nil {
		i.old = append(i.old, i.public())
	}
	i.key, i.keyID = key, rand.Text()
	return nil
}

func (i *Issuer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: &i.key.PublicKey, KeyID: i.keyID, Algorithm: "RS256", Use: "sig"}
}

// Sign returns a good token for audience, with the issuer's claims and the
// changes: a claim to set or, where the value is nil, to leave out. Changes
// may also touch iss, aud, exp, nbf, iat and jti.
func (i *Issuer) Sign(audience string, changes map[string]any) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	payload := map[string]any{
		"iss": i.server.URL, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Add(-5 * time.Minute).Unix(), "exp": now.Add(i.life).Unix(),
	}
	maps.Copy(payload, i.claims)
	for name, v := range changes {
		if v == nil {
			delete(payload, name)
		} else {
			payload[name] = v
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256,
		Key: jose.JSONWebKey{Key: i.key, KeyID: i.keyID}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		panic(err) // the key is always good
	}
	text, err := json.Marshal(payload)
	if err != nil {
		panic(fmt.Sprintf("claims that JSON cannot hold: %v", err))
	}
	signed, err := signer.Sign(text)
	if err != nil {
		panic(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	i.issued = append(i.issued, token)
	return token
}

// Claims signs a token and verifies it as the product does: the only way to Claims.
func (i *Issuer) Claims(ctx context.Context, audience string, changes map[string]any) (idtoken.Claims, error) {
	verifier := idtoken.NewVerifier(web.NewClient(web.NewTransport()), time.Now,
		idtoken.Issuer{URL: i.URL(), JWKS: i.URL() + "/.well-known/jwks"})
	return verifier.Verify(ctx, secret.New(i.Sign(audience, changes)), audience)
}

func (i *Issuer) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.counts[r.URL.Path]++
		i.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{
		"issuer": i.server.URL, "jwks_uri": i.server.URL + "/.well-known/jwks",
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
	})
}

func (i *Issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	set := jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey{i.public()}, i.old...)}
	i.mu.Unlock()
	reply(w, set)
}

// token is the runner's endpoint: a bearer and an audience give an ID token.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	i.mu.Lock()
	ended := !i.requestsEnd.IsZero() && !time.Now().Before(i.requestsEnd)
	i.mu.Unlock()
	if !ok || bearer != i.RequestToken() || ended {
		http.Error(w, `{"message":"not authorized"}`, http.StatusUnauthorized)
		return
	}
	audience := r.URL.Query().Get("audience")
	if audience == "" {
		audience = "https://github.com/acme" // GitHub's default: the owner's address
	}
	reply(w, map[string]any{"count": 1, "value": i.Sign(audience, nil)})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := json.NewEncoder(w).Encode(v); err != nil && !errors.Is(err, http.ErrHandlerTimeout) {
		http.Error(w, "encode", http.StatusInternalServerError)
	}
}
