package standin

import (
	"context"
	"crypto/rand"
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
)

// A Role is an IAM role with its trust policy.
type Role struct {
	// Audience, Claims and Equals are the trust policy's conditions on a web
	// identity: `iss:aud`, StringLike and StringEquals on claims. Of GitHub's
	// claims AWS knows those in conditionKeys; a condition on another one is
	// never met.
	Audience string
	Claims   map[string][]string
	Equals   map[string][]string
	// Trust is the JSON of the trust policy. With it, it decides of web
	// identities, and Audience is only one of the provider's client ids.
	Trust string
	// TrustedRole and ExternalID are those of AssumeRole; "" for none.
	TrustedRole string
	ExternalID  string
	TagsSession bool // the trust policy allows TrustedRole sts:TagSession, too
	SetsContext bool // the trust policy allows TrustedRole sts:SetContext, too
	// SetsIdentity: the trust policy allows TrustedRole sts:SetSourceIdentity, too.
	SetsIdentity bool
	MaxDuration  time.Duration // 0 for the default of an hour
}

// STSConfig is an account: its OIDC provider and its roles.
type STSConfig struct {
	IssuerURL   string
	Audiences   []string         // the provider's client ids; every role's Audience where nil
	Roles       map[string]Role  // by ARN
	MinDuration time.Duration    // AWS's 15 minutes where 0; shorter ones are for tests of expiry
	Life        time.Duration    // of each session instead of what was asked for; 0 for what was
	Now         func() time.Time // time.Now where nil
	HTTP        *http.Client     // reaches the issuer; http.DefaultClient where nil
}

// An STS is a security token service: the query protocol, with role trust as
// AWS evaluates it. It verifies tokens with another library than the product,
// so that one mistake is not made twice.
type STS struct {
	config STSConfig
	keys   keyring
	server *httptest.Server

	mu       sync.Mutex
	sessions map[string]Session    // by access key id
	requests map[string]int        // by action
	roles    map[string]*roleState // by ARN, those with a Trust
	trail    []trailEvent
	// identities is where identity contexts come from; nil for nowhere.
	identities *IdentityCenter
	people     *SSO // whose sessions GetWebIdentityToken knows; nil for none
	grace      time.Duration
}

// A Session is what the service has issued.
type Session struct {
	AccessKeyID, SecretAccessKey, SessionToken string
	RoleARN, SessionARN                        string
	Subject                                    string // of the web identity
	User                                       string // of Identity Center, whose identity the session carries
	Issued, Expiration                         time.Time

	policies []sessionPolicy // each narrows what the session may do
}

