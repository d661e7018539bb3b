package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// A claimMap gives ${name} a value for each literal of a claim.
type claimMap struct {
	name   string
	line   int
	claim  string
	values map[string]string
}

// mapName is what a map may be called: like a claim of GitHub's, so that ${…}
// reads alike.
var mapName = lazy.MustCompile(`^[a-z][a-z0-9_]*$`).Where(func(s string) bool { return len(s) <= maxNameText })

// maps reads the tables that make ${team} of a claim.
func (d *document) maps(p *Policy, n *yaml.Node) {
	m, ok := d.Mapping(n, n, "maps", nil)
	if !ok {
		return
	}
	if len(n.Content) == 0 {
		d.Report(n, "maps is empty: leave it out")
	}
	p.maps = map[string]*claimMap{}
	for key, value := range m.Pairs {
		switch kind := claimOf(key.Value); {
		case !mapName.MatchString(key.Value):
			d.Report(key, "map name %q: want lower case letters, digits and `_`, the first a letter, at most %d", key.Value, maxNameText)
		case kind != "":
			d.Report(key, "map name %q is that of a claim of kind %q: choose another", key.Value, kind)
		}
		p.maps[key.Value] = d.claimMap(p, key, value)
	}
	d.mapNames = n
}

// claimOf returns the kind of identity whose tokens have a claim, "" for none.
func claimOf(name string) string {
	for _, kind := range append([]string{"github"}, Kinds()...) {
		if k := kinds[kind]; len(k.claims) > 0 && k.has(name) {
			return kind
		}
	}
	return ""
}

// claimMap reads one map: a claim, and its literals with their values.
func (d *document) claimMap(p *Policy, key, n *yaml.Node) *claimMap {
	table := &claimMap{name: key.Value, line: key.Line, values: map[string]string{}}
	what := fmt.Sprintf("map %q", key.Value)
	m, ok := d.Mapping(key, n, what, nil)
	if !ok {
		return table
	}
	if len(n.Content) != 2 && !d.Merged(n) {
		d.Report(n, "%s has %s, want exactly one, with a value for each of its literals", what, plural(len(n.Content)/2, "claim"))
	}
	for claim, values := range m.Pairs {
		table.claim = claim.Value
		d.mapClaim(p, what, claim)
		entries, ok := d.Mapping(claim, values, what+" by "+strictyaml.Cut(claim.Value), nil)
		if !ok {
			continue
		}
		if len(values.Content) == 0 {
			d.Report(values, "%s by %s is empty", what, claim.Value)
		}
		for literal, value := range entries.Pairs {
			if strings.Contains(literal.Value, "*") {
				d.Report(literal, "%s has a value for %q: a map has literals, and no wildcards", what, literal.Value)
			}
			text := d.Text(value, fmt.Sprintf("%s for %q", what, strictyaml.Cut(literal.Value)))
			if text != "" && !fillable("people", text) { // the widest form; each use is held to its own kind's
				d.Report(value, "%s for %q is %q, want letters, digits, `.`, `_` and `-`, without `..`", what, literal.Value, text)
			}
			table.values[literal.Value] = text
		}
	}
	return table
}

// mapClaim checks the claim that a map is by.
func (d *document) mapClaim(p *Policy, what string, n *yaml.Node) {
	claim := n.Value
	var known []string
	has := false
	for _, id := range p.identities {
		has = has || kinds[id.Kind].has(claim)
		known = append(known, kinds[id.Kind].claims...)
	}
	switch {
	case !claimText.MatchString(claim) || slices.Contains(timeClaims, claim):
		d.Report(n, "%s is by %q, which is not a claim that a rule may name", what, claim)
	case claim == "pull_number":
		d.Report(n, "%s is by pull_number, which has no literals", what)
	case claim == "sub":
		d.Report(n, "%s is by sub, which has two forms for one repository: use another claim, such as repository_id", what)
	case !has:
		d.Report(n, "%s is by %q, which is not a claim%s", what, claim, otherNames.DidYouMean(claim, known))
	}
}

// checkMapNames reports maps that are called like a claim that a rule names:
// ${…} could mean either.
func (d *document) checkMapNames(p *Policy) {
	if len(p.maps) == 0 {
		return
	}
	check := func(r rule, where string) {
		for _, m := range r.matchers {
			if p.maps[m.claim] == nil || claimOf(m.claim) != "" {
				continue
			}
			for key := range d.Pairs(d.mapNames) {
				if key.Value == m.claim {
					d.Report(key, "map name %q is that of a claim, which rule %d (line %d) of %s names: choose another",
						key.Value, r.index+1, r.line, where)
				}
			}
		}
	}
	for _, r := range p.deny {
		check(r, "deny")
	}
	for _, t := range p.targets {
		for _, r := range t.rules {
			check(r, fmt.Sprintf("target %q", t.name))
		}
	}
}

// mayBe returns what ${name} may be by a rule, where that is literal.
func (t *Target) mayBe(r rule, name string) (values []string, ok bool) {
	table := t.maps[name]
	if table == nil {
		return r.literals(name)
	}
	literals, ok := r.literals(table.claim)
	for _, literal := range literals {
		value, has := table.values[literal]
		if !has {
			return nil, false
		}
		values = append(values, value)
	}
	return values, ok
}

// unmapped reports, at their places, the literals of a rule that a map has no
// value for; none has no fault.
func (d *document) unmapped(t *Target, r rule, table *claimMap) (none bool) {
	literals, _ := r.literals(table.claim)
	missing := slices.DeleteFunc(slices.Clone(literals), func(s string) bool { _, has := table.values[s]; return has })
	for _, n := range d.literalNodes(r, table.claim) {
		if !slices.Contains(missing, n.Value) || d.reported[n] == table {
			continue
		}
		d.reported[n] = table
		d.Report(n, "%s %q, by rule %d (line %d) of target %q, has no value in map %q (line %d), which makes ${%s} of it: add it there",
			table.claim, n.Value, r.index+1, r.line, t.name, table.name, table.line, table.name)
	}
	return len(missing) == 0
}

// literalNodes returns where a rule of the target that is read names a claim's values.
func (d *document) literalNodes(r rule, claim string) []*yaml.Node {
	if d.allowed == nil || r.index >= len(d.allowed.Content) {
		return nil
	}
	for key, value := range d.Pairs(d.allowed.Content[r.index]) {
		switch {
		case key.Value != claim:
		case value.Kind == yaml.SequenceNode:
			return value.Content
		default:
			return []*yaml.Node{value}
		}
	}
	return nil
}

// value returns what takes the place of ${name}.
func (t *Target) value(v view, name string) (string, error) {
	claim, table := name, t.maps[name]
	if table != nil {
		claim = table.claim
	}
	values := v.values(claim)
	if table != nil && len(values) == 1 {
		value, has := table.values[values[0]]
		if !has { // Parse has held the rules to what the map has
			return "", denied("", "%s is %s, for which map %q has no value", claim, v.show(claim), name)
		}
		values = []string{value}
	}
	if len(values) != 1 || !fillable(v.identity.Kind, values[0]) {
		// Parse has held literals to this; pull_number is derived.
		return "", denied("", "%s is %s, which cannot stand in for ${%s}", claim, v.show(claim), name)
	}
	return values[0], nil
}
