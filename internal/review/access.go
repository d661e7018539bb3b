package review

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// AccessInput is what an access review is about.
type AccessInput struct {
	Policy  *policy.Policy
	Path    string   // of the policy's file; "" for a policy that is no file
	Name    string   // what the review calls the policy
	Environ []string // for git
	Now     time.Time
	Period  Period
	// Login returns what a target logs in with, by the names that `explain` has.
	Login func(*policy.Target) map[string]string
	// Records are the audit records of the period, nil for none.
	Records iter.Seq2[auditlog.Entry, error]
	// Principals are the users that the warehouses' owners say there are, nil where they were not asked.
	Principals []Principal
}

// An Access is a review of who may have a credential: each rule of the policy,
// and each user of the warehouse that has no rule.
type Access struct {
	Now          time.Time
	Period       Period
	Policy       string // how the policy is called
	PolicySHA256 string
	Lines        []Line
	Records      Summary
	WithRecords  bool // whether Records were read
	WithUsers    bool // whether users were compared
}

// Kinds of a Line.
const (
	lineAllow = "allow" // a rule of a target
	lineDeny  = "deny"  // a rule that comes before every target
	lineUser  = "user"  // a user of the warehouse without a rule
	lineGone  = "gone"  // decided upon in an earlier file, and no longer there
)

// A Line is one entry of the population.
type Line struct {
	Kind         string
	Target       string
	Rule, At     int // its number from 1, and its line in the policy; 0 for a user
	Identity     string
	IdentityKind string
	Matches      []Match
	Binds        string // "id", "name" or "other claims"
	Events       []string
	Environment  []string
	Provider     string
	Principal    string // who the provider knows: a role, a service account, an application
	User         string // of the warehouse
	Role         string // of the warehouse
	Schema       string
	Lifetime     string
	Guard        string // of those whom a rule of a target admits, "none" for none
	InWarehouse  string // what the warehouse's owner says of the user, where that was read
	Added        Change
	Changed      Change
	Use          Use
	Recorded     bool // Use is known
	Wide         bool
	Ships        bool // the target writes audit records to a bucket
	Reviewed     time.Time
	Fingerprint  string // of what was decided upon
	Decision     Decision
	rest         map[string]string // of a line that is gone: its cells
}

// noGuard is said of a rule whose runs may send any statement.
const noGuard = "none"

// A Match is a claim, and the patterns one of which it must match.
type Match struct {
	Claim    string
	Patterns []string
}

// A Decision is what a reviewer fills in.
type Decision struct{ Reviewer, Decision, On, Comment string }

// Unused reports whether the rule is known to have admitted no run of the period.
func (l Line) Unused() bool { return l.Recorded && l.Kind == lineAllow && l.Use.Decisions == 0 }

// NewAccess makes a review. An error is one of reading the records.
func NewAccess(ctx context.Context, in AccessInput) (Access, error) {
	a := Access{
		Now: in.Now.UTC(), Period: in.Period, Policy: in.Name, PolicySHA256: in.Policy.SHA256(),
		WithRecords: in.Records != nil, WithUsers: in.Principals != nil,
	}
	now := rulesOf([]byte(in.Policy.Text()))
	for _, name := range in.Policy.Targets() {
		t, err := in.Policy.Target(name)
		if err != nil {
			return Access{}, err
		}
		for _, r := range t.Rules() {
			l := lineOf(t, r, in.Login(t))
			l.Ships = name == in.Policy.Audit().Bucket.Target
			l.Fingerprint = fingerprint(now, name, r)
			a.Lines = append(a.Lines, l)
		}
	}
	for _, r := range in.Policy.DenyRules() {
		l := ruleLine(r)
		l.Kind, l.Target, l.Binds, l.Fingerprint = lineDeny, denyTarget, "", fingerprint(now, denyTarget, r)
		a.Lines = append(a.Lines, l)
	}
	versions := a.addHistory(ctx, in, now)
	if in.Principals != nil {
		a.reconcile(in.Principals)
	}
	if in.Records == nil {
		return a, nil
	}
	count := newCounter(&a, now, versions)
	if err := count.all(in.Records); err != nil {
		return Access{}, err
	}
	a.Records = count.summary()
	for i := range a.Lines {
		a.Lines[i].Recorded = true
	}
	return a, nil
}

