package logic

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// A Word is claims whose texts are made of common pieces, such as a subject
// that holds the repository's name.
type Word struct {
	Claims   []string
	Segments []Segment
}

// A Segment is one piece: a text of Domain that is a part of the claims whose
// places in Word.Claims are in In.
type Segment struct {
	Domain Language
	In     []int
}

// Alone is a word of one claim, any text of a domain.
func Alone(claim string, domain Language) Word {
	return Word{Claims: []string{claim}, Segments: []Segment{{Domain: domain, In: []int{0}}}}
}

// limits of one search: what policies and trust documents need is far below.
const (
	maxStates  = 200_000
	maxSamples = 5_000
	// maxWork is instructions of the languages' programs: some seconds.
	maxWork = 200_000_000
)

// samples returns texts of the word's claims such that each way to be in some
// of the languages and not in others is there once, by the shortest text.
// languages are those that each claim is asked about. decided is false where
// there are too many to look at.
func (w Word) samples(p *pool, languages [][]Language) (list [][]string, decided bool) {
	s := newSampler(w, p, languages)
	s.reach(&node{at: make([]int, len(s.machines))})
	found := map[string]bool{}
	for len(s.queue) > 0 {
		n := s.queue[0]
		s.queue = s.queue[1:]
		if n.segment == len(w.Segments) {
			if key := s.signature(n); !found[key] {
				found[key] = true
				list = append(list, s.texts(n))
			}
		} else {
			s.expand(n)
		}
		if len(list) > maxSamples || len(s.seen) > maxStates || p.work > maxWork {
			return list, false
		}
	}
	return list, true
}

// A pool has the machines of all languages that one finder asks about, and the
// runes that they tell apart: a machine learns where a rune leads once.
type pool struct {
	alphabet []rune
	machines map[string]*machine // by the language's expression
	work     int                 // that all machines had
}

func newPool(languages []Language) *pool {
	return &pool{alphabet: alphabet(languages), machines: map[string]*machine{}}
}

// readers are those of some languages, single texts together.
func (p *pool) readers(languages []Language) (list []reader) {
	var texts []string
	for _, l := range languages {
		if text, ok := l.Text(); ok {
			texts = append(texts, text)
		} else {
			list = append(list, p.machine(l))
		}
	}
	if len(texts) > 0 {
		list = append(list, newTrie(texts))
	}
	return list
}

func (p *pool) machine(l Language) *machine {
	m := p.machines[l.expr]
	if m == nil {
		m = newMachine(l, &p.work)
		p.machines[l.expr] = m
	}
	return m
}

// A sampler runs the machines of all languages side by side over a word.
type sampler struct {
	word     Word
	machines []reader // those of the segments' domains first, then each claim's
	claim    []int    // of each machine after the domains'
	alphabet []rune
	in       [][]int // by segment: the machines that read it
	last     []int   // by claim: its last segment
	seen     map[string]bool
	queue    []*node
	scratch  []byte
	next     []int
}

type node struct {
	from    *node
	segment int
	at      []int // the state of each machine
	read    rune  // what led here from the same segment; 0 for the end of a segment
}

func newSampler(w Word, p *pool, languages [][]Language) *sampler {
	s := &sampler{word: w, seen: map[string]bool{}}
	for _, seg := range w.Segments {
		s.machines = append(s.machines, p.machine(seg.Domain))
	}
	for i, list := range languages {
		for _, r := range p.readers(list) {
			s.machines = append(s.machines, r)
			s.claim = append(s.claim, i)
		}
	}
	s.alphabet = p.alphabet
	s.next = make([]int, len(s.machines))
	s.last = make([]int, len(w.Claims))
	for i, seg := range w.Segments {
		for _, claim := range seg.In {
			s.last[claim] = i
		}
		in := []int{i}
		for j, claim := range s.claim {
			if slices.Contains(seg.In, claim) {
				in = append(in, s.domains()+j)
			}
		}
		s.in = append(s.in, in)
	}
	return s
}

func (s *sampler) domains() int { return len(s.word.Segments) }

// reach puts a node into the queue unless one like it was there.
func (s *sampler) reach(n *node) {
	s.scratch = append(s.scratch[:0], byte(n.segment))
	for _, state := range n.at {
		s.scratch = append(s.scratch, byte(state), byte(state>>8), byte(state>>16))
	}
	if s.seen[string(s.scratch)] {
		return
	}
	s.seen[string(s.scratch)] = true
	kept := *n
	kept.at = slices.Clone(n.at)
	s.queue = append(s.queue, &kept)
}

