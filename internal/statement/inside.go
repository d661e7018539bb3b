package statement

import "strings"

// readRest reads what follows the head, up to the divider.
func (r *reader) readRest() {
	for {
		if r.action {
			r.action = false
			r.readAction(r.g.strict)
		}
		switch r.tok.kind {
		case ending, divider:
			r.close()
			return
		case broken:
			r.unknown(r.lexer.fault, r.lexer.why)
			return
		case mark:
			if !r.onMark(r.text[r.tok.start]) {
				return
			}
		case word, name, literal:
			if r.isLabel() || r.tok.code == kwRecursive && r.prev.code != kwWith {
				r.tok.code = 0
			}
			r.onName()
			r.onWord()
		}
		r.advance()
	}
}

// isLabel says whether a word is a name because of its place: any word may
// follow a dot, or the AS of a query.
func (r *reader) isLabel() bool {
	if r.is(r.prev, '.') {
		return true
	}
	if r.mode != asQuery && r.mode != asWith || r.prev.code != kwAs {
		return false
	}
	if r.g.loose && r.decides() {
		return false
	}
	return r.tok.code != kwProcedure || r.states[r.depth]&inList == 0
}

// decides says whether a word is to be read as a keyword behind AS too, which
// may be a name where no word is reserved.
func (r *reader) decides() bool {
	switch r.tok.code {
	case kwSettings, kwParallel, kwOutfile:
		return true
	case kwInto:
		return r.peek().code == kwOutfile
	case kwInsert:
		return !r.query
	}
	return false
}

// close checks that the statement is whole.
func (r *reader) close() {
	switch {
	case r.depth > 0:
		r.unknown(r.tok.start, "unbalanced parentheses")
	case r.states[0]&inList != 0:
		r.unknown(r.start, "WITH without its statement")
	}
}

func (r *reader) is(t token, c byte) bool { return t.kind == mark && r.text[t.start] == c }
func (r *reader) isMark(c byte) bool      { return r.is(r.tok, c) }

// push enters parentheses. It ends the message where there are too many.
func (r *reader) push(s state) bool {
	if r.depth+1 == maxDepth {
		r.unknown(r.tok.start, "too many parentheses inside each other")
		r.tok.kind = broken
		return false
	}
	r.depth++
	r.states[r.depth] = s
	return true
}

func (r *reader) onMark(c byte) bool {
	switch c {
	case '(', '[':
		var s state
		if c == '(' {
			s = r.onParenthesis()
		}
		return r.push(s)
	case ')', ']':
		if r.depth == 0 {
			r.unknown(r.tok.start, "unbalanced parentheses")
			return true
		}
		r.pop()
	case '@':
		if r.g.stages {
			r.raiseBy(run, "@")
		}
	case ',':
		r.action = r.mode == asAlter && r.depth == 0
	}
	return true
}

// onParenthesis looks at what the parenthesis belongs to.
func (r *reader) onParenthesis() state {
	switch {
	case r.is(r.prev, ')') && r.states[r.depth]&inList != 0:
		r.states[r.depth] &^= inList // WITH … (SELECT …)
	case r.is(r.prev, '}') && r.g.loose:
		r.raiseBy(run, "{}()")
	case r.prev.kind == word || r.prev.kind == name:
		r.onCall()
	}
	if r.prev.code == kwIdentifier {
		return identifier
	}
	if r.g.loose {
		return r.looseState()
	}
	return 0
}

func (r *reader) pop() {
	s := r.states[r.depth]
	r.depth--
	if s&inList != 0 {
		r.unknown(r.tok.start, "WITH without its statement")
	}
	if s&identifier != 0 {
		if next := r.peek(); r.is(next, '(') {
			r.raiseBy(run, "IDENTIFIER()()")
		}
	}
}

