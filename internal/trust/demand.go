// Package trust says in a provider's own language what a policy decides, reads what the provider has, and compares the two.
//
// The action's own check is a guard rail; the provider's trust is the wall.
package trust

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// Options are what a policy does not say.
type Options struct {
	// SubTemplate are the keys of a customised subject, in order; none for
	// GitHub's default.
	SubTemplate []string
	// OwnerIDs are owners' numbers by name; Repositories are full names by the
	// repository's number.
	OwnerIDs, Repositories map[string]string
	// Values are settings of the provider by the name of their flag, such as
	// principal-id; what is not there becomes a variable of the document.
	Values map[string]string
}

// A Demand is what one login of a target asks of its provider.
type Demand struct {
	Policy  *policy.Policy
	Target  *policy.Target
	Case    policy.Case
	Rules   []Rule
	Deny    []Rule // who matches one gets nothing
	Options Options
}

// Provider returns the name of the target's provider; Type dbt's type, "" without.
func (d Demand) Provider() string { return d.Case.Login.Provider }

// Audience returns the audience that the ID token has.
func (d Demand) Audience() string { return d.Case.Login.Audience }

// Get returns a key of the provider's block, claims filled in.
func (d Demand) Get(key string) string { return d.Case.Login.Exchange.Get(key) }

// DBT returns a key of the target's dbt or client block, "" where it is not
// there as plain text.
func (d Demand) DBT(key string) string {
	for _, block := range []*yaml.Node{d.Case.Login.DBT.Block, d.Case.Login.DBT.With} {
		if block == nil {
			continue
		}
		for i := 0; i+1 < len(block.Content); i += 2 {
			if v := block.Content[i+1]; block.Content[i].Value == key && v.Kind == yaml.ScalarNode && !strings.Contains(v.Value, "{{") {
				return v.Value
			}
		}
	}
	return ""
}

// Name returns the target's name, with what the claims chose.
func (d Demand) Name() string {
	name := d.Target.Name()
	for _, key := range slices.Sorted(maps.Keys(d.Case.Values)) {
		name += "-" + d.Case.Values[key]
	}
	return name
}

// To returns the demand with another audience, where that is not "", and
// another template of the subject, where that is not nil.
func (d Demand) To(audience string, template []string) Demand {
	if audience != "" {
		d.Case.Login.Audience = audience
	}
	if template != nil {
		d.Options.SubTemplate = template
	}
	return d
}

// A Rule is a rule of the policy as conditions on the claims of a token.
type Rule struct {
	Number, Line int
	Identity     policy.Identity
	Conditions   []Condition
	actors       policy.Actors
}

// A Condition is a claim and the patterns one of which it must match, in the
// policy's own form: `*` within a segment, `**` across segments.
type Condition struct {
	Claim    string
	Patterns []string
	// Implied is set for what a rule asks for without naming it: events, guards.
	Implied bool
	// Beyond says why the provider cannot be told the condition, "" where it can.
	Beyond string
}

// Literals returns the patterns where none has a wildcard.
func (c Condition) Literals() (texts []string, ok bool) {
	for _, p := range c.Patterns {
		if strings.Contains(p, "*") {
			return nil, false
		}
	}
	return c.Patterns, len(c.Patterns) > 0
}

// Demands returns what each login of a target asks for.
func Demands(p *policy.Policy, t *policy.Target, options Options) (list []Demand) {
	for _, c := range t.Cases() {
		d := Demand{Policy: p, Target: t, Case: c, Options: options}
		for _, view := range c.Rules {
			d.Rules = append(d.Rules, newRule(p, view))
		}
		for _, view := range p.DenyRules() {
			d.Deny = append(d.Deny, newRule(p, view))
		}
		list = append(list, d)
	}
	return list
}

func newRule(p *policy.Policy, view policy.RuleView) Rule {
	r := Rule{Number: view.Index + 1, Line: view.Line, Identity: view.Identity, actors: p.Actors(view.Identity.Kind)}
	for _, claim := range view.Claims() {
		r.Conditions = append(r.Conditions, Condition{Claim: claim, Patterns: view.Patterns(claim)})
	}
	if claim, events := view.Events(); events != nil && !r.Names(claim) {
		r.Conditions = append(r.Conditions, Condition{Claim: claim, Patterns: events, Implied: true})
	}
	for _, i := range view.Implied() {
		c := Condition{Claim: i.Claim, Patterns: i.Patterns, Implied: true}
		if i.Boolean {
			c.Beyond = "it is true or false and no text, and no trust is generated for that"
		}
		r.Conditions = append(r.Conditions, c)
	}
	return r
}

