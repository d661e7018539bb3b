// Package logic decides whether a token's claims meet a condition, and whether any token's do.
//
// It knows nothing of policies or providers: a condition asks which claims are
// there and whether their texts are in a language, a set of texts.
package logic

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
)

// A Language is a set of texts that a claim may be.
type Language struct {
	expr    string // RE2, matched anywhere in the text
	literal string
	plain   bool // the set is literal
	re      func() *regexp.Regexp
	prog    func() *syntax.Prog // made when it is first asked for: most texts are only compared
}

// Literal is the set of one text.
func Literal(text string) Language {
	quoted := regexp.QuoteMeta(text)
	return Language{expr: `\A(?:` + quoted + `)\z`, literal: text, plain: true, prog: program(quoted)}
}

// Whole is the texts that an RE2 expression matches from end to end.
func Whole(expr string) (Language, error) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return Language{}, err
	}
	if parsed.Op == syntax.OpLiteral && parsed.Flags&syntax.FoldCase == 0 {
		return Literal(string(parsed.Rune)), nil
	}
	canonical, err := closed(expr)
	if err != nil {
		return Language{}, err
	}
	return compile(`\A(?:`+canonical+`)\z`, canonical)
}

// closed returns an expression that may be put into another: `\Q` without an
// end, for one, would reach beyond its own.
func closed(expr string) (string, error) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "", err
	}
	if strings.Contains(expr, `\Q`) {
		return parsed.String(), nil
	}
	return expr, nil
}

// Anywhere is the texts that have a match of an RE2 expression in them. The
// error is that of regexp.Compile.
func Anywhere(expr string) (Language, error) {
	canonical, err := closed(expr)
	if err != nil {
		return Language{}, err
	}
	return compile(expr, `(?s:.*)(?:`+canonical+`)(?s:.*)`)
}

// compile takes the expression as one that is matched anywhere, and as one that
// is matched from end to end.
func compile(anywhere, whole string) (Language, error) {
	re, err := regexp.Compile(anywhere)
	if err != nil {
		return Language{}, err
	}
	return Language{expr: anywhere, re: func() *regexp.Regexp { return re }, prog: program(whole)}, nil
}

// program compiles an expression that is known to be one.
func program(whole string) func() *syntax.Prog {
	return sync.OnceValue(func() *syntax.Prog {
		parsed, err := syntax.Parse(whole, syntax.Perl)
		if err != nil {
			panic(err)
		}
		prog, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			panic(err)
		}
		return prog
	})
}

// MustWhole is Whole for an expression of ours: it is compiled when it is first
// used, and panics then if it is none.
func MustWhole(expr string) Language {
	if text, ok := unquoted(expr); ok {
		return Literal(text)
	}
	anywhere := `\A(?:` + expr + `)\z`
	return Language{expr: anywhere, re: sync.OnceValue(func() *regexp.Regexp {
		re, err := regexp.Compile(anywhere)
		if err != nil {
			panic(err)
		}
		return re
	}), prog: program(expr)}
}

// unquoted returns the only text that an expression matches, where it is written
// as regexp.QuoteMeta does.
func unquoted(expr string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(expr); i++ {
		switch {
		case expr[i] == '\\' && i+1 < len(expr) && strings.IndexByte(`\.+*?()|[]{}^$`, expr[i+1]) >= 0:
			i++
		case strings.IndexByte(`\.+*?()|[]{}^$`, expr[i]) >= 0:
			return "", false
		}
		b.WriteByte(expr[i])
	}
	return b.String(), true
}

