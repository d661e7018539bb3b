package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

// reviewAge is after how long trust is due for a review.
const reviewAge = 90 * 24 * time.Hour

// A Denial says why no grant was given. Its class is Denied.
type Denial struct {
	reason string
	Rules  []RuleDenial // of one target; empty where the reason is another
}

// A RuleDenial is why one rule did not match.
type RuleDenial struct {
	Index      int // from 0
	Line       int
	Mismatches []Mismatch
}

// A Mismatch is one claim that kept a rule from matching.
type Mismatch struct {
	Claim string
	Got   string // as printed: quoted, or "absent", or the type that it is instead of a string
	Want  string // the patterns, quoted
}

// maxRules bounds the rules that are printed: the nearest ones come first.
const maxRules = 20

// Reason returns the denial in one line.
func (d *Denial) Reason() string { return d.reason }

// Error prints the denial claim by claim.
func (d *Denial) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "denied by policy: %s", d.reason)
	for i, r := range d.Rules {
		if i == maxRules {
			fmt.Fprintf(&out, "\n  … and %d more rules", len(d.Rules)-maxRules)
			break
		}
		fmt.Fprintf(&out, "\n  rule %d (line %d):", r.Index+1, r.Line)
		for _, m := range r.Mismatches {
			fmt.Fprintf(&out, "\n    %s: got %s, want %s", m.Claim, m.Got, m.Want)
		}
	}
	return out.String()
}

func deny(hint, format string, args ...any) error {
	return fault.New(fault.Denied, &Denial{reason: fmt.Sprintf(format, args...)}, hint)
}

// ActorKind returns "user", "bot" or "agent" for the token's actor. It is
// derived here and never read from the token.
func (p *Policy) ActorKind(claims idtoken.Claims) string {
	if p.identityOf(claims).Kind == "people" {
		return "user"
	}
	for _, name := range []string{"actor", "user_login"} {
		if actor, ok := claims.String(name); ok {
			return actorKind(actor, p.agents)
		}
	}
	return "user"
}

// identityOf returns the identity whose issuer signed the claims; the zero
// Identity where the policy has none.
func (p *Policy) identityOf(claims idtoken.Claims) Identity {
	for _, id := range p.identities {
		if id.Issuer == claims.Issuer() && !claims.IsZero() {
			return id
		}
	}
	return Identity{}
}

func (p *Policy) view(claims idtoken.Claims, id Identity) view {
	return view{claims: claims, kind: id.Kind, actor: p.ActorKind(claims)}
}

// Choose returns the one target that the claims may have. None or several is
// a *Denial that lists them.
func (p *Policy) Choose(claims idtoken.Claims) (*Target, error) {
	var chosen []*Target
	for _, t := range p.targets {
		if _, ok := p.match(t, claims); ok {
			chosen = append(chosen, t)
		}
	}
	switch len(chosen) {
	case 1:
		return chosen[0], nil
	case 0:
		return nil, deny("give the step a `target` to see claim by claim why not", "no target's rules match %q, the policy has %q", claims.Subject(), p.Targets())
	}
	names := make([]string, len(chosen))
	for i, t := range chosen {
		names[i] = t.name
	}
	return nil, deny("give the step a `target`", "the rules of several targets match %q: %q", claims.Subject(), names)
}

// match returns the first rule that the claims match.
func (p *Policy) match(t *Target, claims idtoken.Claims) (rule, bool) {
	for _, r := range t.rules {
		if r.identity.Issuer != claims.Issuer() || claims.IsZero() {
			continue // a rule sees tokens of its own identity alone
		}
		if r.matches(p.view(claims, r.identity)) {
			return r, true
		}
	}
	return rule{}, false
}

func (r rule) matches(v view) bool {
	for _, m := range r.matchers {
		if !m.matches(v) {
			return false
		}
	}
	return r.admits(v)
}

// admits reports whether a rule that names no event admits the token's.
func (r rule) admits(v view) bool {
	if r.identity.Kind != "github" || r.namesEvent() {
		return true
	}
	event, _ := v.claims.String("event_name")
	return slices.Contains(ownEvents, event)
}

