package standin

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

// An IAM is what an administrator of an STS's account needs in an incident:
// IAM's API for roles, the token service's, and CloudTrail's for who was given
// a role. What it changes has effect at once; in AWS it takes some seconds.
type IAM struct {
	sts    *STS
	admin  Session
	server *httptest.Server
}

// StartIAM starts the APIs on loopback. Close it. Roles whose Trust is empty
// cannot be changed.
func StartIAM(sts *STS, account string) (*IAM, error) {
	role := roleRequest{role: "arn:aws:iam::" + account + ":role/administrator", name: "on-call", duration: time.Hour}
	i := &IAM{sts: sts, admin: sts.issue(role, "", "")}
	server, err := serve(http.HandlerFunc(i.handle))
	if err != nil {
		return nil, err
	}
	i.server = server
	return i, nil
}

// Close stops the server.
func (i *IAM) Close() { i.server.Close() }

// Env is what AWS's own tools need to be the administrator.
func (i *IAM) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + i.server.URL, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=" + i.admin.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + i.admin.SecretAccessKey, "AWS_SESSION_TOKEN=" + i.admin.SessionToken,
	}
}

// A roleState is what IAM may change of a role.
type roleState struct {
	trust  string // the JSON
	admits wall.Wall
	inline map[string]rolePolicy
}

// A rolePolicy is an inline policy of a role. As with session policies, the
// role may do everything that none of them denies.
type rolePolicy struct {
	text       string
	statements sessionPolicy
	before     []time.Time // of each statement: it is for sessions from before; zero for all
}

// setTrust replaces a trust policy, as IAM takes it.
func (r *roleState) setTrust(text string) error {
	admits, err := wall.AWS([]byte(text))
	if err == nil {
		err = errors.Join(wall.AWSFits([]byte(text), wall.AWSQuota), wall.AWSControl([]byte(text)))
	}
	if err != nil {
		return malformed(err.Error())
	}
	r.trust, r.admits = text, admits
	return nil
}

func parseRolePolicy(text string) (p rolePolicy, err error) {
	if p.statements, err = parseSessionPolicy(text); err != nil {
		return p, err
	}
	p.text = text
	for _, s := range p.statements {
		var at time.Time
		if s.Condition != nil {
			var condition map[string]map[string]string
			err := json.Unmarshal(s.Condition, &condition)
			if err != nil || len(condition) != 1 || len(condition["DateLessThan"]) != 1 {
				return p, malformed("only DateLessThan is evaluated here")
			}
			if at, err = time.Parse(time.RFC3339, condition["DateLessThan"]["aws:TokenIssueTime"]); err != nil {
				return p, malformed("only aws:TokenIssueTime, with a time, is evaluated here")
			}
		}
		if s.NotAction != nil || s.NotResource != nil {
			return p, malformed("NotAction and NotResource are not evaluated here")
		}
		p.before = append(p.before, at)
	}
	return p, nil
}

// denies reports whether the policy denies an action to a session.
func (p rolePolicy) denies(session Session, action, resource string) bool {
	for i, s := range p.statements {
		old := p.before[i].IsZero() || session.Issued.Truncate(time.Second).Before(p.before[i])
		if s.Effect == "Deny" && old && s.covers(action, resource) {
			return true
		}
	}
	return false
}

// trusts reports whether a role's trust policy admits a web identity.
func (s *STS) trusts(arn string, role Role, claims jwt.MapClaims) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.roles[arn]
	if !ok {
		return role.trusts(claims)
	}
	claims = maps.Clone(claims)
	claims["iss"] = strings.TrimPrefix(s.config.IssuerURL, "http://") // the stand-in's has no TLS
	admitted, err := state.admits(claims)
	return admitted && err == nil
}

// record has CloudTrail know a request.
func (s *STS) record(role string, result any, err error) {
	e := trailEvent{at: s.config.Now(), id: rand.Text(), role: role}
	if web, ok := result.(webIdentityResult); ok {
		e.subject = web.Subject
	}
	var failed stsError
	if errors.As(err, &failed) {
		e.code = failed.code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trail = append(s.trail, e)
}

// denied reports whether a policy of the session's role denies it an action.
func (s *STS) denied(session Session, action, resource string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.roles[session.RoleARN]
	if !ok {
		return false
	}
	for _, p := range state.inline {
		if p.denies(session, action, resource) {
			return true
		}
	}
	return false
}

func (i *IAM) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".CloudTrail_20131101.LookupEvents") {
		i.lookup(w, r, body)
		return
	}
	form, err := url.ParseQuery(string(body))
	if form.Get("Version") == "2011-06-15" {
		r.Body = io.NopCloser(bytes.NewReader(body))
		i.sts.handle(w, r)
		return
	}
	if err != nil || form.Get("Version") != "2010-05-08" {
		i.sts.fail(w, stsError{http.StatusBadRequest, "InvalidAction", "Could not find operation for this version"})
		return
	}
	result, err := i.change(r, body, form)
	var failed stsError
	if errors.As(err, &failed) {
		i.sts.fail(w, failed)
		return
	}
	action := form.Get("Action")
	i.sts.send(w, http.StatusOK, struct {
		XMLName xml.Name
		Result  any
		Meta    string `xml:"ResponseMetadata>RequestId"`
	}{xml.Name{Space: "https://iam.amazonaws.com/doc/2010-05-08/", Local: action + "Response"}, result, rand.Text()})
}