// onCall looks at the name in front of a parenthesis.
func (r *reader) onCall() {
	switch {
	case r.g.loose && r.is(r.prior, '.'): // a table's name
		return
	case !r.g.loose && r.prior.code == kwAs: // an alias with columns
		return
	case !r.g.loose && r.listed(r.prior): // a name of WITH, with columns
		return
	}
	text := r.text[r.prev.start:r.prev.end]
	if r.prev.kind == name {
		if strings.IndexByte(r.g.escaping, text[0]) >= 0 && strings.Contains(text, `\`) {
			r.raiseBy(run, "()")
			return
		}
		text = text[1 : len(text)-1]
	}
	k, known := r.g.function(r.upper(text))
	if k == read && r.isForeign(text) {
		k = run
	}
	if k == read {
		return
	}
	r.raiseBy(k, known+"()")
	if known == "SET_CONFIG" {
		r.undo("set_config(")
	}
}

// listed says whether a name behind this token is one that WITH defines.
func (r *reader) listed(before token) bool {
	return r.states[r.depth]&inList != 0 &&
		(before.code == kwWith || before.code == kwRecursive || r.is(before, ','))
}

// onName looks at names, quoted or not, and at strings in places where they
// are names.
func (r *reader) onName() {
	switch {
	case r.tok.kind != literal && r.tok.code != kwRecursive && r.listed(r.prev):
		r.onListed()
	case r.mode == asEncoding && !r.isOneOf("TO", "UTF8", "UTF-8", "UNICODE"),
		r.mode == asNames && !r.isSetting():
		r.raiseBy(admin, "")
	case r.mode == asSettings && r.depth == 0 && r.isSettingPlace():
		if next := r.peek(); !r.is(next, '=') || !r.isSetting() {
			r.raiseBy(admin, "")
		}
	}
	if r.states[r.depth]&inSource != 0 {
		r.onSource()
	}
	if r.tok.kind != literal && (r.mode == asNames || (r.mode == asSettings || r.settings) && r.isSettingPlace()) {
		r.onGuarded()
	}
}

// onGuarded looks at the name of a setting that may hold or limit the session.
func (r *reader) onGuarded() {
	upper := string(r.upper(r.bare()))
	r.sets(upper)
	switch {
	case strings.Contains(upper, `\`):
		r.raiseBy(admin, "SETTINGS")
		r.unlimit("settings with escaped names")
	case upper == "PROFILE":
		r.raiseBy(admin, "SETTINGS")
	case r.g.guarded[upper]:
		r.raiseBy(admin, "SETTINGS")
		r.undo("SETTINGS " + strings.ToLower(upper))
	}
}

// isSettingPlace says whether the token is in the place of a setting's name.
func (r *reader) isSettingPlace() bool {
	if r.prev.code == kwSet || r.prev.code == kwSettings || r.is(r.prev, ',') {
		return true
	}
	return r.mode == asSettings && r.is(r.peek(), '=')
}

func (r *reader) isSetting() bool { return r.g.settings[string(r.upper(r.bare()))] }

// bare returns the token's text without its quotes.
func (r *reader) bare() string {
	text := r.text[r.tok.start:r.tok.end]
	if r.tok.kind != word && len(text) >= 2 {
		text = text[1 : len(text)-1]
	}
	return text
}

func (r *reader) isOneOf(words ...string) bool {
	upper := string(r.upper(r.bare()))
	for _, w := range words {
		if upper == w {
			return true
		}
	}
	return false
}

// onListed looks at the name of an item of WITH: where names are all that it
// defines, AS or columns follow.
func (r *reader) onListed() {
	next := r.peek()
	if r.g.loose || next.code == kwAs || next.code == kwSet || r.is(next, '(') {
		return
	}
	r.states[r.depth] &^= inList
	if r.prev.code != kwWith || r.tok.code != kwFunction && r.tok.code != kwSession {
		r.unknown(r.tok.start, "WITH that is not known")
	}
}

// onInline looks at WITH FUNCTION and WITH SESSION, which a query of any
// statement may begin with. Either may also be the name of a query.
func (r *reader) onInline() {
	next := r.peek()
	switch {
	case r.prev.code != kwWith, r.mode == explained, next.code == kwAs, r.is(next, '('):
	case r.tok.code == kwFunction:
		r.raiseBy(run, "FUNCTION")
	default:
		r.raiseBy(admin, "SESSION")
		r.unlimit("session properties")
	}
}

// onWord looks at keywords that say more than the head does.
func (r *reader) onWord() {
	if r.tok.code == 0 {
		return
	}
	switch r.tok.code {
	case kwSelect, kwValues, kwTable, kwWith, kwFrom:
		r.onTables(r.tok)
		r.onQuery()
	case kwArray, kwClause, kwDescribe, kwJoin:
		r.onTables(r.tok)
	case kwFunction:
		if (r.mode == asInsert || r.g.loose) && (r.prev.code == kwInto || r.prev.code == kwTable) {
			r.raiseBy(run, "FUNCTION")
		}
		r.onInline()
	case kwSession:
		r.onInline()
	case kwDefiner, kwSecurity:
		r.onDefiner()
	case kwParallel:
		if r.g.loose && r.peek().code == kwWith {
			r.unknown(r.tok.start, "statement inside a statement") // … PARALLEL WITH …
		}
	case kwExecute:
		if !r.query && r.prev.code == kwAs && r.depth == 0 {
			r.raiseBy(run, "EXECUTE")
		}
	case kwPolicy:
		if r.mode == asAlter && (r.prev.code == kwGoverning || r.prev.code == kwJoin) {
			r.raiseBy(admin, "POLICY")
		}
	case kwWrite:
		if r.mode == transaction && r.prev.code == kwRead {
			r.undo(r.head + " READ WRITE")
		}
	case kwGrant, kwCreate, kwAuthorization:
		r.onSchema()
	case kwEngine, kwFormat, kwInfile, kwOutfile, kwSettings:
		r.onTable()
	}
	if r.mode != explained {
		r.onInner()
	}
}

// reads says whether the statement's head is that of a query.
func (r *reader) reads() bool { return r.mode == asQuery || r.mode == asWith }

// onQuery looks at words that begin a query.
func (r *reader) onQuery() {
	begins := r.is(r.prev, '(')
	switch {
	case r.depth > 0, r.g.loose && r.listed(r.prev):
	case r.mode == asTable:
		r.query = r.query || r.prev.code == kwAs
	default:
		r.query = r.query || r.tok.code == kwSelect || r.mode == asInsert || r.tok.code == kwWith && r.prev.code == kwAs
	}
	if r.tok.code == kwFrom {
		return
	}
	switch {
	case r.tok.code == kwWith:
		if begins && (r.g.loose || r.mode != explained) {
			r.states[r.depth] |= inList
		}
	case r.is(r.prev, ')'), r.tok.code == kwSelect && !r.listed(r.prev):
		r.states[r.depth] &^= inList // VALUES and TABLE elsewhere are names, such as those of SEARCH … SET
	}
}

// locks looks at FOR UPDATE and its like, which are not of a query in CREATE
// POLICY … FOR UPDATE.
func (r *reader) locks(words string) {
	if r.reads() || r.query || r.depth > 0 {
		r.raiseBy(write, words)
	}
}

// isInsert says whether INSERT follows WITH … in the place of a statement: before
// any query, or behind an operand, where a dialect without reserved words may have
// closed the list.
func (r *reader) isInsert() bool {
	return r.g.loose && r.mode == asWith && r.depth == 0 &&
		(!r.query || r.prev.kind != mark || r.is(r.prev, ')') || r.is(r.prev, ']'))
}

// onSchema looks at the statements that CREATE SCHEMA may contain.
func (r *reader) onSchema() {
	if r.mode != asSchema || r.depth > 0 {
		return
	}
	if r.tok.code == kwAuthorization {
		r.raiseBy(grant, "AUTHORIZATION")
		return
	}
	r.unknown(r.tok.start, "statement inside a statement")
}

// onTable looks at words of tables and their data.
func (r *reader) onTable() {
	switch {
	case r.tok.code == kwSettings:
		r.settings = r.g.loose
	case r.tok.code == kwOutfile && r.g.loose && r.prev.code == kwInto:
		r.raiseBy(run, "INTO OUTFILE")
	case r.tok.code == kwInfile && (r.mode == asInsert || r.mode == asWith) && r.prev.code == kwFrom:
		r.raiseBy(run, "INFILE")
	case r.depth > 0, r.query:
	case r.tok.code == kwEngine && r.mode == asTable:
		next := r.peek()
		if r.is(next, '=') {
			r.advance()
			next = r.peek()
		}
		if next.kind != mark && !r.g.engines[string(r.upper(r.text[next.start:next.end]))] {
			r.raiseBy(run, "ENGINE")
		}
	case r.prev.code == kwAs, r.prev.code == kwInto, r.prev.code == kwTable, r.prev.code == kwExists:
	case r.tok.code == kwFormat && r.mode == asInsert && r.prev.code != kwInsert:
		if next := r.peek(); next.kind == word {
			r.advance()
			if r.peek().code == kwSettings { // of old servers, and of those with allow_settings_after_format_in_insert
				r.unknown(r.tok.start, "SETTINGS behind FORMAT")
			}
			r.used, r.at = next.end, len(r.text) // what follows is data
		}
	}
}

// onInner looks at words that make a query more than one, also where it is
// inside another statement: what defines a table may delete from others.
func (r *reader) onInner() {
	here := &r.states[r.depth]
	switch r.tok.code {
	case kwInto:
		switch {
		case r.prev.start == r.verb && (r.prev.code == kwInsert || r.prev.code == kwMerge):
			r.raiseBy(write, string(r.upper(r.text[r.prev.start:r.prev.end])))
		case !r.reads():
		case r.g.loose:
			r.raiseBy(run, "INTO")
		default:
			r.raiseBy(define, "INTO")
		}
	case kwFrom:
		if r.prev.code == kwDelete && r.prev.start == r.verb {
			r.raiseBy(write, "DELETE")
		}
	case kwSet:
		if *here&inUpdate != 0 {
			r.raiseBy(write, "UPDATE")
		}
	case kwInsert, kwUpdate, kwDelete, kwMerge:
		switch {
		case r.tok.code == kwInsert && r.isInsert():
			r.verb = r.tok.start
			r.raiseBy(write, "INSERT")
		case r.prev.code == kwFor || r.prev.code == kwKey:
			r.locks("FOR UPDATE")
		case r.is(r.prev, '('):
			r.verb = r.tok.start
			if r.tok.code == kwUpdate {
				*here |= inUpdate
			}
		case *here&inList != 0 && !r.listed(r.prev):
			*here &^= inList
			r.verb = r.tok.start
			r.raiseBy(write, string(r.upper(r.bare())))
		}
	case kwShare:
		if r.prev.code == kwFor || r.prev.code == kwKey {
			r.locks("FOR SHARE")
		}
	case kwProcedure:
		if *here&inList != 0 && r.prev.code == kwAs {
			*here &^= inList
			r.raiseBy(run, "PROCEDURE")
		}
	}
}
