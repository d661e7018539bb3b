package trust

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// A celValue is what an expression comes to, for all tokens at once.
//
// An evaluation may fail, as it does where a claim is not there: then a
// condition is neither true nor false, and `failed || true` is true.
type celValue struct {
	kind  celValueKind
	yes   logic.Formula // of a bool: where it is true
	no    logic.Formula // and where it is false
	cases []celCase     // of a text: what it is, and where
	items []celValue    // of a list
	split *celSplit     // of a list that is a split text
	text  string        // of a number, and of what is not decided: the reason
}

type celValueKind int

const (
	celFails celValueKind = iota
	celBoolValue
	celTextValue
	celListValue
	celNumberValue
	celNullValue
	celAssertion // the claims
	celGoogle    // what the mapping makes of them
	celAttribute
	celUndecided
)

// A celCase is a text in pieces, where a condition is met; the conditions of a
// value's cases exclude each other.
type celCase struct {
	when   logic.Formula
	pieces []celPiece
}

// A celPiece is a literal, a claim, or what is made of one: equals is set then,
// and only equality is decided.
type celPiece struct {
	literal string
	claim   string
	equals  func(text string) logic.Formula
}

// A celSplit is a claim split at a text.
type celSplit struct {
	claim, by string
	when      logic.Formula
}

// A celReader evaluates expressions of one provider.
type celReader struct {
	github  bool                 // claims are texts; elsewhere they may be lists, or objects
	objects map[string]bool      // claims that the expressions read members of
	mapping map[string]*celNode  // attribute.X, google.X
	mapped  map[string]*celValue // what was evaluated; nil while it is
	// variables are those of a program, by name; none at Google.
	variables map[string]celValue
}

func celBool(yes, no logic.Formula) celValue { return celValue{kind: celBoolValue, yes: yes, no: no} }

func celLiteral(text string) celValue {
	return celValue{kind: celTextValue, cases: []celCase{{logic.Always(), []celPiece{{literal: text}}}}}
}

func undecided(format string, args ...any) celValue {
	return celValue{kind: celUndecided, text: fmt.Sprintf(format, args...)}
}

// bool returns a value as a condition: what is none fails.
func (v celValue) bool() celValue {
	switch v.kind {
	case celBoolValue:
		return v
	case celUndecided:
		return celBool(logic.Undecided(v.text), logic.Undecided(v.text))
	}
	return celBool(logic.Never(), logic.Never())
}

// defined is met where the evaluation does not fail.
func (v celValue) defined() logic.Formula {
	switch v.kind {
	case celFails:
		return logic.Never()
	case celBoolValue:
		return logic.Or(v.yes, v.no)
	case celTextValue:
		parts := make([]logic.Formula, len(v.cases))
		for i, c := range v.cases {
			parts[i] = c.when
		}
		return logic.Or(parts...)
	case celListValue:
		if v.split != nil {
			return v.split.when
		}
		parts := make([]logic.Formula, len(v.items))
		for i, item := range v.items {
			parts[i] = item.defined()
		}
		return logic.And(parts...)
	case celUndecided:
		return logic.Undecided(v.text)
	}
	return logic.Always()
}

func (r *celReader) eval(n *celNode) celValue {
	switch n.kind {
	case celString:
		return celLiteral(n.text)
	case celNumber:
		return celValue{kind: celNumberValue, text: n.name}
	case celConstant:
		return map[string]celValue{
			"true": celBool(logic.Always(), logic.Never()), "false": celBool(logic.Never(), logic.Always()),
			"null": {kind: celNullValue},
		}[n.name]
	case celVariable:
		return r.variable(n.name)
	case celSelect:
		return r.field(r.eval(n.args[0]), n.name)
	case celList:
		v := celValue{kind: celListValue}
		for _, arg := range n.args {
			v.items = append(v.items, r.eval(arg))
		}
		return v
	case celCall:
		return r.call(n)
	case celMethod:
		return r.method(n)
	case celOperator:
		return r.operator(n)
	}
	return undecided("a map in an expression")
}

func (r *celReader) variable(name string) celValue {
	if v, ok := r.variables[name]; ok {
		return v
	}
	switch name {
	case "assertion":
		return celValue{kind: celAssertion}
	case "google":
		return celValue{kind: celGoogle}
	case "attribute":
		return celValue{kind: celAttribute}
	}
	return undecided("the variable %s", name)
}

