package policy

import (
	"fmt"
	"iter"
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

// A ClaimSet is claims as rules read them: of a verified token, or others
// that are only explained. Only idtoken.Claims can be authorised.
type ClaimSet interface {
	// String returns a claim that is a string.
	String(name string) (value string, ok bool)
	// Strings returns a claim that is a list of strings.
	Strings(name string) (values []string, ok bool)
	// Value returns a claim as JSON has it, nil for none.
	Value(name string) any
	// Has reports whether there is a claim of that name, of any type.
	Has(name string) bool
	// Unknown reports whether it is not known if the token had the claim.
	Unknown(name string) bool
	// Names returns the names of all claims, sorted.
	Names() []string
	Issuer() string
	Subject() string
	// IsZero reports whether the claims came from nowhere.
	IsZero() bool
}

var (
	_ ClaimSet = idtoken.Claims{}
	_ ClaimSet = idtoken.Unverified{}
)

// A check is one condition of a rule, and whether the claims meet it.
type check struct {
	claim   string
	matched bool
	rule    *rule
	matcher *matcher // nil where the condition is not one that the rule names: identity, events, guards
	guard   *guard   // nil where it is none
}

// checks compares the claims with all that a rule asks for. Whether it
// matches, what a denial lists and what is explained all come from here. A
// rule sees only tokens of its own identity: of others nothing else is compared.
func (r *rule) checks(v view) iter.Seq[check] {
	return func(yield func(check) bool) {
		if r.foreign(v) {
			claim := "iss"
			if v.claims.Issuer() == r.identity.Issuer {
				claim = "aud" // people's identities differ in it only
			}
			yield(check{claim: claim, rule: r})
			return
		}
		for i := range r.matchers {
			m := &r.matchers[i]
			if !yield(check{claim: m.claim, matched: m.matches(v), rule: r, matcher: m}) {
				return
			}
		}
		if r.namesDefault() && !yield(check{claim: r.event().claim, matched: r.admits(v), rule: r}) {
			return
		}
		for g := range r.guards() {
			if !yield(check{claim: g.claim, matched: g.met(v.claims), rule: r, guard: g}) {
				return
			}
		}
	}
}

// guards are those of the rule's kind that it does not lift. Rules of `deny`
// have none: a token that no rule admits need not be denied.
func (r *rule) guards() iter.Seq[*guard] {
	return func(yield func(*guard) bool) {
		list := kinds[r.identity.Kind].guards
		for i := range list {
			if r.anyEvent || slices.ContainsFunc(list[i].unless, r.names) {
				continue
			}
			if !yield(&list[i]) {
				return
			}
		}
	}
}

// guarded reports whether every guard of another rule also holds for r.
func (r rule) guarded(other rule) bool {
	for g := range other.guards() {
		held := false
		for own := range r.guards() {
			held = held || own == g
		}
		if !held {
			return false
		}
	}
	return true
}

// foreign reports whether the claims are of another identity than the rule's.
func (r *rule) foreign(v view) bool { return v.claims.IsZero() || v.identity.Name != r.identity.Name }

// want returns what the claim may be: patterns, or values.
func (c check) want() []string {
	switch {
	case c.matcher != nil:
		texts := make([]string, len(c.matcher.patterns))
		for i, p := range c.matcher.patterns {
			texts[i] = p.text
		}
		return texts
	case c.claim == "iss":
		return []string{c.rule.identity.Issuer}
	case c.claim == "aud" && c.rule.identity.ClientID != "":
		return []string{c.rule.identity.ClientID}
	case c.claim == "aud":
		return nil
	case c.guard != nil:
		return []string{c.guard.want}
	}
	return c.rule.event().admitted
}

// words returns what the claim may be as a denial prints it.
func (c check) words() string {
	switch {
	case c.matcher != nil:
		return c.matcher.show()
	case c.claim == "iss":
		return quote(c.rule.identity.Issuer)
	case c.claim == "aud":
		return "that of identity " + quote(c.rule.identity.Name)
	}
	if c.guard != nil {
		return c.guard.want
	}
	return fmt.Sprintf("one of %q, or an event that the rule names", c.rule.event().admitted)
}
