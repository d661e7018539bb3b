package audit

// A Record is one line: an OCSF Authentication event. Make it with the methods of Run.
type Record struct {
	ActivityID     int      `json:"activity_id"`
	ActivityName   string   `json:"activity_name"`
	CategoryUID    int      `json:"category_uid"`
	CategoryName   string   `json:"category_name"`
	ClassUID       int      `json:"class_uid"`
	ClassName      string   `json:"class_name"`
	TypeUID        int      `json:"type_uid"` // class_uid * 100 + activity_id
	TypeName       string   `json:"type_name"`
	SeverityID     int      `json:"severity_id"`
	Severity       string   `json:"severity"`
	StatusID       int      `json:"status_id"`
	Status         string   `json:"status"`
	StatusCode     string   `json:"status_code,omitempty"`   // the error's class
	StatusDetail   string   `json:"status_detail,omitempty"` // the error's message
	Message        string   `json:"message"`
	Count          int      `json:"count,omitempty"` // of equal events, if one record is for several
	Time           int64    `json:"time"`            // milliseconds since 1970, as all times here
	Metadata       metadata `json:"metadata"`
	Actor          actor    `json:"actor"`             // who started the run
	User           user     `json:"user"`              // who is authenticated: the ID token's subject
	Service        service  `json:"service"`           // to whom: the provider
	Session        *session `json:"session,omitempty"` // the credential issued
	AuthProtocolID int      `json:"auth_protocol_id"`
	AuthProtocol   string   `json:"auth_protocol"`
	IsRemote       bool     `json:"is_remote"`
	Unmapped       unmapped `json:"unmapped"`
}

type metadata struct {
	CorrelationUID string  `json:"correlation_uid"` // one for the decision and its outcome
	UID            string  `json:"uid"`             // one for each line
	Version        string  `json:"version"`         // of OCSF
	LogName        string  `json:"log_name"`
	Product        product `json:"product"`
}

type product struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
	Version    string `json:"version,omitempty"`
}

type actor struct {
	AppName        string          `json:"app_name"`
	User           *user           `json:"user,omitempty"`
	IDP            *idp            `json:"idp,omitempty"`
	Session        *session        `json:"session,omitempty"` // the ID token: its jti, issuer and expiry
	Authorizations []authorization `json:"authorizations,omitempty"`
}

type authorization struct {
	Decision string  `json:"decision"`
	Policy   *policy `json:"policy,omitempty"`
}

type policy struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"` // SHA-256
}

type user struct {
	Name   string `json:"name"`
	UID    string `json:"uid,omitempty"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
}

type idp struct {
	Name string `json:"name"`
}

type service struct {
	Name string `json:"name"`
}

type session struct {
	UID            string `json:"uid,omitempty"`
	Issuer         string `json:"issuer,omitempty"`
	ExpirationTime int64  `json:"expiration_time,omitempty"`
	CredentialUID  string `json:"credential_uid,omitempty"` // SHA-256 of the credential
}

// unmapped is what OCSF has no attribute for. The names are stable.
type unmapped struct {
	Decision     string            `json:"decision,omitempty"` // "allowed", "denied"
	Outcome      string            `json:"outcome,omitempty"`  // "issued", "renewed", "skipped", "revoked", "failed", "stopped", "turned_away"
	Target       string            `json:"target,omitempty"`
	Audience     string            `json:"audience,omitempty"`
	DryRun       bool              `json:"dry_run,omitempty"`
	PolicyOrigin string            `json:"policy_origin,omitempty"`
	PolicySHA256 string            `json:"policy_sha256,omitempty"`
	ExtraCA      string            `json:"extra_ca_sha256,omitempty"` // of certificates that are trusted in addition to the system's
	ActorKind    string            `json:"actor_kind,omitempty"`
	ActorSource  string            `json:"actor_kind_source,omitempty"` // "token", "id", "name"
	AgentHint    string            `json:"agent_hint,omitempty"`        // a variable: anything can set it
	Identity     string            `json:"identity,omitempty"`          // the policy's name for whose token it is
	IdentityKind string            `json:"kind,omitempty"`
	Act          []string          `json:"act,omitempty"` // who acts for the subject, the one who acts now first
	Rule         *matched          `json:"rule,omitempty"`
	Guard        string            `json:"guard,omitempty"` // which statements go on
	Mismatches   []Mismatch        `json:"mismatches,omitempty"`
	Omitted      int               `json:"mismatches_omitted,omitempty"`
	Kind         string            `json:"credential_kind,omitempty"`
	Static       bool              `json:"static,omitempty"` // nothing ends the credential with the run
	Claims       map[string]string `json:"claims,omitempty"`
	// WarehouseKey is what the logs of the warehouse and the provider have in
	// common with this record, by their own words: session, access_key_id,
	// user, principal, lease, uti, query_tag, query_group, application_name,
	// run_tag, client_tag.
	WarehouseKey map[string]string `json:"warehouse_key,omitempty"`
	DBT          []Project         `json:"dbt,omitempty"` // what runs with the credential
}

// A Project is a dbt project and the packages that its lock file pins.
type Project struct {
	Name     string   `json:"project,omitempty"`
	Lock     string   `json:"package_lock_sha256,omitempty"` // of package-lock.yml
	Packages []string `json:"packages,omitempty"`            // NAME@VERSION, URL@REVISION
	Omitted  int      `json:"packages_omitted,omitempty"`
}

type matched struct {
	Index  int `json:"index"`  // from 0
	Number int `json:"number"` // from 1, as every message counts
	Line   int `json:"line"`
}

// Part is which of a request's records r is: its decision, its outcome, the end of
// what it gave, or that the run was stopped.
func (r Record) Part() string {
	switch r.ActivityID {
	case activityPreauth:
		return "decision"
	case activityLogoff:
		if r.Unmapped.Outcome == "stopped" {
			return "stopped"
		}
		return "end"
	}
	return "outcome"
}

// Failure reports whether r says that something was refused, or failed.
func (r Record) Failure() bool { return r.StatusID == statusFailure }

var (
	activityNames = map[int]string{activityLogon: "Logon", activityLogoff: "Logoff", activityPreauth: "Preauth"}
	statusNames   = map[int]string{statusSuccess: "Success", statusFailure: "Failure"}
	severityNames = map[int]string{severityInformational: "Informational", severityLow: "Low", severityMedium: "Medium"}
)

// Line returns r as one line of JSON with its newline.
func (r Record) Line() ([]byte, error) { return lineOf(r) }