// Glob is the texts that a pattern with `*` for any run of characters matches
// from end to end, and with `?` for one where question is set.
func Glob(pattern string, question bool) Language {
	if !strings.Contains(pattern, "*") && (!question || !strings.Contains(pattern, "?")) {
		return Literal(pattern)
	}
	var expr strings.Builder
	for _, r := range pattern {
		switch {
		case r == '*':
			expr.WriteString(`(?s:.*)`)
		case r == '?' && question:
			expr.WriteString(`(?s:.)`)
		default:
			expr.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return MustWhole(expr.String())
}

// Contains reports whether a text is in the set.
func (l Language) Contains(text string) bool {
	if l.plain {
		return text == l.literal
	}
	return l.re().MatchString(text)
}

// Text returns the only text of the set; ok is false where it has others.
func (l Language) Text() (text string, ok bool) { return l.literal, l.plain }

// String returns the text of a literal, and the expression of any other set.
func (l Language) String() string {
	if l.plain {
		return l.literal
	}
	return l.expr
}

// before is what an expression's assertions ask about the rune before a place.
type before struct{ start, line, word bool }

func after(r rune) before { return before{line: r == '\n', word: isWord(r)} }

func isWord(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// A reader follows a text, rune by rune, and says what it is when it ends.
type reader interface {
	// step returns the state after a symbol, which stands for the rune r.
	step(state, symbol, symbols int, r rune) int
	// verdict says what a text is that ends in a state: 0 where it is in none of
	// the languages, else a number for each that it is in.
	verdict(state int) int
	// dead reports whether no text leads from a state to a match.
	dead(state int) bool
}

// A trie reads a set of single texts at once: hundreds of them cost no more
// than one. Its state 0 is where a text begins, its state 1 that of no such text.
type trie struct {
	next  []map[rune]int
	texts []int // by state: the text's number from 1, 0 for none
}

const noText = 1

func newTrie(texts []string) *trie {
	t := &trie{next: []map[rune]int{{}, nil}, texts: []int{0, 0}}
	for i, text := range texts {
		state := 0
		for _, r := range text {
			to, ok := t.next[state][r]
			if !ok {
				to = len(t.next)
				t.next[state][r] = to
				t.next, t.texts = append(t.next, map[rune]int{}), append(t.texts, 0)
			}
			state = to
		}
		t.texts[state] = i + 1
	}
	return t
}

func (t *trie) step(state, _, _ int, r rune) int {
	if to, ok := t.next[state][r]; ok {
		return to
	}
	return noText
}

func (t *trie) verdict(state int) int { return t.texts[state] }

func (t *trie) dead(state int) bool { return state == noText }

// A machine is a language's program, its sets of threads numbered as they come up.
type machine struct {
	prog   *syntax.Prog
	work   *int // is counted up by what a step had to look at
	ids    map[string]int
	states []threads
}

// threads are places of the program, sorted, before a rune is read.
type threads struct {
	at   []uint32
	prev before
	next []int // by symbol: a state, plus 1; 0 where it was not asked yet
	ends int   // 1: the text may end here; 2: it may not; 0: not asked yet
}

// newMachine returns the machine; its state 0 is where a text begins.
func newMachine(l Language, work *int) *machine {
	m := &machine{prog: l.prog(), work: work, ids: map[string]int{}}
	m.id([]uint32{uint32(m.prog.Start)}, before{start: true})
	return m
}

func (m *machine) id(at []uint32, prev before) int {
	key := make([]byte, 0, 4*len(at)+1)
	for _, pc := range at {
		key = append(key, byte(pc), byte(pc>>8), byte(pc>>16))
	}
	key = append(key, bits(prev))
	if id, ok := m.ids[string(key)]; ok {
		return id
	}
	m.ids[string(key)] = len(m.states)
	m.states = append(m.states, threads{at: at, prev: prev})
	return len(m.states) - 1
}

func bits(b before) (n byte) {
	for i, set := range []bool{b.start, b.line, b.word} {
		if set {
			n |= 1 << i
		}
	}
	return n
}

// closure follows what reads nothing, where next is the rune that comes, -1 for
// the end.
func (m *machine) closure(t threads, next rune) (reading []uint32, matched bool) {
	seen := make([]bool, len(m.prog.Inst))
	stack := slices.Clone(t.at)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[pc] {
			continue
		}
		seen[pc] = true
		switch inst := &m.prog.Inst[pc]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, inst.Out, inst.Arg)
		case syntax.InstCapture, syntax.InstNop:
			stack = append(stack, inst.Out)
		case syntax.InstEmptyWidth:
			if holds(syntax.EmptyOp(inst.Arg), t.prev, next) {
				stack = append(stack, inst.Out)
			}
		case syntax.InstMatch:
			matched = true
		case syntax.InstFail:
		default:
			reading = append(reading, pc)
		}
	}
	return reading, matched
}

// holds reports whether assertions hold between two runes.
func holds(op syntax.EmptyOp, prev before, next rune) bool {
	boundary := prev.word != (next >= 0 && isWord(next))
	for _, c := range []struct {
		op syntax.EmptyOp
		ok bool
	}{
		{syntax.EmptyBeginText, prev.start},
		{syntax.EmptyBeginLine, prev.start || prev.line},
		{syntax.EmptyEndText, next < 0},
		{syntax.EmptyEndLine, next < 0 || next == '\n'},
		{syntax.EmptyWordBoundary, boundary},
		{syntax.EmptyNoWordBoundary, !boundary},
	} {
		if op&c.op != 0 && !c.ok {
			return false
		}
	}
	return true
}

// step returns the state after a symbol, which stands for the rune r.
func (m *machine) step(state, symbol, symbols int, r rune) int {
	t := &m.states[state]
	if t.next == nil {
		t.next = make([]int, symbols)
	}
	if t.next[symbol] > 0 {
		return t.next[symbol] - 1
	}
	var at []uint32
	*m.work += len(m.prog.Inst)
	reading, _ := m.closure(*t, r)
	for _, pc := range reading {
		if inst := &m.prog.Inst[pc]; inst.MatchRune(r) {
			at = append(at, inst.Out)
		}
	}
	slices.Sort(at)
	prev := before{}
	if len(at) > 0 {
		prev = after(r)
	}
	id := m.id(slices.Compact(at), prev)
	m.states[state].next[symbol] = id + 1
	return id
}

// verdict is 1 where a text may end in a state.
func (m *machine) verdict(state int) int {
	if m.ends(state) {
		return 1
	}
	return 0
}

func (m *machine) ends(state int) bool {
	t := &m.states[state]
	if t.ends == 0 {
		t.ends = 2
		if _, matched := m.closure(*t, -1); matched {
			t.ends = 1
		}
	}
	return t.ends == 1
}

// dead reports whether no text leads from a state to a match.
func (m *machine) dead(state int) bool { return len(m.states[state].at) == 0 }
