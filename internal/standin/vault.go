package standin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// VaultConfig is a server with one JWT auth method, for the issuer, and the
// secrets that its roles may read.
type VaultConfig struct {
	IssuerURL string
	AuthPath  string // "" for jwt
	Namespace string // the one that has them; "" for the root
	Roles     map[string]VaultRole
	Secrets   map[string]VaultSecret // by API path
	Now       func() time.Time       // nil for time.Now
}

// A VaultRole is a role of the JWT auth method.
type VaultRole struct {
	BoundAudiences []string
	BoundClaims    map[string][]string // each by any of its values
	TokenTTL       time.Duration       // 0 for ten minutes
	Policies       []string            // paths that it may read, beside ending itself
	Endless        bool                // its tokens may not end themselves
}

// A VaultSecret is what a path gives. With a TTL it makes a user for each
// read, whom the end of the lease removes; else it is a KV engine's.
type VaultSecret struct {
	TTL  time.Duration
	Data map[string]any
}

// A Vault is a Vault or OpenBao server. It verifies tokens with another
// library than the product; its words are OpenBao's.
type Vault struct {
	config VaultConfig
	server *httptest.Server
	keys   *keyring

	mu     sync.Mutex
	tokens map[string]*vaultToken
	issued []string
}

// A vaultToken has the leases that end with it.
type vaultToken struct {
	role   VaultRole
	expiry time.Time
	leases []vaultLease
}

type vaultLease struct {
	user, password string
	expiry         time.Time
}

// StartVault starts a server on loopback. Close it.
func StartVault(config VaultConfig) (*Vault, error) {
	if config.AuthPath == "" {
		config.AuthPath = "jwt"
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	v := &Vault{config: config, keys: &keyring{issuer: config.IssuerURL}, tokens: map[string]*vaultToken{}}
	mux := http.NewServeMux()
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		mux.HandleFunc(method+" /v1/auth/{path...}", v.auth)
	}
	mux.HandleFunc("GET /v1/{path...}", v.read)
	server, err := serve(v.namespaced(mux))
	if err != nil {
		return nil, err
	}
	v.server = server
	return v, nil
}

// URL returns the server's address.
func (v *Vault) URL() string { return v.server.URL }

// Close stops the server.
func (v *Vault) Close() { v.server.Close() }

// Issued returns every token and password that was given out, for leak tests.
func (v *Vault) Issued() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.issued)
}

// Login reports whether a database would let the user in: a lease of a live
// token made it, and has not ended.
func (v *Vault) Login(user, password string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.tokens {
		for _, l := range t.leases {
			if l.user == user && l.password == password && v.alive(t.expiry) && v.alive(l.expiry) {
				return true
			}
		}
	}
	return false
}

// Tokens returns how many tokens are alive.
func (v *Vault) Tokens() (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.tokens {
		if v.alive(t.expiry) {
			n++
		}
	}
	return n
}

func (v *Vault) alive(expiry time.Time) bool { return v.config.Now().Before(expiry) }

func vaultErrors(w http.ResponseWriter, status int, errs ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string][]string{"errors": append([]string{}, errs...)})
}

func (v *Vault) namespaced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Vault-Request") != "true":
			vaultErrors(w, http.StatusPreconditionFailed, "required 'X-Vault-Request' header is missing")
		case strings.Trim(r.Header.Get("X-Vault-Namespace"), "/") != v.config.Namespace:
			vaultErrors(w, http.StatusNotFound, "namespace not found")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (v *Vault) auth(w http.ResponseWriter, r *http.Request) {
	switch r.PathValue("path") {
	case v.config.AuthPath + "/login":
		v.login(w, r)
	case "token/revoke-self":
		v.revokeSelf(w, r)
	default:
		vaultErrors(w, http.StatusForbidden, "permission denied")
	}
}

