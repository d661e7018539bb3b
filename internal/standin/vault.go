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
	TokenMaxTTL    time.Duration       // what renewals come to; 0 for a month
	Period         time.Duration       // that each renewal gives instead of what is asked for; 0 for none
	Policies       []string            // paths that it may read, besides revoking and renewing itself
	CEL            bool                // its claims are checked by a CEL program, and it logs in at cel/login
	Endless        bool                // its tokens may not end themselves
	Fixed          bool                // its tokens may renew nothing
	Batch          bool                // its tokens are of type batch
}

// A VaultSecret is what a path gives. With a TTL it makes a user for each
// read, whom the end of the lease removes; else it is a KV engine's.
type VaultSecret struct {
	TTL    time.Duration
	MaxTTL time.Duration  // what renewals come to; 0 for a month
	Rigid  bool           // its leases cannot be renewed
	Azure  bool           // it makes service principals: a client's id and its secret
	Data   map[string]any // of a KV engine
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
	grace  time.Duration
}

// A vaultToken has the leases that end with it.
type vaultToken struct {
	role VaultRole
	vaultTerm
	leases []*vaultLease
}

type vaultLease struct {
	id             string
	user, password string
	rigid          bool
	vaultTerm
}

// A vaultTerm is how long something lives, and may live.
type vaultTerm struct {
	ttl            time.Duration
	expiry, latest time.Time
}

func (v *Vault) term(ttl, most time.Duration) vaultTerm {
	if most == 0 {
		most = 768 * time.Hour // the server's own default
	}
	now := v.config.Now()
	t := vaultTerm{ttl: min(ttl, most), latest: now.Add(most)}
	t.expiry = now.Add(t.ttl)
	return t
}

// renew begins the term anew, for as many seconds as are asked for, or as it
// had at first, and returns how many that are, and what the server says to it.
func (t *vaultTerm) renew(now time.Time, increment int) (seconds int, warnings []string) {
	life := t.ttl
	if increment > 0 {
		life = time.Duration(increment) * time.Second
	}
	if left := t.latest.Sub(now); life > left {
		warnings = []string{fmt.Sprintf("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly",
			vaultTime(life), vaultTime(left.Round(time.Second)))}
		life = left
	}
	t.expiry = now.Add(life)
	return int(life.Round(time.Second).Seconds()), warnings
}

// vaultTime writes a duration as the server does: 6h, not 6h0m0s.
func vaultTime(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = strings.TrimSuffix(text, zero[1:])
		}
	}
	return text
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
	mux.HandleFunc("PUT /v1/sys/leases/renew", v.renewLease)
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

// SetGrace has databases take users for so long after their end; see Grace.
func (v *Vault) SetGrace(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.grace = d
}

// Login reports whether a database would let the user in: a lease of a live
// token made it, and has not ended.
func (v *Vault) Login(user, password string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.tokens {
		for _, l := range t.leases {
			if l.user == user && l.password == password && v.alive(t.expiry.Add(v.grace)) && v.alive(l.expiry.Add(v.grace)) {
				return true
			}
		}
	}
	return false
}

// Token gives out a token of a role, as a login does.
func (v *Vault) Token(role string) (string, error) {
	r, ok := v.config.Roles[role]
	if !ok {
		return "", fmt.Errorf("role %q could not be found", role)
	}
	return v.issue(r), nil
}

// issue makes a token.
func (v *Vault) issue(role VaultRole) string {
	if role.TokenTTL == 0 {
		role.TokenTTL = 10 * time.Minute
	}
	token := "s." + rand.Text()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens[token] = &vaultToken{role: role, vaultTerm: v.term(role.TokenTTL, role.TokenMaxTTL)}
	v.issued = append(v.issued, token)
	return token
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
		v.login(w, r, false)
	case v.config.AuthPath + "/cel/login":
		v.login(w, r, true)
	case "token/revoke-self":
		v.revokeSelf(w, r)
	case "token/renew-self":
		v.renewSelf(w, r)
	default:
		vaultErrors(w, http.StatusForbidden, "permission denied")
	}
}

func (v *Vault) login(w http.ResponseWriter, r *http.Request, cel bool) {
	var in struct{ Role, JWT string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		vaultErrors(w, http.StatusBadRequest, "error parsing JSON")
		return
	}
	name := strings.ToLower(in.Role)
	role, ok := v.config.Roles[name]
	if !ok || role.CEL != cel {
		vaultErrors(w, http.StatusBadRequest, fmt.Sprintf("role %q could not be found", name))
		return
	}
	if refusal := v.verify(r.Context(), name, role, in.JWT); refusal != "" {
		vaultErrors(w, http.StatusBadRequest, refusal)
		return
	}
	token := v.issue(role)
	v.mu.Lock()
	ttl := v.tokens[token].ttl
	v.mu.Unlock()
	reply(w, map[string]any{
		"request_id": rand.Text(), "lease_id": "", "lease_duration": 0, "renewable": false, "data": nil, "warnings": nil,
		"auth": role.auth(token, int(ttl.Seconds())),
	})
}

