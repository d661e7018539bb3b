package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// A placedRule is a rule of a target, or of `deny`.
type placedRule struct {
	rule
	target int       // its place
	starts [][]start // by the sides of a meeting; nil where the rule does not name the claim
}

func placed(rules []rule, target int) []placedRule {
	list := make([]placedRule, len(rules))
	for i, r := range rules {
		list[i] = placedRule{rule: r, target: target}
	}
	return list
}

// A start is the text before the first wildcard of a pattern: values that match
// the pattern start with it, or are it where the pattern is no literal. Read
// backwards, it is how they end.
type start struct {
	text string
	open bool // more may follow
}

// start returns how the pattern's values start, or backwards, how they end.
func (p pattern) start(backwards bool) start {
	text, _, open := strings.Cut(p.text, "*")
	if !backwards {
		return start{text, open}
	}
	letters := []byte(p.text[strings.LastIndexByte(p.text, '*')+1:])
	slices.Reverse(letters)
	return start{string(letters), open}
}

// meets reports whether one value may have both starts.
func (s start) meets(other start) bool {
	return s == other || s.open && strings.HasPrefix(other.text, s.text) || other.open && strings.HasPrefix(s.text, other.text)
}

// apart reports whether a claim that has one value starts or ends differently
// by the two rules: the quick answer for nearly all pairs.
func (r placedRule) apart(other placedRule) bool {
	for i, starts := range r.starts {
		if starts == nil || other.starts[i] == nil {
			continue
		}
		if !slices.ContainsFunc(starts, func(s start) bool { return slices.ContainsFunc(other.starts[i], s.meets) }) {
			return true
		}
	}
	return false
}

// A meeting finds the rules that may admit the same token: ten thousand rules
// have fifty million pairs, and nearly all are told apart by the repository.
type meeting struct {
	sides   []side // those that tell the most rules apart first
	left    int    // pairs that may still be visited
	skipped int    // pairs that are not
}

// A side is a claim by which rules are told apart, by its start or backwards.
type side struct {
	claim     string
	backwards bool
}

// maxPairs bounds the pairs of rules that are looked at one by one: those of
// rules that only the middle of a pattern tells apart.
const maxPairs = 3_000_000

// maxLeaf are the pairs that are looked at one by one rather than told apart further.
const maxLeaf = 4096

// A tally counts what rules say of one side.
type tally struct {
	starts          map[start]bool
	rules, patterns int
}

// splits is how well the side tells rules apart: a rule with several patterns is
// in several parts.
func (t *tally) splits() int { return len(t.starts) * t.rules / t.patterns }

// newMeeting prepares the rules of lists that meet each other, or themselves.
func newMeeting(lists ...[]placedRule) *meeting {
	tallies := map[side]*tally{}
	for _, r := range slices.Concat(lists...) {
		for _, m := range r.matchers {
			if MayBeList(r.identity.Kind, m.claim) || m.claim == "sub" || m.claim == "event_name" {
				continue
			}
			m.count(tallies, side{m.claim, false})
			if _, literal := m.literals(); !literal {
				m.count(tallies, side{m.claim, true})
			}
		}
	}
	m := &meeting{left: maxPairs, sides: slices.SortedFunc(maps.Keys(tallies), func(a, b side) int {
		if by := cmp.Or(tallies[b].splits()-tallies[a].splits(), strings.Compare(a.claim, b.claim)); by != 0 {
			return by
		}
		return map[bool]int{false: -1, true: 1}[a.backwards]
	})}
	for _, rules := range lists {
		for i := range rules {
			rules[i].starts = m.startsOf(rules[i].rule)
		}
	}
	return m
}

func (m matcher) count(tallies map[side]*tally, s side) {
	t := tallies[s]
	if t == nil {
		t = &tally{starts: map[start]bool{}}
		tallies[s] = t
	}
	t.rules++
	t.patterns += len(m.patterns)
	for _, p := range m.patterns {
		t.starts[p.start(s.backwards)] = true
	}
}

func (m *meeting) startsOf(r rule) [][]start {
	list := make([][]start, len(m.sides))
	for i, s := range m.sides {
		if MayBeList(r.identity.Kind, s.claim) {
			continue
		}
		for _, own := range r.matchers {
			for _, p := range own.patterns {
				if own.claim == s.claim {
					list[i] = append(list[i], p.start(s.backwards))
				}
			}
		}
	}
	return list
}

// meet calls visit for each two rules that no side from the i-th on tells apart,
// for some of them more than once, until there were too many.
func (m *meeting) meet(as, bs []placedRule, i int, visit func(a, b placedRule)) {
	if len(as) == 0 || len(bs) == 0 {
		return
	}
	if i == len(m.sides) || len(as)*len(bs) <= maxLeaf {
		if m.left -= len(as) * len(bs); m.left < 0 {
			m.skipped += len(as) * len(bs)
			return
		}
		for _, a := range as {
			for _, b := range bs {
				visit(a, b)
			}
		}
		return
	}
	named, others := byStart(as, i)
	namedB, othersB := byStart(bs, i)
	for _, s := range named.sorted {
		m.meet(named.rules[s], append(namedB.meeting(s), othersB...), i+1, visit)
	}
	m.meet(others, bs, i+1, visit)
}

// startedRules are rules by the starts of a side.
type startedRules struct {
	rules   map[start][]placedRule
	sorted  []start // by their texts
	lengths []int   // of the open ones
}

// byStart returns the rules by each start that they have of the i-th side, and
// those that do not name its claim.
func byStart(rules []placedRule, i int) (named startedRules, others []placedRule) {
	named.rules = map[start][]placedRule{}
	for _, r := range rules {
		for _, s := range r.starts[i] {
			if list := named.rules[s]; len(list) > 0 && list[len(list)-1].index == r.index && list[len(list)-1].target == r.target {
				continue // two patterns with one start
			}
			named.rules[s] = append(named.rules[s], r)
		}
		if r.starts[i] == nil {
			others = append(others, r)
		}
	}
	named.sorted = slices.SortedFunc(maps.Keys(named.rules), func(a, b start) int { return strings.Compare(a.text, b.text) })
	for _, s := range named.sorted {
		if s.open {
			named.lengths = append(named.lengths, len(s.text))
		}
	}
	slices.Sort(named.lengths)
	named.lengths = slices.Compact(named.lengths)
	return named, others
}

// meeting returns the rules that have a start which meets s.
func (l startedRules) meeting(s start) (rules []placedRule) {
	for _, n := range l.lengths {
		if n < len(s.text) {
			rules = append(rules, l.rules[start{s.text[:n], true}]...)
		}
	}
	if !s.open {
		return slices.Concat(rules, l.rules[start{s.text, true}], l.rules[s])
	}
	from, _ := slices.BinarySearchFunc(l.sorted, s.text, func(e start, text string) int { return strings.Compare(e.text, text) })
	for _, e := range l.sorted[from:] {
		if !strings.HasPrefix(e.text, s.text) {
			break
		}
		rules = append(rules, l.rules[e]...)
	}
	return rules
}
