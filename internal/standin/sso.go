package standin

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SSOConfig is an instance of IAM Identity Center with one person, who signs in
// by its access portal. (IAM Identity Center OIDC and Portal API References)
type SSOConfig struct {
	StartURL, Region string
	Assigned         map[string]string // ARNs of roles, by the account's id, "/" and the permission set: those that the person has
	User, UserID     string            // the name of her role sessions, and her id in the identity store
	Life             time.Duration     // of sessions; an hour where 0
	RoleLife         time.Duration     // of the roles' credentials; an hour where 0
	ClientLife       time.Duration     // of registrations; 90 days where 0
	CodeLife         time.Duration     // of device codes; ten minutes where 0
	Interval         int               // of the device flow, in seconds
	Approves         bool              // the person approves each device code at once
	NoRefresh        bool              // gives no refresh tokens, as for clients without the scope
	NoFederation     bool              // the accounts have not switched outbound web identity federation on
	Now              func() time.Time  // time.Now where nil
	// Redirect changes what the browser brings back.
	Redirect func(q url.Values)
}

// An SSO is the instance's OIDC service, its portal, and at / the security token
// service whose sessions it gives. Close it.
type SSO struct {
	config SSOConfig
	sts    *STS
	issuer *Issuer
	server *httptest.Server

	mu        sync.Mutex
	clients   map[string]*ssoClient // by id
	codes     map[string]*ssoCode   // by code, of the browser and the device flow
	sessions  map[string]time.Time  // ends, by access token
	refresh   map[string]string     // client ids, by refresh token that is good
	secrets   []string
	refreshes int
	requests  map[string]int // by path
}

type ssoClient struct {
	secret            string
	expires           time.Time
	grants, redirects []string
}

type ssoCode struct {
	client, redirect, challenge string
	state                       string // of a device code: "", "approved", "denied"
	expires, polled             time.Time
	every                       time.Duration
}

// StartSSO starts the services on loopback, as the endpoint of each. Close it.
func StartSSO(sts *STS, config SSOConfig) (*SSO, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	config.Life, config.RoleLife = cmp.Or(config.Life, time.Hour), cmp.Or(config.RoleLife, time.Hour)
	config.ClientLife, config.CodeLife = cmp.Or(config.ClientLife, 90*24*time.Hour), cmp.Or(config.CodeLife, 10*time.Minute)
	issuer, err := StartIssuer(map[string]any{})
	if err != nil {
		return nil, err
	}
	s := &SSO{config: config, sts: sts, issuer: issuer, clients: map[string]*ssoClient{}, codes: map[string]*ssoCode{},
		sessions: map[string]time.Time{}, refresh: map[string]string{}, requests: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /client/register", s.register)
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /device_authorization", s.device)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("GET /federation/credentials", s.credentials)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("POST /{$}", sts.handle)
	if s.server, err = serve(s.counting(mux)); err != nil {
		issuer.Close()
		return nil, err
	}
	sts.mu.Lock()
	defer sts.mu.Unlock()
	sts.people = s
	return s, nil
}

// URL returns the endpoint of all services.
func (s *SSO) URL() string { return s.server.URL }

// Issuer returns the issuer of the account's ID tokens.
func (s *SSO) Issuer() string { return s.issuer.URL() }

// Close stops the servers.
func (s *SSO) Close() {
	s.server.Close()
	s.issuer.Close()
}

// Issued returns every ID token that was signed, for leak tests.
func (s *SSO) Issued() []string { return s.issuer.Issued() }

// Secrets returns every token and client secret that was given, for leak tests.
func (s *SSO) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// Requests returns how often a path was asked for.
func (s *SSO) Requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[path]
}

// Refreshes returns how often a refresh token was taken.
func (s *SSO) Refreshes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshes
}

// Decide has the person approve or deny every device code that waits.
func (s *SSO) Decide(approve bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.codes {
		c.state = map[bool]string{true: "approved", false: "denied"}[approve]
	}
}

// End ends every session, as an administrator does.
func (s *SSO) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
	clear(s.refresh)
}

// Assign replaces what the person may have.
func (s *SSO) Assign(roles map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config.Assigned = maps.Clone(roles)
}

func (s *SSO) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests[r.URL.Path]++
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// secret returns a new one that is known for leak tests.
func (s *SSO) secret(prefix string) string {
	text := prefix + rand.Text()
	s.secrets = append(s.secrets, text)
	return text
}

