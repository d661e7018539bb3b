package standin

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// PeopleConfig is a company's identity provider with one public client. Its
// words are Keycloak's.
type PeopleConfig struct {
	ClientID  string
	Google    string           // the secret of the client, at a provider that behaves as Google does; "" for Keycloak's ways
	Life      time.Duration    // of ID tokens; an hour where 0
	Claims    map[string]any   // of the person who signs in, with sub
	NoRefresh bool             // gives no refresh tokens
	Fixed     bool             // refresh tokens are not rotated
	Scopes    []string         // that access tokens may have besides those of the sign-in, as Entra ID's client has
	Interval  int              // of the device flow, in seconds
	Approves  bool             // the person approves each device code at once
	CodeLife  time.Duration    // of device codes; ten minutes where 0
	Now       func() time.Time // time.Now where nil
	// Discovery changes what the provider says of itself; nil removes a field.
	Discovery map[string]any
	// Redirect changes what the browser brings back.
	Redirect func(q url.Values)
	// Reply changes what the token endpoint says to a refresh.
	Reply func(answer map[string]any)
}

// People is an identity provider for people: authorization code with PKCE,
// device codes, refresh tokens with rotation and the detection of a second use,
// and revocation. Close it.
type People struct {
	config PeopleConfig
	issuer *Issuer
	server *httptest.Server

	mu        sync.Mutex
	codes     map[string]*authorization
	devices   map[string]*deviceCode
	families  map[string]*family // by refresh token, used ones too
	access    map[string]string  // access tokens, with their scopes
	refreshes int
	revoked   []string
	faults    map[string][]int // by path: statuses of the next replies
}

type authorization struct {
	redirect, challenge, nonce, scope string
	online                            bool // gets no refresh token
	used                              *family
}

type deviceCode struct {
	user      string
	state     string // "", "approved", "denied"
	challenge string
	scope     string
	expires   time.Time
	polled    time.Time
	every     time.Duration
}

// A family is what has grown out of one sign-in.
type family struct {
	current string
	scope   string // that the person has agreed to
	ended   bool
	online  bool // without a refresh token
}

// StartPeople starts a provider on loopback.
func StartPeople(config PeopleConfig) (*People, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Life == 0 {
		config.Life = time.Hour
	}
	if config.CodeLife == 0 {
		config.CodeLife = 10 * time.Minute
	}
	issuer, err := StartIssuer(map[string]any{})
	if err != nil {
		return nil, err
	}
	p := &People{config: config, issuer: issuer, codes: map[string]*authorization{}, devices: map[string]*deviceCode{},
		families: map[string]*family{}, access: map[string]string{}, faults: map[string][]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", issuer.jwks)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /device", p.device)
	mux.HandleFunc("POST /revoke", p.revoke)
	if p.server, err = serve(p.failing(mux)); err != nil {
		issuer.Close()
		return nil, err
	}
	return p, nil
}

// URL returns the issuer.
func (p *People) URL() string { return p.server.URL }

// Close stops the server.
func (p *People) Close() {
	p.server.Close()
	p.issuer.Close()
}

// Issued returns every ID token that was signed, for leak tests.
func (p *People) Issued() []string { return p.issuer.Issued() }

// Secrets returns every refresh token that was given, for leak tests.
func (p *People) Secrets() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for token := range maps.Keys(p.families) {
		list = append(list, token)
	}
	return list
}

// Access returns every access token that was given, with its scopes.
func (p *People) Access() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.access)
}

// Refreshes returns how often a refresh token was taken.
func (p *People) Refreshes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refreshes
}

// Revoked returns the refresh tokens that were revoked.
func (p *People) Revoked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.revoked...)
}

// SetClaims changes who signs in from now on.
func (p *People) SetClaims(claims map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config.Claims = maps.Clone(claims)
}

// Fail has the next replies of a path be these statuses, without words.
func (p *People) Fail(path string, statuses ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[path] = append(p.faults[path], statuses...)
}

// Decide has the person approve or deny every device code that waits.
func (p *People) Decide(approve bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		d.state = map[bool]string{true: "approved", false: "denied"}[approve]
	}
}

