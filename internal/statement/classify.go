package statement

import (
	"strings"
	"unicode/utf8"
)

// maxDepth bounds parentheses inside each other, and with them the memory.
const maxDepth = 1000

// A state is what is known of the text between two parentheses.
type state uint8

const (
	inList     state = 1 << iota // of WITH: its statement has not come yet
	inUpdate                     // it begins with UPDATE, which may be a column's name
	identifier                   // it belongs to IDENTIFIER(…), which may name a function
	inQuery                      // a query begins in it
	inTables                     // of a query: table functions may come
	inSources                    // of a dictionary
	inSource                     // of a dictionary, the server itself
)

// A reader goes through the statements of one message.
type reader struct {
	lexer
	g                *grammar
	tok, prev, prior token
	inner            bool // the message is a string of another

	// Of the statement.
	start    int
	rank     rank
	head     string
	why      string
	fault    int
	mode     mode
	query    bool // its SELECT has come
	settings bool // its SETTINGS have come
	verb     int  // where the last INSERT, UPDATE, DELETE or MERGE is that begins a statement inside this one
	action   bool // the next word begins an action of ALTER
	depth    int
	states   [maxDepth]state

	// Of the message.
	used    int // how much of the text is SQL
	worst   rank
	seen    Set
	verdict Verdict
}

func classify(g *grammar, text string, inner bool) Verdict {
	r := reader{lexer: lexer{lexis: g.lexis, text: text}, g: g, inner: inner, used: len(text)}
	r.verdict.Class = Read
	for r.advance(); r.tok.kind != ending; {
		if r.tok.kind == divider {
			r.advance()
			continue
		}
		r.statement()
		if r.tok.kind == broken {
			break
		}
	}
	r.encoding()
	r.verdict.Besides = r.seen &^ (1<<read | 1<<session | 1<<rankOf(string(r.verdict.Class)))
	return r.verdict
}

func (r *reader) advance() { r.prior, r.prev, r.tok = r.prev, r.tok, r.next() }

func (r *reader) peek() token {
	saved := r.lexer
	t := r.next()
	r.lexer = saved
	return t
}

// statement reads one statement up to its divider.
func (r *reader) statement() {
	r.start, r.rank, r.head, r.why, r.mode = r.tok.start, read, "", "", asIs
	r.query, r.settings, r.action, r.verb, r.depth, r.states[0] = false, false, false, -1, 0, 0
	r.verdict.Statements++
	r.readHead()
	r.readRest()
	if r.verdict.Statements > 1 && r.rank <= r.worst {
		return
	}
	r.worst = r.rank
	r.verdict.Class, r.verdict.Head, r.verdict.Offset, r.verdict.Why = classes[r.rank], r.head, r.start, r.why
	if r.rank == unknown {
		r.verdict.Offset = r.fault
	}
}

// raise says that the statement is at least of this rank, and by which words.
func (r *reader) raise(k rank, head string) {
	r.seen |= 1 << k
	if k > r.rank || r.head == "" && r.rank != unknown {
		r.rank, r.head = k, head
	}
}

// raiseBy does so for words inside the statement.
func (r *reader) raiseBy(k rank, words string) {
	r.seen |= 1 << k
	if k > r.rank {
		first := strings.Fields(r.head)
		r.raise(k, strings.TrimSpace(strings.Join(append(first[:min(2, len(first))], words), " ")))
	}
}

// unknown says that the statement is not understood from here on.
func (r *reader) unknown(at int, why string) {
	if r.rank != unknown {
		r.rank, r.fault, r.why = unknown, at, why
	}
}

func (r *reader) undo(words string) {
	if r.verdict.Undoes == "" {
		r.verdict.Undoes = words
	}
}

// sets notes a setting that may limit the session.
func (r *reader) sets(name string) {
	if r.g.limits[strings.ToUpper(name)] {
		r.unlimit(strings.ToLower(name))
	}
}

// unlimit notes what changes limits.
func (r *reader) unlimit(what string) {
	if r.verdict.Sets == "" {
		r.verdict.Sets = what
	} else if !strings.Contains(", "+r.verdict.Sets+", ", ", "+what+", ") {
		r.verdict.Sets += ", " + what
	}
}

// encoding refuses bytes that the server may read as other characters.
func (r *reader) encoding() {
	if r.worst == unknown {
		return
	}
	text, why := r.text[:r.used], "text that is not UTF-8"
	at := strings.IndexByte(text, 0)
	switch {
	case at >= 0:
		why = "NUL byte"
	case utf8.ValidString(text):
		return
	default:
		at = strings.IndexRune(text, utf8.RuneError)
	}
	r.verdict.Class, r.verdict.Head, r.verdict.Offset, r.verdict.Why = Unknown, "", at, why
	r.verdict.Statements = max(1, r.verdict.Statements)
}

// readHead reads the statement's first words, and those of the statements
// that it explains, prepares or declares.
func (r *reader) readHead() {
	for explains := false; ; {
		for r.isMark('(') {
			if !r.push(0) {
				return
			}
			r.advance()
		}
		n := r.walk(r.g.heads)
		switch {
		case !n.known, r.depth > 0 && n.mode != asQuery && n.mode != asWith:
			r.raise(read, n.path)
			if r.tok.kind != broken {
				r.unknown(r.start, "statement that is not known")
			}
			return
		case !explains:
			r.raise(n.rank, n.path)
			r.mode = n.mode
		}
		switch n.mode {
		case explained:
			explains = !r.explainOptions()
			r.mode = asIs
		case another:
		case afterAs, afterFrom, afterFor:
			if !r.skipTo(n.mode) {
				r.unknown(r.start, "statement without its end")
				return
			}
		case orBlock:
			if !r.isBlock() {
				return
			}
			r.raise(run, "BEGIN")
		default:
			r.enter(n, explains)
			return
		}
	}
}

