package policy

import (
	"slices"
	"strings"
	"time"
)

// A RuleView is a rule as those see it who judge a policy. What it says comes
// from the code that warns in a run, so they cannot disagree.
type RuleView struct {
	Rule
	Identity Identity
	rule     rule
}

// Rules returns the target's rules in the order of the file.
func (t *Target) Rules() []RuleView { return viewsOf(t.rules) }

// DenyRules returns the rules of `deny` in the order of the file.
func (p *Policy) DenyRules() []RuleView { return viewsOf(p.deny) }

func viewsOf(rules []rule) []RuleView {
	views := make([]RuleView, len(rules))
	for i, r := range rules {
		views[i] = RuleView{Rule{Index: r.index, Line: r.line}, *r.identity, r}
	}
	return views
}

// TrustReviewed returns the day of the last review, the zero time where the
// policy has none.
func (t *Target) TrustReviewed() time.Time { return t.trustReviewed }

// Lifetime returns the lifetime to ask for, 0 for the provider's default.
func (t *Target) Lifetime() time.Duration { return t.lifetime }

// MaxLifetime returns the longest lifetime for a kind of actor, 0 for no limit.
func (t *Target) MaxLifetime(kind string) time.Duration { return t.longest(kind) }

// ReviewAge is the age at which a review is due again.
func (t *Target) ReviewAge() time.Duration {
	if t.trustMaxAge > 0 {
		return min(t.trustMaxAge, reviewAge)
	}
	return reviewAge
}

// Claims returns the claims that the rule names, in the order of the file.
func (v RuleView) Claims() []string {
	claims := make([]string, len(v.rule.matchers))
	for i, m := range v.rule.matchers {
		claims[i] = m.claim
	}
	return claims
}

// Patterns returns the patterns of a claim, nil where the rule does not name it.
func (v RuleView) Patterns(claim string) (texts []string) {
	m, _ := find(v.rule.matchers, claim)
	return m.texts()
}

func (m matcher) texts() (list []string) {
	for _, p := range m.patterns {
		list = append(list, p.text)
	}
	return list
}

// An Implied is a condition that a rule has without naming it: a claim, and
// the patterns one of which it must match.
type Implied struct {
	Claim    string
	Patterns []string
	Boolean  bool // the claim is true or false, and no text
}

// Implied returns what the guards of the rule's kind come to.
func (v RuleView) Implied() (list []Implied) {
	for g := range v.rule.guards() {
		list = append(list, g.implies(v.rule)...)
	}
	return list
}

// BindsNameOnly reports whether the rule binds names where it could bind an id;
// IDs are the claims that would be one.
func (v RuleView) BindsNameOnly() bool { return v.rule.bindsNameOnly() }

// IDs returns the claims that no one else can take over.
func (v RuleView) IDs() []string { return slices.Clone(v.Identity.stable()) }

// Open reports whether the rule restricts only the repository. free are the
// other claims that it names, which restrict nothing.
func (v RuleView) Open() (free []string, yes bool) { return v.rule.open() }

// Restricts reports whether the rule names a claim of GitHub's such that a
// workflow's author cannot choose its value.
func (v RuleView) Restricts(claim string) bool {
	m, ok := find(v.rule.matchers, claim)
	return ok && v.rule.restricts(m)
}

// An UnknownClaim is a claim of a rule that no token of its kind has.
type UnknownClaim struct {
	Claim string
	Meant string // "" where that is not known
}

// UnknownClaims returns those of the rule; with one of them it matches nothing.
func (v RuleView) UnknownClaims() (list []UnknownClaim) {
	for _, claim := range v.rule.unknown() {
		list = append(list, UnknownClaim{claim, nearest(claim, kinds[v.Identity.Kind].claims)})
	}
	return list
}

// Events returns what may have started the runs that the rule matches, and the
// claim that says it; nil for anything, and for kinds without such a claim.
func (v RuleView) Events() (claim string, events []string) {
	claim = v.rule.event().claim
	switch {
	case claim == "", v.rule.anyEvent:
		return claim, nil
	case v.rule.namesEvent():
		return claim, v.Patterns(claim)
	}
	return claim, slices.Clone(v.rule.event().admitted)
}

// IsWorkflowClaim reports whether a claim is the path of a workflow, `@` and its ref.
func IsWorkflowClaim(claim string) bool { return isWorkflow(claim) }

// OpenRef reports whether a pattern of a workflow claim admits any branch or
// any tag after the `@`.
func OpenRef(pattern string) bool {
	_, ref, _ := strings.Cut(pattern, "@")
	return !holdsRef(ref)
}

// IsSubjectForm reports whether a pattern of `sub` is in one of GitHub's own forms.
func IsSubjectForm(pattern string) bool { _, ok := parseSubject(pattern); return ok }

// IsVendorAudience reports whether an audience is one that a vendor fixed for
// all its customers.
func IsVendorAudience(audience string) bool {
	return slices.ContainsFunc(vendors, func(v vendor) bool { return v.audience.MatchString(audience) })
}

// NativeControl names what a warehouse itself limits statements by, where no
// proxy reads them.
func (t *Target) NativeControl() string { return t.origin.catalog.Adapters[t.dbt.Type].Native }
