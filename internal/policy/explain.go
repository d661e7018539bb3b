package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// An Explanation is what a policy decides of claims, and why. It comes from
// the code that Choose and Authorize run, so they cannot disagree. It is no
// Grant, and nothing makes one of it.
type Explanation struct {
	Identity  Identity // whose tokens the claims are; the zero Identity where the policy has none
	ActorKind string
	Chosen    string              // the target that Choose returns, "" for none
	Denial    error               // what Choose returns
	Deny      *RuleExplanation    // the rule of `deny` that matches, and keeps the claims from every target; nil for none
	Targets   []TargetExplanation // all of them, in the order of the policy
}

// A TargetExplanation is what one target gives to the claims.
type TargetExplanation struct {
	Target string
	// Auxiliary is set of the target that writes the audit bucket: no claims choose it.
	Auxiliary bool
	Rule      Rule  // that matched; the zero Rule where none does
	Refused   Rule  // of `deny`, that matched; the zero Rule where none does
	Denial    error // what Authorize returns; nil where the target is allowed
	Unknown   bool  // denied for want of claims that are not known
	Rules     []RuleExplanation
	Warnings  []string // the policy's about this target, and those of a Grant
	Login     Login
	Guard     *Guard // of an allowed request; nil for none

	agents string // what the target says of AI agents
}

// A Login is what an allowed request would log in with, claims filled in.
type Login struct {
	Provider string
	Audience string
	Exchange Values
	DBT      DBT
	Identity Identity // whose token it is; the zero Identity where that is not one token
}

// A RuleExplanation is one rule, condition by condition.
type RuleExplanation struct {
	Rule
	Identity string // whose tokens it is for
	Foreign  bool   // the claims are not of that identity, so that only their issuer was compared
	Matched  bool
	Claims   []ClaimExplanation // in the order of the rule; what it asks for without naming it comes last

	mismatches int
}

// A ClaimExplanation is one claim that a rule asks for.
type ClaimExplanation struct {
	Claim   string
	Matched bool
	Unknown bool     // whether the token had it is not known
	Absent  bool     // the token does not have it
	Implied bool     // the rule asks for it without naming it
	Got     any      // as JSON has it: nearly always a string
	Want    []string // patterns, any of which is enough
}

// Allowed reports whether a run for this target would get its credential.
func (t TargetExplanation) Allowed() bool { return t.Denial == nil }

// Reason says in one line why the target is denied, "" where it is allowed.
func (t TargetExplanation) Reason() string { return reason(t.Denial) }

// Hints returns what to do about a denial.
func (t TargetExplanation) Hints() []string {
	if hint := fault.Hint(t.Denial); hint != "" {
		return []string{hint}
	}
	return nil
}

// Reason says in one line why no target is chosen, "" where one is.
func (e Explanation) Reason() string { return reason(e.Denial) }

func reason(err error) string {
	var denial *Denial
	if errors.As(err, &denial) {
		return denial.Reason()
	}
	return ""
}

// Allowed returns the target whose credential a run would get that names
// none, "" where it would get none.
func (e Explanation) Allowed() string {
	if t, ok := e.Target(e.Chosen); ok && t.Allowed() {
		return t.Target
	}
	return ""
}

// Target returns the explanation of one target.
func (e Explanation) Target(name string) (TargetExplanation, bool) {
	for _, t := range e.Targets {
		if t.Target == name {
			return t, true
		}
	}
	return TargetExplanation{}, false
}

// Nearest returns the rules that do not match, those with the fewest
// mismatches first, as a Denial has them.
func (t TargetExplanation) Nearest() []RuleExplanation {
	list := make([]RuleExplanation, 0, len(t.Rules))
	for _, r := range t.Rules {
		if !r.Matched {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b RuleExplanation) int {
		return nearer(a.Foreign, b.Foreign, a.mismatches, b.mismatches)
	})
	return list
}

// Names returns the names of the claims that the rule asks for.
func (r RuleExplanation) Names() []string {
	claims := make([]string, len(r.Claims))
	for i, c := range r.Claims {
		claims[i] = c.Claim
	}
	return claims
}

// Mismatches returns the names of the claims that keep the rule from matching.
func (r RuleExplanation) Mismatches() (claims []string) {
	for _, c := range r.Claims {
		if !c.Matched {
			claims = append(claims, c.Claim)
		}
	}
	return claims
}

// Identities returns the policy's identities in the order of the file.
func (p *Policy) Identities() []Identity {
	list := make([]Identity, len(p.identities))
	for i, id := range p.identities {
		list[i] = *id
	}
	return list
}