func (v *Vault) login(w http.ResponseWriter, r *http.Request) {
	var in struct{ Role, JWT string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		vaultErrors(w, http.StatusBadRequest, "error parsing JSON")
		return
	}
	role, ok := v.config.Roles[in.Role]
	if !ok {
		vaultErrors(w, http.StatusBadRequest, fmt.Sprintf("role %q could not be found", in.Role))
		return
	}
	if refusal := v.verify(r.Context(), role, in.JWT); refusal != "" {
		vaultErrors(w, http.StatusBadRequest, refusal)
		return
	}
	ttl := role.TokenTTL
	if ttl == 0 {
		ttl = 10 * time.Minute
	}
	token := "s." + rand.Text()
	v.mu.Lock()
	v.tokens[token] = &vaultToken{role: role, expiry: v.config.Now().Add(ttl)}
	v.issued = append(v.issued, token)
	v.mu.Unlock()
	reply(w, map[string]any{
		"request_id": rand.Text(), "lease_id": "", "lease_duration": 0, "renewable": false, "data": nil, "warnings": nil,
		"auth": map[string]any{
			"client_token": token, "accessor": rand.Text(), "policies": role.Policies, "metadata": map[string]string{"role": in.Role},
			"lease_duration": int(ttl.Seconds()), "renewable": true, "token_type": "service", "orphan": true, "num_uses": 0,
		},
	})
}

// verify returns the server's words of refusal, "" for none.
func (v *Vault) verify(ctx context.Context, role VaultRole, raw string) string {
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(v.config.Now), jwt.WithLeeway(150*time.Second), // expiration_leeway's default
		jwt.WithIssuer(v.config.IssuerURL))
	_, err := parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) { return v.keys.key(ctx, t) })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "error validating token: invalid expiration time (exp) claim: token is expired"
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return "error validating token: invalid issuer (iss) claim"
	case err != nil:
		return "error validating token: error verifying token signature: failed to verify id token signature"
	}
	audience, err := claims.GetAudience()
	if err != nil || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(role.BoundAudiences, a) }) {
		return "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience"
	}
	for _, name := range slices.Sorted(maps.Keys(role.BoundClaims)) {
		got, ok := claims[name].(string)
		if !ok {
			return fmt.Sprintf("error validating claims: claim %q is missing", name)
		}
		if !slices.Contains(role.BoundClaims[name], got) {
			return fmt.Sprintf("error validating claims: claim %q does not match any associated bound claim values", name)
		}
	}
	return ""
}

// token returns the live token of a request, nil where there is none. v.mu is held.
func (v *Vault) token(r *http.Request) *vaultToken {
	t := v.tokens[r.Header.Get("X-Vault-Token")]
	if t == nil || !v.alive(t.expiry) {
		return nil
	}
	return t
}

// denied is the refusal of a token that is known, which reads otherwise than
// that of one that is not.
const denied = "1 error occurred:\n\t* permission denied\n\n"

func (v *Vault) read(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, path := v.token(r), r.PathValue("path")
	secret, there := v.config.Secrets[path]
	switch {
	case t == nil:
		vaultErrors(w, http.StatusForbidden, "permission denied")
	case !slices.Contains(t.role.Policies, path):
		vaultErrors(w, http.StatusForbidden, denied)
	case !there:
		vaultErrors(w, http.StatusNotFound)
	case secret.TTL == 0:
		reply(w, map[string]any{"request_id": rand.Text(), "lease_id": "", "lease_duration": 0, "renewable": false, "data": secret.Data})
	default:
		l := vaultLease{user: "v-jwt-repo-" + rand.Text()[:12], password: "A1a-" + rand.Text()[:16], expiry: v.config.Now().Add(secret.TTL)}
		t.leases = append(t.leases, l)
		v.issued = append(v.issued, l.password)
		reply(w, map[string]any{
			"request_id": rand.Text(), "lease_id": path + "/" + rand.Text(), "lease_duration": int(secret.TTL.Seconds()), "renewable": true,
			"data": map[string]any{"username": l.user, "password": l.password},
		})
	}
}

func (v *Vault) revokeSelf(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch t := v.token(r); {
	case t == nil:
		vaultErrors(w, http.StatusForbidden, "permission denied")
	case t.role.Endless:
		vaultErrors(w, http.StatusForbidden, denied)
	default:
		delete(v.tokens, r.Header.Get("X-Vault-Token")) // and its leases with it
		w.WriteHeader(http.StatusNoContent)
	}
}