func (r rule) namesEvent() bool {
	return slices.ContainsFunc(r.matchers, func(m matcher) bool { return m.claim == "event_name" })
}

// Authorize decides whether the claims may have the target. The error is a
// *Denial of class Denied.
func (p *Policy) Authorize(target string, claims idtoken.Claims, now time.Time) (Grant, error) {
	t, err := p.Target(target)
	if err != nil {
		return Grant{}, err
	}
	r, ok := p.match(t, claims)
	if !ok {
		return Grant{}, p.deny(t, claims)
	}
	age := now.Sub(t.trustReviewed)
	if t.trustMaxAge > 0 && age > t.trustMaxAge {
		return Grant{}, deny("review who may use it, and set trust_reviewed to today", "the trust of target %q was reviewed on %s, %d days ago, and trust_max_age is %d days",
			t.name, t.trustReviewed.Format(time.DateOnly), int(age.Hours()/24), int(t.trustMaxAge.Hours()/24))
	}
	g := Grant{
		target: t.name, provider: t.provider, audience: t.audience, exchange: t.exchange, dbt: t.dbt,
		lifetime: t.lifetime, maxLifetime: t.maxLifetime, claims: claims, rule: Rule{Index: r.index, Line: r.line}, actorKind: p.ActorKind(claims),
	}
	if !t.trustReviewed.IsZero() && age > reviewAge {
		g.warnings = append(g.warnings, fmt.Sprintf("the trust of target %q was reviewed on %s, %d days ago: a review is due every 90 days",
			t.name, t.trustReviewed.Format(time.DateOnly), int(age.Hours()/24)))
	}
	return g, g.fill(t, r, p.view(claims, r.identity))
}