// addHistory adds who brought and changed the rules, and returns every version
// of the policy that git has.
func (a *Access) addHistory(ctx context.Context, in AccessInput, now rules) []rules {
	ctx, cancel := context.WithTimeout(ctx, maxGit)
	defer cancel()
	h, err := historyOf(ctx, Input{Policy: in.Policy, Path: in.Path, Environ: in.Environ})
	versions := []rules{now}
	for i := range a.Lines {
		l := &a.Lines[i]
		if err != nil {
			l.Added, l.Changed = unknown(err), unknown(err)
			continue
		}
		l.Added, l.Changed = h.ruleChanges(ctx, l.Target, l.Rule-1)
	}
	if err != nil {
		return versions
	}
	for commit := range h.commits { // a version that cannot be read counts no record
		if v, err := h.version(ctx, commit); err == nil {
			versions = append(versions, v)
		}
	}
	return versions
}

func lineOf(t *policy.Target, r policy.RuleView, login map[string]string) Line {
	l := ruleLine(r)
	l.Kind, l.Target, l.Provider, l.Reviewed, l.Schema = lineAllow, t.Name(), t.Provider(), t.TrustReviewed(), login["schema"]
	if l.Schema == "" {
		l.Schema = login["dataset"]
	}
	l.Role = login["dbt_role"]
	principals := []string{"then_role", "service_account", "client_id", "application"}
	if t.Exchange().Get("role") == "" {
		l.Role = login["role"]
	} else {
		principals = append([]string{"role"}, principals...)
	}
	var named []string
	for _, name := range principals {
		if login[name] != "" {
			named = append(named, login[name])
		}
	}
	l.Principal, l.User, l.Lifetime = strings.Join(named, " then "), login["user"], lifetime(t.Lifetime())
	_, l.Wide = r.Open()
	if l.Guard = noGuard; r.Guard() != nil {
		l.Guard = r.Guard().String()
	}
	return l
}

// ruleLine is what a rule says itself.
func ruleLine(r policy.RuleView) Line {
	l := Line{Rule: r.Index + 1, At: r.Line, Identity: r.Identity.Name, IdentityKind: r.Identity.Kind, Binds: "id"}
	for _, claim := range r.Claims() {
		l.Matches = append(l.Matches, Match{claim, r.Patterns(claim)})
	}
	switch {
	case r.BindsNameOnly():
		l.Binds = "name"
	case len(r.IDs()) == 0:
		l.Binds = "other claims"
	}
	claim, events := r.Events()
	if l.Events = events; claim != "" && events == nil {
		l.Events = []string{"any"}
	}
	l.Environment = r.Patterns("environment")
	return l
}

// lifetime is how long a credential is asked for, as the policy writes it.
func lifetime(d time.Duration) string {
	if d == 0 {
		return "the provider's"
	}
	s := d.String()
	if short, ok := strings.CutSuffix(s, "m0s"); ok {
		s = short + "m"
	}
	if short, ok := strings.CutSuffix(s, "h0m"); ok {
		s = short + "h"
	}
	return s
}

// fingerprint is of all that a reviewer decides upon: the rule, whose tokens it
// is for, and what its target gives. It has letters, so that no spreadsheet
// takes it for a number.
func fingerprint(now rules, target string, r policy.RuleView) string {
	list := now.single[target]
	if r.Index >= len(list) {
		return ""
	}
	gives, own := now.gives[target], list[r.Index].sum
	whole := sumOf(fmt.Appendf(nil, "%q %x %x %q %q %q", target, gives, own, r.Identity.Kind, r.Identity.Issuer, r.Identity.ClientID))
	return "sha256:" + hex.EncodeToString(whole[:])
}

// text returns the match as one line.
func (m Match) text() string { return m.Claim + "=" + strings.Join(m.Patterns, "|") }

// matches returns what a rule matches as one line.
func (l Line) matches() string {
	texts := make([]string, len(l.Matches))
	for i, m := range l.Matches {
		texts[i] = m.text()
	}
	return strings.Join(texts, "; ")
}

// name is how messages call a line.
func (l Line) name() string {
	switch l.Kind {
	case lineUser:
		return fmt.Sprintf("user %q of the warehouse", l.User)
	case lineDeny:
		return fmt.Sprintf("deny rule %d (line %d of the policy)", l.Rule, l.At)
	}
	return fmt.Sprintf("rule %d of target %q (line %d of the policy)", l.Rule, l.Target, l.At)
}

// find returns the line with a fingerprint, nil for none.
func (a *Access) find(fingerprint string) *Line {
	if i := slices.IndexFunc(a.Lines, func(l Line) bool { return l.Fingerprint == fingerprint }); i >= 0 {
		return &a.Lines[i]
	}
	return nil
}
