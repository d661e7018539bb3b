package auditlog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Source is what findings are reported by.
type Source struct {
	Version      string // of this product
	PolicyFile   string
	PolicySHA256 string
	Now          time.Time
}

// event is an OCSF 1.8.0 Detection Finding (class 2004), or, of a policy's
// rule or target, an IAM Analysis Finding (class 2008).
type event struct {
	ActivityID   int          `json:"activity_id"`
	ActivityName string       `json:"activity_name"`
	CategoryUID  int          `json:"category_uid"`
	CategoryName string       `json:"category_name"`
	ClassUID     int          `json:"class_uid"`
	ClassName    string       `json:"class_name"`
	TypeUID      int          `json:"type_uid"`
	TypeName     string       `json:"type_name"`
	SeverityID   int          `json:"severity_id"`
	Severity     string       `json:"severity"`
	StatusID     int          `json:"status_id"`
	Status       string       `json:"status"`
	Message      string       `json:"message"`
	Time         int64        `json:"time"`
	Metadata     eventMeta    `json:"metadata"`
	Info         findingInfo  `json:"finding_info"`
	Resources    []resource   `json:"resources,omitempty"`
	Activity     *metrics     `json:"identity_activity_metrics,omitempty"`
	Permissions  []permission `json:"permission_analysis_results,omitempty"`
	Unmapped     placed       `json:"unmapped"`
}

type eventMeta struct {
	CorrelationUID string       `json:"correlation_uid,omitempty"`
	Version        string       `json:"version"`
	LogName        string       `json:"log_name"`
	Product        eventProduct `json:"product"`
}

type eventProduct struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
	Version    string `json:"version,omitempty"`
}

type findingInfo struct {
	UID       string   `json:"uid"` // the same each time that it is found
	Title     string   `json:"title"`
	Desc      string   `json:"desc"`
	Types     []string `json:"types"`
	Analytic  analytic `json:"analytic"`
	FirstSeen int64    `json:"first_seen_time,omitempty"`
	Page      string   `json:"src_url"`
}

type analytic struct {
	Name   string `json:"name"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
}

type resource struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type metrics struct {
	LastSeen int64 `json:"last_seen_time,omitempty"`
}

type permission struct {
	Policy eventPolicy `json:"policy"`
}

type eventPolicy struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// placed is where the finding is.
type placed struct {
	Finding string `json:"finding"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Target  string `json:"target,omitempty"`
	Rule    int    `json:"rule,omitempty"`
	Subject string `json:"subject,omitempty"`
}

// titles are for people; the page has more.
var titles = map[string]string{
	DamagedLine: "A line of the audit log is no record", InvalidRecord: "An audit record is not valid",
	UnknownOutcome: "The outcome of an allowed request is unknown", NoDecision: "A credential has no decision",
	AfterDenial: "A credential was issued after a denial", Duplicate: "An audit record is there twice",
	Conflict: "Two audit records contradict each other", NoStatement: "Records of statements are missing",
	Backwards: "The time of audit records goes backwards", TooLong: "A credential lives longer than the policy allows",
	Ahead:         "The time of an audit record is still to come",
	ReviewOverdue: "The review of a target's trust is overdue", RuleUnused: "A rule has not been used for 90 days",
}

const page = "https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/audit.md#findings"

// Event returns a finding as a line for a SIEM.
func (f Finding) Event(by Source) ([]byte, error) {
	class, className := 2004, "Detection Finding"
	analysis := f.Name == ReviewOverdue || f.Name == RuleUnused
	if analysis {
		class, className = 2008, "IAM Analysis Finding"
	}
	e := event{
		ActivityID: 1, ActivityName: "Create", CategoryUID: 2, CategoryName: "Findings",
		ClassUID: class, ClassName: className,
		TypeUID: class*100 + 1, TypeName: className + ": Create",
		SeverityID: int(f.Severity), Severity: capital(f.Severity.String()),
		StatusID: 1, Status: "New", Message: f.Message, Time: by.Now.UnixMilli(),
		Metadata: eventMeta{f.Run, "1.8.0", "findings", eventProduct{"oidc-dbt", "oidc-dbt", by.Version}},
		Info: findingInfo{UID: f.uid(by), Title: titles[f.Name], Desc: f.Message, Types: []string{f.Name},
			Analytic: analytic{f.Name, 1, "Rule"}, Page: page},
		Unmapped: placed{f.Name, f.File, f.Line, f.Target, f.Rule, f.Subject},
	}
	if f.Target != "" {
		e.Resources = []resource{{f.Target, "target"}}
	}
	if !f.Time.IsZero() && !analysis {
		e.Info.FirstSeen = f.Time.UnixMilli()
	}
	if analysis {
		name := by.PolicyFile + ": target " + f.Target
		if f.Rule > 0 {
			name += fmt.Sprintf(", rule %d", f.Rule)
		}
		e.Permissions = []permission{{eventPolicy{name, by.PolicySHA256}}}
	}
	if f.Name == RuleUnused && !f.Time.IsZero() {
		e.Activity = &metrics{f.Time.UnixMilli()}
	}
	line, err := json.Marshal(e)
	return append(line, '\n'), err
}

// uid names the finding: by its run if it has one, so that it is the same
// wherever the records are read.
func (f Finding) uid(by Source) string {
	parts := []string{f.Name, f.Run, f.Target, fmt.Sprint(f.Rule)}
	switch {
	case f.Name == ReviewOverdue || f.Name == RuleUnused:
		parts = append(parts, by.PolicyFile)
	case f.Run == "":
		parts = append(parts, f.File, fmt.Sprint(f.Line))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }
