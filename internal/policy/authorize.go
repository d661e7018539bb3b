package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

// reviewAge is after how long trust is due for a review.
const reviewAge = 90 * day

// IdentityOf returns the identity that the claims belong to: by their issuer,
// and of people's identities also by the client. The zero Identity where the
// policy has none.
func (p *Policy) IdentityOf(claims ClaimSet) (id Identity) {
	for _, candidate := range p.identities {
		if claims.IsZero() || candidate.Issuer != claims.Issuer() {
			continue
		}
		if candidate.Kind != "people" {
			id = *candidate
		} else if slices.Contains(audiences(claims), candidate.Audience) {
			return *candidate
		}
	}
	return id
}

func audiences(claims ClaimSet) []string {
	if one, ok := claims.String("aud"); ok {
		return []string{one}
	}
	list, _ := claims.Strings("aud")
	return list
}

func (p *Policy) view(claims ClaimSet) view {
	id := p.IdentityOf(claims)
	return view{claims: claims, identity: id, actor: p.actorOf(claims, id)}
}

// Choose returns the one target that the claims may have. None or several is
// a *Denial that lists them, of class Denied.
func (p *Policy) Choose(claims idtoken.Claims) (*Target, error) {
	v := p.view(claims)
	if refused := p.refused(v); refused.by != nil {
		return nil, refused.denial(v)
	}
	return p.choose(v, v.near)
}

// choose is Choose; near says why no rule of a target matches, should it be asked.
func (p *Policy) choose(v view, near func(*Target) []near) (*Target, error) {
	var chosen []*Target
	candidates := p.candidates()
	for _, t := range candidates {
		if _, ok := t.match(v); ok {
			chosen = append(chosen, t)
		}
	}
	switch len(chosen) {
	case 1:
		return chosen[0], nil
	case 0:
		return nil, v.deny(nearAll(candidates, near), "no rule of any target matches %q, the policy has the targets %q",
			v.claims.Subject(), p.Candidates())
	}
	names := make([]string, len(chosen))
	for i, t := range chosen {
		names[i] = t.name
	}
	return nil, denied("name one of them: the step's input `target`, or the flag --target",
		"the rules of several targets match %q: %q", v.claims.Subject(), names)
}

// match returns the first rule that the claims match.
func (t *Target) match(v view) (rule, bool) {
	for i := range t.rules {
		if t.rules[i].matches(v) {
			return t.rules[i], true
		}
	}
	return rule{}, false
}

// matches reports whether a token may pass by the rule.
func (r *rule) matches(v view) bool {
	for c := range r.checks(v) {
		if !c.matched {
			return false
		}
	}
	return true
}

// otherForm reports whether a sub of the rule matches the token's as the same
// repository's own, not by its text.
func (r rule) otherForm(v view) bool {
	return slices.ContainsFunc(r.matchers, func(m matcher) bool {
		return m.claim == "sub" && !slices.ContainsFunc(m.patterns, func(p pattern) bool { return p.match(v.claims.Subject()) })
	})
}

// admits reports whether a rule that names no event admits the token's.
func (r rule) admits(v view) bool {
	if !r.namesDefault() {
		return true
	}
	event, _ := v.claims.String(r.event().claim)
	return slices.Contains(r.event().admitted, event)
}

// event returns the claim that says what started a run of the rule's kind.
func (r rule) event() eventClaim { return kinds[r.identity.Kind].event }

// namesDefault reports whether the rule is for the default events only.
func (r rule) namesDefault() bool {
	return r.event().claim != "" && !r.anyEvent && !r.namesEvent()
}

func (r rule) namesEvent() bool { return r.event().claim != "" && r.names(r.event().claim) }

// Authorize decides whether the claims may have the target. The error is a
// *Denial of class Denied, or of class Usage where there is no such target.
func (p *Policy) Authorize(target string, claims idtoken.Claims, now time.Time) (Grant, error) {
	t, err := p.Target(target)
	if err != nil {
		return Grant{}, err
	}
	v := p.view(claims)
	if refused := p.refused(v); refused.by != nil {
		return Grant{}, refused.denial(v)
	}
	d := t.decide(v, now)
	if err := t.denial(v, d, v.near); err != nil {
		return Grant{}, err
	}
	return Grant{
		target: t.name, provider: t.provider, audience: t.audience, exchange: d.exchange, dbt: d.dbt,
		lifetime: t.asks(v.actor.kind), maxLifetime: t.longest(v.actor.kind), direct: t.direct,
		claims: claims, identity: v.identity, agents: t.agents, rule: Rule{Index: d.rule.index, Line: d.rule.line},
		actor: v.actor, warnings: d.warnings, guard: d.rule.guard,
	}, nil
}

// A decision is what a target gives to claims. Authorize makes a Grant of it,
// and Explain words.
type decision struct {
	rule     rule // that matched; the zero rule where none does
	matched  bool
	exchange Values // claims filled in
	dbt      DBT    // claims filled in
	warnings []string
	err      error // why the claims may not have it though a rule matches
}

