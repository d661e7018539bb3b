package trust

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A celNode is an expression of Google's Common Expression Language. (CEL
// language definition, Syntax)
type celNode struct {
	kind celKind
	name string     // of a variable, a field, a function or an operator; the text of a number
	text string     // of a string
	args []*celNode // operands; of a method its receiver first
	from int        // where it is in the source
}

type celKind int

const (
	celString celKind = iota
	celNumber         // and bytes: what is compared with texts only by mistake
	celConstant
	celVariable
	celSelect // args[0].name
	celCall   // name(args…)
	celMethod // args[0].name(args[1:]…)
	celList
	celMap
	celOperator // "?:" has three operands, "[]" two
)

// A celToken is a word of the language; kind is 'i' for a name, 's' for a
// string, 'n' for a number, 'o' for an operator, 0 for the end.
type celToken struct {
	kind byte
	text string
	from int
}

// celLimit bounds how deep an expression is nested.
const celLimit = 200

type celParser struct {
	source string
	tokens []celToken
	next   int
	depth  int
}

// celParse reads an expression. The error says where it is none.
func celParse(source string) (node *celNode, err error) {
	if n := utf8.RuneCountInString(source); n > celProgramLimit {
		return nil, fmt.Errorf("the expression has %d characters, and nothing that evaluates CEL stores more than %d", n, celProgramLimit)
	}
	p := &celParser{source: source}
	if err := p.scan(); err != nil {
		return nil, err
	}
	if node, err = p.expression(); err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != 0 {
		return nil, p.fault(t)
	}
	return node, nil
}

func (p *celParser) fault(t celToken) error {
	if t.kind == 0 {
		return fmt.Errorf("the expression ends too early")
	}
	return fmt.Errorf("unexpected %q at character %d", t.text, utf8.RuneCountInString(p.source[:t.from])+1)
}

func (p *celParser) peek() celToken { return p.tokens[p.next] }

// take reads an operator, if it comes next.
func (p *celParser) take(operators ...string) (celToken, bool) {
	t := p.peek()
	if (t.kind == 'o' || t.kind == 'i' && t.text == "in") && slices.Contains(operators, t.text) {
		p.next++
		return t, true
	}
	return t, false
}

func (p *celParser) want(operator string) error {
	if t, ok := p.take(operator); !ok {
		return p.fault(t)
	}
	return nil
}

// expression is a choice or anything below.
func (p *celParser) expression() (*celNode, error) {
	if p.depth++; p.depth > celLimit {
		return nil, fmt.Errorf("the expression is nested more than %d deep", celLimit)
	}
	defer func() { p.depth-- }()
	condition, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	t, ok := p.take("?")
	if !ok {
		return condition, nil
	}
	then, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if err := p.want(":"); err != nil {
		return nil, err
	}
	otherwise, err := p.expression()
	return &celNode{kind: celOperator, name: "?:", args: []*celNode{condition, then, otherwise}, from: t.from}, err
}

// celLevels are the operators with two operands, the weakest first.
var celLevels = [][]string{{"||"}, {"&&"}, {"<", "<=", ">=", ">", "==", "!=", "in"}, {"+", "-"}, {"*", "/", "%"}}

func (p *celParser) binary(level int) (*celNode, error) {
	if level == len(celLevels) {
		return p.unary()
	}
	left, err := p.binary(level + 1)
	for err == nil {
		t, ok := p.take(celLevels[level]...)
		if !ok {
			break
		}
		var right *celNode
		right, err = p.binary(level + 1)
		left = &celNode{kind: celOperator, name: t.text, args: []*celNode{left, right}, from: t.from}
	}
	return left, err
}

func (p *celParser) unary() (*celNode, error) {
	t, ok := p.take("!", "-")
	if !ok {
		return p.member()
	}
	if p.depth++; p.depth > celLimit {
		return nil, fmt.Errorf("the expression is nested more than %d deep", celLimit)
	}
	defer func() { p.depth-- }()
	operand, err := p.unary()
	return &celNode{kind: celOperator, name: t.text, args: []*celNode{operand}, from: t.from}, err
}

// member is a value and what is selected of it.
func (p *celParser) member() (*celNode, error) {
	node, err := p.primary()
	for n := 0; err == nil; n++ {
		t, ok := p.take(".", "[")
		switch {
		case !ok:
			return node, nil
		case n > celLimit:
			return nil, fmt.Errorf("the expression is nested more than %d deep", celLimit)
		case t.text == "[":
			var index *celNode
			if index, err = p.expression(); err == nil {
				err = p.want("]")
			}
			node = &celNode{kind: celOperator, name: "[]", args: []*celNode{node, index}, from: t.from}
		default:
			name := p.peek()
			if name.kind != 'i' || slices.Contains(celReserved[:4], name.text) {
				return nil, p.fault(name)
			}
			p.next++
			if _, called := p.take("("); called {
				var args []*celNode
				args, err = p.list(")")
				node = &celNode{kind: celMethod, name: name.text, args: append([]*celNode{node}, args...),
					from: name.from}
			} else {
				node = &celNode{kind: celSelect, name: name.text, args: []*celNode{node}, from: name.from}
			}
		}
	}
	return nil, err
}

