package statement

import "strings"

// A token is a piece of SQL text. Comments and white space are none.
type token struct {
	kind       kind
	code       code // of a word that means something inside a statement
	start, end int
}

type kind uint8

const (
	ending  kind = iota // of the text
	word                // a keyword, or a name without quotes
	name                // a name in quotes
	literal             // a string, in any of its forms
	number              // also a parameter such as $1
	mark                // one byte of punctuation
	divider             // between statements: a semicolon, or a chain of Snowflake
	broken              // nothing that the dialect has: why says what
)

// A lexis is how the text of one dialect is cut into tokens. What servers of
// the dialect disagree about, or what is not known for sure, is broken.
type lexis struct {
	lineComments []string // what they begin with, besides --
	nested       nesting  // what /* does inside a comment
	escaping     string   // quotes inside which a backslash escapes
	unclear      string   // quotes inside which a backslash before a quote is not known to escape
	names        string   // quotes of names
	prefixed     bool     // E'…' has escapes, U&"…" is a name in disguise
	dollars      dollars
	wide         bool   // names without quotes may have letters outside ASCII
	stages       bool   // @ begins a path
	chain        string // divides statements as a semicolon does
	marks        string // the punctuation, apart from quotes
}

type nesting uint8

const (
	nests      nesting = iota // it begins a comment of its own
	isText                    // it is text of the comment
	isDisputed                // versions differ
)

type dollars uint8

const (
	noDollars   dollars = iota
	dollarPairs         // $$…$$
	dollarTags          // also $tag$…$tag$
	hereDocs            // both, with any letters and digits as tag, and nothing else with dollars
)

// A lexer cuts a text into tokens. It looks at each byte at most three times.
type lexer struct {
	lexis *lexis
	text  string
	at    int
	why   string   // what is broken
	fault int      // and where
	fold  [48]byte // the last word, upper case
}

// next returns the next token.
func (l *lexer) next() token {
	if why := l.skip(); why != "" {
		return l.broken(l.at, why)
	}
	if l.at >= len(l.text) {
		return token{kind: ending, start: len(l.text), end: len(l.text)}
	}
	start, c := l.at, l.text[l.at]
	switch {
	case isLetter(c) || c >= 0x80:
		return l.word()
	case isDigit(c) || c == '.' && isDigit(l.byteAt(start+1)):
		l.number()
		return token{kind: number, start: start, end: l.at}
	case c == '\'':
		return l.quoted(literal, start, start, strings.IndexByte(l.lexis.escaping, c) >= 0)
	case strings.IndexByte(l.lexis.names, c) >= 0:
		return l.quoted(name, start, start, strings.IndexByte(l.lexis.escaping, c) >= 0)
	case c == '$':
		return l.dollar()
	case c == ';' || l.lexis.chain != "" && strings.HasPrefix(l.text[start:], l.lexis.chain):
		l.at++
		if c != ';' {
			l.at = start + len(l.lexis.chain)
		}
		return token{kind: divider, start: start, end: l.at}
	case strings.IndexByte(l.lexis.marks, c) >= 0:
		if c == '@' && l.lexis.stages && !l.plainPath(start+1) {
			return l.broken(start, "path of a stage that could be a comment")
		}
		l.at++
		return token{kind: mark, start: start, end: l.at}
	}
	return l.broken(start, "character that is not part of the dialect")
}

func (l *lexer) broken(at int, why string) token {
	l.why, l.fault = why, at
	return token{kind: broken, start: at, end: len(l.text)}
}

// skip passes white space and comments. It returns what is wrong with a
// comment, or nothing.
func (l *lexer) skip() (why string) {
	for l.at < len(l.text) && why == "" {
		switch c := l.text[l.at]; {
		case isSpace(c):
			l.at++
		case c == '/' && l.byteAt(l.at+1) == '*':
			why = l.skipBlock()
		case l.atLineComment():
			why = l.skipLine()
		default:
			return ""
		}
	}
	return why
}

