package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// deny reads the rules that come before every target. They need no binding, and
// one without event_name is for every event: what is missing in them denies more.
func (d *document) deny(p *Policy, n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		d.Report(n, "deny is %s, want a list of rules", strictyaml.KindOf(n))
		return
	}
	if len(n.Content) == 0 {
		d.Report(n, "deny is an empty list: remove it")
	}
	unwise := unwiseRules{unknown: map[unknownClaim]ruleList{}}
	for i, e := range n.Content {
		r, ok := d.denyRule(p, i, e)
		if !ok {
			continue
		}
		p.deny = append(p.deny, r)
		unwise.addUnknown(r)
		for _, m := range r.matchers { // it may be a claim of that company's own
			if near := r.identity.probably(m.claim); near != "" && kinds[r.identity.Kind].claims == nil {
				p.warnings = append(p.warnings, fmt.Sprintf("deny: %s names %q, which few tokens of kind %q have: did you mean %q?",
					ruleList{r}, m.claim, r.identity.Kind, near))
			}
		}
	}
	for _, text := range unwise.warnings() {
		p.warnings = append(p.warnings, "deny: "+text)
	}
}

func (d *document) denyRule(p *Policy, index int, n *yaml.Node) (r rule, ok bool) {
	if r, ok = d.matchers(p, index, n); !ok {
		return r, false
	}
	r.anyEvent = true
	if v := valueOf(n, "guard"); v != nil {
		d.Report(v, "guard is for rules of `allow`: whom a rule of `deny` matches gets nothing")
		return r, false
	}
	for _, claim := range r.unknown() { // where one of `allow` admits nobody, this one would stop nobody
		if near := nearest(claim, kinds[r.identity.Kind].claims); near != "" {
			d.Report(n, "the rule would never match: %q is not a claim: did you mean %q?", claim, near)
			return r, false
		}
	}
	if r.always() {
		d.Report(n, "the rule matches every token of identity %q: name a claim that tells apart who is denied", r.identity.Name)
		return r, false
	}
	return r, true
}

// always reports whether every token of the rule's identity matches.
func (r rule) always() bool {
	return !slices.ContainsFunc(r.matchers, func(m matcher) bool { return !m.always(r.identity) })
}

// always reports whether the claim has one of the patterns in every token of an identity.
func (m matcher) always(id *Identity) bool {
	matches := func(value string) bool {
		return slices.ContainsFunc(m.patterns, func(p pattern) bool { return p.match(value) })
	}
	values := fixedValues[m.claim]
	switch {
	case m.claim == "actor_kind":
		values = actorKinds
	case m.claim == "iss":
		return matches(id.Issuer)
	case m.claim == "aud" && id.ClientID != "":
		return matches(id.ClientID)
	case id.Kind != "github":
		return false
	case m.claim == "ref":
		anyRef := join(textChain("refs/"), chain{{wild: true}})
		return slices.ContainsFunc(m.patterns, func(p pattern) bool { return anyRef.within(p.chain()) })
	}
	return len(values) > 0 && !slices.ContainsFunc(values, func(v string) bool { return !matches(v) })
}

// A refusal is what `deny` does to claims; the zero refusal is nothing.
type refusal struct {
	by        *rule
	undecided bool     // by matches, or not, by claims that are not known
	unknown   []string // those
}

// refused looks the claims up in `deny`. Where it is not known whether a rule
// matches, the claims are refused, too: that happens only to claims that are
// explained.
func (p *Policy) refused(v view) (found refusal) {
	for i := range p.deny {
		r := &p.deny[i]
		switch unknown, possible := r.verdict(v); {
		case possible && len(unknown) == 0:
			return refusal{by: r}
		case possible && found.by == nil:
			found = refusal{r, true, unknown}
		}
	}
	return found
}

// verdict reports whether the claims may match, and which of them that are not
// known would have to.
func (r *rule) verdict(v view) (unknown []string, possible bool) {
	for c := range r.checks(v) {
		if c.matched {
			continue
		}
		if _, _, notKnown := v.got(c.claim); !notKnown {
			return nil, false
		}
		unknown = append(unknown, c.claim)
	}
	return unknown, true
}

// denial returns the refusal as the error of who is refused.
func (r refusal) denial(v view) error {
	which := fmt.Sprintf("deny rule %d (line %d)", r.by.index+1, r.by.line)
	if r.undecided {
		return denied("", "%s may match %q: that depends on %s, which is not known", which, v.claims.Subject(),
			strings.Join(r.unknown, ", "))
	}
	return denied("deny comes before every target: to allow such a run again, remove the rule or narrow it",
		"%s matches %q", which, v.claims.Subject())
}

// refuse makes a target's explanation one of claims that are refused.
func (t *TargetExplanation) refuse(v view, r refusal) {
	switch {
	case r.by == nil || r.undecided && !t.Allowed():
		return
	case r.undecided:
		t.Unknown = true
	default:
		t.Unknown, t.Refused = false, Rule{Index: r.by.index, Line: r.by.line}
	}
	t.Denial, t.Login, t.Warnings = r.denial(v), Login{}, nil
}
