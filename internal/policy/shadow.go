package policy

import (
	"slices"
	"strings"
)

// A Shadow is a rule that decides nothing: an earlier rule of its target admits
// every token that it matches, or a rule of `deny` refuses every one.
type Shadow struct {
	Target string
	Rule   Rule
	By     Rule
	Denied bool // By is a rule of `deny`
	// Guard is what By's guard is compared with the rule's, "tighter", "wider" or
	// "different", where the rule would decide something if it came before By.
	Guard string
}

// Shadows returns the rules that a rule before them makes superfluous, in the
// order of the file, and how many pairs of rules, at most, were too many to look
// at. It finds those whose matchers are each within that rule's.
func (p *Policy) Shadows() (list []Shadow, skipped int) {
	deny := placed(p.deny, 0)
	for i, t := range p.targets {
		rules := placed(t.rules, i)
		m := newMeeting(deny, rules)
		seen := map[int]bool{}
		add := func(a, b placedRule, denied bool) {
			if !seen[b.index] && !a.apart(b) && b.within(a.rule) {
				seen[b.index] = true
				s := Shadow{Target: t.name, Rule: Rule{b.index, b.line}, By: Rule{a.index, a.line}, Denied: denied}
				if !denied && !a.within(b.rule) {
					s.Guard = a.guard.against(b.guard)
				}
				list = append(list, s)
			}
		}
		m.meet(deny, rules, 0, func(a, b placedRule) { add(a, b, true) })
		m.meet(rules, rules, 0, func(a, b placedRule) {
			if a.index < b.index {
				add(a, b, false)
			}
		})
		skipped += m.skipped
	}
	slices.SortFunc(list, func(a, b Shadow) int { return a.Rule.Line - b.Rule.Line })
	return list, skipped
}

// within reports whether every token that r matches is surely one that the
// other rule matches.
func (r rule) within(other rule) bool {
	if r.identity.Name != other.identity.Name {
		return false
	}
	if (other.namesEvent() || other.namesDefault()) && len(both(r.events(), other.events())) < len(r.events()) {
		return false
	}
	if !r.guarded(other) {
		return false
	}
	for _, m := range other.matchers {
		if m.claim != other.event().claim && !r.implies(m) {
			return false
		}
	}
	return true
}

// implies reports whether a token that matches r surely matches m.
func (r rule) implies(m matcher) bool {
	for _, own := range r.matchers {
		if own.claim == m.claim && own.within(m) {
			return true
		}
		if own.claim == "repository" && m.claim == "repository_owner" && r.identity.Kind == "github" && own.owner().within(m) {
			return true
		}
	}
	return false
}

// within reports whether each pattern is within one of the other matcher's.
func (m matcher) within(other matcher) bool {
	return !slices.ContainsFunc(m.patterns, func(p pattern) bool {
		return !slices.ContainsFunc(other.patterns, func(q pattern) bool {
			if p.text == q.text {
				return true
			}
			if p.subject != nil && (q.subject == nil || q.subject.hasIDs() != p.subject.hasIDs()) {
				return false // p matches the other form of the repository, too
			}
			return p.chain().within(q.chain())
		})
	})
}

// owner returns the matcher of the owner in a matcher of a repository.
func (m matcher) owner() (owner matcher) {
	for _, p := range m.patterns {
		text, _, _ := strings.Cut(p.text, "/")
		owner.patterns = append(owner.patterns, newPattern("repository_owner", text))
	}
	return owner
}
