package logic

import (
	"maps"
	"slices"
)

// A World is one of the forms that tokens have: the values that all its tokens
// share, and the claims that are made of common pieces. A claim that is in
// neither is any text, or absent where it is not in Always.
type World struct {
	Fixed  map[string]string
	Absent []string // claims that no token of this form has
	Words  []Word
	Always []string            // claims that every token has
	Domain map[string]Language // what a claim that stands on its own may be; Any where it is not in it
}

// Any are texts without control characters.
var anyText = MustWhole(`[^\p{Cc}\x{2028}\x{2029}]+`)

// A Finder looks for tokens in some worlds. What it has found of a world serves
// all conditions that ask about the same texts.
type Finder struct {
	vocabulary Formula
	worlds     []World
	groups     [][]group
	decided    []bool
	pool       *pool
}

// Vocabulary asks about everything that the parts ask about, also where one of
// them is met always: it is for NewFinder.
func Vocabulary(parts ...Formula) Formula { return Formula{op: opOr, parts: parts} }

// NewFinder returns a finder for conditions that ask about nothing that the
// vocabulary does not ask about.
func NewFinder(vocabulary Formula, worlds []World) *Finder {
	languages := []Language{anyText}
	for _, claim := range vocabulary.Claims() {
		languages = append(languages, vocabulary.languages(claim)...)
	}
	for _, w := range worlds {
		for _, word := range w.Words {
			for _, segment := range word.Segments {
				languages = append(languages, segment.Domain)
			}
		}
		for _, domain := range w.Domain {
			languages = append(languages, domain)
		}
	}
	return &Finder{
		vocabulary: vocabulary, worlds: worlds, groups: make([][]group, len(worlds)), decided: make([]bool, len(worlds)),
		pool: newPool(languages),
	}
}

// Find returns the claims of a token that meets a condition, nil where there is
// none in the worlds. decided is false where there may be one that was not
// found: there are too many, or parts of the condition cannot be evaluated.
func (f *Finder) Find(condition Formula) (claims map[string]string, decided bool) {
	decided = true
	for i, w := range f.worlds {
		if f.groups[i] == nil {
			f.groups[i], f.decided[i] = f.prepare(w)
		}
		s := &search{formula: condition, left: maxTries, groups: f.groups[i], claims: map[string]string{}, open: map[string]bool{}}
		maps.Copy(s.claims, w.Fixed)
		for _, g := range s.groups {
			for _, claim := range g.claims {
				s.open[claim] = true
			}
		}
		if s.assign(0) {
			return s.claims, true
		}
		decided = decided && f.decided[i] && !s.unknown && s.left > 0
	}
	return nil, decided
}

// maxTries bounds one search; documents with ten rules need a few thousand.
const maxTries = 2_000_000

type search struct {
	formula Formula
	groups  []group
	claims  map[string]string
	open    map[string]bool
	left    int
	unknown bool // a token was met on which the condition cannot be evaluated
}

// A group is claims that get their texts together; nil texts are of absent claims.
type group struct {
	claims  []string
	choices [][]*string
}

// prepare lists what each claim may be, as far as a condition tells it apart.
func (f *Finder) prepare(w World) (groups []group, decided bool) {
	decided = true
	done := slices.Concat(slices.Collect(maps.Keys(w.Fixed)), w.Absent)
	for _, word := range w.Words {
		g, ok := f.group(word)
		decided = decided && ok
		groups = append(groups, g)
		done = append(done, word.Claims...)
	}
	for _, claim := range f.vocabulary.Claims() {
		if slices.Contains(done, claim) {
			continue
		}
		domain, ok := w.Domain[claim]
		if !ok {
			domain = anyText
		}
		g, ok := f.group(Alone(claim, domain))
		decided = decided && ok
		if !slices.Contains(w.Always, claim) {
			g.choices = append(g.choices, []*string{nil})
		}
		groups = append(groups, g)
	}
	slices.SortStableFunc(groups, func(a, b group) int { return len(a.choices) - len(b.choices) })
	return groups, decided
}

func (f *Finder) group(word Word) (g group, decided bool) {
	languages := make([][]Language, len(word.Claims))
	for i, claim := range word.Claims {
		languages[i] = f.vocabulary.languages(claim)
	}
	texts, decided := word.samples(f.pool, languages)
	g.claims = word.Claims
	for _, values := range texts {
		choice := make([]*string, len(values))
		for i := range values {
			choice[i] = &values[i]
		}
		g.choices = append(g.choices, choice)
	}
	return g, decided
}

// assign chooses texts for the groups from the i-th on.
func (s *search) assign(i int) bool {
	if s.left--; s.left <= 0 {
		return false
	}
	verdict := s.formula.eval(s.claims, s.open)
	if verdict == False {
		return false
	}
	if i == len(s.groups) {
		s.unknown = s.unknown || verdict == Unknown
		return verdict == True
	}
	g := s.groups[i]
	for _, claim := range g.claims {
		delete(s.open, claim)
	}
	for _, choice := range g.choices {
		for j, claim := range g.claims {
			if choice[j] == nil {
				delete(s.claims, claim)
			} else {
				s.claims[claim] = *choice[j]
			}
		}
		if s.assign(i + 1) {
			return true
		}
	}
	for _, claim := range g.claims {
		delete(s.claims, claim)
		s.open[claim] = true
	}
	return false
}