// Names reports whether the rule has a condition on a claim.
func (r Rule) Names(claim string) bool { return r.Of(claim).Claim != "" }

// Of returns the rule's condition on a claim, the zero Condition for none.
func (r Rule) Of(claim string) Condition {
	for _, c := range r.Conditions {
		if c.Claim == claim {
			return c
		}
	}
	return Condition{}
}

// Without returns the rule without its conditions on some claims.
func (r Rule) Without(claims ...string) Rule {
	r.Conditions = slices.DeleteFunc(slices.Clone(r.Conditions), func(c Condition) bool { return slices.Contains(claims, c.Claim) })
	return r
}

// inside reports whether a claim is inside an object of the token: `a>b` is the
// member b of the claim a.
func inside(claim string) bool { return strings.Contains(claim, ">") }

// in returns the demand as a language sees it: what that cannot say is marked.
func (d Demand) in(l language) Demand {
	if l.nested {
		return d
	}
	marked := func(rules []Rule) []Rule {
		rules = slices.Clone(rules)
		for i := range rules {
			rules[i].Conditions = slices.Clone(rules[i].Conditions)
			for j, c := range rules[i].Conditions {
				if inside(c.Claim) {
					rules[i].Conditions[j].Beyond = "it is inside an object of the token, which the provider does not compare"
				}
			}
		}
		return rules
	}
	d.Rules, d.Deny = marked(d.Rules), marked(d.Deny)
	return d
}

// beyond are the rule's conditions that the provider cannot be told.
func (r Rule) beyond() (list []Condition) {
	for _, c := range r.Conditions {
		if c.Beyond != "" {
			list = append(list, c)
		}
	}
	return list
}

// told returns the demand with what its provider can be told of its rules. A rule
// of which nothing is left that it names would be a wall with a hole.
func (d Demand) told() (Demand, error) {
	d.Rules = slices.Clone(d.Rules)
	for i, r := range d.Rules {
		d.Rules[i] = r.Without(claimsOf(r.beyond())...)
		if !slices.ContainsFunc(d.Rules[i].Conditions, func(c Condition) bool { return !c.Implied }) {
			return d, usage("target %q, %s names only claims inside objects of the token, which its provider does not compare: name `sub`, too",
				d.Target.Name(), r.label())
		}
	}
	// Without the condition such a rule would deny others.
	d.Deny = slices.DeleteFunc(slices.Clone(d.Deny), func(r Rule) bool { return len(r.beyond()) > 0 })
	return d, nil
}

func claimsOf(conditions []Condition) (claims []string) {
	for _, c := range conditions {
		claims = append(claims, c.Claim)
	}
	return claims
}

// Formula is met by the tokens that match the rule, of its issuer.
func (r Rule) Formula() logic.Formula {
	return logic.And(logic.Equals("iss", r.Identity.Issuer), r.conditions())
}

// conditions is met by the tokens that match the rule, whoever issued them.
func (r Rule) conditions() logic.Formula {
	parts := make([]logic.Formula, len(r.Conditions))
	for i, c := range r.Conditions {
		parts[i] = r.Condition(c)
	}
	return logic.And(parts...)
}

// Condition is met by the tokens that meet one condition of the rule, as the
// policy means it.
func (r Rule) Condition(c Condition) logic.Formula {
	alternatives := make([]logic.Formula, 0, len(c.Patterns))
	for _, p := range c.Patterns {
		alternatives = append(alternatives, r.pattern(c.Claim, p))
	}
	return logic.Or(alternatives...)
}

func (r Rule) pattern(claim, text string) logic.Formula {
	switch claim {
	case "actor_kind":
		return r.actor(text)
	case "pull_number":
		return logic.And(logic.Is("ref", whole(`refs/pull/[0-9]+/merge`)),
			logic.Is("ref", whole("refs/pull/"+policy.Expression(claim, text)+"/merge")))
	}
	own := logic.Is(claim, patternOf(claim, text))
	s, ok := policy.SubjectOf(text)
	if claim != "sub" || r.Identity.Kind != "github" || !ok {
		return own
	}
	expr, ids := s.OtherForm()
	other := []logic.Formula{logic.Is("sub", whole(expr))}
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		other = append(other, logic.Is(name, whole(ids[name])))
	}
	return logic.Or(own, logic.And(other...))
}

