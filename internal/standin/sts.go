package standin

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// A Role is an IAM role with its trust policy.
type Role struct {
	// Audience and Claims are the trust policy's conditions on a web
	// identity: `iss:aud`, and StringLike on other claims of GitHub's.
	Audience string
	Claims   map[string][]string
	// TrustedRole and ExternalID are those of AssumeRole; "" for none.
	TrustedRole string
	ExternalID  string
	MaxDuration time.Duration // 0 for the default of an hour
}

// STSConfig is an account: its OIDC provider and its roles.
type STSConfig struct {
	IssuerURL   string
	Roles       map[string]Role  // by ARN
	MinDuration time.Duration    // AWS's 15 minutes where 0; shorter ones are for tests of expiry
	Now         func() time.Time // time.Now where nil
}

// An STS is a security token service: the query protocol, with role trust as
// AWS evaluates it. It verifies tokens with another library than the product,
// so that one mistake is not made twice.
type STS struct {
	config STSConfig
	server *httptest.Server

	mu       sync.Mutex
	sessions map[string]Session // by access key id
	requests map[string]int     // by action
}

// A Session is what the service has issued.
type Session struct {
	AccessKeyID, SecretAccessKey, SessionToken string
	RoleARN, SessionARN                        string
	Subject                                    string // of the web identity
	Expiration                                 time.Time
}

// StartSTS starts a service on loopback. Close it.
func StartSTS(config STSConfig) (*STS, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.MinDuration == 0 {
		config.MinDuration = 15 * time.Minute
	}
	s := &STS{config: config, sessions: map[string]Session{}, requests: map[string]int{}}
	server, err := serve(http.HandlerFunc(s.handle))
	if err != nil {
		return nil, err
	}
	s.server = server
	return s, nil
}

// URL returns the endpoint.
func (s *STS) URL() string { return s.server.URL }

// Close stops the server.
func (s *STS) Close() { s.server.Close() }

// Session returns what was issued under an access key id.
func (s *STS) Session(accessKeyID string) (Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok := s.sessions[accessKeyID]
	return session, ok
}

// Sessions returns everything that was issued, for leak tests.
func (s *STS) Sessions() (all []Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.sessions {
		all = append(all, session)
	}
	return all
}

// Requests returns how often an action was asked for.
func (s *STS) Requests(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[action]
}

// stsError is an error reply of AWS.
type stsError struct {
	status        int
	code, message string
}

func (e stsError) Error() string { return e.code + ": " + e.message }

func denied(action, resource string) stsError {
	return stsError{http.StatusForbidden, "AccessDenied", "Not authorized to perform " + action + resource}
}

func (s *STS) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Version") != "2011-06-15" {
		s.fail(w, stsError{http.StatusBadRequest, "InvalidAction", "Could not find operation for this version"})
		return
	}
	action := form.Get("Action")
	s.mu.Lock()
	s.requests[action]++
	s.mu.Unlock()
	var result any
	switch action {
	case "AssumeRoleWithWebIdentity":
		result, err = s.assumeRoleWithWebIdentity(r.Context(), form)
	case "AssumeRole":
		result, err = s.assumeRole(r, body, form)
	case "GetCallerIdentity":
		result, err = s.callerIdentity(r, body)
	default:
		err = stsError{http.StatusBadRequest, "InvalidAction", "Could not find operation " + action}
	}
	var failed stsError
	if errors.As(err, &failed) {
		s.fail(w, failed)
		return
	}
	s.send(w, http.StatusOK, struct {
		XMLName xml.Name
		Result  any
		Meta    string `xml:"ResponseMetadata>RequestId"`
	}{xml.Name{Space: "https://sts.amazonaws.com/doc/2011-06-15/", Local: action + "Response"}, result, rand.Text()})
}