// path returns the claim that an expression reads, `a>b` for a member of a
// claim; ok is false for any other expression.
func (r *celReader) path(n *celNode) (claim string, ok bool) {
	switch {
	case n.kind == celSelect:
		claim = n.name
	case n.kind == celOperator && n.name == "[]" && n.args[1].kind == celString:
		claim = n.args[1].text
	default:
		return "", false
	}
	of := n.args[0]
	if of.kind == celVariable {
		return claim, r.variable(of.name).kind == celAssertion
	}
	object, ok := r.path(of)
	return object + ">" + claim, ok
}

// learn notes which claims an expression reads members of. Where they are
// there, they count as objects: an issuer's claim is of one type.
func (r *celReader) learn(n *celNode) {
	if claim, ok := r.path(n); ok && !r.github {
		for i, c := range claim {
			if c == '>' {
				r.objects[claim[:i]] = true
			}
		}
	}
	for _, arg := range n.args {
		r.learn(arg)
	}
}

// object returns the claim that a value is, where members of it are read.
func (r *celReader) object(v celValue) (claim string, when logic.Formula, ok bool) {
	claim, when, ok = v.onlyClaim()
	return claim, when, ok && r.objects[claim]
}

// field is a claim, a member of one, or a mapped attribute.
func (r *celReader) field(of celValue, name string) celValue {
	if claim, when, ok := r.object(of); ok {
		claim += ">" + name
		return celTextOf(logic.And(when, logic.Has(claim)), celPiece{claim: claim})
	}
	switch of.kind {
	case celAssertion:
		return celValue{kind: celTextValue, cases: []celCase{{logic.Has(name), []celPiece{{claim: name}}}}}
	case celGoogle:
		return r.attribute("google." + name)
	case celAttribute:
		return r.attribute("attribute." + name)
	case celUndecided:
		return of
	case celFails:
		return of
	}
	return undecided("the field %s of a value", name)
}

// attribute is what the mapping makes; one that is not mapped fails.
func (r *celReader) attribute(key string) celValue {
	if v, ok := r.mapped[key]; ok {
		if v == nil {
			return celValue{} // a mapping cannot use the attributes
		}
		return *v
	}
	node, ok := r.mapping[key]
	if !ok {
		return celValue{}
	}
	r.mapped[key] = nil
	v := r.eval(node)
	r.mapped[key] = &v
	return v
}

func (r *celReader) operator(n *celNode) celValue {
	if v, ok := r.typeTest(n); ok {
		return v
	}
	if n.name == "[]" {
		return r.index(r.eval(n.args[0]), r.eval(n.args[1]))
	}
	a := r.eval(n.args[0])
	if len(n.args) == 1 {
		if n.name == "!" {
			v := a.bool()
			return celBool(v.no, v.yes)
		}
		return celValue{kind: celNumberValue, text: "-" + a.text}
	}
	b := r.eval(n.args[1])
	switch n.name {
	case "&&":
		x, y := a.bool(), b.bool()
		return celBool(logic.And(x.yes, y.yes), logic.Or(x.no, y.no))
	case "||":
		x, y := a.bool(), b.bool()
		return celBool(logic.Or(x.yes, y.yes), logic.And(x.no, y.no))
	case "?:":
		return choose(a.bool(), b, r.eval(n.args[2]))
	case "==":
		return r.equal(a, b)
	case "!=":
		v := r.equal(a, b)
		return celBool(v.no, v.yes)
	case "in":
		return r.in(a, b)
	case "+":
		return join(a, b)
	}
	return undecided("the operator %s", n.name)
}

// typeTest is `type(value) == string` and the like: the claims of a job at
// GitHub are texts, and what members are read of is an object.
func (r *celReader) typeTest(n *celNode) (v celValue, ok bool) {
	if n.name != "==" || len(n.args) != 2 || n.args[0].kind != celCall || n.args[0].name != "type" || len(n.args[0].args) != 1 ||
		n.args[1].kind != celVariable {
		return v, false
	}
	there := r.eval(n.args[0].args[0])
	own := "string"
	if _, _, ok := r.object(there); ok {
		own = "map"
	} else if !r.github || there.kind != celTextValue {
		return v, false
	}
	if n.args[1].name == own {
		return celBool(there.defined(), logic.Never()), true
	}
	return celBool(logic.Never(), there.defined()), slices.Contains([]string{"string", "list", "map", "bool", "int", "double"}, n.args[1].name)
}