// walk follows the words from a node as far as it knows them.
func (r *reader) walk(n *node) *node {
	for r.tok.kind == word {
		child := n.next[string(r.upper(r.text[r.tok.start:r.tok.end]))]
		if child == nil {
			break
		}
		n = child
		r.advance()
	}
	return n
}

// enter begins what follows a head.
func (r *reader) enter(n *node, explains bool) {
	r.onTables(r.prev)
	if explains {
		r.mode = explained
		return
	}
	switch n.mode {
	case asQuery:
		r.query = true
	case asWith:
		r.states[r.depth] |= inList
	case inString:
		if r.immediate("'", "EXECUTE IMMEDIATE") {
			r.advance()
		}
	case asAlter:
		r.alter()
	case undoing:
		r.undo(n.path)
	case limiting: // the head, or what follows it, is the name
		r.sets(n.path[strings.LastIndexByte(n.path, ' ')+1:])
		r.sets(r.bare())
	}
}

// explainOptions passes the options of EXPLAIN, which are in parentheses or
// NAME = VALUE, and says whether the statement runs.
func (r *reader) explainOptions() (runs bool) {
	for r.g.loose && r.tok.kind == word && r.is(r.peek(), '=') {
		for range 3 {
			r.advance()
		}
		if r.isMark(',') {
			r.advance()
		}
	}
	if !r.isMark('(') {
		return false
	}
	switch next := r.peek(); {
	case next.kind == mark, next.code == kwSelect, next.code == kwWith, next.code == kwValues, next.code == kwTable:
		return false
	}
	for r.advance(); r.tok.kind != ending && r.tok.kind != broken && r.tok.kind != divider; {
		closed := r.isMark(')')
		// "analyze" in quotes is an option, too.
		runs = runs || !closed && !r.isMark(',') && (r.tok.kind != word || !idle[string(r.upper(r.bare()))])
		r.advance()
		if closed {
			break
		}
	}
	return runs
}

// idle are the options of EXPLAIN, and their values, with which nothing runs.
var idle = set(`verbose costs settings generic_plan buffers wal timing summary memory format type text json xml yaml
	graphviz logical distributed validate io true false on off`)

// skipTo passes the word of the mode, outside parentheses.
func (r *reader) skipTo(m mode) bool {
	want := kwAs
	switch m {
	case afterFrom:
		want = kwFrom
	case afterFor:
		want = kwFor
	}
	for depth := 0; ; r.advance() {
		switch {
		case r.tok.kind == ending, r.tok.kind == broken, r.tok.kind == divider:
			return false
		case r.isMark('('):
			depth++
		case r.isMark(')'):
			depth--
		case r.tok.code == want && depth == 0:
			r.advance()
			return true
		}
	}
}

// isBlock passes what belongs to a transaction, and says whether BEGIN begins
// a block of a script instead.
func (r *reader) isBlock() bool {
	if r.isOneOf("TRANSACTION", "WORK") {
		r.advance()
	}
	if r.isOneOf("NAME") {
		r.advance()
		if r.tok.kind == word || r.tok.kind == name {
			r.advance()
		}
	}
	return r.tok.kind != ending && r.tok.kind != divider
}

// immediate classifies the statement inside a plain string in one of the quotes,
// and says whether it is one. A string inside that is of class unknown: no client
// needs it, and so nothing recurs.
func (r *reader) immediate(quotes, words string) bool {
	text := r.text[r.tok.start:r.tok.end]
	switch {
	case r.tok.kind == broken || text == "" || strings.IndexByte(quotes, text[0]) < 0 || r.g.escaping != "" && strings.Contains(text, `\`):
		r.raise(run, words)
		return false
	case r.inner:
		r.unknown(r.start, "string inside a string")
		return false
	}
	quote := text[:1]
	v := classify(r.g, strings.ReplaceAll(text[1:len(text)-1], quote+quote, quote), true)
	r.seen |= v.Besides
	if v.Undoes != "" {
		r.undo(v.Undoes)
	}
	if v.Sets != "" {
		r.unlimit(v.Sets)
	}
	if v.Class == Unknown {
		r.unknown(r.tok.start, v.Why)
		r.head = v.Head
	} else {
		r.raise(rankOf(string(v.Class)), v.Head)
	}
	return true
}

// alter reads the name and the first action of ALTER … NAME ACTION.
func (r *reader) alter() {
	if r.tok.code == kwIf {
		r.advance()
		if r.tok.code == kwExists {
			r.advance()
		}
	}
	if r.tok.code == kwOnly {
		r.advance()
	}
	for r.tok.kind == word || r.tok.kind == name {
		r.advance()
		if !r.isMark('.') {
			break
		}
		for r.isMark('.') {
			r.advance()
		}
	}
	if r.isMark('*') {
		r.advance()
	}
	if r.tok.code == kwOn && r.peek().code == kwCluster {
		for range 3 {
			r.advance()
		}
	}
	r.readAction(true)
}

// readAction reads the first words of an action. Behind a comma, some dialects
// go on with a list.
func (r *reader) readAction(must bool) {
	n := r.walk(r.g.actions)
	switch {
	case n.known:
		r.raiseBy(n.rank, n.path)
	case must:
		r.unknown(r.start, "action of ALTER that is not known")
	}
}