type getRoleResult struct {
	XMLName xml.Name `xml:"GetRoleResult"`
	Path    string   `xml:"Role>Path"`
	Name    string   `xml:"Role>RoleName"`
	ID      string   `xml:"Role>RoleId"`
	Arn     string   `xml:"Role>Arn"`
	Created string   `xml:"Role>CreateDate"`
	Trust   string   `xml:"Role>AssumeRolePolicyDocument"`
}

type nothing struct {
	XMLName xml.Name `xml:"Nothing"`
}

// change does what a request for IAM asks for.
func (i *IAM) change(r *http.Request, body []byte, form url.Values) (any, error) {
	caller, err := i.sts.Authenticate(r, body, "iam")
	if err != nil {
		return nil, err
	}
	action, name, policy := form.Get("Action"), form.Get("RoleName"), form.Get("PolicyName")
	if caller.AccessKeyID != i.admin.AccessKeyID {
		return nil, forbidden("AccessDenied",
			"User: "+caller.SessionARN+" is not authorized to perform: iam:"+action+" on resource: role "+name)
	}
	i.sts.mu.Lock()
	defer i.sts.mu.Unlock()
	arn, role := i.role(name)
	if role == nil {
		return nil, missing("role", name)
	}
	switch action {
	case "GetRole":
		return getRoleResult{Path: "/", Name: name, ID: "AROASTANDIN", Arn: arn, Created: "2026-01-02T03:04:05Z",
			Trust: strings.ReplaceAll(url.QueryEscape(role.trust), "+", "%20")}, nil
	case "UpdateAssumeRolePolicy":
		return nothing{}, role.setTrust(form.Get("PolicyDocument"))
	case "PutRolePolicy":
		p, err := parseRolePolicy(form.Get("PolicyDocument"))
		if err == nil {
			role.inline[policy] = p
		}
		return nothing{}, err
	case "DeleteRolePolicy":
		if _, ok := role.inline[policy]; !ok {
			return nil, missing("role policy", policy)
		}
		delete(role.inline, policy)
		return nothing{}, nil
	}
	return nil, stsError{http.StatusBadRequest, "InvalidAction",
		"Could not find operation " + action + " for version 2010-05-08"}
}

func missing(what, name string) stsError {
	return stsError{http.StatusNotFound, "NoSuchEntity", "The " + what + " with name " + name + " cannot be found."}
}

// role returns a role by its name, which has no path.
func (i *IAM) role(name string) (arn string, role *roleState) {
	for arn, role := range i.sts.roles {
		if arn[strings.LastIndex(arn, "/")+1:] == name {
			return arn, role
		}
	}
	return "", nil
}

const webIdentityAction = "AssumeRoleWithWebIdentity"

// A trailEvent is a request to the token service as CloudTrail has it.
type trailEvent struct {
	at            time.Time
	id            string
	role, subject string
	code          string // of the error, "" for none
}

func (e trailEvent) json() string {
	text, err := json.Marshal(map[string]any{
		"eventVersion": "1.11", "eventTime": e.at.UTC().Format(time.RFC3339), "eventID": e.id,
		"eventSource": "sts.amazonaws.com", "eventName": webIdentityAction,
		"userIdentity":      map[string]any{"type": "WebIdentityUser", "userName": e.subject},
		"requestParameters": map[string]any{"roleArn": e.role}, "errorCode": e.code,
	})
	if err != nil {
		panic(err) // our own texts
	}
	return string(text)
}

// lookup answers CloudTrail's LookupEvents, for the events about a role.
func (i *IAM) lookup(w http.ResponseWriter, r *http.Request, body []byte) {
	var in struct {
		LookupAttributes []struct{ AttributeKey, AttributeValue string }
	}
	caller, err := i.sts.AuthenticateIn(r, body, "cloudtrail", "eu-central-1")
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if err != nil || caller.AccessKeyID != i.admin.AccessKeyID || json.Unmarshal(body, &in) != nil ||
		len(in.LookupAttributes) != 1 || in.LookupAttributes[0].AttributeKey != "ResourceName" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"__type": "InvalidLookupAttributesException",
			"message": "Not one ResourceName, or not by the administrator."}`)
		return
	}
	events := []map[string]any{}
	i.sts.mu.Lock()
	for _, e := range slices.Backward(i.sts.trail) {
		if e.role == in.LookupAttributes[0].AttributeValue {
			events = append(events, map[string]any{
				"EventId": e.id, "EventName": webIdentityAction, "EventTime": e.at.Unix(), "CloudTrailEvent": e.json(),
			})
		}
	}
	i.sts.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"Events": events}) // the client may be gone
}