// choose is `condition ? then : otherwise`.
func choose(c, then, otherwise celValue) celValue {
	isText := func(v celValue) bool { return v.kind == celTextValue || v.kind == celFails }
	if isText(then) && isText(otherwise) {
		v := celValue{kind: celTextValue} // what fails has no cases
		for _, one := range then.cases {
			v.cases = append(v.cases, celCase{logic.And(c.yes, one.when), one.pieces})
		}
		for _, one := range otherwise.cases {
			v.cases = append(v.cases, celCase{logic.And(c.no, one.when), one.pieces})
		}
		return v
	}
	isBool := func(v celValue) bool {
		return v.kind == celBoolValue || v.kind == celFails || v.kind == celUndecided
	}
	if isBool(then) && isBool(otherwise) {
		x, y := then.bool(), otherwise.bool()
		return celBool(logic.Or(logic.And(c.yes, x.yes), logic.And(c.no, y.yes)), logic.Or(logic.And(c.yes, x.no),
			logic.And(c.no, y.no)))
	}
	return undecided("a choice between values of two kinds")
}

// join is a text put together of two.
func join(a, b celValue) celValue {
	if a.kind == celUndecided || b.kind != celTextValue && b.kind != celFails {
		a, b = b, a
	}
	switch {
	case a.kind == celFails || b.kind == celFails:
		return celValue{}
	case b.kind == celUndecided:
		return b
	case a.kind != celTextValue || b.kind != celTextValue:
		return undecided("a sum of values that are not texts")
	case len(a.cases)*len(b.cases) > celCases:
		return undecided("a text of too many alternatives")
	}
	v := celValue{kind: celTextValue}
	for _, x := range a.cases {
		for _, y := range b.cases {
			v.cases = append(v.cases, celCase{logic.And(x.when, y.when), slices.Concat(x.pieces, y.pieces)})
		}
	}
	return v
}

// limits of what is looked at.
const (
	celCases  = 64
	celPieces = 3   // claims in one text
	celLength = 400 // of a text that is compared with several claims
)

// equal compares two values. What is of two kinds is not equal.
func (r *celReader) equal(a, b celValue) celValue {
	if a.kind == celFails || b.kind == celFails {
		return celBool(logic.Never(), logic.Never())
	}
	for _, v := range []celValue{a, b} {
		if v.kind == celUndecided {
			return v.bool()
		}
	}
	both := logic.And(a.defined(), b.defined())
	switch {
	case a.kind == celBoolValue && b.kind == celBoolValue:
		return celBool(logic.Or(logic.And(a.yes, b.yes), logic.And(a.no, b.no)), logic.Or(logic.And(a.yes, b.no),
			logic.And(a.no, b.yes)))
	case a.kind == celTextValue && b.kind == celTextValue:
		var parts []logic.Formula
		for _, x := range a.cases {
			for _, y := range b.cases {
				parts = append(parts, logic.And(x.when, y.when, samePieces(x.pieces, y.pieces)))
			}
		}
		yes := logic.Or(parts...)
		return celBool(yes, logic.And(both, logic.Not(yes)))
	case a.kind == b.kind && a.kind != celNullValue:
		return undecided("a comparison of two numbers or lists").bool()
	case a.kind != b.kind && (r.github || a.constant() && b.constant()):
		return celBool(logic.Never(), both)
	case a.kind == celNullValue && b.kind == celNullValue:
		return celBool(logic.Always(), logic.Never())
	}
	return undecided("a comparison of a claim with what is no text").bool()
}

// constant reports whether a text is no claim, which elsewhere than at GitHub
// may be a number or a list.
func (v celValue) constant() bool {
	return v.kind != celTextValue || !slices.ContainsFunc(v.cases, func(c celCase) bool {
		return slices.ContainsFunc(c.pieces, func(p celPiece) bool { return p.claim != "" })
	})
}

// samePieces is met where two texts are equal.
func samePieces(a, b []celPiece) logic.Formula {
	if text, ok := literalOf(b); ok {
		return spells(a, text)
	}
	if text, ok := literalOf(a); ok {
		return spells(b, text)
	}
	plain := func(p []celPiece) bool { return len(p) == 1 && p[0].claim != "" && p[0].equals == nil }
	if plain(a) && plain(b) && a[0].claim == b[0].claim {
		return logic.Always()
	}
	return logic.Undecided("a comparison of two claims")
}

