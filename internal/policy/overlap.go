package policy

import (
	"cmp"
	"slices"
	"strings"
)

// An Overlap is two rules of different targets that one token matches: which
// target it gets is then the choice of the job only.
type Overlap struct {
	Targets [2]string
	Rules   [2]Rule
	Witness map[string]any // the claims of such a token
}

// Overlaps returns one overlap for each two targets that have one, in the order
// of the file, and how many pairs of rules, at most, were too intricate to
// decide, or too many.
func (p *Policy) Overlaps() (found []Overlap, undecided int) {
	var all []placedRule
	targets := p.candidates()
	for i, t := range targets {
		all = append(all, placed(t.rules, i)...)
	}
	seen, tried, left := map[[2]int]bool{}, map[[4]int]bool{}, maxAllStates
	m := newMeeting(all)
	m.meet(all, all, 0, func(a, b placedRule) {
		pair, rules := [2]int{a.target, b.target}, [4]int{a.target, a.index, b.target, b.index}
		if a.target >= b.target || seen[pair] || a.apart(b) || tried[rules] {
			return
		}
		if left <= 0 {
			undecided++
			return
		}
		tried[rules] = true
		witness, states, decided := p.overlap(a.rule, b.rule)
		if left -= states; !decided {
			undecided++
		}
		if witness != nil {
			seen[pair] = true
			found = append(found, Overlap{[2]string{targets[a.target].name, targets[b.target].name},
				[2]Rule{{a.index, a.line}, {b.index, b.line}}, witness})
		}
	})
	slices.SortStableFunc(found, func(x, y Overlap) int {
		return cmp.Or(x.Rules[0].Line-y.Rules[0].Line, x.Rules[1].Line-y.Rules[1].Line)
	})
	return found, undecided + m.skipped/2
}

// texts returns what a claim may be by the rule, nil where the rule does not
// name the claim or has a wildcard in it.
func (r rule) texts(claim string) []string {
	for _, m := range r.matchers {
		if texts, ok := m.literals(); ok && m.claim == claim {
			return texts
		}
	}
	return nil
}

func (r rule) names(claim string) bool {
	return slices.ContainsFunc(r.matchers, func(m matcher) bool { return m.claim == claim })
}

// events are those that the rule admits, of a kind whose tokens have one.
func (r rule) events() []string {
	if r.namesEvent() {
		return r.texts(r.event().claim)
	}
	return r.event().admitted
}

// both returns the elements of a list that another one has, too.
func both(a, b []string) (list []string) {
	for _, s := range a {
		if slices.Contains(b, s) && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// overlap returns the claims of a token that matches both rules, nil where
// there is none. Claims that are tied to each other in the tokens of a kind are
// solved together; what is found is confirmed by the rules themselves.
func (p *Policy) overlap(a, b rule) (witness map[string]any, states int, decided bool) {
	if a.identity.Name != b.identity.Name {
		return nil, 0, true
	}
	s := solver{policy: p, rules: [2]rule{a, b}, clauses: clauses(a, b), left: maxTries}
	for _, char := range fillers {
		s.char, s.refused = char, false
		for _, w := range worlds(a, b, p.agentsOf(a.identity.Kind)) {
			s.world, s.values = w, map[string][]chain{}
			if s.with(s.structure(), func() bool { return s.solve(0) }) {
				return s.witness, s.states, true
			}
		}
		if !s.refused {
			break
		}
	}
	return nil, s.states, s.left > 0
}

// fillers are the characters, and digits, that stand for any: a rule of `deny`
// may be about a token that is made with one of them.
var fillers = []filler{{'x', '1'}, {'y', '2'}, {'z', '3'}}

type filler struct{ letter, digit rune }

// A clause is a matcher of either rule: one of its patterns must match.
type clause struct {
	matcher
	variable string // what the claim is called where both rules need not agree on it
}

// clauses returns the matchers of both rules, those with the fewest patterns first.
func clauses(a, b rule) (list []clause) {
	for i, r := range []rule{a, b} {
		for _, m := range r.matchers {
			c := clause{m, m.claim}
			switch {
			case m.claim == "actor_kind", m.claim == r.event().claim:
				continue // each world has one
			case i == 1 && MayBeList(r.identity.Kind, m.claim):
				c.variable += listed
			}
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(x, y clause) int { return len(x.patterns) - len(y.patterns) })
	return list
}

// listed marks the variable of a list's second element.
const listed = "#2"

// A world is one of the forms that a token can have.
type world struct {
	event string
	ref   chain
	sub   subjectShape
	actor actorShape
}

// A subjectShape is how a sub of GitHub's is made.
type subjectShape struct {
	ids     bool   // behind the names of owner and repository
	context string // what follows: one of the constants
}

const (
	inEnvironment = "environment:"
	onRef         = "ref:"
	onPull        = "pull_request"
	customised    = "…" // repo:OWNER/REPO: and more
	free          = ""  // customised from its beginning
)

// An actorShape is an actor of one kind.
type actorShape struct {
	kind  string // "" where no rule asks
	actor chain  // nil for any
	id    chain  // likewise
}

// refsOf are the refs that an event can have (GitHub: Events that trigger
// workflows); any other event has any.
var refsOf = map[string][]string{
	"push":                        {"refs/heads/", "refs/tags/"},
	"schedule":                    {"refs/heads/"},
	"workflow_dispatch":           {"refs/heads/", "refs/tags/"},
	"merge_group":                 {"refs/heads/gh-readonly-queue/"},
	"release":                     {"refs/tags/"},
	"pull_request":                {"refs/pull/", "refs/heads/"}, // of the base, once it is merged
	"pull_request_review":         {"refs/pull/", "refs/heads/"},
	"pull_request_review_comment": {"refs/pull/", "refs/heads/"},
	"pull_request_target":         {"refs/heads/"},
}

// worlds returns the forms of a token that both rules may admit.
func worlds(a, b rule, agents []agentAccount) (list []world) {
	actors := actorShapes(a, b, agents)
	events := []string{""}
	if a.event().claim != "" {
		events = both(a.events(), b.events())
	}
	if a.identity.Kind != "github" {
		for _, event := range events {
			for _, actor := range actors {
				list = append(list, world{event: event, actor: actor})
			}
		}
		return list
	}
	for _, event := range events {
		refs := refsOf[event]
		if refs == nil {
			refs = []string{"refs/heads/", "refs/tags/", "refs/pull/"}
		}
		for _, prefix := range refs {
			ref := join(textChain(prefix), segment(""))
			if prefix == "refs/pull/" {
				ref = join(textChain(prefix), segment("/"), textChain("/merge"))
			}
			for _, sub := range subjectShapes(event, a, b) {
				for _, actor := range actors {
					list = append(list, world{event, ref, sub, actor})
				}
			}
		}
	}
	return list
}

func actorShapes(a, b rule, agents []agentAccount) (forms []actorShape) {
	kinds := actorKinds
	for _, r := range []rule{a, b} {
		if r.names("actor_kind") {
			kinds = both(kinds, r.texts("actor_kind"))
		}
	}
	if len(kinds) == len(actorKinds) {
		return []actorShape{{}}
	}
	for _, kind := range kinds {
		switch kind {
		case "user":
			forms = append(forms, actorShape{kind: kind})
		case "bot":
			forms = append(forms, actorShape{kind: kind, actor: join(segment(""), textChain("[bot]"))})
		case "agent":
			for _, agent := range agents {
				if agent.byName() {
					forms = append(forms, actorShape{kind: kind, actor: textChain(agent.name)})
				} else {
					forms = append(forms, actorShape{kind: kind, id: textChain(agent.id)})
				}
			}
		}
	}
	return forms
}

func subjectShapes(event string, a, b rule) (forms []subjectShape) {
	plain := onRef
	if strings.HasPrefix(event, onPull) {
		plain = onPull
	}
	contexts := []string{plain, inEnvironment}
	if a.names("environment") || b.names("environment") {
		contexts = contexts[1:]
	}
	if !a.names("sub") && !b.names("sub") {
		return []subjectShape{{context: contexts[0]}}
	}
	for _, context := range append(contexts, customised) {
		forms = append(forms, subjectShape{false, context}, subjectShape{true, context})
	}
	return append(forms, subjectShape{context: free})
}

// A constraint holds a variable to a chain. Variables are claims, or the parts
// that tied claims are made of: owner, name, rest.
type constraint struct {
	variable string
	chain    chain
}

// maxTries bounds the combinations of patterns that are tried for two rules,
// maxAllStates the work for all rules of a policy: a second's.
const (
	maxTries     = 20_000
	maxAllStates = 2_000_000
)

// A solver looks for values that satisfy all clauses in one world.
type solver struct {
	policy  *Policy
	rules   [2]rule
	clauses []clause
	world   world
	values  map[string][]chain
	char    filler
	left    int
	states  int // that were gone through
	witness map[string]any
	refused bool // a token that matches both rules, by `deny`
}

// structure is what every token of the world is like.
func (s *solver) structure() []constraint {
	var list []constraint
	if s.kind() == "github" {
		list = append(list, constraint{"owner", segment("/:@")}, constraint{"name", segment("/:@")}, constraint{"ref", s.world.ref})
		if s.world.sub.context == inEnvironment {
			list = append(list, constraint{"environment", segment("")})
		}
	}
	if actor := kinds[s.kind()].actor; actor.kind == "" && actor.name != "" {
		if s.world.actor.actor != nil {
			list = append(list, constraint{actor.name, s.world.actor.actor})
		}
		if s.world.actor.id != nil {
			list = append(list, constraint{actor.id, s.world.actor.id})
		}
	}
	return list
}

func (s *solver) kind() string { return s.rules[0].identity.Kind }

// with calls next under further constraints, if they can be met.
func (s *solver) with(constraints []constraint, next func() bool) bool {
	if s.left--; s.left <= 0 || s.states > maxAllStates {
		s.left = 0
		return false
	}
	for i, c := range constraints {
		chains := append(slices.Clip(s.values[c.variable]), c.chain)
		s.values[c.variable] = chains
		_, found, decided := common(chains, s.filler(c.variable), &s.states)
		if !found {
			if !decided {
				s.left = 0
			}
			s.undo(constraints[:i+1])
			return false
		}
	}
	if next() {
		return true
	}
	s.undo(constraints)
	return false
}

func (s *solver) undo(constraints []constraint) {
	for _, c := range constraints {
		s.values[c.variable] = s.values[c.variable][:len(s.values[c.variable])-1]
	}
}

// filler is used for any character of a variable.
func (s *solver) filler(variable string) rune {
	if variable == "ref" && strings.HasPrefix(s.world.refPrefix(), "refs/pull/") || slices.Contains(kinds[s.kind()].numeric, variable) {
		return s.char.digit
	}
	return s.char.letter
}

func (w world) refPrefix() string {
	var out strings.Builder
	for _, e := range w.ref {
		if !e.literal() {
			break
		}
		out.WriteRune(e.char)
	}
	return out.String()
}

// solve satisfies the clauses from the i-th on.
func (s *solver) solve(i int) bool {
	if i == len(s.clauses) {
		return s.confirmed()
	}
	for _, p := range s.clauses[i].patterns {
		for _, constraints := range s.alternatives(s.clauses[i], p) {
			if s.with(constraints, func() bool { return s.solve(i + 1) }) {
				return true
			}
		}
	}
	return false
}

// alternatives returns what the variables may be for a pattern of a claim to match.
func (s *solver) alternatives(c clause, p pattern) (list [][]constraint) {
	whole := p.chain()
	if s.kind() != "github" {
		return [][]constraint{{{c.variable, whole}}}
	}
	switch c.claim {
	case "repository_owner":
		return [][]constraint{{{"owner", whole}}}
	case "repository":
		for _, at := range whole.cut('/') {
			list = append(list, []constraint{{"owner", at[0]}, {"name", at[1]}})
		}
	case "workflow_ref": // of the repository that the job runs in
		for _, owner := range whole.cut('/') {
			for _, name := range owner[1].cut('/') {
				list = append(list, []constraint{{"owner", owner[0]}, {"name", name[0]}, {"workflow_ref", name[1]}})
			}
		}
	case "pull_number":
		list = append(list, []constraint{{"ref", join(textChain("refs/pull/"), whole, textChain("/merge"))}})
	case "ref_type":
		for _, prefix := range []string{"refs/heads/", "refs/pull/", "refs/tags/"} {
			kind := map[bool]string{true: "tag", false: "branch"}[prefix == "refs/tags/"]
			list = append(list, []constraint{{"ref_type", whole}, {"ref_type", textChain(kind)}, {"ref", join(textChain(prefix), segment(""))}})
		}
	case "sub":
		return s.subjects(p)
	default:
		list = append(list, []constraint{{c.variable, whole}})
	}
	return list
}

// subjectParts are the parts of a sub's repository, each with what follows it,
// by whether ids are among them.
var subjectParts = map[bool][]struct {
	variable string
	sep      rune
}{
	false: {{"owner", '/'}, {"name", ':'}},
	true:  {{"owner", '@'}, {"repository_owner_id", '/'}, {"name", '@'}, {"repository_id", ':'}},
}

// subjects are the alternatives of a sub: its own form, or, as rules match it,
// the other form of the same repository.
func (s *solver) subjects(p pattern) (list [][]constraint) {
	if s.world.sub.context == free {
		return [][]constraint{{{"sub", p.chain()}}}
	}
	if o := p.subject; o != nil && o.hasIDs() != s.world.sub.ids {
		part := func(text string) chain { return newPattern("sub", text).chain() }
		fixed := []constraint{{"owner", part(o.owner)}, {"name", part(o.repo)}}
		if o.hasIDs() {
			fixed = append(fixed, constraint{"repository_owner_id", part(o.ownerID)}, constraint{"repository_id", part(o.repoID)})
		}
		list = s.contexts(list, fixed, part(o.rest))
	}
	parts := subjectParts[s.world.sub.ids]
	var walk func(i int, fixed []constraint, rest chain)
	walk = func(i int, fixed []constraint, rest chain) {
		if i == len(parts) {
			list = s.contexts(list, fixed, rest)
			return
		}
		for _, at := range rest.cut(parts[i].sep) {
			walk(i+1, append(slices.Clip(fixed), constraint{parts[i].variable, at[0]}), at[1])
		}
	}
	for _, rest := range p.chain().after("repo:") {
		walk(0, nil, rest)
	}
	return list
}

// contexts appends the alternatives of what follows the repository in a sub.
func (s *solver) contexts(list [][]constraint, fixed []constraint, rest chain) [][]constraint {
	add := func(c ...constraint) { list = append(list, append(slices.Clip(fixed), c...)) }
	switch context := s.world.sub.context; context {
	case inEnvironment, onRef:
		for _, value := range rest.after(context) {
			add(constraint{strings.TrimSuffix(context, ":"), value})
		}
	case onPull:
		if rest.matches(onPull) {
			add()
		}
	default:
		add(constraint{"rest", rest})
	}
	return list
}
