package statement

import "strings"

// Where no word is reserved and functions may stand for tables, what is called
// is judged by its place: functions of expressions by the list of those that do
// more than read, those in the place of a table by the list of those that read.

// onTables follows where the tables of a query begin and end. A clause's word
// in the place of a table or of an operand is a name.
func (r *reader) onTables(at token) {
	here := &r.states[r.depth]
	begins := at == r.prev || r.is(r.prev, '(')
	switch {
	case !r.g.loose:
	case at.code == kwSelect, at.code == kwWith:
		*here |= inQuery
		if (begins || r.isOperand(r.prev)) && (at == r.prev || !r.is(r.peek(), ',')) {
			*here &^= inTables
		}
	case at.code == kwDescribe && begins,
		at.code == kwFrom && (begins || r.depth == 0 || *here&inQuery != 0), // not EXTRACT(… FROM …)
		at.code == kwJoin && r.prev.code != kwArray:
		*here |= inQuery | inTables
	case (at.code == kwClause || at.code == kwArray) && r.isOperand(r.prev):
		*here &^= inTables
	}
}

// isTablePlace says whether a table may follow the token.
func (r *reader) isTablePlace(t token) bool {
	if r.states[r.depth]&inTables == 0 {
		return r.mode == asTable && r.depth == 0 && t.code == kwAs // CREATE TABLE … AS …
	}
	switch t.code {
	case kwFrom, kwJoin, kwDescribe, kwTable, kwAs:
		return true
	}
	return r.is(t, ',') || r.is(t, '(')
}

// isOperand says whether a table, or the condition of a join, may end with the
// token.
func (r *reader) isOperand(t token) bool {
	switch {
	case t.kind == mark:
		return strings.IndexByte(")]}", r.text[t.start]) >= 0
	case t.code == kwOperator, t.code == kwOn, t.code == kwSelect, t.code == kwWith, t.code == kwClause:
		return false
	}
	return !r.isTablePlace(t)
}

// isForeign says whether a function is called in the place of a table, or of a
// dictionary's source, and not known to read the server's own.
func (r *reader) isForeign(name string) bool {
	if r.states[r.depth]&inSources != 0 {
		return !strings.EqualFold(name, "CLICKHOUSE") && !strings.EqualFold(name, "NULL")
	}
	switch r.prev.code {
	case kwAs, kwFrom, kwJoin, kwSelect, kwWith, kwTable, kwDescribe:
		return false
	}
	return r.g.loose && r.isTablePlace(r.prior) && !r.g.tables[string(r.upper(name))]
}

// looseState says what is known of the parenthesis that begins.
func (r *reader) looseState() state {
	here := r.states[r.depth]
	upper := string(r.upper(r.text[r.prev.start:r.prev.end]))
	switch {
	case r.mode == asTable && upper == "SOURCE":
		return inSources
	case here&inSources != 0:
		return inSource
	case here&inTables != 0 && (r.isTablePlace(r.prev) || strings.Trim(upper, "\"`") == "LOOP" ||
		strings.HasPrefix(strings.Trim(upper, "\"`"), "CLUSTER")):
		return inTables
	}
	return 0
}

// onSource looks at a dictionary's source in the server itself: another host is
// another server, and a query does what it does.
func (r *reader) onSource() {
	switch {
	case r.prev.kind == word && r.isWord(r.prev, "QUERY"):
		r.immediate("'\"", "CREATE DICTIONARY SOURCE")
	case r.tok.kind == word && !r.isOneOf("USER", "PASSWORD", "DB", "TABLE", "QUERY", "UPDATE_FIELD", "UPDATE_LAG"),
		r.tok.kind == name && r.prev.kind != word:
		r.raiseBy(run, "SOURCE")
	}
}

func (r *reader) isWord(t token, upper string) bool {
	return strings.EqualFold(r.text[t.start:t.end], upper)
}

// onDefiner looks at whose rights a view has.
func (r *reader) onDefiner() {
	if r.mode != asTable || r.depth > 0 || r.query || r.is(r.prev, '.') {
		return
	}
	if r.tok.code == kwDefiner || !r.isWord(r.peek(), "INVOKER") {
		r.raiseBy(grant, "DEFINER")
	}
}