func (p *People) failing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		status := 0
		if list := p.faults[r.URL.Path]; len(list) > 0 {
			status, p.faults[r.URL.Path] = list[0], list[1:]
		}
		p.mu.Unlock()
		if status != 0 {
			w.WriteHeader(status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (p *People) discovery(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer": p.URL(), "jwks_uri": p.URL() + "/keys", "authorization_endpoint": p.URL() + "/authorize",
		"token_endpoint": p.URL() + "/token", "device_authorization_endpoint": p.URL() + "/device",
		"revocation_endpoint": p.URL() + "/revoke", "authorization_response_iss_parameter_supported": true,
		"code_challenge_methods_supported": []string{"plain", "S256"},
		"scopes_supported":                 []string{"openid", "profile", "email", "offline_access", "groups"},
	}
	if p.config.Google != "" {
		delete(document, "authorization_response_iss_parameter_supported")
		document["scopes_supported"] = []string{"openid", "email", "profile"}
	}
	for name, v := range p.config.Discovery {
		if document[name] = v; v == nil {
			delete(document, name)
		}
	}
	reply(w, document)
}

// authorize is the page on which the person has signed in already.
func (p *People) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	switch { // these are never sent to the redirect
	case q.Get("client_id") != p.config.ClientID:
		http.Error(w, "Client not found.", http.StatusBadRequest)
		return
	case err != nil || redirect.Scheme != "http" || redirect.Hostname() != "127.0.0.1" || redirect.Path != "/callback":
		http.Error(w, "Invalid parameter: redirect_uri", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}, "iss": {p.URL()}}
	if p.config.Google != "" {
		back.Del("iss")
	}
	switch {
	case p.config.Google != "" && strings.Contains(q.Get("scope"), "offline_access"):
		http.Error(w, "Error 400: invalid_scope", http.StatusBadRequest)
		return
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "":
		back.Set("error", "invalid_request")
		back.Set("error_description", "Missing parameter: code_challenge_method")
	case !strings.Contains(" "+q.Get("scope")+" ", " openid "):
		back.Set("error", "invalid_scope")
	default:
		code := "code-" + rand.Text()
		p.mu.Lock()
		p.codes[code] = &authorization{redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), nonce: q.Get("nonce"),
			scope: q.Get("scope"), online: p.config.Google != "" && (q.Get("access_type") != "offline" || q.Get("prompt") != "consent")}
		p.mu.Unlock()
		back.Set("code", code)
	}
	if p.config.Redirect != nil {
		p.config.Redirect(back)
	}
	redirect.RawQuery = back.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

// Code returns a code of another sign-in, as an attacker has of his own.
func (p *People) Code(redirect string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := "code-" + rand.Text()
	p.codes[code] = &authorization{redirect: redirect, challenge: "another-verifier", nonce: "another"}
	return code
}

func (p *People) token(w http.ResponseWriter, r *http.Request) {
	form, ok := parameters(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !ok:
		oauthError(w, http.StatusBadRequest, "invalid_request", "Form parameters are missing, or there twice", nil)
	case form("client_id") != p.config.ClientID:
		oauthError(w, http.StatusUnauthorized, "invalid_client", "Invalid client or Invalid client credentials", nil)
	case p.config.Google != "" && form("client_secret") == "":
		oauthError(w, http.StatusBadRequest, "invalid_request", "client_secret is missing.", nil)
	case p.config.Google != "" && form("client_secret") != p.config.Google:
		oauthError(w, http.StatusUnauthorized, "invalid_client", "The provided client secret is invalid.", nil)
	default:
		p.grant(w, form)
	}
}

func (p *People) grant(w http.ResponseWriter, form func(string) string) {
	refused := func(code, words string) { oauthError(w, http.StatusBadRequest, code, words, nil) }
	switch form("grant_type") {
	case "authorization_code":
		a := p.codes[form("code")]
		switch {
		case a == nil:
			refused("invalid_grant", "Code not valid")
		case a.used != nil: // RFC 6749 §4.1.2: what it gave ends
			a.used.ended = true
			refused("invalid_grant", "Code already used")
		case a.redirect != form("redirect_uri"):
			refused("invalid_grant", "Incorrect redirect_uri")
		case challengeOf(form("code_verifier")) != a.challenge:
			refused("invalid_grant", "PKCE verification failed: Code mismatch")
		default:
			a.used = &family{scope: a.scope, online: a.online}
			p.give(w, a.used, a.nonce, "")
		}
	case "refresh_token":
		f := p.families[form("refresh_token")]
		switch {
		case f == nil:
			refused("invalid_grant", "Invalid refresh token")
		case f.ended:
			refused("invalid_grant", "Token is not active")
		case f.current != form("refresh_token"): // a thief, or who lost the race with one
			f.ended = true
			refused("invalid_grant", "Maximum allowed refresh token reuse exceeded")
		case !p.may(f, form("scope")):
			refused("invalid_scope", "Invalid scopes: "+form("scope"))
		default:
			p.refreshes++
			p.give(w, f, "", form("scope"))
		}
	case "urn:ietf:params:oauth:grant-type:device_code":
		if p.config.Google != "" {
			refused = func(code, _ string) { refusedByGoogle(w, code) }
		}
		p.poll(w, form("device_code"), challengeOf(form("code_verifier")), refused)
	default:
		refused("unsupported_grant_type", "Unsupported grant_type")
	}
}

// challengeOf is what PKCE makes of a verifier. (RFC 7636 §4.2)
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// may reports whether the person has agreed to the scopes. (RFC 6749 §6)
func (p *People) may(f *family, scope string) bool {
	agreed := append(strings.Fields(f.scope), p.config.Scopes...)
	return !slices.ContainsFunc(strings.Fields(scope), func(s string) bool { return !slices.Contains(agreed, s) })
}