// expand reaches the nodes that one rune, or the end of the segment, leads to.
func (s *sampler) expand(n *node) {
	domain := s.machines[n.segment]
	copy(s.next, n.at)
	if domain.verdict(n.at[n.segment]) > 0 {
		s.next[n.segment] = 0
		s.settle(n.segment)
		s.reach(&node{from: n, segment: n.segment + 1, at: s.next})
	}
	for symbol, r := range s.alphabet {
		state := domain.step(n.at[n.segment], symbol, len(s.alphabet), r)
		if domain.dead(state) {
			continue
		}
		for _, m := range s.in[n.segment] {
			s.next[m] = s.machines[m].step(n.at[m], symbol, len(s.alphabet), r)
		}
		s.reach(&node{from: n, segment: n.segment, at: s.next, read: r})
	}
}

// settle forgets how the claims that end with a segment were read. Else each
// way to begin a text that is not in the language would be followed on its own.
func (s *sampler) settle(segment int) {
	for i, claim := range s.claim {
		m := s.domains() + i
		if s.last[claim] == segment && s.next[m] >= 0 {
			s.next[m] = s.outcome(m, s.next[m])
		}
	}
}

// outcome is what is left of a reader that has read all of its claim: its
// verdict, as a negative number.
func (s *sampler) outcome(m, state int) int {
	if state < 0 {
		return state
	}
	return -1 - s.machines[m].verdict(state)
}

// signature says in which languages the texts of a node are.
func (s *sampler) signature(n *node) string {
	var key []byte
	for i := range s.claim {
		m := s.domains() + i
		verdict := -1 - s.outcome(m, n.at[m])
		key = append(key, byte(verdict), byte(verdict>>8))
	}
	return string(key)
}

// texts returns the text of each claim.
func (s *sampler) texts(n *node) []string {
	runes := make([][]rune, len(s.word.Claims))
	for ; n.from != nil; n = n.from {
		if n.segment != n.from.segment {
			continue
		}
		for _, claim := range s.word.Segments[n.segment].In {
			runes[claim] = append(runes[claim], n.read)
		}
	}
	texts := make([]string, len(runes))
	for i, r := range runes {
		slices.Reverse(r)
		texts[i] = string(r)
	}
	return texts
}

// alphabet returns one rune for each set of runes that no language tells apart,
// those that are easy to read first.
func alphabet(languages []Language) (runes []rune) {
	cuts := []rune{0, utf8.MaxRune + 1, 0xD800, 0xE000}
	for _, l := range languages {
		for _, inst := range l.prog().Inst {
			for i, r := range inst.Rune {
				switch {
				case len(inst.Rune) == 1: // one rune, perhaps in either case
					cuts = append(cuts, r, r+1)
					for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
						cuts = append(cuts, f, f+1)
					}
				case i%2 == 0:
					cuts = append(cuts, r)
				default:
					cuts = append(cuts, r+1)
				}
			}
		}
	}
	cuts = append(cuts, '\n', '\n'+1) // `.` does not read it
	for _, pair := range []string{"09", "AZ", "__", "az"} {
		cuts = append(cuts, rune(pair[0]), rune(pair[1])+1) // for \b
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for i := 0; i+1 < len(cuts); i++ {
		if cuts[i] < 0xD800 || cuts[i] >= 0xE000 {
			runes = append(runes, readable(cuts[i], cuts[i+1]))
		}
	}
	slices.SortStableFunc(runes, func(a, b rune) int { return plainness(a) - plainness(b) })
	return runes
}

// readable returns a rune from lo to before hi.
func readable(lo, hi rune) rune {
	for _, r := range "x1X-" {
		if lo <= r && r < hi {
			return r
		}
	}
	for r := lo; r < hi && r < lo+200; r++ {
		if unicode.IsLetter(r) || unicode.IsGraphic(r) {
			return r
		}
	}
	return lo
}

func plainness(r rune) int {
	switch {
	case r == 'x':
		return 0
	case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
		return 1
	case r > ' ' && r < 0x7f:
		return 2
	case unicode.IsGraphic(r):
		return 3
	}
	return 4
}
