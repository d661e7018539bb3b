// Package explain shows what a policy decides of claims and why: as text, as JSON, and as a table of the step summary.
package explain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A Source is where claims are from.
type Source struct {
	Kind string // "live", "file", "flags", "audit"; "case" of a policy's test
	File string // as the user named it, for "file" and "audit"
	// AgentHint is the variable that says that an AI agent may be at work, ""
	// for none: a run may be refused by it.
	AgentHint string
	// Past is the decision of an audit record, for "audit".
	Past audit.Past
	// Missing are claims that do not follow from what is known, for "flags".
	Missing []string
	// Notes are about the claims, for every target.
	Notes []string
	// Other are the same claims with the subject in GitHub's other form, which
	// the job may as well have; nil for none.
	Other policy.ClaimSet
}

// Verified reports whether the claims are of a token that was verified.
func (s Source) Verified() bool { return s.Kind == "live" }

// A Report is what `explain --json` prints. Its form is documented, and its
// names are stable.
type Report struct {
	Version int      `json:"version"` // of this form
	Claims  Claims   `json:"claims"`
	Record  *Record  `json:"record,omitempty"` // of the audit record that the claims are from
	Chosen  string   `json:"chosen,omitempty"` // the target whose credential such a run gets
	Targets []Target `json:"targets"`

	source Source
	reason string // why none is chosen
	hint   string
}

// Claims are what was explained.
type Claims struct {
	Source   string         `json:"source"`
	Verified bool           `json:"verified"`
	Subject  string         `json:"subject,omitempty"`
	Values   map[string]any `json:"values"`
}

// A Record is the decision that an audit record tells of.
type Record struct {
	ID            string `json:"id"`
	Time          string `json:"time"`
	Decision      string `json:"decision"`
	Target        string `json:"target,omitempty"`
	Rule          int    `json:"rule,omitempty"`
	Line          int    `json:"line,omitempty"`
	PolicySHA256  string `json:"policy_sha256"`
	PolicyChanged bool   `json:"policy_changed"` // since then
}

// A Target is what one target gives to the claims.
type Target struct {
	Target   string   `json:"target"`
	Decision string   `json:"decision"`          // "allowed", "denied"
	Unknown  bool     `json:"unknown,omitempty"` // denied for want of claims that the record does not keep
	Rule     int      `json:"rule,omitempty"`    // that matched, from 1
	Line     int      `json:"line,omitempty"`
	Rules    []Rule   `json:"rules"`
	Login    Login    `json:"login,omitempty"`
	Guard    string   `json:"guard,omitempty"` // which statements go on, as the policy has it
	Provider Provider `json:"provider"`
	Hints    []string `json:"hints"`
	Warnings []string `json:"warnings"`

	reason  string
	refused policy.Rule // of the policy's `deny`, that matched
	order   []int       // of the rules for a reader: what matches, then the nearest
}

// A Rule is one rule of a target.
type Rule struct {
	Rule     int     `json:"rule"` // from 1
	Line     int     `json:"line"`
	Identity string  `json:"identity"`
	Matched  bool    `json:"matched"`
	Claims   []Claim `json:"claims"`
}

// A Claim is one that a rule asks for.
type Claim struct {
	Claim   string   `json:"claim"`
	Matched bool     `json:"matched"`
	Unknown bool     `json:"unknown,omitempty"`
	Got     Value    `json:"got,omitzero"`
	Want    []string `json:"want"`

	implied bool // the rule does not name it
}

// A Value is a claim's value; the zero Value is none.
type Value struct {
	JSON any
	Has  bool
}

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.JSON) }

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(text []byte) error {
	v.Has = true
	return json.Unmarshal(text, &v.JSON)
}

// IsZero reports whether the claim is absent.
func (v Value) IsZero() bool { return !v.Has }

// New explains claims by a policy: one target, or all if target is "". An
// unknown target is an error of class Usage.
func New(p *policy.Policy, claims policy.ClaimSet, now time.Time, target string, source Source) (Report, error) {
	if target != "" {
		if _, err := p.Target(target); err != nil {
			return Report{}, err
		}
	}
	e := p.Explain(claims, now)
	e.CheckHint(source.AgentHint)
	r := Report{Version: 1, Targets: []Target{}, source: source, Claims: Claims{
		Source: source.Kind, Verified: source.Verified(), Subject: claims.Subject(), Values: map[string]any{},
	}}
	for _, name := range claims.Names() {
		r.Claims.Values[name] = claims.Value(name)
	}
	r.Record = recordOf(source, p.SHA256())
	for _, t := range e.Targets {
		if target != "" && t.Target != target {
			continue
		}
		shown := newTarget(t, claims)
		shown.Warnings = append(shown.Warnings, source.Notes...)
		shown.Warnings = append(shown.Warnings, missing(t, source.Missing)...)
		shown.Warnings = append(shown.Warnings, otherwise(p, source, now, t)...)
		shown.past(r.Record)
		r.Targets = append(r.Targets, shown)
	}
	r.choose(e, target)
	return r, nil
}