func (p *celParser) primary() (*celNode, error) {
	t := p.peek()
	p.next++
	node := &celNode{name: t.text, from: t.from}
	switch {
	case t.kind == 's':
		node.kind, node.text, node.name = celString, t.text, ""
	case t.kind == 'n':
		node.kind = celNumber
	case t.kind == 'i' && slices.Contains([]string{"true", "false", "null"}, t.text):
		node.kind = celConstant
	case t.kind == 'i' && !slices.Contains(celReserved, t.text):
		node.kind = celVariable
		if _, called := p.take("("); called {
			args, err := p.list(")")
			node.kind, node.args = celCall, args
			return node, err
		}
	case t.kind == 'o' && t.text == "(":
		inner, err := p.expression()
		if err == nil {
			err = p.want(")")
		}
		return inner, err
	case t.kind == 'o' && t.text == "[":
		args, err := p.list("]")
		node.kind, node.args = celList, args
		return node, err
	case t.kind == 'o' && t.text == "{":
		args, err := p.entries()
		node.kind, node.args = celMap, args
		return node, err
	default:
		p.next-- // the end is not left behind
		return nil, p.fault(t)
	}
	return node, nil
}

// list reads expressions to a closing bracket; one comma may come before that.
func (p *celParser) list(end string) (args []*celNode, err error) {
	for {
		if _, ok := p.take(end); ok {
			return args, nil
		}
		arg, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		if _, ok := p.take(","); !ok {
			return args, p.want(end)
		}
	}
}

func (p *celParser) entries() (args []*celNode, err error) {
	for {
		if _, ok := p.take("}"); ok {
			return args, nil
		}
		for _, after := range []string{":", ""} {
			arg, err := p.expression()
			if err != nil {
				return nil, err
			}
			args = append(args, arg)
			if after != "" {
				if err := p.want(after); err != nil {
					return nil, err
				}
			}
		}
		if _, ok := p.take(","); !ok {
			return args, p.want("}")
		}
	}
}

var (
	celName       = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	celNumberText = lazy.MustCompile(`^(?:0x[0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[uU]?`)
	celQuote      = lazy.MustCompile(`^([rRbB]{0,2})('''|"""|'|")`)
	celBlank      = lazy.MustCompile(`^(?:[\t\n\f\r ]|//[^\n]*(?:\n|$))+`)
	celOperators  = []string{"<=", ">=", "==", "!=", "&&", "||", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", ".",
		",", "(", ")", "[", "]", "{", "}"}
)

// scan splits the source into words.
func (p *celParser) scan() error {
	for at := 0; at < len(p.source); {
		rest := p.source[at:]
		if m := celBlank.FindStringIndex(rest); m != nil {
			at += m[1]
			continue
		}
		if m := celQuote.FindStringSubmatch(rest); m != nil {
			text, length, err := celUnquote(rest, m[1], m[2])
			if err != nil {
				return fmt.Errorf("string at character %d: %w", utf8.RuneCountInString(p.source[:at])+1, err)
			}
			kind := byte('s')
			if strings.ContainsAny(m[1], "bB") {
				kind = 'n'
			}
			p.tokens = append(p.tokens, celToken{kind, text, at})
			at += length
			continue
		}
		token := celToken{from: at}
		if m := celName.FindStringIndex(rest); m != nil {
			token.kind, token.text = 'i', rest[:m[1]]
		} else if m := celNumberText.FindStringIndex(rest); m != nil {
			token.kind, token.text = 'n', rest[:m[1]]
		} else if i := slices.IndexFunc(celOperators, func(o string) bool {
			return strings.HasPrefix(rest,
				o)
		}); i >= 0 {
			token.kind, token.text = 'o', celOperators[i]
		} else {
			r, _ := utf8.DecodeRuneInString(rest)
			return fmt.Errorf("unexpected %q at character %d", r, utf8.RuneCountInString(p.source[:at])+1)
		}
		p.tokens = append(p.tokens, token)
		at += len(token.text)
	}
	p.tokens = append(p.tokens, celToken{from: len(p.source)})
	return nil
}

// celUnquote reads a string with its prefix and quotes, and returns its length
// in the source.
func celUnquote(source, prefix, quotes string) (text string, length int, err error) {
	raw := strings.ContainsAny(prefix, "rR")
	var b strings.Builder
	for at := len(prefix) + len(quotes); at < len(source); {
		rest := source[at:]
		switch {
		case strings.HasPrefix(rest, quotes):
			return b.String(), at + len(quotes), nil
		case rest[0] == '\n' && len(quotes) == 1, rest[0] == '\r' && len(quotes) == 1:
			return "", 0, fmt.Errorf("it has no end on its line")
		case rest[0] == '\\' && !raw:
			r, n, err := celEscape(rest)
			if err != nil {
				return "", 0, err
			}
			b.WriteRune(r)
			at += n
		default:
			_, n := utf8.DecodeRuneInString(rest)
			b.WriteString(rest[:n])
			at += n
		}
	}
	return "", 0, fmt.Errorf("it has no end")
}

var celEscapes = lazy.MustCompile(`^\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))`)

// celEscape reads one escape sequence.
func celEscape(text string) (r rune, length int, err error) {
	if len(text) < 2 {
		return 0, 0, fmt.Errorf("it has no end")
	}
	const short = `abfnrtv\?"'` + "`"
	if i := strings.IndexByte(short, text[1]); i >= 0 {
		return rune("\a\b\f\n\r\t\v\\?\"'`"[i]), 2, nil
	}
	m := celEscapes.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf(`unknown escape \%c`, text[1])
	}
	base, digits := 16, m[1]+m[2]+m[3]
	if m[4] != "" {
		base, digits = 8, m[4]
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return 0, 0, fmt.Errorf("%s is no character", m[0])
	}
	return rune(n), len(m[0]), nil
}