// auth is what a reply says of a token.
func (r VaultRole) auth(token string, seconds int) map[string]any {
	kind := "service"
	if r.Batch {
		kind = "batch"
	}
	return map[string]any{
		"client_token": token, "accessor": rand.Text(), "policies": r.Policies,
		"lease_duration": seconds, "renewable": !r.Batch, "token_type": kind, "orphan": true, "num_uses": 0,
	}
}

// verify returns the server's words of refusal, "" for none.
func (v *Vault) verify(ctx context.Context, name string, role VaultRole, raw string) string {
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
	unbound := role.CEL && len(role.BoundAudiences) == 0 // a CEL role without audiences accepts any
	if err != nil || !unbound && !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(role.BoundAudiences, a) }) {
		return "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience"
	}
	for _, claim := range slices.Sorted(maps.Keys(role.BoundClaims)) {
		got, ok := claims[claim].(string)
		switch good := slices.Contains(role.BoundClaims[claim], got); {
		case role.CEL && (!ok || !good):
			return fmt.Sprintf("error executing cel program: CEL role '%s' blocked authorization with boolean false return", name)
		case !ok:
			return fmt.Sprintf("error validating claims: claim %q is missing", claim)
		case !good:
			return fmt.Sprintf("error validating claims: claim %q does not match any associated bound claim values", claim)
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
		l := &vaultLease{id: path + "/" + rand.Text(), user: "v-jwt-repo-" + rand.Text()[:12],
			password: "A1a-" + rand.Text()[:16], rigid: secret.Rigid, vaultTerm: v.term(secret.TTL, secret.MaxTTL)}
		t.leases = append(t.leases, l)
		v.issued = append(v.issued, l.password)
		reply(w, map[string]any{
			"request_id": rand.Text(), "lease_id": l.id, "lease_duration": int(l.ttl.Seconds()), "renewable": !l.rigid,
			"data": secret.fields(l),
		})
	}
}

// fields are what a secret has of who was made.
func (s VaultSecret) fields(l *vaultLease) map[string]any {
	if s.Azure {
		return map[string]any{"client_id": l.user, "client_secret": l.password}
	}
	return map[string]any{"username": l.user, "password": l.password}
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

func (v *Vault) renewSelf(w http.ResponseWriter, r *http.Request) {
	var in struct{ Increment int }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		vaultErrors(w, http.StatusBadRequest, "error parsing JSON")
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch t := v.token(r); {
	case t == nil:
		vaultErrors(w, http.StatusForbidden, "permission denied")
	case t.role.Fixed:
		vaultErrors(w, http.StatusForbidden, denied)
	case t.role.Batch:
		vaultErrors(w, http.StatusBadRequest, "batch tokens cannot be renewed")
	default:
		if t.role.Period > 0 {
			t.ttl, in.Increment = t.role.Period, 0
		}
		seconds, warnings := t.renew(v.config.Now(), in.Increment)
		reply(w, map[string]any{"request_id": rand.Text(), "lease_id": "", "lease_duration": 0, "renewable": false,
			"data": nil, "warnings": warnings,
			"auth": t.role.auth(r.Header.Get("X-Vault-Token"), seconds)})
	}
}

func (v *Vault) renewLease(w http.ResponseWriter, r *http.Request) {
	var in struct {
		LeaseID   string `json:"lease_id"`
		Increment int
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		vaultErrors(w, http.StatusBadRequest, "error parsing JSON")
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.token(r)
	switch {
	case t == nil:
		vaultErrors(w, http.StatusForbidden, "permission denied")
		return
	case t.role.Fixed:
		vaultErrors(w, http.StatusForbidden, denied)
		return
	}
	i := slices.IndexFunc(t.leases, func(l *vaultLease) bool { return l.id == in.LeaseID && v.alive(l.expiry) })
	switch {
	case i < 0:
		vaultErrors(w, http.StatusBadRequest, "lease not found")
	case t.leases[i].rigid:
		vaultErrors(w, http.StatusBadRequest, "lease is not renewable")
	default:
		seconds, warnings := t.leases[i].renew(v.config.Now(), in.Increment)
		reply(w, map[string]any{"request_id": rand.Text(), "lease_id": in.LeaseID, "lease_duration": seconds,
			"renewable": true, "data": nil, "warnings": warnings, "auth": nil})
	}
}
