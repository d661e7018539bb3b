package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// claimText is what a claim may be called: GitHub's are lower case with _,
// CircleCI's have a host in front.
var claimText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./:-]{0,127}$`)

// timeClaims are numbers in every token: a matcher could never match them.
var timeClaims = []string{"exp", "iat", "nbf"}

// allow reads a target's rules.
func (d *document) allow(p *Policy, t *Target, n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		d.at(n, "allow is %s, want a list of rules", nodeKind(n))
		return
	}
	if len(n.Content) == 0 {
		d.at(n, "allow is an empty list: without a rule nobody may use target %q", t.name)
	}
	for i, e := range n.Content {
		r, ok := d.rule(p, i, e)
		if !ok {
			continue
		}
		t.rules = append(t.rules, r)
		if !slices.ContainsFunc(t.identities, func(id Identity) bool { return id.Name == r.identity.Name }) {
			t.identities = append(t.identities, r.identity)
		}
		if r.byName {
			p.warnings = append(p.warnings, fmt.Sprintf("target %q, rule %d (%s:%d) binds a name alone, which somebody else may take when it is given up: add %s",
				t.name, i+1, p.name, r.line, strings.Join(kinds[r.identity.Kind].ids, " or ")))
		}
	}
}

func (d *document) rule(p *Policy, index int, n *yaml.Node) (r rule, ok bool) {
	before := len(d.faults)
	values := d.mapping(n, "a rule")
	if values == nil {
		return r, false
	}
	if len(n.Content) == 0 {
		d.at(n, "a rule is empty: it would allow everybody")
		return r, false
	}
	r = rule{index: index, line: n.Line}
	identity := "github"
	if v := values["identity"]; v != nil {
		identity = d.text(v, "identity")
	}
	if r.identity, ok = p.identities[identity]; !ok && identity != "" {
		at := n
		if v := values["identity"]; v != nil {
			at = v
		}
		d.at(at, "unknown identity %q, the policy has %q", identity, slices.Sorted(maps.Keys(p.identities)))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Value == "identity" {
			continue
		}
		if !claimText.MatchString(key.Value) {
			d.at(key, "claim name %q is malformed", key.Value)
			continue
		}
		if slices.Contains(timeClaims, key.Value) {
			d.at(key, "claim %q is a time, which is always checked: leave it out", key.Value)
			continue
		}
		m := matcher{claim: key.Value}
		for _, e := range d.texts(value, key.Value) {
			pattern, err := compilePattern(key.Value, e.Value)
			if err != nil {
				d.at(e, "%s %q %v", key.Value, e.Value, err)
				continue
			}
			m.patterns = append(m.patterns, pattern)
		}
		r.matchers = append(r.matchers, m)
	}
	if len(d.faults) > before {
		return r, false
	}
	if problem := unbound(&r); problem != "" {
		d.at(n, "%s", problem)
		return r, false
	}
	return r, true
}

// unbound says why a rule binds nobody in particular, "" where it does.
func unbound(r *rule) string {
	k := kinds[r.identity.Kind]
	bound, whole, id := false, false, false
	for _, m := range r.matchers {
		if !slices.Contains(k.bind, m.claim) {
			continue
		}
		binds, wholly := true, true
		for _, p := range m.patterns {
			b, w := p.binds(r.identity.Kind, m.claim)
			binds, wholly = binds && b, wholly && w
		}
		bound = bound || binds
		whole = whole || binds && wholly && !slices.Contains(k.owner, m.claim)
		id = id || binds && !slices.Contains(k.names, m.claim)
	}
	if !bound {
		return fmt.Sprintf("the rule binds nobody in particular: want a literal %s", strings.Join(k.bind, ", "))
	}
	if !whole && len(k.workflow) > 0 && !slices.ContainsFunc(r.matchers, func(m matcher) bool { return slices.Contains(k.workflow, m.claim) }) {
		return fmt.Sprintf("the rule binds an owner alone, and any member can create a repository with an environment in it: add %s, or a literal %s",
			strings.Join(k.workflow, " or "), strings.Join(slices.DeleteFunc(slices.Clone(k.bind), func(c string) bool { return slices.Contains(k.owner, c) }), " or "))
	}
	r.byName = !id
	return ""
}

// binds reports whether a pattern of a binding claim holds the rule to one
// owner at least, and whether to one repository.
func (p pattern) binds(kind, claim string) (binds, whole bool) {
	if p.literal {
		return true, true
	}
	if kind == "github" && claim == "repository" {
		owner, _, ok := strings.Cut(p.text, "/")
		return ok && owner != "" && !strings.Contains(owner, "*"), false
	}
	return false, false
}

// A fill is a value with ${claim} in it.
type fill struct {
	node   *yaml.Node
	where  string
	claims []string
	check  func(string) error
}

var placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)

// placeholders returns the names in a value's ${…}.
func placeholders(value string) (names []string) {
	for _, m := range placeholder.FindAllStringSubmatch(value, -1) {
		names = append(names, m[1])
	}
	return names
}

// fillText is what a claim may bring into a value. No slash, no quote, no
// space: it lands in names of roles, schemas and accounts.
var fillText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// peopleText is fillText for people, whose names are mail addresses.
var peopleText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]*$`)

func fillable(kind, value string) bool {
	text := fillText
	if kind == "people" {
		text = peopleText
	}
	return text.MatchString(value) && !strings.Contains(value, "..") && len(value) <= 128
}

// checkFills checks that each ${claim} stands for a claim that every rule of
// the target matches by literals: only so was it checked.
func (d *document) checkFills(t *Target, fills []fill) {
	for _, f := range fills {
		for _, claim := range f.claims {
			for _, r := range t.rules {
				values, ok := r.names(claim)
				if !ok {
					d.at(f.node, "%s: ${%s} stands for a claim that not every rule matches by literals (rule %d, line %d)", f.where, claim, r.index+1, r.line)
					break
				}
				if bad := slices.IndexFunc(values, func(v string) bool { return !fillable(r.identity.Kind, v) }); bad >= 0 {
					d.at(f.node, "%s: ${%s} may be %q (rule %d, line %d), want letters, digits, `.`, `_` and `-`", f.where, claim, values[bad], r.index+1, r.line)
					break
				}
			}
		}
	}
}

// names returns the literals that a rule allows for a claim. A rule that
// matches only refs of pull requests names pull_number.
func (r rule) names(claim string) (values []string, ok bool) {
	for _, m := range r.matchers {
		if m.claim == claim {
			return m.literals()
		}
		if claim == "pull_number" && m.claim == "ref" {
			for _, p := range m.patterns {
				if !strings.HasPrefix(p.text, "refs/pull/") || !strings.HasSuffix(p.text, "/merge") || strings.Contains(p.text, "**") || strings.Count(p.text, "/") != 3 {
					return nil, false
				}
			}
			return nil, true
		}
	}
	return nil, false
}
