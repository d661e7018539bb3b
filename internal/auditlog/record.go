package auditlog

import (
	"slices"
	"strings"
	"time"
)

// A Record is what is read of a line: docs/audit.md says what each field
// means. A field that is not there is zero.
type Record struct {
	ActivityID   int      `json:"activity_id"`
	ActivityName string   `json:"activity_name"`
	ClassUID     int      `json:"class_uid"`
	TypeUID      int      `json:"type_uid"`
	TypeName     string   `json:"type_name"`
	SeverityID   int      `json:"severity_id"`
	Severity     string   `json:"severity"`
	StatusID     int      `json:"status_id"`
	Status       string   `json:"status"`
	StatusCode   string   `json:"status_code"`
	StatusDetail string   `json:"status_detail"`
	Count        int      `json:"count"`
	Time         int64    `json:"time"` // milliseconds since 1970; see At
	Metadata     Metadata `json:"metadata"`
	Actor        Actor    `json:"actor"`
	User         User     `json:"user"`
	Service      Service  `json:"service"`
	Session      Session  `json:"session"`
	Query        Query    `json:"query_info"`
	Unmapped     Unmapped `json:"unmapped"`
}

// Metadata names the line.
type Metadata struct {
	CorrelationUID string  `json:"correlation_uid"`
	UID            string  `json:"uid"`
	Version        string  `json:"version"` // of OCSF
	Product        Product `json:"product"`
}

// Product is what wrote the line.
type Product struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Actor is who started the run.
type Actor struct {
	User    User    `json:"user"`
	IDP     IDP     `json:"idp"`
	Session Session `json:"session"` // the ID token
}

// User is a name and an id.
type User struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
	Type string `json:"type"`
}

// IDP is the issuer.
type IDP struct {
	Name string `json:"name"`
}

// Service is the provider.
type Service struct {
	Name string `json:"name"`
}

// Session is a credential, or an ID token.
type Session struct {
	UID            string `json:"uid"`
	Issuer         string `json:"issuer"`
	ExpirationTime int64  `json:"expiration_time"` // milliseconds since 1970; see Expires
	CredentialUID  string `json:"credential_uid"`  // SHA-256 of the credential
}

// Expires returns when the session ends, the zero time if it does not say.
func (s Session) Expires() time.Time {
	if s.ExpirationTime == 0 {
		return time.Time{}
	}
	return time.UnixMilli(s.ExpirationTime).UTC()
}

// Unmapped is what OCSF has no attribute for.
type Unmapped struct {
	Decision       string            `json:"decision"` // "allowed", "denied"
	Outcome        string            `json:"outcome"`  // "issued", "renewed", "skipped", "revoked", "failed" …
	Target         string            `json:"target"`
	Audience       string            `json:"audience"`
	DryRun         bool              `json:"dry_run"`
	PolicyOrigin   string            `json:"policy_origin"`
	PolicySHA256   string            `json:"policy_sha256"`
	ActorKind      string            `json:"actor_kind"`
	ActorSource    string            `json:"actor_kind_source"`
	AgentHint      string            `json:"agent_hint"`
	Identity       string            `json:"identity"`
	IdentityKind   string            `json:"kind"`
	Act            []string          `json:"act"`
	Rule           *Rule             `json:"rule"`
	Mismatches     []Mismatch        `json:"mismatches"`
	CredentialKind string            `json:"credential_kind"`
	Static         bool              `json:"static"`
	Claims         map[string]string `json:"claims"`
	WarehouseKey   map[string]string `json:"warehouse_key"`
	DBT            []Project         `json:"dbt"`
	Statement      *Statement        `json:"statement"` // nil for a record of something else
}

// Rule is the rule that matched.
type Rule struct {
	Index  int `json:"index"`  // from 0
	Number int `json:"number"` // from 1
	Line   int `json:"line"`   // in the policy
}

// Mismatch is a claim that kept a rule from matching.
type Mismatch struct {
	Rule   int    `json:"rule"`   // from 0
	Number int    `json:"number"` // from 1
	Claim  string `json:"claim"`
	Got    string `json:"got"`
	Want   string `json:"want"`
}

// Project is a dbt project and the packages that its lock file pins.
type Project struct {
	Name     string   `json:"project"`
	Lock     string   `json:"package_lock_sha256"`
	Packages []string `json:"packages"` // NAME@VERSION, URL@REVISION
	Omitted  int      `json:"packages_omitted"`
}

// isHalt reports whether r says that a run was stopped that had a credential.
func (r *Record) isHalt() bool { return r.ActivityID == 2 && r.Unmapped.Outcome == "stopped" }

// At is when the record was written.
func (r *Record) At() time.Time { return time.UnixMilli(r.Time).UTC() }

// repositories are the claims that name a repository, one kind of identity
// each, by those that records keep; several are joined by a slash.
var repositories = [][]string{
	{"repository"}, {"project_path"}, {"organization_slug", "pipeline_slug"}, {"oidc.circleci.com/vcs-origin"},
	{"rpo_uri"}, {"repositoryUuid"}, {"repo_url"},
}

// Repository returns where the run came from, as its CI system names it:
// OWNER/NAME, a URL or an id; "" where there is no repository.
func (r *Record) Repository() string {
	for _, claims := range repositories {
		var parts []string
		for _, claim := range claims {
			if text := r.Unmapped.Claims[claim]; text != "" {
				parts = append(parts, text)
			}
		}
		if len(parts) == len(claims) {
			return strings.Join(parts, "/")
		}
	}
	return ""
}

// in reports whether the record is of a repository: NAME/* are all below NAME.
func (r *Record) in(repository string) bool {
	have := r.Repository()
	if owner, ok := strings.CutSuffix(repository, "*"); ok && strings.HasSuffix(owner, "/") {
		return strings.HasPrefix(have, owner)
	}
	return have == repository
}

// Has reports whether a decision's project had a package: NAME in any version,
// or NAME@VERSION.
func (r *Record) Has(name string) bool {
	return slices.ContainsFunc(r.Unmapped.DBT, func(p Project) bool {
		return slices.ContainsFunc(p.Packages, func(have string) bool {
			have, _, _ = strings.Cut(have, "#") // the folder of a git repository
			at := strings.LastIndexByte(have, '@')
			return have == name || at > 0 && have[:at] == name
		})
	})
}
