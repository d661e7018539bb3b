package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// A Denial says why no grant was given. Its class is Denied.
type Denial struct {
	reason string
	Rules  []RuleDenial // the nearest first; empty where the reason is another
}

// A RuleDenial is why one rule did not match.
type RuleDenial struct {
	Target     string
	Index      int // from 0
	Line       int
	Mismatches []Mismatch
}

// A Mismatch is one claim that kept a rule from matching.
type Mismatch struct {
	Claim string
	Got   string // as printed: quoted, "no such claim", or that it is no string
	Want  string // as printed: the patterns, quoted
}

// maxRules bounds the rules that are printed: the nearest ones come first.
const maxRules = 20

// Reason returns the denial in one line.
func (d *Denial) Reason() string { return d.reason }

// Error prints the denial claim by claim.
func (d *Denial) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "denied by policy: %s", d.reason)
	several := slices.ContainsFunc(d.Rules, func(r RuleDenial) bool { return r.Target != d.Rules[0].Target })
	for i, r := range d.Rules {
		if i == maxRules {
			fmt.Fprintf(&out, "\n  … and %s", plural(len(d.Rules)-maxRules, "more rule"))
			break
		}
		out.WriteString("\n  ")
		if several {
			fmt.Fprintf(&out, "target %q, ", r.Target)
		}
		fmt.Fprintf(&out, "rule %d (line %d):", r.Index+1, r.Line)
		for _, m := range r.Mismatches {
			fmt.Fprintf(&out, "\n    %s: got %s, want %s", m.Claim, m.Got, m.Want)
		}
	}
	return out.String()
}

func denied(hint, format string, args ...any) error {
	return fault.New(fault.Denied, &Denial{reason: fmt.Sprintf(format, args...)}, hint)
}

// A near is why one rule does not match, with what its place among others depends on.
type near struct {
	RuleDenial
	rule    rule
	foreign bool
}

// near says claim by claim why no rule of a target matches.
func (v view) near(t *Target) []near {
	list := make([]near, len(t.rules))
	for i, r := range t.rules {
		mismatches, foreign := v.mismatches(r)
		list[i] = near{RuleDenial{t.name, r.index, r.line, mismatches}, r, foreign}
	}
	return list
}

// deny returns the denial of rules, the nearest first.
func (v view) deny(list []near, format string, args ...any) error {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b near) int {
		return nearer(a.foreign, b.foreign, len(a.Mismatches), len(b.Mismatches))
	})
	d := &Denial{reason: fmt.Sprintf(format, args...), Rules: make([]RuleDenial, len(list))}
	hint := ""
	for i, n := range list {
		d.Rules[i] = n.RuleDenial
		if hint == "" && i < maxRules {
			hint = v.hint(n.rule, n.Mismatches)
		}
	}
	return fault.New(fault.Denied, d, hint)
}

// nearer compares two rules by how far the claims are from them. A rule for
// another identity is not near, however few its mismatches.
func nearer(foreign, otherForeign bool, mismatches, others int) int {
	if foreign != otherForeign {
		return map[bool]int{true: 1, false: -1}[foreign]
	}
	return cmp.Compare(mismatches, others)
}

// mismatches returns what keeps a rule from matching; foreign is set when it
// is a rule for another identity, whose claims are not compared.
func (v view) mismatches(r rule) (list []Mismatch, foreign bool) {
	for c := range r.checks(v) {
		if !c.matched {
			list = append(list, Mismatch{c.claim, v.show(c.claim), c.words()})
		}
	}
	return list, r.foreign(v)
}

func quote(s string) string { return strconv.Quote(strictyaml.Cut(s)) }

// show returns a claim as a denial prints it.
func (v view) show(claim string) string {
	switch values := v.values(claim); {
	case len(values) == 1:
		return quote(values[0])
	case len(values) > 1:
		return quoteAll(values)
	case v.claims.Has(claim):
		return "a value that is not a string"
	case claim == "groups" && groupsOverflow(v.claims):
		return "no groups, since they are too many for the token"
	}
	return "no such claim"
}

// maxQuoted bounds the elements of a list that are printed: people may be in hundreds of groups.
const maxQuoted = 20

func quoteAll(values []string) string {
	texts := make([]string, min(len(values), maxQuoted))
	for i := range texts {
		texts[i] = quote(values[i])
	}
	if more := len(values) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("… and %d more", more))
	}
	return "[" + strings.Join(texts, " ") + "]"
}

func (m matcher) show() string {
	texts := make([]string, len(m.patterns))
	for i, p := range m.patterns {
		texts[i] = p.text
	}
	if len(texts) == 1 {
		return quote(texts[0])
	}
	return "one of " + quoteAll(texts)
}