func (s *STS) fail(w http.ResponseWriter, e stsError) {
	s.send(w, e.status, struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Type    string   `xml:"Error>Type"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
		Request string   `xml:"RequestId"`
	}{Type: "Sender", Code: e.code, Message: e.message, Request: rand.Text()})
}

func (s *STS) send(w http.ResponseWriter, status int, v any) {
	text, err := xml.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may be gone
}

type xmlCredentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

type xmlUser struct {
	Arn           string
	AssumedRoleID string `xml:"AssumedRoleId"`
}

type webIdentityResult struct {
	XMLName  xml.Name `xml:"AssumeRoleWithWebIdentityResult"`
	Subject  string   `xml:"SubjectFromWebIdentityToken"`
	Audience string
	User     xmlUser        `xml:"AssumedRoleUser"`
	Creds    xmlCredentials `xml:"Credentials"`
	Provider string
}

var sessionNameText = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

func (s *STS) assumeRoleWithWebIdentity(ctx context.Context, form url.Values) (any, error) {
	const action = "sts:AssumeRoleWithWebIdentity"
	claims, err := s.webIdentity(ctx, form.Get("WebIdentityToken"))
	if err != nil {
		return nil, err
	}
	arn := form.Get("RoleArn")
	role, ok := s.config.Roles[arn]
	if !ok || !role.trusts(claims) {
		return nil, denied(action, "")
	}
	subject, _ := claims["sub"].(string)
	session, err := s.issue(arn, role, form, subject)
	if err != nil {
		return nil, err
	}
	return webIdentityResult{
		Subject: subject, Audience: role.Audience, Provider: "arn:aws:iam::123456789012:oidc-provider/" + strings.TrimPrefix(s.config.IssuerURL, "http://"),
		User: user(session), Creds: credentials(session),
	}, nil
}

func user(s Session) xmlUser {
	return xmlUser{Arn: s.SessionARN, AssumedRoleID: "AROASTANDIN:" + s.SessionARN[strings.LastIndex(s.SessionARN, "/")+1:]}
}

func credentials(s Session) xmlCredentials {
	return xmlCredentials{s.AccessKeyID, s.SecretAccessKey, s.SessionToken, s.Expiration.UTC().Format(time.RFC3339)}
}

// webIdentity verifies the token: an OIDC provider for its issuer must exist
// in the account, its key must have signed it, and it must be of now.
func (s *STS) webIdentity(ctx context.Context, raw string) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.config.Now), jwt.WithLeeway(30*time.Second))
	_, err := parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) {
		if iss, _ := t.Claims.GetIssuer(); iss != s.config.IssuerURL {
			return nil, stsError{http.StatusBadRequest, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for " + iss}
		}
		return issuerKey(ctx, s.config.IssuerURL, t)
	})
	var failed stsError
	switch {
	case errors.As(err, &failed):
		return nil, failed
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, stsError{http.StatusBadRequest, "ExpiredTokenException", "Token expired"}
	case err != nil:
		return nil, stsError{http.StatusBadRequest, "InvalidIdentityToken", "Couldn't verify the token's signature or times"}
	}
	return claims, nil
}

// issuerKey fetches the issuer's key for a token, by the key's id.
func issuerKey(ctx context.Context, issuer string, t *jwt.Token) (any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/jwks", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, stsError{http.StatusBadRequest, "IDPCommunicationError", "Couldn't reach the identity provider"}
	}
	defer resp.Body.Close()
	var set jose.JSONWebKeySet // parsing alone; golang-jwt verifies
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		return nil, err
	}
	kid, _ := t.Header["kid"].(string)
	for _, key := range set.Key(kid) {
		return key.Key, nil
	}
	return nil, errors.New("no key " + kid)
}

// trusts evaluates the trust policy's conditions: all of them, each by any of
// its values. A claim that is not there fails, as it does at AWS.
func (r Role) trusts(claims jwt.MapClaims) bool {
	audience, err := claims.GetAudience()
	if err != nil || len(audience) != 1 || audience[0] != r.Audience {
		return false
	}
	for name, patterns := range r.Claims {
		value, ok := claims[name].(string)
		if !ok {
			return false
		}
		matched := false
		for _, p := range patterns {
			matched = matched || stringLike(p, value)
		}
		if !matched {
			return false
		}
	}
	return true
}

// stringLike is IAM's StringLike: `*` for any run of characters, `?` for one.
func stringLike(pattern, value string) bool {
	quoted := regexp.QuoteMeta(pattern)
	quoted = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(quoted)
	return regexp.MustCompile(`(?s)^(?:` + quoted + `)$`).MatchString(value)
}

func (s *STS) issue(arn string, role Role, form url.Values, subject string) (Session, error) {
	name := form.Get("RoleSessionName")
	if !sessionNameText.MatchString(name) {
		return Session{}, stsError{http.StatusBadRequest, "ValidationError", "1 validation error detected: Value at 'roleSessionName' failed to satisfy constraint"}
	}
	if p := form.Get("Policy"); p != "" && !json.Valid([]byte(p)) {
		return Session{}, stsError{http.StatusBadRequest, "MalformedPolicyDocument", "Syntax errors in policy."}
	}
	longest := role.MaxDuration
	if longest == 0 {
		longest = time.Hour
	}
	duration := time.Hour
	if text := form.Get("DurationSeconds"); text != "" {
		seconds, err := strconv.Atoi(text)
		if duration = time.Duration(seconds) * time.Second; err != nil || duration < s.config.MinDuration {
			return Session{}, stsError{http.StatusBadRequest, "ValidationError", fmt.Sprintf("1 validation error detected: Value '%s' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900", text)}
		}
	}
	if duration > longest {
		return Session{}, stsError{http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."}
	}
	account, path, _ := strings.Cut(strings.TrimPrefix(arn, "arn:aws:iam::"), ":role/")
	session := Session{
		AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: rand.Text() + "/" + rand.Text()[:13], SessionToken: "standin+" + rand.Text() + "/" + rand.Text() + "==",
		RoleARN: arn, SessionARN: "arn:aws:sts::" + account + ":assumed-role/" + path[strings.LastIndex(path, "/")+1:] + "/" + name,
		Subject: subject, Expiration: s.config.Now().Add(duration).Truncate(time.Second),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[session.AccessKeyID] = session
	return session, nil
}

type assumeRoleResult struct {
	XMLName xml.Name       `xml:"AssumeRoleResult"`
	User    xmlUser        `xml:"AssumedRoleUser"`
	Creds   xmlCredentials `xml:"Credentials"`
}

func (s *STS) assumeRole(r *http.Request, body []byte, form url.Values) (any, error) {
	caller, err := s.Authenticate(r, body, "sts")
	if err != nil {
		return nil, err
	}
	arn := form.Get("RoleArn")
	role, ok := s.config.Roles[arn]
	if !ok || role.TrustedRole != caller.RoleARN || role.ExternalID != form.Get("ExternalId") {
		e := denied("sts:AssumeRole", " on resource: "+arn)
		e.message = "User: " + caller.SessionARN + " is not authorized to perform: sts:AssumeRole on resource: " + arn
		return nil, e
	}
	role.MaxDuration = time.Hour // AWS's bound for a role chain
	session, err := s.issue(arn, role, form, caller.Subject)
	if err != nil {
		return nil, err
	}
	return assumeRoleResult{User: user(session), Creds: credentials(session)}, nil
}

type callerIdentityResult struct {
	XMLName xml.Name `xml:"GetCallerIdentityResult"`
	Arn     string
	UserID  string `xml:"UserId"`
	Account string
}

func (s *STS) callerIdentity(r *http.Request, body []byte) (any, error) {
	caller, err := s.Authenticate(r, body, "sts")
	if err != nil {
		return nil, err
	}
	return callerIdentityResult{Arn: caller.SessionARN, UserID: "AROASTANDIN:" + caller.AccessKeyID, Account: strings.Split(caller.SessionARN, ":")[4]}, nil
}

var authorizationText = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// Authenticate verifies a request's signature, session token and expiry, and
// returns whose it is. The error is one of AWS's.
func (s *STS) Authenticate(r *http.Request, body []byte, service string) (Session, error) {
	m := authorizationText.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return Session{}, stsError{http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	session, ok := s.Session(m[1])
	switch {
	case !ok, r.Header.Get("X-Amz-Security-Token") != session.SessionToken:
		return Session{}, stsError{http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."}
	case !s.config.Now().Before(session.Expiration):
		return Session{}, stsError{http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired"}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || at.Sub(s.config.Now()).Abs() > 15*time.Minute || m[4] != service {
		return Session{}, stsError{http.StatusForbidden, "SignatureDoesNotMatch", "Signature expired or not for this service"}
	}
	signed := &http.Request{Method: r.Method, URL: &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}, Host: r.Host, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
	for _, name := range strings.Split(m[5], ";") {
		switch name {
		case "host":
		case "content-length":
			signed.ContentLength = r.ContentLength
		default:
			signed.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	hash := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey, SessionToken: session.SessionToken},
		signed, hex.EncodeToString(hash[:]), service, m[3], at)
	if again := authorizationText.FindStringSubmatch(signed.Header.Get("Authorization")); err != nil || again == nil || again[6] != m[6] {
		return Session{}, stsError{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."}
	}
	return session, nil
}
