package policy

import (
	"slices"
	"strings"
)

// A chain is a pattern taken apart into elements, so that patterns can be
// compared with each other: a pattern's matches are the texts that its elements
// spell in their order.
type chain []element

// An element is one character, or a wildcard.
type element struct {
	char  rune // that the text must have here, unless the element is a wildcard
	wild  bool // any run of characters, the empty one included
	some  bool // exactly one character
	stops string
}

func (e element) literal() bool { return !e.wild && !e.some }

// takes reports whether the element can be, or go on with, the character.
func (e element) takes(c rune) bool {
	if e.literal() {
		return e.char == c
	}
	return !strings.ContainsRune(e.stops, c) && printable(c)
}

func textChain(text string) (c chain) {
	for _, r := range text {
		c = append(c, element{char: r})
	}
	return c
}

// segment is any text that is not empty and has none of the characters.
func segment(stops string) chain {
	return chain{{some: true, stops: stops}, {wild: true, stops: stops}}
}

// join returns the chain of texts that are one of each, in their order.
func join(chains ...chain) chain { return slices.Concat(chains...) }

// chain returns the pattern as a chain.
func (p pattern) chain() chain {
	switch {
	case p.literal:
		return textChain(p.text)
	case p.ref != nil: // the first @ ends the path: no wildcard before it has one
		path := pattern{parts: p.parts, stops: p.stops}
		return join(path.chain().without('@'), textChain("@"), p.ref.chain())
	}
	var c chain
	for _, part := range p.parts {
		switch part.wild {
		case 0:
			c = append(c, textChain(part.text)...)
		case 1:
			c = append(c, element{wild: true, stops: p.stops})
		default:
			c = append(c, element{wild: true})
		}
	}
	return c
}

// without returns the chain with a character that no wildcard takes.
func (c chain) without(char rune) chain {
	out := slices.Clone(c)
	for i, e := range out {
		if !e.literal() {
			out[i].stops += string(char)
		}
	}
	return out
}

// cut returns what precedes the first sep in the chain's texts, and what
// follows it: texts that match one of the pairs are all that match the chain
// and have a sep.
func (c chain) cut(sep rune) (pairs [][2]chain) {
	for i, e := range c {
		switch {
		case e.literal() && e.char == sep:
			return append(pairs, [2]chain{c[:i].without(sep), c[i+1:]})
		case e.wild && e.takes(sep):
			pairs = append(pairs, [2]chain{c[:i+1].without(sep), c[i:]})
		case e.some && e.takes(sep):
			pairs = append(pairs, [2]chain{c[:i].without(sep), c[i+1:]})
		}
	}
	return pairs
}

// after returns the chains of what can follow a text in the chain's texts.
func (c chain) after(text string) (rests []chain) {
	states := c.closure([]int{0})
	for _, r := range text {
		states = c.step(states, r)
	}
	for _, at := range states {
		if at == 0 || !c.skippedTo(at, states) {
			rests = append(rests, c[at:])
		}
	}
	return rests
}

// skippedTo reports whether a state is only reached from another one by
// skipping wildcards: what follows that one covers it.
func (c chain) skippedTo(at int, states []int) bool {
	return c[at-1].wild && slices.Contains(states, at-1)
}

// closure adds to the states those behind wildcards that take nothing.
func (c chain) closure(states []int) []int {
	var out []int
	for _, at := range states {
		for ; !slices.Contains(out, at); at++ {
			out = append(out, at)
			if at == len(c) || !c[at].wild {
				break
			}
		}
	}
	return out
}

func (c chain) step(states []int, r rune) []int {
	var next []int
	for _, at := range states {
		if at == len(c) || !c[at].takes(r) {
			continue
		}
		if !c[at].wild {
			at++
		}
		if !slices.Contains(next, at) {
			next = append(next, at)
		}
	}
	return c.closure(next)
}

// matches reports whether the chain matches the whole text.
func (c chain) matches(text string) bool {
	states := c.closure([]int{0})
	for _, r := range text {
		if states = c.step(states, r); len(states) == 0 {
			return false
		}
	}
	return slices.Contains(states, len(c))
}