// Explain says what the policy decides of claims, verified or not, and why.
func (p *Policy) Explain(claims ClaimSet, now time.Time) Explanation {
	v := p.view(claims)
	e := Explanation{Identity: v.identity, ActorKind: v.actor.kind, Targets: make([]TargetExplanation, len(p.targets))}
	nears := map[*Target][]near{} // each once: with many rules they are what takes time
	near := func(t *Target) []near {
		if _, ok := nears[t]; !ok {
			nears[t] = v.near(t)
		}
		return nears[t]
	}
	refused := p.refused(v)
	for i, t := range p.targets {
		e.Targets[i] = t.explain(v, now, near)
		e.Targets[i].Auxiliary = t.name == p.audit.Bucket.Target
		e.Targets[i].refuse(v, refused)
		e.Targets[i].Warnings = slices.Concat(p.about(t), e.Targets[i].Warnings)
	}
	if refused.by != nil {
		if !refused.undecided {
			by := refused.by.explain(v)
			e.Deny = &by
		}
		e.Denial = refused.denial(v)
		return e
	}
	chosen, err := p.choose(v, near)
	if err != nil {
		e.Denial = err
		return e
	}
	e.Chosen = chosen.name
	return e
}

// CheckHint denies each target for which Grant.CheckHint returns a denial.
func (e *Explanation) CheckHint(hint string) {
	for i := range e.Targets {
		t := &e.Targets[i]
		if !t.Allowed() {
			continue
		}
		if t.Denial = hintDenial(t.Target, t.agents, hint); t.Denial != nil {
			t.Login = Login{}
		}
	}
}

// Decides reports whether a target would be allowed to claims, and by which
// rule. It is Explain without the words.
func (p *Policy) Decides(target string, claims ClaimSet, now time.Time) (Rule, bool) {
	t, err := p.Target(target)
	if err != nil {
		return Rule{}, false
	}
	v := p.view(claims)
	d := t.decide(v, now)
	return Rule{Index: d.rule.index, Line: d.rule.line}, d.allowed() && p.refused(v).by == nil
}

// about returns the policy's own warnings about a target.
func (p *Policy) about(t *Target) (warnings []string) {
	for _, w := range p.warnings {
		if strings.HasPrefix(w, fmt.Sprintf("target %q: ", t.name)) {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

func (t *Target) explain(v view, now time.Time, near func(*Target) []near) TargetExplanation {
	d := t.decide(v, now)
	e := TargetExplanation{
		Target: t.name, Denial: t.denial(v, d, near), Warnings: d.warnings, Rules: make([]RuleExplanation, len(t.rules)),
		agents: t.agents,
	}
	if d.matched {
		e.Rule = Rule{Index: d.rule.index, Line: d.rule.line}
	}
	if d.allowed() {
		e.Login = Login{Provider: t.provider, Audience: t.audience, Exchange: d.exchange, DBT: d.dbt, Identity: v.identity}
		e.Guard = d.rule.guard
	}
	for i := range t.rules {
		e.Rules[i] = t.rules[i].explain(v)
		e.Unknown = e.Unknown || !d.matched && e.Rules[i].undecided()
	}
	return e
}

// undecided reports whether only claims that are not known keep a rule from matching.
func (r RuleExplanation) undecided() bool {
	return !r.Matched && !slices.ContainsFunc(r.Claims, func(c ClaimExplanation) bool { return !c.Matched && !c.Unknown })
}

func (r *rule) explain(v view) RuleExplanation {
	e := RuleExplanation{
		Rule: Rule{Index: r.index, Line: r.line}, Identity: r.identity.Name, Foreign: r.foreign(v),
		Claims: make([]ClaimExplanation, 0, len(r.matchers)+1),
	}
	for c := range r.checks(v) {
		got, absent, unknown := v.got(c.claim)
		e.Claims = append(e.Claims, ClaimExplanation{
			Claim: c.claim, Matched: c.matched, Unknown: unknown, Absent: absent, Implied: c.matcher == nil,
			Got: got, Want: c.want(),
		})
		if !c.matched {
			e.mismatches++
		}
	}
	e.Matched = e.mismatches == 0
	return e
}

// got returns a claim, derived ones too.
func (v view) got(claim string) (value any, absent, unknown bool) {
	source := claim // what a derived claim is made of
	switch claim {
	case "actor_kind":
		if name := kinds[v.identity.Kind].actor.name; name != "" && v.actor.source != "token" {
			source = name
		}
	case "pull_number":
		source = "ref"
	default:
		unknown = v.claims.Unknown(claim)
		return v.claims.Value(claim), !unknown && !v.claims.Has(claim), unknown
	}
	if v.claims.Unknown(source) {
		return nil, false, true
	}
	if values := v.values(claim); len(values) == 1 {
		return values[0], false, false
	}
	return nil, true, false
}
