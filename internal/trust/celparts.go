package trust

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// onlyClaim returns the claim that a text is, where it is one.
func (v celValue) onlyClaim() (claim string, when logic.Formula, ok bool) {
	if v.kind != celTextValue || len(v.cases) != 1 || len(v.cases[0].pieces) != 1 {
		return "", logic.Never(), false
	}
	p := v.cases[0].pieces[0]
	return p.claim, v.cases[0].when, p.claim != "" && p.equals == nil
}

// text is a value that is one piece, where a condition is met.
func celTextOf(when logic.Formula, p celPiece) celValue {
	return celValue{kind: celTextValue, cases: []celCase{{when, []celPiece{p}}}}
}

// extract is what stands between two texts of a template such as
// `repo:{name}/`: after the first of the one, before the next of the other;
// "" where one is not there. (IAM Conditions: Extract values from an attribute)
func (v celValue) extract(template string) celValue {
	before, rest, opens := strings.Cut(template, "{")
	_, after, closes := strings.Cut(rest, "}")
	claim, when, ok := v.onlyClaim()
	switch {
	case !opens || !closes:
		return celValue{}
	case !ok:
		return undecided("extract() of a text that is put together")
	}
	return celTextOf(when, celPiece{claim: claim, equals: func(text string) logic.Formula {
		return extracted(claim, before, after, text)
	}})
}

func extracted(claim, before, after, text string) logic.Formula {
	q := regexp.QuoteMeta
	end := q(after) + `(?s:.*)`
	if after == "" {
		end = ""
	}
	first := logic.Never() // the text is there at the first place that counts
	if after == "" || strings.Index(text+after, after) == len(text) {
		first = logic.Is(claim, whole(q(before)+q(text)+end))
	}
	begins := logic.Always()
	if before != "" {
		begins = logic.Is(claim, whole(q(before)+`(?s:.*)`))
	}
	if text == "" { // also where nothing is found
		without := logic.Never()
		if before != "" {
			without = logic.Or(without, logic.Not(logic.Is(claim, anywhere(before))))
		}
		if after != "" {
			without = logic.Or(without, logic.And(begins, logic.Not(logic.Is(claim,
				whole(q(before)+`(?s:.*)`+q(after)+`(?s:.*)`)))))
		}
		first = logic.Or(first, without)
	}
	if before == "" {
		return first
	}
	// Where the claim begins otherwise, the first place is somewhere behind.
	unknown := logic.Undecided(fmt.Sprintf("extract() of %s where it does not begin with %q", claim, before))
	elsewhere := logic.And(logic.Not(begins), logic.Is(claim, anywhere(before+text)), unknown)
	if text == "" {
		elsewhere = logic.And(logic.Not(begins), logic.Is(claim, anywhere(before)), unknown)
	}
	return logic.Or(first, elsewhere)
}

// anywhere is the texts that hold one.
func anywhere(text string) logic.Language {
	return whole(`(?s:.*)` + regexp.QuoteMeta(text) + `(?s:.*)`)
}

// splitBy is the claim's parts.
func (v celValue) splitBy(by string) celValue {
	claim, when, ok := v.onlyClaim()
	switch {
	case !ok:
		return undecided("split() of a text that is put together")
	case utf8.RuneCountInString(by) != 1:
		return undecided("split() at a text of several characters")
	}
	return celValue{kind: celListValue, split: &celSplit{claim, by, when}}
}

// part is the n-th part; there must be so many.
func (s *celSplit) part(n int) celValue {
	if n < 0 {
		return celValue{}
	}
	if n > 50 {
		return undecided("a part of split() that is far behind")
	}
	q := regexp.QuoteMeta(s.by)
	other := "[^" + q + "]*"
	if s.by == "^" || s.by == "-" || s.by == "]" || s.by == `\` {
		other = `[^\` + s.by + "]*"
	}
	head := strings.Repeat(other+q, n)
	when := logic.And(s.when, logic.Is(s.claim, whole(head+`(?s:.*)`)))
	return celTextOf(when, celPiece{claim: s.claim, equals: func(text string) logic.Formula {
		if strings.Contains(text, s.by) {
			return logic.Never()
		}
		return logic.Is(s.claim, whole(head+regexp.QuoteMeta(text)+`(?:`+q+`(?s:.*))?`))
	}})
}