// text returns what a chain without wildcards spells.
func (c chain) text() (string, bool) {
	var out strings.Builder
	for _, e := range c {
		if !e.literal() {
			return "", false
		}
		out.WriteRune(e.char)
	}
	return out.String(), true
}

// maxStates bounds the search for a common text. Patterns that people write
// need some hundreds.
const maxStates = 1 << 17

// common returns a shortest text that all chains match, "x" or filler standing
// for characters that any will do for. Where the search is given up, decided is
// false. states is added to by the work that it was.
func common(chains []chain, filler rune, states *int) (text string, found, decided bool) {
	*states++
	for _, c := range chains { // one text, or none: nearly all
		if literal, ok := c.text(); ok {
			all := !slices.ContainsFunc(chains, func(c chain) bool { return !c.matches(literal) })
			return literal, all, true
		}
	}
	s := search{chains: chains, filler: filler, seen: map[string]bool{}}
	text, found, decided = s.run()
	*states += len(s.seen)
	return text, found, decided
}

// A search goes through the product of chains, texts with the fewest
// characters first.
type search struct {
	chains []chain
	filler rune
	seen   map[string]bool
}

// A node is a place in each chain, and how it was reached.
type node struct {
	at   []int
	from *node
	char rune // 0 for none: a wildcard took nothing
}

func (s *search) run() (text string, found, decided bool) {
	layer := []*node{{at: make([]int, len(s.chains))}}
	for len(layer) > 0 {
		var next []*node
		for i := 0; i < len(layer); i++ { // skips are added to the layer that is gone through
			n := layer[i]
			if key := s.key(n.at); s.seen[key] {
				continue
			} else if s.seen[key] = true; len(s.seen) > maxStates {
				return "", false, false
			}
			if s.ended(n.at) {
				return n.text(), true, true
			}
			layer = append(layer, s.skips(n)...)
			next = append(next, s.steps(n)...)
		}
		layer = next
	}
	return "", false, true
}

func (s *search) key(at []int) string {
	key := make([]byte, 0, 2*len(at))
	for _, i := range at {
		key = append(key, byte(i), byte(i>>8)) // a pattern has at most maxPattern elements, and what is joined to it
	}
	return string(key)
}

func (s *search) ended(at []int) bool {
	for i, c := range s.chains {
		if at[i] < len(c) {
			return false
		}
	}
	return true
}

func (s *search) skips(n *node) (list []*node) {
	for i, c := range s.chains {
		if n.at[i] < len(c) && c[n.at[i]].wild {
			at := slices.Clone(n.at)
			at[i]++
			list = append(list, &node{at: at, from: n})
		}
	}
	return list
}

// steps are the nodes behind one more character: one that an element asks for,
// or the filler where none does.
func (s *search) steps(n *node) (list []*node) {
	var chars []rune
	some := false
	for i, c := range s.chains {
		if n.at[i] == len(c) {
			return nil
		}
		e := c[n.at[i]]
		some = some || e.some
		if e.literal() && !slices.Contains(chars, e.char) {
			chars = append(chars, e.char)
		}
	}
	if len(chars) > 1 {
		return nil
	}
	if len(chars) == 0 && some {
		chars = []rune{s.filler}
	}
	for _, char := range chars {
		at := slices.Clone(n.at)
		for i, c := range s.chains {
			e := c[at[i]]
			if !e.takes(char) {
				return nil
			}
			if !e.wild {
				at[i]++
			}
		}
		list = append(list, &node{at: at, from: n, char: char})
	}
	return list
}

func (n *node) text() string {
	var chars []rune
	for ; n != nil; n = n.from {
		if n.char != 0 {
			chars = append(chars, n.char)
		}
	}
	slices.Reverse(chars)
	return string(chars)
}

// within reports whether every text of c is one of the other chain. Where it
// says no, there may be none outside all the same: a wildcard of c is only held
// to be within one wildcard of the other.
func (c chain) within(other chain) bool {
	states := other.closure([]int{0})
	for _, e := range c {
		if e.literal() {
			states = other.step(states, e.char)
			continue
		}
		states = slices.DeleteFunc(states, func(at int) bool {
			return at == len(other) || !other[at].wild || strings.ContainsFunc(other[at].stops, e.takes)
		})
		states = other.closure(states)
	}
	return slices.Contains(states, len(other))
}