func (l *lexer) atLineComment() bool {
	rest := l.text[l.at:]
	if strings.HasPrefix(rest, "--") {
		return true
	}
	for _, begin := range l.lexis.lineComments {
		if strings.HasPrefix(rest, begin) {
			return true
		}
	}
	return false
}

// skipLine passes a comment that ends with its line. Servers do not agree on
// whether a carriage return without a line feed ends it.
func (l *lexer) skipLine() (why string) {
	line, _, more := strings.Cut(l.text[l.at:], "\n")
	if cr := strings.IndexByte(line, '\r'); cr >= 0 && (cr < len(line)-1 || !more) {
		return "carriage return inside a comment"
	}
	l.at += len(line)
	return ""
}

// skipBlock passes a comment between /* and */.
func (l *lexer) skipBlock() (why string) {
	depth := 1
	for i := l.at + 2; i+1 < len(l.text); i++ {
		switch {
		case l.text[i] == '*' && l.text[i+1] == '/':
			i++
			if depth--; depth == 0 {
				l.at = i + 1
				return ""
			}
		case l.text[i] == '/' && l.text[i+1] == '*' && l.lexis.nested != isText:
			if l.lexis.nested == isDisputed {
				return "comment inside a comment"
			}
			i++
			depth++
		}
	}
	return "unterminated comment"
}

// word reads a keyword or a name without quotes, or the string or name whose
// prefix it is.
func (l *lexer) word() token {
	start, letters := l.at, true
	for ; l.at < len(l.text); l.at++ {
		c := l.text[l.at]
		if 'a' <= c|0x20 && c|0x20 <= 'z' {
			continue
		}
		if c >= 0x80 && !l.lexis.wide {
			return l.broken(l.at, "character outside ASCII that is not in quotes")
		}
		if c != '_' && c != '$' && c < 0x80 && !isDigit(c) {
			break
		}
		letters = false
	}
	text := l.text[start:l.at]
	if !letters {
		if strings.Contains(text, "$$") {
			return l.broken(start, "$$ inside a name")
		}
		return token{kind: word, start: start, end: l.at} // no keyword with a code has these
	}
	if l.lexis.prefixed {
		switch {
		case len(text) == 1 && text[0]|0x20 == 'e' && l.byteAt(l.at) == '\'':
			return l.escapeString(start)
		case len(text) == 1 && text[0]|0x20 == 'u' && strings.HasPrefix(l.text[l.at:], `&"`):
			return l.broken(start, `name with escapes, U&"…"`)
		}
	}
	return token{kind: word, code: codeOf(l.upper(text)), start: start, end: l.at}
}

