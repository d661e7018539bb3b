package policy

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A Case is one login of a target: its settings with the claims filled in, and
// the rules whose tokens get it, each held to those claims.
type Case struct {
	Values map[string]string // what each ${name} of the login became; empty where it has none
	Login  Login
	Rules  []RuleView
}

// Cases returns the logins that a target gives, in the order of the file: one
// unless a claim chooses the provider's settings or the warehouse's user.
func (t *Target) Cases() (cases []Case) {
	names := t.choosing()
	place := map[string]int{}
	for _, r := range t.rules {
		for _, values := range t.choices(r, names) {
			key := ""
			for _, name := range names {
				key += values[name] + "\n"
			}
			i, ok := place[key]
			if !ok {
				i = len(cases)
				place[key] = i
				cases = append(cases, Case{Values: values, Login: t.loginWith(values)})
			}
			cases[i].Rules = append(cases[i].Rules, viewsOf([]rule{t.held(r, values)})...)
		}
	}
	return cases
}

// choosing returns the names in ${…} that the login depends on, sorted. The
// number of a pull request is none: it has no literals.
func (t *Target) choosing() []string {
	found := map[string]bool{}
	note := func(text string) {
		for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
			found[m[1]] = true
		}
	}
	for _, list := range t.exchange.m {
		for _, text := range list {
			note(text)
		}
	}
	for _, block := range []*yaml.Node{t.dbt.Block, t.dbt.With} {
		for i := 0; block != nil && i+1 < len(block.Content); i += 2 {
			if block.Content[i].Value == "user" {
				note(block.Content[i+1].Value)
			}
		}
	}
	delete(found, "pull_number")
	return slices.Sorted(maps.Keys(found))
}

// claimBehind returns the claim that ${name} is made of.
func (t *Target) claimBehind(name string) string {
	if table := t.maps[name]; table != nil {
		return table.claim
	}
	return name
}

// made returns what ${name} becomes of a claim's value.
func (t *Target) made(name, value string) string {
	if table := t.maps[name]; table != nil {
		return table.values[value]
	}
	return value
}

// choices returns the values that the names can have by a rule: those of one
// claim go together.
func (t *Target) choices(r rule, names []string) []map[string]string {
	list := []map[string]string{{}}
	done := map[string]bool{}
	for _, name := range names {
		claim := t.claimBehind(name)
		literals, ok := r.literals(claim)
		if !ok || done[claim] {
			continue
		}
		done[claim] = true
		var longer []map[string]string
		for _, have := range list {
			for _, literal := range literals {
				with := maps.Clone(have)
				for _, other := range names {
					if t.claimBehind(other) == claim {
						with[other] = t.made(other, literal)
					}
				}
				if !slices.ContainsFunc(longer, func(m map[string]string) bool { return maps.Equal(m, with) }) {
					longer = append(longer, with)
				}
			}
		}
		list = longer
	}
	return list
}

// held returns the rule with its claims held to those of which the values are made.
func (t *Target) held(r rule, values map[string]string) rule {
	r.matchers = slices.Clone(r.matchers)
	for i, m := range r.matchers {
		if _, ok := m.literals(); !ok {
			continue
		}
		r.matchers[i].patterns = slices.DeleteFunc(slices.Clone(m.patterns), func(p pattern) bool {
			for name, value := range values {
				if t.claimBehind(name) == m.claim && t.made(name, p.text) != value {
					return true
				}
			}
			return false
		})
	}
	return r
}

// loginWith returns the settings with values in place of their names; what has
// none stays.
func (t *Target) loginWith(values map[string]string) Login {
	replace := func(text string) string {
		if !strings.Contains(text, "${") {
			return text
		}
		return placeholder.ReplaceAllStringFunc(text, func(m string) string {
			if value, ok := values[strings.TrimSuffix(m[2:], "}")]; ok {
				return value
			}
			return m
		})
	}
	filled := Values{m: make(map[string][]string, len(t.exchange.m)), lines: t.exchange.lines, fixed: t.exchange.fixed}
	for key, list := range t.exchange.m {
		for _, text := range list {
			filled.m[key] = append(filled.m[key], replace(text))
		}
	}
	return Login{Provider: t.provider, Audience: t.audience, Exchange: filled, DBT: t.dbt.filled(replace)}
}