// ssoRefused writes an error of the OIDC service.
func ssoRefused(w http.ResponseWriter, status int, kind, code, words string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", kind)
	w.WriteHeader(status)
	fields := map[string]any{"error": code, "error_description": nil}
	if words != "" {
		fields["error_description"] = words
	}
	_ = json.NewEncoder(w).Encode(fields)
}

// readJSON reads a request, of which the service takes JSON only.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(text, into) != nil {
		ssoRefused(w, http.StatusBadRequest, "InvalidRequestException", "invalid_request", "Invalid request")
		return false
	}
	return true
}

func (s *SSO) register(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClientName, ClientType, IssuerURL string
		Scopes, GrantTypes, RedirectURIs  []string
	}
	if !readJSON(w, r, &in) {
		return
	}
	byCode := slices.Contains(in.GrantTypes, "authorization_code")
	refused := func(kind, code, words string) { ssoRefused(w, http.StatusBadRequest, kind, code, words) }
	switch {
	case in.ClientName == "" || in.ClientType != "public":
		refused("InvalidClientMetadataException", "invalid_client_metadata", "Invalid client metadata")
		return
	case slices.ContainsFunc(in.Scopes, func(scope string) bool { return scope != "sso:account:access" }):
		refused("InvalidScopeException", "invalid_scope", "Invalid scope provided")
		return
	case slices.ContainsFunc(in.GrantTypes, func(g string) bool { return !slices.Contains(ssoGrants, g) }):
		refused("UnsupportedGrantTypeException", "unsupported_grant_type", "Unsupported grant type")
		return
	case byCode && (in.IssuerURL != s.config.StartURL || len(in.RedirectURIs) == 0):
		refused("InvalidRequestException", "invalid_request", "Invalid issuerUrl or redirectUris")
		return
	case slices.ContainsFunc(in.RedirectURIs, func(u string) bool { return u != "http://127.0.0.1/oauth/callback" }):
		refused("InvalidRedirectUriException", "invalid_redirect_uri", "Invalid redirect URI provided")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	id := "client-" + rand.Text()
	c := &ssoClient{secret: s.secret("client-secret-"), expires: now.Add(s.config.ClientLife), redirects: in.RedirectURIs}
	if c.grants = in.GrantTypes; len(c.grants) == 0 {
		c.grants = []string{deviceCodeGrant, "refresh_token"}
	}
	s.clients[id] = c
	reply(w, map[string]any{"clientId": id, "clientSecret": c.secret, "clientIdIssuedAt": now.Unix(),
		"clientSecretExpiresAt": c.expires.Unix()})
}

var ssoGrants = []string{"authorization_code", "refresh_token", deviceCodeGrant}

const deviceCodeGrant = "urn:ietf:params:oauth:grant-type:device_code"

// client returns a client that lives.
func (s *SSO) client(id, secret string) (*ssoClient, bool) {
	c := s.clients[id]
	return c, c != nil && c.secret == secret && s.config.Now().Before(c.expires)
}