func (d decision) allowed() bool { return d.matched && d.err == nil }

func (t *Target) decide(v view, now time.Time) (d decision) {
	if d.rule, d.matched = t.match(v); !d.matched {
		return d
	}
	reviewed, age := t.trustReviewed.Format(time.DateOnly), now.Sub(t.trustReviewed)
	switch {
	case t.trustMaxAge > 0 && age > t.trustMaxAge:
		d.err = denied("review who may use it, and set trust_reviewed to today",
			"the trust of target %q was reviewed on %s, %d days ago, and trust_max_age is %s",
			t.name, reviewed, age/day, short(t.trustMaxAge))
		return d
	case t.trustMaxAge > 0 && age < -day: // a day for time zones; a date far ahead would switch trust_max_age off
		d.err = denied("set trust_reviewed to the day of the last review",
			"the trust of target %q was reviewed on %s, which is in the future", t.name, reviewed)
		return d
	}
	if !t.trustReviewed.IsZero() && age > reviewAge {
		d.warnings = append(d.warnings,
			fmt.Sprintf("the trust of target %q was reviewed on %s, %d days ago: a review is due every 90 days",
				t.name, reviewed, age/day))
	}
	if d.rule.otherForm(v) {
		d.warnings = append(d.warnings,
			fmt.Sprintf("target %q: rule %d (line %d) matches the subject in GitHub's other form (with immutable ids, "+
				"or without): a provider that compares subjects exactly must know %s",
				t.name, d.rule.index+1, d.rule.line, quote(v.claims.Subject())))
	}
	if d.err = t.agentDenial(v); d.err != nil {
		return d
	}
	d.exchange, d.dbt, d.err = t.fill(v)
	return d
}

// agentDenial says why the target is not for the token's actor, nil where it
// is. A token that one party uses in another's name (RFC 8693, act) may be
// refused by that, and is never taken for an agent's.
func (t *Target) agentDenial(v view) error {
	switch {
	case t.agents == "refuse" && v.actor.kind == "agent":
		return denied("use a target for agents", "target %q refuses AI agents, and the actor of %q is one",
			t.name, v.claims.Subject())
	case t.agents == "refuse" && v.claims.Has("act"):
		return denied("use a target for agents", "target %q refuses AI agents, and another party acts for %q (claim act)",
			t.name, v.claims.Subject())
	case t.agents == "only" && v.actor.kind != "agent":
		return denied("", "target %q is for AI agents only, and the actor of %q is none that is known", t.name, v.claims.Subject())
	}
	return nil
}

func nearAll(targets []*Target, of func(*Target) []near) (list []near) {
	for _, t := range targets {
		list = append(list, of(t)...)
	}
	return list
}

// denial returns what d comes to as an error, nil where it allows; near is as for choose.
func (t *Target) denial(v view, d decision, near func(*Target) []near) error {
	if !d.matched {
		return v.deny(near(t), "no rule of target %q matches %q", t.name, v.claims.Subject())
	}
	return d.err
}

// fill returns the target's settings with the claims in place of ${claim}.
func (t *Target) fill(v view) (exchange Values, dbt DBT, err error) {
	replace := func(text string) string {
		if !strings.Contains(text, "${") {
			return text
		}
		return placeholder.ReplaceAllStringFunc(text, func(m string) string {
			value, wrong := t.value(v, m[2:len(m)-1])
			if wrong != nil {
				err = wrong
			}
			return value
		})
	}
	exchange.m, exchange.lines = make(map[string][]string, len(t.exchange.m)), t.exchange.lines
	for key, list := range t.exchange.m {
		filled := make([]string, len(list))
		for i, text := range list {
			if filled[i] = replace(text); filled[i] == text || err != nil {
				continue
			}
			if check := t.spec.check(key); check != nil {
				if wrong := check(filled[i]); wrong != nil {
					err = denied("", "%s %q, with the claims filled in: %v", key, filled[i], wrong)
				}
			}
		}
		exchange.m[key] = filled
	}
	dbt = t.dbt.filled(replace)
	return exchange, dbt, err
}

// filled returns a copy with its values replaced.
func (d DBT) filled(replace func(string) string) DBT {
	if d.Block != nil {
		d.Block = fillNode(d.Block, replace)
	}
	if d.With != nil {
		d.With = fillNode(d.With, replace)
	}
	d.Profiles = slices.Clone(d.Profiles)
	for i, p := range d.Profiles {
		d.Profiles[i].Keys = fillNode(p.Keys, replace)
	}
	return d
}

// fillNode returns a copy of n with its values replaced: the policy itself never changes.
func fillNode(n *yaml.Node, replace func(string) string) *yaml.Node {
	c := *n
	if n.Kind == yaml.ScalarNode {
		if c.Value = replace(n.Value); c.Value != n.Value {
			c.Tag = "!!str" // "${run_id}" is a string, also where its value looks like a number
		}
	}
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, e := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			key := *e
			c.Content[i] = &key
			continue
		}
		c.Content[i] = fillNode(e, replace)
	}
	return &c
}
