// Package audit appends two JSON lines without tokens for every request: the decision
// before the exchange, and the outcome before anything is published.
//
// A line is an OCSF 1.8.0 Authentication event (https://schema.ocsf.io/1.8.0/classes/authentication):
// the decision is its Preauth activity, the outcome its Logon. What OCSF has
// no attribute for is under `unmapped`. Where a guard decides on statements, each
// is a line in addition: a Datastore Activity event.
package audit

import (
	"crypto/rand"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Values that OCSF prescribes.
const (
	schemaVersion = "1.8.0"
	categoryUID   = 3    // Identity & Access Management
	classUID      = 3002 // Authentication

	activityLogon   = 1
	activityLogoff  = 2
	activityPreauth = 6

	statusSuccess = 1
	statusFailure = 2

	severityInformational = 1
	severityLow           = 2
	severityMedium        = 3

	protocolOpenID = 4

	userUnknown = 0
	userRegular = 1
	userOther   = 99
)

// maxValue limits every text from outside: real claims are under 300 bytes, and
// a log shipper must accept the record as one line.
const maxValue = 1024

// maxMismatches bounds the claims listed for a denial: a policy may have 10,000 rules.
const maxMismatches = 100

// A Run is what both records of one request have in common. Fields that are not
// known yet (no token, no target) are empty and omitted.
type Run struct {
	ID           string // joins the two lines; from NewID
	Version      string // of this product
	PolicyOrigin string // the policy's path, or "input"
	PolicySHA256 string
	Target       string
	Provider     string
	Audience     string
	Claims       idtoken.Claims
	Identity     Identity
	ActorKind    string // "user", "bot", "agent"; never read from the token
	// ActorKindSource is what the kind is known by: "token", "id" or "name".
	ActorKindSource string
	AgentHint       string // the variable that says that an AI agent may be at work
	Guard           string // which statements go on, as the policy has it; "" for all
	DryRun          bool
	ExtraCA         string // the SHA-256 of NODE_EXTRA_CA_CERTS' file
	TokenSHA256     string // of the ID token, by which it is known where it has no id of its own
	Projects        []Project
}

// An Identity is whose token it is by the policy, and what of the token is kept.
type Identity struct {
	Name, Kind string
	// ActorName and ActorID are the claims of who started the run, "" for none.
	ActorName, ActorID string
	// Claims are those that an investigation starts from; the rest of the token,
	// such as custom properties, is not recorded.
	Claims []string
}

// NewID returns an id for a new Run: 130 random bits.
func NewID() string { return rand.Text() }

// A Mismatch is one claim that kept one rule from matching.
type Mismatch struct {
	Rule   int    `json:"rule"`   // from 0, in the target's `allow`
	Number int    `json:"number"` // from 1, as every message counts; set by Denied
	Line   int    `json:"line,omitempty"`
	Claim  string `json:"claim"`
	Got    string `json:"got"` // "" when the token does not have the claim
	Want   string `json:"want"`
}

// Allowed returns the record of a decision for the request; rule counts
// from 0, line is its line in the policy.
func (r Run) Allowed(at time.Time, rule, line int) Record {
	e := r.record(at, activityPreauth, statusSuccess, severityInformational)
	e.Unmapped.Decision = "allowed"
	e.Unmapped.Guard = clean(r.Guard)
	e.Unmapped.Rule = &matched{Index: rule, Number: rule + 1, Line: line}
	e.Actor.Authorizations = r.authorizations("allowed")
	for _, p := range r.Projects {
		e.Unmapped.DBT = append(e.Unmapped.DBT, p.cleaned())
	}
	e.Message = "policy allows the request"
	return e
}

// Denied returns the record of a decision against the request. reason says
// why in one line; mismatches may be empty (several targets, a stale review).
func (r Run) Denied(at time.Time, reason string, mismatches []Mismatch) Record {
	e := r.record(at, activityPreauth, statusFailure, severityMedium)
	e.Unmapped.Decision = "denied"
	e.Unmapped.Omitted = max(0, len(mismatches)-maxMismatches)
	for _, m := range mismatches[:min(len(mismatches), maxMismatches)] {
		m.Number = m.Rule + 1
		m.Claim, m.Got, m.Want = clean(m.Claim), clean(m.Got), clean(m.Want)
		e.Unmapped.Mismatches = append(e.Unmapped.Mismatches, m)
	}
	e.Actor.Authorizations = r.authorizations("denied")
	e.StatusCode = fault.Denied.String()
	e.StatusDetail = clean(reason)
	e.Message = "policy denies the request"
	return e
}

// Issued returns the outcome's record of an exchange that gave c. The
// credential is named by its kind, its identifier and a SHA-256; key is what
// the logs of the warehouse and the provider have of it.
func (r Run) Issued(at time.Time, c credential.Credential, key map[string]string) Record {
	e := r.record(at, activityLogon, statusSuccess, severityInformational)
	e.Unmapped.Outcome = "issued"
	e.Unmapped.Kind = string(c.Kind)
	e.Unmapped.Static = c.Static
	for name, value := range key {
		if e.Unmapped.WarehouseKey == nil {
			e.Unmapped.WarehouseKey = make(map[string]string, len(key))
		}
		e.Unmapped.WarehouseKey[name] = clean(value)
	}
	e.Session = &session{
		UID:            clean(c.ID),
		Issuer:         clean(r.Provider),
		ExpirationTime: milliseconds(c.Expiry),
		CredentialUID:  hash(c),
	}
	e.Message = "credential issued"
	return e
}

// Renewed returns the outcome's record of a renewal that lets c live longer:
// the same credential, with another expiry.
func (r Run) Renewed(at time.Time, c credential.Credential, key map[string]string) Record {
	e := r.Issued(at, c, key)
	e.Unmapped.Outcome = "renewed"
	e.Message = "credential renewed"
	return e
}

// Revoked returns the record of the end of a credential before its expiry;
// id is the credential's, err what kept it from ending.
func (r Run) Revoked(at time.Time, id string, err error) Record {
	e := r.record(at, activityLogoff, statusSuccess, severityInformational)
	e.Unmapped.Outcome = "revoked"
	e.Message = "credential revoked"
	if err != nil {
		e = r.record(at, activityLogoff, statusFailure, severityLow)
		e.Unmapped.Outcome = "failed"
		e.StatusCode = fault.ClassOf(err).String()
		e.StatusDetail = clean(err.Error())
		e.Message = "credential not revoked: it lives to its expiry"
	}
	e.Session = &session{UID: clean(id), Issuer: clean(r.Provider)}
	return e
}

// Skipped returns the outcome's record of a dry run that was allowed: nothing was exchanged.
func (r Run) Skipped(at time.Time) Record {
	e := r.record(at, activityLogon, statusSuccess, severityInformational)
	e.Unmapped.Outcome = "skipped"
	e.Message = "dry run: nothing was exchanged"
	return e
}

// Failed returns the outcome's record of a request that ended in err, at any
// step, with the error's class and message.
func (r Run) Failed(at time.Time, err error) Record {
	class := fault.ClassOf(err)
	severity := severityLow
	if class == fault.Denied || class == fault.Rejected {
		severity = severityMedium
	}
	e := r.record(at, activityLogon, statusFailure, severity)
	e.Unmapped.Outcome = "failed"
	e.StatusCode = class.String()
	e.StatusDetail = clean(err.Error())
	e.Message = "no credential issued"
	return e
}

// Stopped is Failed for a request that ended because its run was stopped.
func (r Run) Stopped(at time.Time, why error) Record {
	e := r.Failed(at, why)
	e.Unmapped.Outcome = "stopped"
	e.StatusCode = ""
	e.SeverityID, e.Severity = severityMedium, severityNames[severityMedium]
	return e
}

// Halted returns the record of the end of a run that was stopped after a
// credential had been issued: what it had at the warehouse was ended.
func (r Run) Halted(at time.Time, why error) Record {
	e := r.record(at, activityLogoff, statusSuccess, severityMedium)
	e.Metadata.UID = r.ID + "-stopped" // a lease has an end, too
	e.Unmapped.Outcome = "stopped"
	e.StatusDetail = clean(why.Error())
	e.Message = "run stopped"
	return e
}

// TurnedAway returns the record of callers of the broker that did not have its secret.
func (r Run) TurnedAway(at time.Time, count int) Record {
	e := r.record(at, activityLogon, statusFailure, severityMedium)
	e.Unmapped.Outcome = "turned_away"
	e.Count = count
	e.StatusDetail = "the broker was asked without this run's secret"
	e.Message = "no credential handed out"
	return e
}

// maxPackages bounds what is recorded of one project: few have more than twenty.
const maxPackages = 100

// cleaned returns what is recorded of a project, whose files anyone who can
// change the repository may have written.
func (p Project) cleaned() Project {
	p.Name = clean(p.Name)
	all := p.Packages
	p.Omitted, p.Packages = max(0, len(all)-maxPackages), nil
	for _, name := range all[:min(len(all), maxPackages)] {
		p.Packages = append(p.Packages, clean(name))
	}
	return p
}

// hash returns the SHA-256 of the part of c that the warehouse receives:
// the bearer, the session token, the password or the key.
func hash(c credential.Credential) string {
	candidates := []secret.Value{c.Token, c.Password, c.PrivateKey}
	if c.AWS != nil {
		candidates = append(candidates, c.AWS.SessionToken)
	}
	for _, v := range candidates {
		if !v.IsZero() {
			return v.SHA256()
		}
	}
	return ""
}

// record returns what all records of r share.
func (r Run) record(at time.Time, activity, status, severity int) Record {
	e := Record{
		ActivityID:     activity,
		ActivityName:   activityNames[activity],
		CategoryUID:    categoryUID,
		CategoryName:   "Identity & Access Management",
		ClassUID:       classUID,
		ClassName:      "Authentication",
		TypeUID:        classUID*100 + activity,
		TypeName:       "Authentication: " + activityNames[activity],
		SeverityID:     severity,
		Severity:       severityNames[severity],
		StatusID:       status,
		Status:         statusNames[status],
		Time:           milliseconds(at),
		AuthProtocolID: protocolOpenID,
		AuthProtocol:   "OpenID",
		IsRemote:       true,
		Metadata:       r.metadata(activity),
		Actor:          actor{AppName: "oidc-dbt"},
		User:           user{Name: "unverified", TypeID: userUnknown, Type: "Unknown"},
		Service:        service{Name: "oidc-dbt"},
		Unmapped: unmapped{
			Target:       clean(r.Target),
			Audience:     clean(r.Audience),
			ActorKind:    r.ActorKind,
			ActorSource:  r.ActorKindSource,
			AgentHint:    r.AgentHint,
			Identity:     clean(r.Identity.Name),
			IdentityKind: r.Identity.Kind,
			DryRun:       r.DryRun,
			PolicyOrigin: clean(r.PolicyOrigin),
			PolicySHA256: r.PolicySHA256,
			ExtraCA:      r.ExtraCA,
		},
	}
	if r.Provider != "" {
		e.Service.Name = clean(r.Provider)
	}
	if !r.Claims.IsZero() {
		r.identify(&e)
	}
	return e
}

func (r Run) metadata(activity int) metadata {
	return metadata{
		CorrelationUID: r.ID,
		UID:            r.ID + "-" + strings.ToLower(activityNames[activity]),
		Version:        schemaVersion,
		LogName:        "audit",
		Product:        product{Name: "oidc-dbt", VendorName: "oidc-dbt", Version: clean(r.Version)},
	}
}

// identify adds what the verified claims say.
func (r Run) identify(e *Record) {
	e.User = user{Name: clean(r.Claims.Subject()), TypeID: userOther, Type: "Workload"}
	e.Actor.IDP = &idp{Name: clean(r.Claims.Issuer())}
	e.Actor.Session = &session{
		UID:            clean(r.tokenID()),
		Issuer:         clean(r.Claims.Issuer()),
		ExpirationTime: milliseconds(r.Claims.Expiry()),
	}
	e.Actor.User = r.actor()
	e.Unmapped.Claims = map[string]string{}
	for _, name := range r.Identity.Claims {
		if v, ok := r.Claims.String(name); ok && v != "" {
			e.Unmapped.Claims[name] = clean(v)
		}
	}
	e.Unmapped.Act = acting(r.Claims)
}

// tokenID is what names the ID token: its jti, Entra ID's uti, or its SHA-256.
func (r Run) tokenID() string {
	for _, name := range []string{"jti", "uti"} {
		if id, _ := r.Claims.String(name); id != "" {
			return id
		}
	}
	if r.TokenSHA256 == "" {
		return ""
	}
	return "sha256:" + r.TokenSHA256
}

// maxActors bounds the chain of those who act for each other.
const maxActors = 5

// unknownActor is who acts where the token does not say.
const unknownActor = "unknown"

// acting returns the subjects of those who act for the token's, the one who
// acts now first. (RFC 8693, 4.1)
func acting(claims idtoken.Claims) (chain []string) {
	act, _ := claims.Value("act").(map[string]any)
	for ; act != nil && len(chain) < maxActors; act, _ = act["act"].(map[string]any) {
		subject, ok := act["sub"].(string)
		if !ok {
			subject = unknownActor
		}
		chain = append(chain, clean(subject))
	}
	if len(chain) == 0 && claims.Has("act") { // of another form: another party acts for the subject
		return []string{unknownActor}
	}
	return chain
}

// actor returns who started the run, nil where the token does not say.
func (r Run) actor() *user {
	name, ok := r.Claims.String(r.Identity.ActorName)
	if !ok {
		return nil
	}
	id, _ := r.Claims.String(r.Identity.ActorID)
	u := &user{Name: clean(name), UID: clean(id), TypeID: userOther, Type: r.ActorKind}
	switch r.ActorKind {
	case "user":
		u.TypeID, u.Type = userRegular, "User"
	case "":
		u.TypeID, u.Type = userUnknown, "Unknown"
	}
	return u
}

func (r Run) authorizations(decision string) []authorization {
	p := &policy{Name: clean(r.PolicyOrigin), UID: r.PolicySHA256}
	if p.Name == "" && p.UID == "" {
		p = nil // OCSF wants one of the two
	}
	return []authorization{{Decision: decision, Policy: p}}
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// token matches what begins like a JSON Web Token. No text should contain one
// here, except that a server may echo it in an error message.
var token = lazy.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?`)

// clean removes tokens from s and shortens it.
func clean(s string) string { return cleanTo(s, maxValue) }

// cleanTo removes tokens from s and shortens it to most bytes.
func cleanTo(s string, most int) string {
	s = token.ReplaceAllLiteralString(strings.ToValidUTF8(s, "\uFFFD"), "[secret]")
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