// give replies with new tokens of a family, of which the access token is for a
// scope, "" for the whole one.
func (p *People) give(w http.ResponseWriter, f *family, nonce, scope string) {
	now := p.config.Now()
	claims := map[string]any{"iss": p.URL(), "iat": now.Unix(), "nbf": nil, "exp": now.Add(p.config.Life).Unix(), "azp": p.config.ClientID}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	maps.Copy(claims, p.config.Claims)
	access := "access-" + rand.Text()
	p.access[access] = cmp.Or(scope, f.scope)
	answer := map[string]any{"token_type": "Bearer", "expires_in": 300, "access_token": access, "scope": p.access[access],
		"id_token": p.issuer.Sign(p.config.ClientID, claims)}
	again := f.current != "" && p.config.Google != "" // which gives a refresh token once, and for good
	if !p.config.NoRefresh && !f.online && !again {
		if f.current == "" || !p.config.Fixed {
			f.current = "refresh-" + rand.Text()
			p.families[f.current] = f
		}
		answer["refresh_token"] = f.current
	}
	if p.config.Reply != nil && nonce == "" {
		p.config.Reply(answer)
	}
	reply(w, answer)
}

func (p *People) device(w http.ResponseWriter, r *http.Request) {
	form, ok := parameters(r)
	if !ok || form("client_id") != p.config.ClientID {
		oauthError(w, http.StatusUnauthorized, "invalid_client", "Invalid client or Invalid client credentials", nil)
		return
	}
	code, user := "device-"+rand.Text(), rand.Text()[:4]+"-"+rand.Text()[:4]
	d := &deviceCode{user: user, expires: p.config.Now().Add(p.config.CodeLife), every: time.Duration(p.config.Interval) * time.Second,
		scope: form("scope")}
	if p.config.Google != "" {
		p.deviceOfGoogle(w, code, user, d)
		return
	}
	if d.challenge = form("code_challenge"); d.challenge == "" || form("code_challenge_method") != "S256" {
		oauthError(w, http.StatusBadRequest, "invalid_request", "Missing parameter: code_challenge_method", nil)
		return
	}
	p.mu.Lock()
	if p.config.Approves {
		d.state = "approved"
	}
	p.devices[code] = d
	p.mu.Unlock()
	reply(w, map[string]any{
		"device_code": code, "user_code": user, "verification_uri": p.URL() + "/activate",
		"verification_uri_complete": p.URL() + "/activate?user_code=" + user, "expires_in": int(p.config.CodeLife.Seconds()),
		"interval": p.config.Interval,
	})
}

func (p *People) poll(w http.ResponseWriter, code, challenge string, refused func(code, words string)) {
	d, now := p.devices[code], p.config.Now()
	if d == nil {
		refused("invalid_grant", "Device code not valid")
		return
	}
	fast := !d.polled.IsZero() && now.Sub(d.polled) < d.every
	d.polled = now
	switch {
	case !now.Before(d.expires):
		refused("expired_token", "Device code is expired")
	case fast:
		d.every += 5 * time.Second
		refused("slow_down", "Slow down")
	case d.state == "denied":
		refused("access_denied", "The end user denied the authorization request")
	case d.state == "":
		refused("authorization_pending", "The authorization request is still pending")
	case d.challenge != "" && d.challenge != challenge:
		refused("invalid_grant", "PKCE verification failed: Code mismatch")
	default:
		delete(p.devices, code)
		p.give(w, &family{scope: d.scope}, "", "")
	}
}

// revoke ends a family. (RFC 7009)
func (p *People) revoke(w http.ResponseWriter, r *http.Request) {
	form, ok := parameters(r)
	if !ok || form("client_id") != p.config.ClientID {
		oauthError(w, http.StatusUnauthorized, "invalid_client", "Invalid client or Invalid client credentials", nil)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.families[form("token")]; f != nil {
		f.ended = true
		p.revoked = append(p.revoked, form("token"))
	}
	w.WriteHeader(http.StatusOK)
}

// deviceOfGoogle starts a device code in Google's way: an address of another
// name, and a few scopes only. (Google: OAuth 2.0 for TV and Limited-Input Device Applications)
func (p *People) deviceOfGoogle(w http.ResponseWriter, code, user string, d *deviceCode) {
	for scope := range strings.FieldsSeq(d.scope) {
		if !slices.Contains([]string{"openid", "email", "profile"}, scope) {
			oauthError(w, http.StatusBadRequest, "invalid_scope", "Invalid device flow scope: "+scope, nil)
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config.Approves {
		d.state = "approved"
	}
	p.devices[code] = d
	reply(w, map[string]any{"device_code": code, "user_code": user, "verification_url": p.URL() + "/device",
		"expires_in": int(p.config.CodeLife.Seconds()), "interval": p.config.Interval})
}

// refusedByGoogle answers one who polls with Google's statuses and words.
func refusedByGoogle(w http.ResponseWriter, code string) {
	status, words := http.StatusForbidden, "Forbidden"
	switch code {
	case "authorization_pending":
		status, words = http.StatusPreconditionRequired, "Precondition Required"
	case "expired_token", "invalid_grant":
		status, words = http.StatusBadRequest, "Bad Request"
	}
	oauthError(w, status, code, words, nil)
}