// deny says claim by claim why no rule of the target matches.
func (p *Policy) deny(t *Target, claims idtoken.Claims) error {
	d := &Denial{reason: fmt.Sprintf("no rule of target %q matches %q", t.name, claims.Subject())}
	hint := ""
	for _, r := range t.rules {
		if r.identity.Issuer != claims.Issuer() {
			d.Rules = append(d.Rules, RuleDenial{Index: r.index, Line: r.line, Mismatches: []Mismatch{{"iss", quote(claims.Issuer()), quote(r.identity.Issuer)}}})
			continue
		}
		v := p.view(claims, r.identity)
		rd := RuleDenial{Index: r.index, Line: r.line}
		for _, m := range r.matchers {
			if m.matches(v) {
				continue
			}
			rd.Mismatches = append(rd.Mismatches, Mismatch{m.claim, v.show(m.claim), m.show()})
			if hint == "" {
				hint = m.hint(v)
			}
		}
		if !r.admits(v) {
			rd.Mismatches = append(rd.Mismatches, Mismatch{"event_name", v.show("event_name"), fmt.Sprintf("one of %q, or an event that the rule names", ownEvents)})
			if event, _ := claims.String("event_name"); hint == "" && strings.HasPrefix(event, "pull_request") {
				hint = "a pull request's author controls its workflow; to admit it all the same, the rule must list event_name: " + event
			}
		}
		d.Rules = append(d.Rules, rd)
	}
	slices.SortStableFunc(d.Rules, func(a, b RuleDenial) int { return len(a.Mismatches) - len(b.Mismatches) })
	return fault.New(fault.Denied, d, hint)
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

// show returns a claim as a denial prints it.
func (v view) show(claim string) string {
	switch values := v.values(claim); {
	case len(values) == 1:
		return quote(values[0])
	case len(values) > 1:
		return fmt.Sprintf("%q", values)
	case v.claims.Has(claim):
		return "a value that is not a string"
	}
	return "no such claim"
}

func (m matcher) show() string {
	if len(m.patterns) == 1 {
		return quote(m.patterns[0].text)
	}
	texts := make([]string, len(m.patterns))
	for i, p := range m.patterns {
		texts[i] = p.text
	}
	return fmt.Sprintf("one of %q", texts)
}

// hint returns what to do about a mismatch, where its cause is a known one.
func (m matcher) hint(v view) string {
	if v.kind != "github" {
		return ""
	}
	want := m.patterns[0].text
	got, ok := v.claims.String(m.claim)
	event, _ := v.claims.String("event_name")
	switch {
	case ok && slices.ContainsFunc(m.patterns, func(p pattern) bool { return strings.EqualFold(p.text, got) }):
		return fmt.Sprintf("%s differs by letter case alone; matching is by exact case", m.claim)
	case m.claim == "environment" && !ok:
		return fmt.Sprintf("the job names no environment: add `environment: %s` to it", want)
	case m.claim == "event_name" && strings.HasPrefix(event, "pull_request"), m.claim == "ref" && strings.HasPrefix(got, "refs/pull/"):
		return "this is a pull request, whose author controls its workflow; to admit it all the same, give it a rule with its event_name and ref"
	case m.claim == "job_workflow_ref":
		workflow, _ := v.claims.String("workflow_ref")
		if got == workflow {
			return "the job does not run in the reusable workflow that the rule names: call it with `uses:`"
		}
		path, _, _ := strings.Cut(got, "@")
		if wantPath, _, _ := strings.Cut(want, "@"); path == wantPath {
			return "the reusable workflow is the right one, at another ref: the caller's `uses: …@ref` decides"
		}
	case m.claim == "sub":
		w, wok := parseSubject(want)
		g, gok := parseSubject(got)
		if wok && gok && (w.ownerID == "") != (g.ownerID == "") && w.rest == g.rest {
			return "the token's subject has the other of GitHub's two forms (with ids, or without), and names or ids differ: compare owner, repository and their ids"
		}
		if environment, has := v.claims.String("environment"); has && !strings.Contains(want, ":environment:") {
			return fmt.Sprintf("the job names the environment %q, which takes the place of the ref in the subject", environment)
		}
	}
	return ""
}

// fill puts the claims in place of ${claim}.
func (g *Grant) fill(t *Target, r rule, v view) error {
	var bad error
	replace := func(text string) string {
		return placeholder.ReplaceAllStringFunc(text, func(m string) string {
			claim := m[2 : len(m)-1]
			values := v.values(claim)
			if len(values) != 1 || !fillable(r.identity.Kind, values[0]) {
				bad = deny("", "claim %q of %q cannot stand in for ${%s}", claim, v.claims.Subject(), claim)
				return ""
			}
			return values[0]
		})
	}
	g.exchange = Values{m: make(map[string][]string, len(t.exchange.m))}
	for key, list := range t.exchange.m {
		filled := make([]string, len(list))
		for i, text := range list {
			if filled[i] = replace(text); filled[i] == text {
				continue
			}
			if check := t.spec.check(key); check != nil && bad == nil {
				if err := check(filled[i]); err != nil {
					bad = deny("", "%s %q, with the claims filled in: %v", key, filled[i], err)
				}
			}
		}
		g.exchange.m[key] = filled
	}
	if t.dbt.Block != nil {
		g.dbt.Block = fillNode(t.dbt.Block, replace)
	}
	if bad != nil {
		*g = Grant{}
	}
	return bad
}

// fillNode returns a copy of n with its scalars replaced: the policy itself never changes.
func fillNode(n *yaml.Node, replace func(string) string) *yaml.Node {
	c := *n
	if n.Kind == yaml.ScalarNode {
		if c.Value = replace(n.Value); c.Value != n.Value {
			c.Tag = "!!str" // "${run_id}" is a string, whatever it looks like filled in
		}
	}
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, e := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			c.Content[i] = e // a key
			continue
		}
		c.Content[i] = fillNode(e, replace)
	}
	return &c
}

// check returns the check of a key, also of one in a mapping ("a.b").
func (p Provider) check(name string) func(string) error {
	keys := p.Keys
	for {
		head, rest, nested := strings.Cut(name, ".")
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == head })
		switch {
		case i < 0:
			return nil
		case !nested:
			return keys[i].Check
		}
		keys, name = keys[i].Keys, rest
	}
}