// literalOf returns a text that depends on no claim.
func literalOf(pieces []celPiece) (text string, ok bool) {
	for _, p := range pieces {
		if p.claim != "" {
			return "", false
		}
		text += p.literal
	}
	return text, true
}

// spells is met where the pieces are a text, in whatever way it falls apart.
func spells(pieces []celPiece, text string) logic.Formula {
	claims := 0
	for _, p := range pieces {
		if p.claim != "" {
			claims++
		}
	}
	if claims > celPieces || claims > 1 && len(text) > celLength {
		return logic.Undecided("a text of too many claims")
	}
	switch {
	case len(pieces) == 0 && text == "":
		return logic.Always()
	case len(pieces) == 0:
		return logic.Never()
	case pieces[0].claim == "":
		rest, ok := strings.CutPrefix(text, pieces[0].literal)
		if !ok {
			return logic.Never()
		}
		return spells(pieces[1:], rest)
	case len(pieces) == 1:
		return pieces[0].is(text)
	}
	var parts []logic.Formula
	for i := 0; i <= len(text); i++ {
		if i < len(text) && !utf8.RuneStart(text[i]) {
			continue
		}
		if rest := spells(pieces[1:], text[i:]); rest.Form() != logic.FormNever {
			parts = append(parts, logic.And(pieces[0].is(text[:i]), rest))
		}
	}
	return logic.Or(parts...)
}

// is is met where the piece is a text.
func (p celPiece) is(text string) logic.Formula {
	if p.equals != nil {
		return p.equals(text)
	}
	return logic.Equals(p.claim, text)
}

// in is `a in b`.
func (r *celReader) in(a, b celValue) celValue {
	if _, _, ok := r.object(b); ok {
		return r.member(a, b)
	}
	switch b.kind {
	case celFails:
		return b.bool()
	case celAssertion, celGoogle, celAttribute:
		return r.member(a, b)
	case celTextValue:
		return r.inClaim(a, b)
	case celListValue:
		if b.split != nil {
			return undecided("a search in a list that is made of a claim").bool()
		}
	default:
		return undecided("a search in a value").bool()
	}
	var yes, no []logic.Formula
	for _, item := range b.items {
		v := r.equal(a, item)
		yes, no = append(yes, v.yes), append(no, v.no)
	}
	all := logic.And(a.defined(), b.defined())
	return celBool(logic.And(all, logic.Or(yes...)), logic.And(append([]logic.Formula{all}, no...)...))
}

// member is `'name' in assertion`.
func (r *celReader) member(a, b celValue) celValue {
	if a.kind != celTextValue || len(a.cases) != 1 {
		return undecided("a search for a name that is not written out").bool()
	}
	name, ok := literalOf(a.cases[0].pieces)
	if !ok {
		return undecided("a search for a name that is not written out").bool()
	}
	return r.present(b, name)
}

// present is has() of a field.
func (r *celReader) present(of celValue, name string) celValue {
	if claim, when, ok := r.object(of); ok {
		there := logic.Has(claim + ">" + name)
		return celBool(logic.And(when, there), logic.And(when, logic.Not(there)))
	}
	switch of.kind {
	case celAssertion:
		return celBool(logic.Has(name), logic.Not(logic.Has(name)))
	case celGoogle, celAttribute:
		prefix := map[celValueKind]string{celGoogle: "google.", celAttribute: "attribute."}[of.kind]
		if r.mapping[prefix+name] == nil {
			return celBool(logic.Never(), logic.Always())
		}
		return celBool(logic.Always(), logic.Never())
	}
	return undecided("has() of a value that is no claim").bool()
}

// inClaim is `a in assertion.x`. GitHub's claims are texts, in which there is
// nothing; a claim that may be a list counts as its text.
func (r *celReader) inClaim(a, b celValue) celValue {
	if r.github || b.constant() {
		return celBool(logic.Never(), logic.Never())
	}
	return r.equal(a, b)
}

// index is `a[b]`.
func (r *celReader) index(a, b celValue) celValue {
	_, _, object := r.object(a)
	switch {
	case object, a.kind == celAssertion, a.kind == celGoogle, a.kind == celAttribute:
		if b.kind == celTextValue && len(b.cases) == 1 {
			if name, ok := literalOf(b.cases[0].pieces); ok {
				return r.field(a, name)
			}
		}
		return undecided("a claim whose name is not written out")
	case a.kind == celListValue:
		n, err := strconv.Atoi(b.text)
		switch {
		case b.kind != celNumberValue || err != nil:
			return undecided("a place in a list that is not a number")
		case a.split != nil:
			return a.split.part(n)
		case n < 0 || n >= len(a.items):
			return celValue{}
		}
		v := a.items[n]
		return v
	case a.kind == celFails, a.kind == celUndecided:
		return a
	}
	return undecided("a part of a value")
}