// authorize is the page on which the person has signed in already.
func (s *SSO) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[q.Get("client_id")]
	switch { // these are never sent to the redirect
	case c == nil || !s.config.Now().Before(c.expires) || !slices.Contains(c.grants, "authorization_code"):
		http.Error(w, "Invalid client provided", http.StatusBadRequest)
		return
	case err != nil || !slices.Contains(c.redirects, redirect.Scheme+"://"+redirect.Hostname()+redirect.Path): // RFC 8252 §7.3: of any port
		http.Error(w, "Invalid redirect URI provided", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" ||
		q.Get("scopes") != "sso:account:access" {
		back.Set("error", "invalid_request")
	} else {
		code := s.secret("code-")
		s.codes[code] = &ssoCode{client: q.Get("client_id"), redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"),
			expires: s.config.Now().Add(10 * time.Minute)}
		back.Set("code", code)
	}
	if s.config.Redirect != nil {
		s.config.Redirect(back)
	}
	redirect.RawQuery = back.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

// Code returns a code of another sign-in of a client, as an attacker has of her own.
func (s *SSO) Code(redirect string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := s.secret("code-")
	for id := range s.clients {
		s.codes[code] = &ssoCode{client: id, redirect: redirect, challenge: "another-verifier", expires: s.config.Now().Add(time.Minute)}
	}
	return code
}

func (s *SSO) device(w http.ResponseWriter, r *http.Request) {
	var in struct{ ClientID, ClientSecret, StartURL string }
	if !readJSON(w, r, &in) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.client(in.ClientID, in.ClientSecret)
	switch {
	case !ok:
		ssoRefused(w, http.StatusUnauthorized, "InvalidClientException", "invalid_client", "Invalid client provided")
		return
	case !slices.Contains(c.grants, deviceCodeGrant):
		ssoRefused(w, http.StatusBadRequest, "UnauthorizedClientException", "unauthorized_client", "Client not authorized")
		return
	case in.StartURL != s.config.StartURL:
		ssoRefused(w, http.StatusBadRequest, "InvalidRequestException", "invalid_request", "Invalid start url provided")
		return
	}
	code, user := s.secret("device-"), rand.Text()[:4]+"-"+rand.Text()[:4]
	d := &ssoCode{client: in.ClientID, expires: s.config.Now().Add(s.config.CodeLife), every: time.Duration(s.config.Interval) * time.Second}
	if s.config.Approves {
		d.state = "approved"
	}
	s.codes[code] = d
	reply(w, map[string]any{"deviceCode": code, "userCode": user, "verificationUri": s.URL() + "/device",
		"verificationUriComplete": s.URL() + "/device?user_code=" + user, "expiresIn": int(s.config.CodeLife.Seconds()),
		"interval": s.config.Interval})
}

func (s *SSO) token(w http.ResponseWriter, r *http.Request) {
	var in struct{ ClientID, ClientSecret, GrantType, DeviceCode, Code, RefreshToken, RedirectURI, CodeVerifier string }
	if !readJSON(w, r, &in) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := func(kind, code, words string) { ssoRefused(w, http.StatusBadRequest, kind, code, words) }
	badGrant := func() { refused("InvalidGrantException", "invalid_grant", "Invalid grant provided") }
	c, ok := s.client(in.ClientID, in.ClientSecret)
	switch {
	case !ok:
		ssoRefused(w, http.StatusUnauthorized, "InvalidClientException", "invalid_client", "Invalid client provided")
	case !slices.Contains(c.grants, in.GrantType):
		refused("UnauthorizedClientException", "unauthorized_client", "Client not authorized")
	case in.GrantType == deviceCodeGrant:
		s.poll(w, in.DeviceCode, in.ClientID, refused)
	case in.GrantType == "refresh_token":
		if s.refresh[in.RefreshToken] != in.ClientID {
			badGrant()
			return
		}
		delete(s.refresh, in.RefreshToken)
		s.refreshes++
		s.give(w, in.ClientID)
	default:
		code := s.codes[in.Code]
		delete(s.codes, in.Code)
		if code == nil || code.client != in.ClientID || code.redirect != in.RedirectURI || challengeOf(in.CodeVerifier) != code.challenge ||
			!s.config.Now().Before(code.expires) {
			badGrant()
			return
		}
		s.give(w, in.ClientID)
	}
}

func (s *SSO) poll(w http.ResponseWriter, code, client string, refused func(kind, code, words string)) {
	d, now := s.codes[code], s.config.Now()
	if d == nil || d.client != client {
		refused("InvalidGrantException", "invalid_grant", "Invalid grant provided")
		return
	}
	fast := !d.polled.IsZero() && now.Sub(d.polled) < d.every
	d.polled = now
	switch {
	case !now.Before(d.expires):
		refused("ExpiredTokenException", "expired_token", "Device code expired")
	case fast:
		d.every += 5 * time.Second
		refused("SlowDownException", "slow_down", "")
	case d.state == "":
		refused("AuthorizationPendingException", "authorization_pending", "")
	case d.state == "denied":
		refused("AccessDeniedException", "access_denied", "")
	default:
		delete(s.codes, code)
		s.give(w, client)
	}
}

// give replies with a session, and the next refresh token.
func (s *SSO) give(w http.ResponseWriter, client string) {
	access := s.secret("aoaAccess-")
	s.sessions[access] = s.config.Now().Add(s.config.Life)
	answer := map[string]any{"accessToken": access, "tokenType": "Bearer", "expiresIn": int(s.config.Life.Seconds()), "idToken": nil}
	if !s.config.NoRefresh {
		next := s.secret("aorRefresh-")
		s.refresh[next] = client
		answer["refreshToken"] = next
	}
	reply(w, answer)
}

// portalRefused writes an error of the portal.
func portalRefused(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message, "__type": "com.amazonaws.switchboard.portal#" + kind})
}