// upper returns a name in capitals; nil for one that is longer than any that
// means something.
func (l *lexer) upper(text string) []byte {
	if len(text) > len(l.fold) {
		return nil
	}
	for i := range len(text) {
		c := text[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		l.fold[i] = c
	}
	return l.fold[:len(text)]
}

// number passes the digits of a number and nothing that could be a keyword:
// old servers read 1into as two tokens.
func (l *lexer) number() {
	digits := func() {
		for isDigit(l.byteAt(l.at)) {
			l.at++
		}
	}
	digits()
	if l.byteAt(l.at) == '.' && l.byteAt(l.at+1) != '.' {
		l.at++
		digits()
	}
	if l.byteAt(l.at)|0x20 == 'e' {
		sign := l.byteAt(l.at + 1)
		switch {
		case isDigit(sign):
			l.at++
		case (sign == '+' || sign == '-') && isDigit(l.byteAt(l.at+2)):
			l.at += 2
		}
		digits()
	}
}

// quoted reads what begins with the quote at open. Two quotes are one of its
// characters.
func (l *lexer) quoted(k kind, start, open int, escapes bool) token {
	quote := l.text[open]
	unclear := strings.IndexByte(l.lexis.unclear, quote) >= 0
	for i := open + 1; i < len(l.text); i++ {
		switch c := l.text[i]; {
		case c == '\\' && (escapes || unclear):
			i++
			if !escapes && l.byteAt(i) == quote {
				return l.broken(start, "backslash before a quote")
			}
		case c == quote && l.byteAt(i+1) == quote:
			i++
		case c == quote:
			l.at = i + 1
			return token{kind: k, start: start, end: l.at}
		}
	}
	return l.broken(start, "unterminated string")
}

// escapeString reads E'…'. PostgreSQL continues it after a line feed, with
// its escapes.
func (l *lexer) escapeString(start int) token {
	for {
		t := l.quoted(literal, start, l.at, true)
		if t.kind == broken {
			return t
		}
		next := l.at
		if !l.continued() {
			l.at = next
			return t
		}
	}
}

// continued passes the white space, comments to the end of a line included,
// in front of a quote that continues a string.
func (l *lexer) continued() bool {
	newline := false
	for l.at < len(l.text) {
		switch c := l.text[l.at]; {
		case isSpace(c):
			newline = newline || c == '\n' || c == '\r'
			l.at++
		case strings.HasPrefix(l.text[l.at:], "--"):
			if l.skipLine() != "" {
				return false
			}
		default:
			return c == '\'' && newline
		}
	}
	return false
}

// isHereDoc says whether what goes up to end is a string's delimiter, and not
// part of a word or a number before it.
func (l *lexer) isHereDoc(end int) bool {
	for _, c := range []byte(l.text[l.at+1 : end]) {
		if c >= 0x80 {
			return false
		}
	}
	before := byte(' ')
	if l.at > 0 {
		before = l.text[l.at-1]
	}
	return l.byteAt(end) == '$' && !isLetter(before) && !isDigit(before) && before != '.' && before != '$' && before < 0x80
}

// dollar reads a string between dollars, or a parameter or variable.
func (l *lexer) dollar() token {
	start := l.at
	end := start + 1
	for c := l.byteAt(end); isLetter(c) || isDigit(c) || c >= 0x80; c = l.byteAt(end) {
		end++
	}
	tag := l.text[start+1 : end]
	switch {
	case l.lexis.dollars == noDollars, l.lexis.dollars == hereDocs && !l.isHereDoc(end):
		return l.broken(start, "$ outside a name")
	case l.byteAt(end) == '$' && (tag == "" || l.lexis.dollars == hereDocs ||
		l.lexis.dollars == dollarTags && !isDigit(tag[0])):
		delimiter := l.text[start : end+1]
		length := strings.Index(l.text[end+1:], delimiter)
		if length < 0 {
			return l.broken(start, "unterminated string")
		}
		l.at = end + 1 + length + len(delimiter)
		return token{kind: literal, start: start, end: l.at}
	case tag == "":
		return l.broken(start, "$ outside a name")
	case isDigit(tag[0]): // what follows the digits is a token of its own
		for l.at++; isDigit(l.byteAt(l.at)); {
			l.at++
		}
	case l.lexis.dollars == dollarTags:
		return l.broken(start, "$ outside a name")
	default:
		l.at = end
	}
	return token{kind: number, start: start, end: l.at}
}

// plainPath says whether the path of a stage has nothing in it that looks
// like a comment.
func (l *lexer) plainPath(from int) bool {
	for i := from; i < len(l.text); i++ {
		switch c := l.text[i]; {
		case isSpace(c), strings.IndexByte("();,@'\"", c) >= 0:
			return true
		case c == '/' && (l.byteAt(i+1) == '/' || l.byteAt(i+1) == '*'), c == '-' && l.byteAt(i+1) == '-':
			return false
		}
	}
	return true
}

// byteAt returns 0 beyond the text, which is nowhere in it.
func (l *lexer) byteAt(i int) byte {
	if i >= len(l.text) {
		return 0
	}
	return l.text[i]
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isSpace(c byte) bool  { return c == ' ' || '\t' <= c && c <= '\r' }