// patternOf is what a pattern of the policy matches, but for the other form of
// a subject.
func patternOf(claim, text string) logic.Language {
	if !strings.Contains(text, "*") {
		return logic.Literal(text)
	}
	return whole(policy.Expression(claim, text))
}

// actor is met by the tokens whose actor is of a kind: that is derived from
// the account.
func (r Rule) actor(kind string) logic.Formula {
	if a := r.actors; a.Always != "" {
		if a.Always == kind {
			return logic.Always()
		}
		return logic.Never()
	}
	quoted := make([]string, len(r.actors.AgentNames))
	for i, a := range r.actors.AgentNames {
		quoted[i] = regexp.QuoteMeta(a)
	}
	agent, name := logic.Never(), r.actors.NameClaim
	if len(quoted) > 0 {
		agent = logic.Is(name, whole(`(?i:`+strings.Join(quoted, "|")+`)`))
	}
	for _, id := range r.actors.AgentIDs {
		agent = logic.Or(agent, logic.Equals(r.actors.IDClaim, id))
	}
	bot := logic.Is(name, whole(`(?s:.*)\[bot\]`))
	if r.Identity.Kind == "gitlab" {
		bot = logic.Or(bot, logic.Is(name, whole(`(?s:(?:project|group)_[0-9]+_bot(?:_.*)?)`)))
	}
	switch kind {
	case "agent":
		return agent
	case "bot":
		return logic.And(logic.Not(agent), bot)
	}
	return logic.And(logic.Not(agent), logic.Not(bot))
}

// whole is the language of an expression of ours.
func whole(expr string) logic.Language { return logic.MustWhole(expr) }

// PolicyFormula is met by the tokens that get this login of the target.
func (d Demand) PolicyFormula() logic.Formula {
	parts := make([]logic.Formula, len(d.Rules))
	for i, r := range d.Rules {
		parts[i] = r.Formula()
	}
	return logic.And(logic.Equals("aud", d.Audience()), logic.Or(parts...), logic.Not(d.DenyFormula()))
}

// known is met by the tokens that are possible by what the options say: the
// numbers of owners, and the names of repositories. What is not about those of
// the policy is left out: forty repositories have a login each, and the others'
// names say nothing of it.
func (d Demand) known() logic.Formula {
	var parts []logic.Formula
	implies := func(claim, value, other, otherValue string) {
		parts = append(parts, logic.Or(logic.Not(logic.Equals(claim, value)), logic.Equals(other, otherValue)))
	}
	about := map[string]bool{} // owners
	for _, id := range slices.Sorted(maps.Keys(d.Options.Repositories)) {
		name := d.Options.Repositories[id]
		if d.mentions("repository_id", id) || d.mentions("repository", name) {
			owner, _, _ := strings.Cut(name, "/")
			about[owner] = true
			implies("repository_id", id, "repository", name)
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(d.Options.OwnerIDs)) {
		id := d.Options.OwnerIDs[owner]
		if about[owner] || d.mentions("repository_owner", owner) || d.mentions("repository_owner_id", id) {
			implies("repository_owner", owner, "repository_owner_id", id)
		}
	}
	return logic.And(parts...)
}

// mentions reports whether the policy's rules have a claim's value, by itself or in
// another text.
func (d Demand) mentions(claim, value string) bool {
	return slices.ContainsFunc(slices.Concat(d.Rules, d.Deny), func(r Rule) bool {
		return slices.ContainsFunc(r.Conditions, func(c Condition) bool {
			return slices.ContainsFunc(c.Patterns, func(p string) bool {
				return p == value && c.Claim == claim || c.Claim != claim && strings.Contains(p, value)
			})
		})
	})
}

// DenyFormula is met by the tokens that `deny` keeps out.
func (d Demand) DenyFormula() logic.Formula {
	parts := make([]logic.Formula, len(d.Deny))
	for i, r := range d.Deny {
		parts[i] = r.Formula()
	}
	return logic.Or(parts...)
}

// label is how reports call a rule.
func (r Rule) label() string { return fmt.Sprintf("rule %d (line %d)", r.Number, r.Line) }
