package logic

import (
	"fmt"
	"slices"
	"strings"
)

// A Formula is a condition on the claims of a token.
type Formula struct {
	op    op
	parts []Formula
	claim string
	in    Language
	why   string
}

type op int

const (
	opTrue op = iota
	opFalse
	opUnknown
	opAnd
	opOr
	opNot
	opIs
	opHas
)

// A Verdict is what a condition comes to.
type Verdict int

// The verdicts. Unknown is that of a condition with parts that cannot be evaluated.
const (
	False Verdict = iota
	True
	Unknown
)

// Always and Never are met by every token, and by none.
func Always() Formula { return Formula{op: opTrue} }

// Never is met by no token.
func Never() Formula { return Formula{op: opFalse} }

// Undecided is a condition that cannot be evaluated; why says what it is.
func Undecided(why string) Formula { return Formula{op: opUnknown, why: why} }

// Is is met where a claim is there and its text is in a language.
func Is(claim string, in Language) Formula { return Formula{op: opIs, claim: claim, in: in} }

// Has is met where a claim is there.
func Has(claim string) Formula { return Formula{op: opHas, claim: claim} }

// Equals is met where a claim is one of the texts.
func Equals(claim string, texts ...string) Formula {
	parts := make([]Formula, len(texts))
	for i, text := range texts {
		parts[i] = Is(claim, Literal(text))
	}
	return Or(parts...)
}

// And is met where all conditions are; that of none always.
func And(parts ...Formula) Formula {
	parts = slices.DeleteFunc(slices.Clone(parts), func(f Formula) bool { return f.op == opTrue })
	switch {
	case len(parts) == 0:
		return Always()
	case len(parts) == 1:
		return parts[0]
	case slices.ContainsFunc(parts, func(f Formula) bool { return f.op == opFalse }):
		return Never()
	}
	return Formula{op: opAnd, parts: parts}
}

// Or is met where any of the conditions is; that of none never.
func Or(parts ...Formula) Formula {
	parts = slices.DeleteFunc(slices.Clone(parts), func(f Formula) bool { return f.op == opFalse })
	switch {
	case len(parts) == 0:
		return Never()
	case len(parts) == 1:
		return parts[0]
	case slices.ContainsFunc(parts, func(f Formula) bool { return f.op == opTrue }):
		return Always()
	}
	return Formula{op: opOr, parts: parts}
}

// Not is met where the condition is not.
func Not(f Formula) Formula {
	switch f.op {
	case opTrue:
		return Never()
	case opFalse:
		return Always()
	case opNot:
		return f.parts[0]
	}
	return Formula{op: opNot, parts: []Formula{f}}
}

// Eval returns the verdict on claims. An absent claim is not in the map.
func (f Formula) Eval(claims map[string]string) Verdict { return f.eval(claims, nil) }

// eval takes claims of which open are not known yet.
func (f Formula) eval(claims map[string]string, open map[string]bool) Verdict {
	switch f.op {
	case opTrue:
		return True
	case opFalse:
		return False
	case opUnknown:
		return Unknown
	case opNot:
		switch f.parts[0].eval(claims, open) {
		case True:
			return False
		case False:
			return True
		}
		return Unknown
	case opAnd, opOr:
		return f.fold(claims, open)
	}
	if open[f.claim] {
		return Unknown
	}
	text, ok := claims[f.claim]
	if ok && (f.op == opHas || f.in.Contains(text)) {
		return True
	}
	return False
}

func (f Formula) fold(claims map[string]string, open map[string]bool) Verdict {
	decisive, result := False, True
	if f.op == opOr {
		decisive, result = True, False
	}
	for _, part := range f.parts {
		switch v := part.eval(claims, open); v {
		case decisive:
			return decisive
		case Unknown:
			result = Unknown
		}
	}
	return result
}

// Reasons returns what of the condition cannot be evaluated.
func (f Formula) Reasons() (list []string) {
	f.walk(func(f Formula) {
		if f.op == opUnknown && !slices.Contains(list, f.why) {
			list = append(list, f.why)
		}
	})
	return list
}

// Claims returns the claims that the condition asks about, sorted.
func (f Formula) Claims() (list []string) {
	f.walk(func(f Formula) {
		if f.claim != "" {
			list = append(list, f.claim)
		}
	})
	slices.Sort(list)
	return slices.Compact(list)
}

// languages returns what the condition asks about a claim.
func (f Formula) languages(claim string) (list []Language) {
	seen := map[string]bool{}
	f.walk(func(f Formula) {
		if f.op == opIs && f.claim == claim && !seen[f.in.expr] {
			seen[f.in.expr] = true
			list = append(list, f.in)
		}
	})
	return list
}

func (f Formula) walk(visit func(Formula)) {
	visit(f)
	for _, part := range f.parts {
		part.walk(visit)
	}
}

// String returns the condition for a reader of a failed test.
func (f Formula) String() string {
	texts := make([]string, len(f.parts))
	for i, part := range f.parts {
		texts[i] = part.String()
	}
	switch f.op {
	case opTrue:
		return "always"
	case opFalse:
		return "never"
	case opUnknown:
		return "unknown(" + f.why + ")"
	case opAnd:
		return "(" + strings.Join(texts, " and ") + ")"
	case opOr:
		return "(" + strings.Join(texts, " or ") + ")"
	case opNot:
		return "not " + texts[0]
	case opHas:
		return "has " + f.claim
	}
	return fmt.Sprintf("%s is %q", f.claim, f.in)
}
