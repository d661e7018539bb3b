package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// A celWriter writes conditions in Google's Common Expression Language.
//
// In CEL a claim that is not there is an error, and an error counts as neither
// true nor false: claims that a token may lack are asked about with has().
type celWriter struct {
	root string                  // the variable that has the claims
	sure func(claim string) bool // whether every token has a claim
	list func(claim string) bool // whether a claim may be a list of texts, one of which is enough; nil for none
	// typed asks for a value's type before what would fail on another type: at
	// OpenBao a failed variable refuses the token, whatever the rest says.
	typed bool
}

// celText is a text as a literal of CEL.
func celText(text string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range text {
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// celExpression is a regular expression as a literal: a raw one, where nothing
// in it would end that.
func celExpression(expr string) string {
	quoted := celText(expr)
	if strings.Contains(expr, "'") || strings.ReplaceAll(quoted, `\\`, `\`) != "'"+expr+"'" {
		return quoted
	}
	return "r'" + expr + "'"
}

// celReserved are no names of variables, and the first four cannot follow a dot
// either. (CEL language definition, Syntax)
var celReserved = []string{"false", "in", "null", "true", "as", "break", "const", "continue", "else", "for", "function",
	"if", "import",
	"let", "loop", "package", "namespace", "return", "var", "void", "while"}

// claim returns how a claim is read: one inside objects member by member.
func (w celWriter) claim(name string) string {
	text := w.root
	for member := range strings.SplitSeq(name, ">") {
		text = celMember(text, member)
	}
	return text
}

// celMember is a member of a value.
func celMember(of, name string) string {
	if hclIdentifier(name) && !slices.Contains(celReserved, name) {
		return of + "." + name
	}
	return of + "[" + celText(name) + "]"
}

// has asks for a claim, and before it for each object that it is inside of.
func (w celWriter) has(name string) celCode {
	var parts []celCode
	of := w.root
	for i, member := range strings.Split(name, ">") {
		if i > 0 {
			parts = append(parts, w.ofType(of, "map", celTrue))
		}
		there := celAtom(celText(member) + " in " + of)
		next := celMember(of, member)
		if !strings.HasSuffix(next, "]") {
			there = celAtom("has(" + next + ")")
		}
		parts, of = append(parts, there), next
	}
	return celAll(parts...)
}

// celCode is an expression, and the operator that is outermost in it: "" for one
// that stands in every other without parentheses.
type celCode struct{ text, operator string }

func celAtom(text string) celCode { return celCode{text: text} }

// celTrue and celFalse are the constants.
var celTrue, celFalse = celAtom("true"), celAtom("false")

func celAll(parts ...celCode) celCode { return celJoin(parts, "&&", celTrue, celFalse) }

func celAnyOf(parts ...celCode) celCode { return celJoin(parts, "||", celFalse, celTrue) }

// celJoin joins conditions by an operator: neutral ones are left out, and a
// decisive one is the result.
func celJoin(parts []celCode, operator string, neutral, decisive celCode) celCode {
	var texts []string
	var last celCode
	for _, p := range parts {
		if p == decisive {
			return decisive
		}
		if p == neutral {
			continue
		}
		last = p
		if p.operator != "" && p.operator != operator {
			p.text = "(" + p.text + ")"
		}
		if !slices.Contains(texts, p.text) {
			texts = append(texts, p.text)
		}
	}
	switch len(texts) {
	case 0:
		return neutral
	case 1:
		return last
	}
	return celCode{strings.Join(texts, " "+operator+" "), operator}
}

func celNot(c celCode) celCode {
	switch c {
	case celTrue:
		return celFalse
	case celFalse:
		return celTrue
	}
	return celAtom("!(" + c.text + ")")
}

// celIf chooses between two values.
func celIf(condition celCode, then, otherwise string) celCode {
	return celCode{condition.text + " ? " + then + " : " + otherwise, "?"}
}

// write returns a condition in CEL.
func (w celWriter) write(f logic.Formula) celCode {
	switch f.Form() {
	case logic.FormAlways:
		return celTrue
	case logic.FormAnd:
		parts := make([]celCode, len(f.Parts()))
		for i, part := range f.Parts() {
			parts[i] = w.write(part)
		}
		return celAll(parts...)
	case logic.FormOr:
		return w.alternatives(f)
	case logic.FormNot:
		return celNot(w.write(f.Parts()[0]))
	case logic.FormHas:
		return w.has(f.Claim())
	case logic.FormIs:
		return w.is(f.Claim(), []logic.Language{f.Language()})
	}
	return celFalse // never, and what cannot be written
}

// alternatives writes what is asked of one claim as one condition.
func (w celWriter) alternatives(f logic.Formula) celCode {
	var claims []string
	of := map[string][]logic.Language{}
	var others []celCode
	var flat func(logic.Formula)
	flat = func(f logic.Formula) {
		switch f.Form() {
		case logic.FormOr:
			for _, part := range f.Parts() {
				flat(part)
			}
		case logic.FormIs:
			if of[f.Claim()] == nil {
				claims = append(claims, f.Claim())
			}
			of[f.Claim()] = append(of[f.Claim()], f.Language())
		default:
			others = append(others, w.write(f))
		}
	}
	flat(f)
	parts := make([]celCode, len(claims))
	for i, claim := range claims {
		parts[i] = w.is(claim, of[claim])
	}
	return celAnyOf(append(parts, others...)...)
}

// is writes that a claim is there and in one of the languages.
func (w celWriter) is(claim string, languages []logic.Language) celCode {
	var literals, expressions []string
	for _, l := range languages {
		if text, ok := l.Text(); ok {
			literals = append(literals, celText(text))
			continue
		}
		expressions = append(expressions, l.String())
	}
	value := w.claim(claim)
	var parts []celCode
	switch {
	case len(literals) == 1:
		parts = append(parts, celAtom(value+" == "+literals[0]))
	case len(literals) > 1:
		parts = append(parts, celAtom(value+" in ["+strings.Join(literals, ", ")+"]"))
	}
	if w.list != nil && w.list(claim) {
		for _, l := range literals {
			parts = append(parts, w.ofType(value, "list", celAtom(l+" in "+value)))
		}
	}
	if len(expressions) > 0 {
		parts = append(parts, w.ofType(value, "string", celAtom(value+".matches("+celExpression(oneExpression(expressions))+")")))
	}
	if w.sure(claim) {
		return celAnyOf(parts...)
	}
	return celAll(w.has(claim), celAnyOf(parts...))
}

// ofType is a condition that fails on values of another type.
func (w celWriter) ofType(value, name string, condition celCode) celCode {
	if !w.typed {
		return condition
	}
	return celAll(celAtom("type("+value+") == "+name), condition)
}

// oneExpression is the alternatives as one expression, in the form that people
// write: without `(?m)`, ^ and $ are the ends of the text.
func oneExpression(expressions []string) string {
	inner := make([]string, len(expressions))
	for i, e := range expressions {
		e, begins := strings.CutPrefix(e, `\A(?:`)
		e, ends := strings.CutSuffix(e, `)\z`)
		if !begins || !ends {
			return strings.Join(expressions, "|")
		}
		inner[i] = e
	}
	if len(inner) == 1 && !strings.Contains(inner[0], "|") {
		return "^" + inner[0] + "$"
	}
	return "^(?:" + strings.Join(inner, "|") + ")$"
}