// choose sets which target a run gets: the one that it names, or the only one
// that its claims match.
func (r *Report) choose(e policy.Explanation, target string) {
	var allowed []string
	for _, t := range r.Targets {
		if t.Decision == "allowed" {
			allowed = append(allowed, t.Target)
		}
	}
	switch {
	case target != "" && len(allowed) == 1:
		r.Chosen = target
	case target != "":
		r.reason = r.Targets[0].reason
	case e.Chosen != "": // by its rules; it may be denied all the same
		if r.Chosen = e.Allowed(); r.Chosen == "" {
			t, _ := e.Target(e.Chosen)
			r.reason = t.Reason()
		}
	case r.Record != nil && len(allowed) == 1:
		r.Chosen = allowed[0] // the record says so
	default:
		r.reason = e.Reason()
		if len(allowed) > 1 {
			r.hint = "give the run a target"
			for i := range r.Targets {
				if r.Targets[i].Decision == "allowed" {
					r.Targets[i].Warnings = append(r.Targets[i].Warnings, r.reason+": the run must name its target")
				}
			}
		}
	}
}

// Allowed reports whether such a run gets a credential.
func (r Report) Allowed() bool { return r.Chosen != "" }

// otherwise says where a target decides otherwise of the same job with its
// other subject.
func otherwise(p *policy.Policy, source Source, now time.Time, t policy.TargetExplanation) []string {
	if source.Other == nil {
		return nil
	}
	if _, allowed := p.Decides(t.Target, source.Other, now); allowed != t.Allowed() {
		return []string{fmt.Sprintf("with the subject in GitHub's other form, %q, it is %s",
			source.Other.Subject(), decision(allowed))}
	}
	return nil
}

func decision(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// missing names the claims that a target's rules ask for and that nothing is known of.
func missing(t policy.TargetExplanation, names []string) []string {
	if len(names) == 0 {
		return nil
	}
	needed := map[string]bool{}
	for _, r := range t.Rules {
		if t.Allowed() && !r.Matched {
			continue
		}
		for _, c := range r.Claims {
			if source := policy.DerivedFrom(c.Claim); source != "" {
				needed[source] = true
			} else if c.Absent {
				needed[c.Claim] = true
			}
		}
	}
	asked := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !needed[name] })
	switch len(asked) {
	case 0:
		return nil
	case 1:
		return []string{fmt.Sprintf("%s does not follow from the other claims: give it too", asked[0])}
	}
	return []string{fmt.Sprintf("%s do not follow from the other claims: give them too", strings.Join(asked, ", "))}
}

func recordOf(source Source, sha256 string) *Record {
	if source.Kind != "audit" {
		return nil
	}
	past := source.Past
	return &Record{
		ID: past.ID, Time: past.Time.Format(time.RFC3339), Decision: past.Decision, Target: past.Target,
		Rule: past.Rule, Line: past.Line, PolicySHA256: past.PolicySHA256, PolicyChanged: past.PolicySHA256 != sha256,
	}
}

// past takes over what a record of the same policy says, where the claims that
// it keeps do not decide.
func (t *Target) past(r *Record) {
	if r == nil || !t.Unknown || r.PolicyChanged || r.Target != t.Target {
		return
	}
	t.Decision, t.Unknown = r.Decision, false
	t.Warnings = append(t.Warnings, "the decision is the record's: it does not keep all claims that the rules ask for")
	if r.Decision == "allowed" {
		t.Rule, t.Line, t.reason = r.Rule, r.Line, ""
		t.Hints = []string{}
	}
}

func newTarget(t policy.TargetExplanation, claims policy.ClaimSet) Target {
	shown := Target{
		Target: t.Target, Decision: decision(t.Allowed()), Unknown: t.Unknown, Rules: make([]Rule, len(t.Rules)),
		Hints: append([]string{}, t.Hints()...), Warnings: append([]string{}, t.Warnings...), reason: t.Reason(),
		refused: t.Refused,
	}
	if t.Rule.Line > 0 {
		shown.Rule, shown.Line = t.Rule.Index+1, t.Rule.Line
	}
	if !t.Allowed() && (t.Rule.Line > 0 || t.Refused.Line > 0) {
		shown.Warnings = append(shown.Warnings, t.Reason()) // its rule matches, or one of deny: nothing else would say why
	}
	for i, r := range t.Rules {
		shown.Rules[i] = newRule(r)
		if r.Matched {
			shown.order = append(shown.order, i)
		}
	}
	for _, r := range t.Nearest() {
		shown.order = append(shown.order, r.Index)
	}
	if t.Allowed() {
		shown.Login = LoginOf(t.Login, claims)
		if t.Guard != nil {
			shown.Guard = t.Guard.String()
		}
	}
	return shown
}

func newRule(r policy.RuleExplanation) Rule {
	shown := Rule{
		Rule: r.Index + 1, Line: r.Line, Identity: r.Identity, Matched: r.Matched, Claims: make([]Claim, len(r.Claims)),
	}
	for i, c := range r.Claims {
		shown.Claims[i] = Claim{
			Claim: c.Claim, Matched: c.Matched, Unknown: c.Unknown, Got: Value{c.Got, !c.Absent && !c.Unknown},
			Want: append([]string{}, c.Want...), implied: c.Implied,
		}
	}
	return shown
}

// WriteJSON writes r as one line.
func (r Report) WriteJSON(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return err
	}
	// The runner interprets "##[…]" anywhere in a line. "#" occurs only inside
	// JSON strings.
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("##["), []byte(`##\u005b`)))
	return err
}