// session reports whether the request has a session that lives.
func (s *SSO) session(w http.ResponseWriter, r *http.Request) (token string, ok bool) {
	token = r.Header.Get("X-Amz-Sso_bearer_token")
	s.mu.Lock()
	end, found := s.sessions[token]
	s.mu.Unlock()
	if !found || !s.config.Now().Before(end) {
		portalRefused(w, http.StatusUnauthorized, "UnauthorizedException", "Session token not found or invalid")
		return "", false
	}
	return token, true
}

func (s *SSO) credentials(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.session(w, r); !ok {
		return
	}
	q := r.URL.Query()
	s.mu.Lock()
	role, ok := s.config.Assigned[q.Get("account_id")+"/"+q.Get("role_name")]
	s.mu.Unlock()
	if !ok {
		portalRefused(w, http.StatusForbidden, "ForbiddenException", "No access")
		return
	}
	c := s.sts.issue(roleRequest{role: role, name: s.config.User, duration: s.config.RoleLife}, "", "")
	reply(w, map[string]any{"roleCredentials": map[string]any{"accessKeyId": c.AccessKeyID, "secretAccessKey": c.SecretAccessKey,
		"sessionToken": c.SessionToken, "expiration": s.config.Now().Add(s.config.RoleLife).UnixMilli()}})
}

func (s *SSO) logout(w http.ResponseWriter, r *http.Request) {
	if token, ok := s.session(w, r); ok {
		s.mu.Lock()
		delete(s.sessions, token)
		s.mu.Unlock()
	}
}

type webIdentityToken struct {
	XMLName    xml.Name `xml:"GetWebIdentityTokenResult"`
	Token      string   `xml:"WebIdentityToken"`
	Expiration string
}

// webIdentityToken signs a token for the session of the request. (STS API
// Reference, GetWebIdentityToken; IAM User Guide, token claims)
func (s *STS) webIdentityToken(r *http.Request, body []byte, form url.Values) (any, error) {
	caller, err := s.Authenticate(r, body, "sts")
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.Atoi(form.Get("DurationSeconds"))
	algorithm := form.Get("SigningAlgorithm")
	switch {
	case err != nil || seconds < 60 || seconds > 3600:
		return nil, invalid("DurationSeconds must be between 60 and 3600")
	case algorithm != "RS256" && algorithm != "ES384":
		return nil, invalid("Value '%s' at 'signingAlgorithm' failed to satisfy constraint", algorithm)
	case form.Get("Audience.member.1") == "" || form.Has("Audience.member.11"):
		return nil, invalid("Audience must have between 1 and 10 members")
	case s.people == nil || s.people.config.NoFederation:
		return nil, forbidden("OutboundWebIdentityFederationDisabledException", "Outbound web identity federation is disabled for the account.")
	case s.denied(caller, "sts:GetWebIdentityToken", "*"):
		return nil, forbidden("AccessDenied", "User: "+caller.SessionARN+" is not authorized to perform: sts:GetWebIdentityToken")
	}
	end := s.config.Now().Add(time.Duration(seconds) * time.Second)
	own := map[string]any{"aws_account": account(caller.RoleARN), "source_region": s.people.config.Region, "org_id": "o-a1b2c3d4e5",
		"principal_id": caller.RoleARN}
	if s.people.has(caller.RoleARN) {
		own["identity_store_user_id"] = s.people.config.UserID
	}
	token := s.people.issuer.Sign(form.Get("Audience.member.1"), map[string]any{"sub": caller.RoleARN, "nbf": nil,
		"iat": s.config.Now().Unix(), "exp": end.Unix(), "https://sts.amazonaws.com/": own})
	return webIdentityToken{Token: token, Expiration: end.UTC().Format(time.RFC3339)}, nil
}

// has reports whether a role is one of a permission set.
func (s *SSO) has(role string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(slices.Collect(maps.Values(s.config.Assigned)), role) || strings.Contains(role, "/AWSReservedSSO_")
}