// StartSTS starts a service on loopback. Close it.
func StartSTS(config STSConfig) (*STS, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.MinDuration == 0 {
		config.MinDuration = 15 * time.Minute
	}
	if config.Audiences == nil {
		for _, role := range config.Roles {
			config.Audiences = append(config.Audiences, role.Audience)
		}
	}
	s := &STS{config: config, keys: keyring{issuer: config.IssuerURL, client: config.HTTP}, sessions: map[string]Session{},
		requests: map[string]int{}, roles: map[string]*roleState{}}
	for arn, role := range config.Roles {
		if role.Trust == "" {
			continue
		}
		s.roles[arn] = &roleState{inline: map[string]rolePolicy{}}
		if err := s.roles[arn].setTrust(role.Trust); err != nil {
			return nil, fmt.Errorf("trust policy of %s: %w", arn, err)
		}
	}
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

// SetLife changes how long sessions live from now on, as STSConfig.Life.
func (s *STS) SetLife(life time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config.Life = life
}

// SetGrace has sessions taken for so long after their end; see Grace.
func (s *STS) SetGrace(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grace = d
}

// over reports whether a session is not taken any more.
func (s *STS) over(session Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.config.Now().Before(session.Expiration.Add(s.grace))
}

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

func (s *STS) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	for name, values := range r.URL.Query() {
		form[name] = append(form[name], values...)
	}
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
		s.record(form.Get("RoleArn"), result, err)
	case "AssumeRole":
		result, err = s.assumeRole(r, body, form)
	case "GetCallerIdentity":
		result, err = s.callerIdentity(r, body)
	case "GetWebIdentityToken":
		result, err = s.webIdentityToken(r, body, form)
	default:
		err = stsError{http.StatusBadRequest, "InvalidAction", "Could not find operation " + action + " for version 2011-06-15"}
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

func invalid(format string, args ...any) stsError {
	return stsError{http.StatusBadRequest, "ValidationError", fmt.Sprintf(format, args...)}
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
	Packed   int            `xml:"PackedPolicySize,omitempty"`
	Provider string
}

var (
	roleText        = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)
	sessionNameText = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

func (s *STS) assumeRoleWithWebIdentity(ctx context.Context, form url.Values) (any, error) {
	req, err := s.parse(form)
	if err != nil {
		return nil, err
	}
	claims, err := s.webIdentity(ctx, form.Get("WebIdentityToken"))
	if err != nil {
		return nil, err
	}
	role, ok := s.config.Roles[req.role]
	if !ok || !s.trusts(req.role, role, claims) {
		return nil, stsError{http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
	}
	if longest := role.longest(); req.duration > longest {
		return nil, invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	subject, _ := claims["sub"].(string)
	session := s.issue(req, subject, "")
	return webIdentityResult{
		Subject: subject, Audience: role.Audience, Packed: req.packed,
		Provider: "arn:aws:iam::" + account(req.role) + ":oidc-provider/" +
			strings.TrimPrefix(strings.TrimPrefix(s.config.IssuerURL, "https://"), "http://"),
		User: user(session), Creds: credentials(session),
	}, nil
}

func (r Role) longest() time.Duration {
	if r.MaxDuration == 0 {
		return time.Hour
	}
	return r.MaxDuration
}

func account(arn string) string { return strings.Split(arn, ":")[4] }

func user(s Session) xmlUser {
	return xmlUser{Arn: s.SessionARN, AssumedRoleID: "AROASTANDIN:" + s.SessionARN[strings.LastIndex(s.SessionARN, "/")+1:]}
}

func credentials(s Session) xmlCredentials {
	return xmlCredentials{s.AccessKeyID, s.SecretAccessKey, s.SessionToken, s.Expiration.UTC().Format(time.RFC3339)}
}

// A roleRequest is the parameters that both ways to a role have.
type roleRequest struct {
	role, name string
	duration   time.Duration
	policies   []sessionPolicy
	packed     int // percent
}

// parse checks parameters as the service's model does, before the caller is authenticated.
func (s *STS) parse(form url.Values) (roleRequest, error) {
	req := roleRequest{role: form.Get("RoleArn"), name: form.Get("RoleSessionName"), duration: time.Hour}
	if !roleText.MatchString(req.role) {
		return req, invalid("%s is invalid", req.role)
	}
	if !sessionNameText.MatchString(req.name) {
		return req, invalid("1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: "+
			"Member must satisfy regular expression pattern: [\\w+=,.@-]*", req.name)
	}
	if text := form.Get("DurationSeconds"); text != "" {
		const constraint = "1 validation error detected: Value '%s' at 'durationSeconds' failed to satisfy constraint: " +
			"Member must have value %s than or equal to %d"
		seconds, err := strconv.Atoi(text)
		req.duration = time.Duration(seconds) * time.Second
		switch {
		case err != nil || req.duration < s.config.MinDuration:
			return req, invalid(constraint, text, "greater", 900)
		case req.duration > 12*time.Hour:
			return req, invalid(constraint, text, "less", 43200)
		}
	}
	var err error
	req.policies, req.packed, err = parseSessionPolicies(form)
	return req, err
}

func (s *STS) issue(req roleRequest, subject, user string) Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	life := req.duration
	if s.config.Life != 0 {
		life = s.config.Life
	}
	session := Session{
		AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: rand.Text() + "/" + rand.Text()[:13],
		SessionToken: "standin+" + rand.Text() + "/" + rand.Text() + "==", RoleARN: req.role,
		SessionARN: "arn:aws:sts::" + account(req.role) + ":assumed-role/" +
			req.role[strings.LastIndex(req.role, "/")+1:] + "/" + req.name,
		Subject: subject, User: user, Issued: s.config.Now(),
		Expiration: s.config.Now().Add(life).Truncate(time.Second), policies: req.policies,
	}
	s.sessions[session.AccessKeyID] = session
	return session
}

type assumeRoleResult struct {
	XMLName xml.Name       `xml:"AssumeRoleResult"`
	User    xmlUser        `xml:"AssumedRoleUser"`
	Creds   xmlCredentials `xml:"Credentials"`
	Packed  int            `xml:"PackedPolicySize,omitempty"`
}

func (s *STS) assumeRole(r *http.Request, body []byte, form url.Values) (any, error) {
	req, err := s.parse(form)
	if err != nil {
		return nil, err
	}
	caller, err := s.Authenticate(r, body, "sts")
	if err != nil {
		return nil, err
	}
	role, ok := s.config.Roles[req.role]
	if !ok || role.TrustedRole == "" || role.TrustedRole != caller.RoleARN ||
		role.ExternalID != "" && role.ExternalID != form.Get("ExternalId") || s.denied(caller, "sts:AssumeRole", req.role) {
		return nil, stsError{http.StatusForbidden, "AccessDenied",
			"User: " + caller.SessionARN + " is not authorized to perform: sts:AssumeRole on resource: " + req.role}
	}
	if req.duration > time.Hour { // regardless of what the role allows
		return nil, invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if err := sessionTags(form, role, caller); err != nil {
		return nil, err
	}
	identity, err := s.providedUser(form, role, caller)
	if err != nil {
		return nil, err
	}
	session := s.issue(req, caller.Subject, identity)
	return assumeRoleResult{User: user(session), Creds: credentials(session), Packed: req.packed}, nil
}

// sessionTags holds the request's tags to what STS says of them.
// (STS API Reference, AssumeRole, Tags, TransitiveTagKeys)
func sessionTags(form url.Values, role Role, caller Session) error {
	keys := map[string]bool{}
	for i := 1; form.Has(fmt.Sprintf("Tags.member.%d.Key", i)); i++ {
		key := strings.ToLower(form.Get(fmt.Sprintf("Tags.member.%d.Key", i)))
		if keys[key] {
			return stsError{http.StatusBadRequest, "InvalidParameterValue",
				"Duplicate tag keys found. Please note that Tag keys are case insensitive."}
		}
		keys[key] = true
	}
	if len(keys) > 50 {
		return invalid("1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length " +
			"less than or equal to 50")
	}
	for i := 1; form.Has(fmt.Sprintf("TransitiveTagKeys.member.%d", i)); i++ {
		if !keys[strings.ToLower(form.Get(fmt.Sprintf("TransitiveTagKeys.member.%d", i)))] {
			return stsError{http.StatusBadRequest, "InvalidParameterValue",
				"The specified transitive tag key must be included in the requested tags."}
		}
	}
	if len(keys) > 0 && !role.TagsSession {
		return forbidden("AccessDenied",
			"User: "+caller.SessionARN+" is not authorized to perform: sts:TagSession on resource: "+form.Get("RoleArn"))
	}
	if form.Get("SourceIdentity") != "" && !role.SetsIdentity {
		return forbidden("AccessDenied",
			"User: "+caller.SessionARN+" is not authorized to perform: sts:SetSourceIdentity on resource: "+form.Get("RoleArn"))
	}
	return nil
}

// providedUser returns the user of the request's identity context, "" where it
// has none. (STS API Reference, AssumeRole, ProvidedContexts)
func (s *STS) providedUser(form url.Values, role Role, caller Session) (user string, err error) {
	provider, assertion := form.Get("ProvidedContexts.member.1.ProviderArn"), form.Get("ProvidedContexts.member.1.ContextAssertion")
	switch {
	case provider == "" && assertion == "":
		return "", nil
	case form.Get("ProvidedContexts.member.2.ProviderArn") != "":
		return "", invalid("1 validation error detected: Value at 'providedContexts' failed to satisfy constraint: Member " +
			"must have length less than or equal to 1")
	case !role.SetsContext:
		return "", forbidden("AccessDenied",
			"User: "+caller.SessionARN+" is not authorized to perform: sts:SetContext on resource: "+form.Get("RoleArn"))
	case provider != "arn:aws:iam::aws:contextProvider/IdentityCenter":
		return "", invalid("Invalid context provider ARN")
	}
	s.mu.Lock()
	identities := s.identities
	s.mu.Unlock()
	if identities != nil {
		if user, ok := identities.user(assertion); ok {
			return user, nil
		}
	}
	return "", invalid("Invalid or expired context assertion")
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
	return callerIdentityResult{Arn: caller.SessionARN, UserID: user(caller).AssumedRoleID, Account: account(caller.SessionARN)}, nil
}