func (r *celReader) call(n *celNode) celValue {
	switch {
	case n.name == "has" && len(n.args) == 1 && n.args[0].kind == celSelect:
		return r.present(r.eval(n.args[0].args[0]), n.args[0].name)
	case n.name == "size":
		return undecided("the length of a value")
	}
	return undecided("the function %s", n.name)
}

// celMethods make an expression of a literal, for what it is to be in a text.
var celMethods = map[string]func(text string) string{
	"startsWith": func(text string) string { return `\A` + regexp.QuoteMeta(text) },
	"endsWith":   func(text string) string { return regexp.QuoteMeta(text) + `\z` },
	"contains":   regexp.QuoteMeta,
	"matches":    func(text string) string { return text },
}

func (r *celReader) method(n *celNode) celValue {
	of := r.eval(n.args[0])
	written, isCondition := celMethods[n.name]
	switch {
	case of.kind == celFails, of.kind == celUndecided:
		return of
	case of.kind != celTextValue:
		return undecided("%s() of a value that is no text", n.name)
	case (n.name == "lowerAscii" || n.name == "upperAscii") && len(n.args) == 1:
		return of.derive(func(p celPiece) celPiece { return p.inCase(n.name == "lowerAscii") })
	case len(n.args) != 2:
		return undecided("the function %s", n.name)
	}
	arg := r.eval(n.args[1])
	text, ok := "", false
	if arg.kind == celTextValue && len(arg.cases) == 1 {
		text, ok = literalOf(arg.cases[0].pieces)
	}
	switch {
	case !ok:
		return undecided("%s() of what is not written out", n.name)
	case isCondition:
		return of.holds(n.name, written(text))
	case n.name == "extract":
		return of.extract(text)
	case n.name == "split":
		return of.splitBy(text)
	}
	return undecided("the function %s", n.name)
}

// holds is met where the text has a match of an expression.
func (v celValue) holds(method, expr string) celValue {
	in, err := logic.Anywhere(expr)
	if err != nil {
		return undecided("%s('%s'): %v", method, expr, err).bool()
	}
	var parts []logic.Formula
	for _, c := range v.cases {
		f := logic.Undecided(method + "() of a text that is put together")
		if text, ok := literalOf(c.pieces); ok {
			f = logic.Never()
			if in.Contains(text) {
				f = logic.Always()
			}
		} else if len(c.pieces) == 1 && c.pieces[0].equals == nil {
			f = logic.Is(c.pieces[0].claim, in)
		}
		parts = append(parts, logic.And(c.when, f))
	}
	yes := logic.Or(parts...)
	return celBool(yes, logic.And(v.defined(), logic.Not(yes)))
}

// derive changes the pieces that are claims, and literals likewise.
func (v celValue) derive(change func(celPiece) celPiece) celValue {
	out := celValue{kind: celTextValue}
	for _, c := range v.cases {
		pieces := make([]celPiece, len(c.pieces))
		for i, p := range c.pieces {
			pieces[i] = change(p)
		}
		out.cases = append(out.cases, celCase{c.when, pieces})
	}
	return out
}

// inCase is the piece in lower case, or upper case, by ASCII.
func (p celPiece) inCase(lower bool) celPiece {
	change := asciiUpper
	if lower {
		change = asciiLower
	}
	switch {
	case p.claim == "":
		return celPiece{literal: change(p.literal)}
	case p.equals != nil:
		return celPiece{claim: p.claim, equals: func(string) logic.Formula {
			return logic.Undecided("the case of a " +
				"part of a claim")
		}}
	}
	return celPiece{claim: p.claim, equals: func(text string) logic.Formula {
		if change(text) != text {
			return logic.Never()
		}
		var b strings.Builder
		for _, r := range text {
			if l, u := asciiLower(string(r)), asciiUpper(string(r)); l != u {
				b.WriteString("[" + l + u + "]")
			} else {
				b.WriteString(regexp.QuoteMeta(string(r)))
			}
		}
		return logic.Is(p.claim, whole(b.String()))
	}}
}

func asciiLower(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

func asciiUpper(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, text)
}
