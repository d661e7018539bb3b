// Package oracle holds the classifier to parsers that others wrote:
// PostgreSQL's own, and one of ClickHouse's SQL. Whatever they parse, the
// classifier has the same class or a stricter one. It is a module of its own,
// so that none of the parsers is a dependency of the product's.
package oracle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// order is from the least to the worst class.
var order = []statement.Class{
	statement.Read, statement.Session, statement.Write, statement.Define, statement.Grant, statement.Run, statement.Admin, statement.Unknown,
}

// runs is where the classes begin whose statements may have others inside.
var runs = slices.Index(order, statement.Run)

func worst(a, b statement.Class) statement.Class {
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// A truth is what a parser found: what the text does at least.
type truth struct {
	class      statement.Class
	statements int
	undoes     bool
	writing    bool // inside a statement that writes
}

// A count is how the classifier compares with a parser.
type count struct {
	equal, stricter, unparsed int
	unknown                   int
	reasons                   map[string]int
}

func (c *count) compare(t *testing.T, d statement.Dialect, text string, want truth) {
	t.Helper()
	got := statement.Classify(d, text)
	have, need := slices.Index(order, got.Class), slices.Index(order, want.class)
	switch {
	case have < need:
		t.Errorf("%q is %+v, and to the parser of class %s", text, got, want.class)
	case got.Class != statement.Unknown && (got.Statements < want.statements || got.Statements > want.statements && have < runs):
		t.Errorf("%q is %+v, and to the parser %d statements", text, got, want.statements)
	case got.Class != statement.Unknown && want.undoes && got.Undoes == "":
		t.Errorf("%q is %+v, and would undo a read-only session", text, got)
	case have == need:
		c.equal++
	default:
		c.stricter++
		c.reasons[fmt.Sprintf("%s for %s: %s %s", got.Class, want.class, got.Head, got.Why)]++
		if got.Class == statement.Unknown {
			c.unknown++
		}
	}
}

// report says which share was stricter, and by what most often.
func (c *count) report(t *testing.T) {
	t.Helper()
	parsed := c.equal + c.stricter
	t.Logf("%d statements parsed, %d not: %d of the same class, %d stricter (%.1f %%), of which %d unknown",
		parsed, c.unparsed, c.equal, c.stricter, 100*float64(c.stricter)/float64(max(1, parsed)), c.unknown)
	reasons := slices.SortedFunc(func(yield func(string) bool) {
		for r := range c.reasons {
			if !yield(r) {
				return
			}
		}
	}, func(a, b string) int { return c.reasons[b] - c.reasons[a] })
	for _, r := range reasons[:min(12, len(reasons))] {
		t.Logf("%6d %s", c.reasons[r], r)
	}
}

// A generator makes statements from rules of the form "name = a || b {rule}",
// one a line. The first alternative of a rule is the one that ends.
type generator struct {
	rules  map[string][]string
	random *rand.Rand
}

func newGenerator(rules string) *generator {
	g := &generator{rules: map[string][]string{"none": {""}}, random: rand.New(rand.NewPCG(2026, 17))}
	for line := range strings.Lines(rules) {
		if name, text, some := strings.Cut(strings.TrimSpace(line), " = "); some {
			g.rules[name] = append(g.rules[name], strings.Split(text, " || ")...)
		}
	}
	return g
}

// make expands a rule.
func (g *generator) make(rule string, depth int) string {
	alternatives := g.rules[rule]
	if len(alternatives) == 0 {
		panic("no rule " + rule)
	}
	text := alternatives[0]
	if depth > 0 {
		text = alternatives[g.random.IntN(len(alternatives))]
	}
	var b strings.Builder
	for {
		before, rest, some := strings.Cut(text, "{")
		b.WriteString(before)
		if !some {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		if _, known := g.rules[name]; closed && known {
			b.WriteString(g.make(name, depth-1))
			text = after
			continue
		}
		b.WriteString("{")
		text = rest
	}
}

// spaced puts comments where the white space is.
func (g *generator) spaced(text string) string {
	gaps := []string{" ", "\n", " /* drop table t; */ ", " -- it's\n", "\t\n"}
	return strings.Join(strings.Fields(text), gaps[g.random.IntN(len(gaps))])
}

// mutated changes a few bytes or words of a text.
func (g *generator) mutated(text, other string) string {
	pieces := []string{"'", "''", `\`, `"`, "$$", "$a$", "E'", "--", "/*", "*/", "(", ")", ";", "\n", "\r", "`", " as ", " into ", " with ", " select ",
		"delete from t ", " update t set a = 1 ", "insert into t ", " for update", ".", ",", "::text", "1", "e", "@", "#", "//"}
	for range 1 + g.random.IntN(3) {
		at := g.random.IntN(len(text) + 1)
		switch g.random.IntN(4) {
		case 0:
			text = text[:at] + pieces[g.random.IntN(len(pieces))] + text[at:]
		case 1:
			text = text[:at] + text[min(len(text), at+1+g.random.IntN(6)):]
		case 2:
			words := strings.Fields(other)
			text = text[:at] + " " + words[g.random.IntN(len(words))] + " " + text[at:]
		default:
			words := strings.Fields(text)
			if len(words) > 1 {
				i, j := g.random.IntN(len(words)), g.random.IntN(len(words))
				words[i], words[j] = words[j], words[i]
				text = strings.Join(words, " ")
			}
		}
	}
	return text
}
