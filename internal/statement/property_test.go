package statement

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// reading are the words that a statement of class read or session begins
// with, as a list of its own.
var reading = map[Dialect]string{
	Postgres: "SELECT VALUES TABLE WITH SHOW FETCH MOVE EXPLAIN COMMIT ROLLBACK ABORT END SAVEPOINT RELEASE DISCARD " +
		"DEALLOCATE LISTEN UNLISTEN CLOSE BEGIN START SET RESET PREPARE DECLARE",
	Redshift: "SELECT VALUES TABLE WITH SHOW FETCH MOVE EXPLAIN COMMIT ROLLBACK ABORT END SAVEPOINT RELEASE DISCARD " +
		"DEALLOCATE LISTEN UNLISTEN CLOSE BEGIN START SET RESET PREPARE DECLARE USE DESCRIBE DESC",
	Snowflake:  "SELECT VALUES WITH SHOW DESCRIBE DESC EXPLAIN COMMIT ROLLBACK START USE UNSET SET BEGIN ALTER",
	Trino:      "SELECT VALUES TABLE WITH SHOW DESCRIBE DESC EXPLAIN COMMIT ROLLBACK USE SET RESET DEALLOCATE START PREPARE EXECUTE",
	ClickHouse: "SELECT FROM WITH SHOW DESCRIBE DESC EXISTS CHECK EXPLAIN USE BEGIN COMMIT ROLLBACK SET",
}

func FuzzPostgres(f *testing.F)   { fuzz(f, Postgres) }
func FuzzRedshift(f *testing.F)   { fuzz(f, Redshift) }
func FuzzSnowflake(f *testing.F)  { fuzz(f, Snowflake) }
func FuzzTrino(f *testing.F)      { fuzz(f, Trino) }
func FuzzClickHouse(f *testing.F) { fuzz(f, ClickHouse) }

func fuzz(f *testing.F, d Dialect) {
	for _, c := range statements(d) {
		f.Add(c.text)
	}
	for _, text := range slices.Concat(odd, sent(f, d)) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { holds(t, d, text) })
}

// sent are statements that dbt sent for a large project, which the oracle keeps.
func sent(t testing.TB, d Dialect) (statements []string) {
	t.Helper()
	file, err := os.Open(filepath.Join("oracle", "testdata", string(d)+".jsonl"))
	if os.IsNotExist(err) && d != Postgres && d != ClickHouse {
		return nil // there is no parser of others, and so no oracle
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := json.NewDecoder(file); lines.More(); {
		var text string
		if err := lines.Decode(&text); err != nil {
			t.Fatal(err)
		}
		statements = append(statements, text)
	}
	return statements
}

// odd are pieces that end tokens where one does not expect it.
var odd = []string{
	"", ";", "'", "''", `\'`, `"`, "`", "$$", "$a$", "E'", "e'\\'", "U&'", `U&"`, "--", "-- x\r", "//", "# ", "#!", "/*", "*/", "/* /*", "->>", "->",
	"(", ")", "[", "]", "{", "}", "@", "@s/*", "1e", "1.", ".", "..", "::", ":=", "?", "$1", "\x00", "\xff", "\ufeff", "\u00a0", "ı", " ", "\n", ",", "=", "*",
	" as ", " into ", " for update ", " select ", " with ", "delete from t", "insert into t", "update t set a = 1", " set ", " drop table t ", " format CSV ",
	" settings readonly = 0 ", " begin ", " read write ", " execute immediate 'drop table t' ", "set_config(", "identifier('x')(", " explain analyze ",
}

// TestMutations tries the properties on the inventory and on what dbt sent,
// broken in ways that are the same each time.
func TestMutations(t *testing.T) {
	t.Parallel()
	for d := range grammars {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			random, list := rand.New(rand.NewPCG(17, 2026)), sent(t, d)
			for _, c := range statements(d) {
				list = append(list, c.text)
			}
			for range 40_000 / sampling.Share {
				holds(t, d, mutated(random, list[random.IntN(len(list))], list[random.IntN(len(list))]))
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestPrefixes cuts each text of the inventory off at every byte.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	for d := range grammars {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			for _, c := range statements(d) {
				for end := range c.text {
					text := c.text[:end]
					v := Classify(d, text)
					if l := (&lexer{lexis: grammars[d]().lexis, text: text}); v.Class != Unknown && d != ClickHouse && !l.whole() {
						t.Errorf("%s: %q does not end, and is %+v", d, text, v)
					}
				}
			}
		})
	}
}

// whole says whether the text has nothing but whole tokens.
func (l *lexer) whole() bool {
	for {
		switch tok := l.next(); tok.kind {
		case ending:
			return true
		case broken:
			return false
		}
	}
}

// mutated cuts pieces out of a text, and puts odd ones and those of another in.
func mutated(random *rand.Rand, text, other string) string {
	for range 1 + random.IntN(4) {
		at := random.IntN(len(text) + 1)
		piece := odd[random.IntN(len(odd))]
		switch random.IntN(4) {
		case 0:
			text = text[:at] + piece + text[at:]
		case 1:
			text = text[:at] + text[min(len(text), at+random.IntN(8)):]
		case 2:
			from := random.IntN(len(other) + 1)
			text = text[:at] + other[from:from+random.IntN(len(other)-from+1)] + text[at:]
		default:
			text = text[:at] + strings.ToUpper(text[at:])
		}
	}
	return text
}

// holds fails if a property does not hold for the text.
func holds(t *testing.T, d Dialect, text string) {
	t.Helper()
	v := Classify(d, text)
	if again := Classify(d, text); again != v {
		t.Errorf("%s: %q is %+v, then %+v", d, text, v, again)
	}
	if v.Offset < 0 || v.Offset > len(text) || !slices.Contains(classes[:], v.Class) || (v.Why == "") == (v.Class == Unknown) {
		t.Errorf("%s: %q is %+v", d, text, v)
	}
	if v.Statements == 0 && v != (Verdict{Class: Read}) {
		t.Errorf("%s: %q has no statement and is %+v", d, text, v)
	}
	for w := range strings.FieldsSeq(v.Head) {
		if !vocabulary[d]()[strings.ToUpper(w)] {
			t.Errorf("%s: %q: %q of the head %q is not a word of the tables", d, text, w, v.Head)
		}
	}
	if v.Class == Unknown {
		return
	}
	if !utf8.ValidString(text) && d != ClickHouse {
		t.Errorf("%s: %q is not UTF-8, and is %+v", d, text, v)
	}
	if v.Class == Read || v.Class == Session {
		reads(t, d, text)
	}
	if tokens, whole := cut(d, text); whole {
		repeats(t, d, text, v)
		spaced(t, d, text, tokens, v)
	}
}

// reads fails if a statement of the text begins with another word than those of the list.
func reads(t *testing.T, d Dialect, text string) {
	t.Helper()
	tokens, _ := cut(d, text)
	begins := true
	for _, tok := range tokens {
		s := text[tok.start:tok.end]
		switch {
		case tok.kind == divider:
			begins = true
		case begins && s != "(":
			begins = false
			if !slices.Contains(strings.Fields(reading[d]), strings.ToUpper(s)) {
				t.Errorf("%s: %q is read, and has a statement that begins with %q", d, text, s)
			}
		}
	}
}

// repeats fails if a message with more statements is less than its worst.
func repeats(t *testing.T, d Dialect, text string, v Verdict) {
	t.Helper()
	if twice := Classify(d, text+"\n;\n"+text); twice.Class != v.Class || twice.Statements != 2*v.Statements {
		t.Errorf("%s: %q is %+v, and twice %+v", d, text, v, twice)
	}
	if twice := Classify(d, text+";"+text); rankOf(string(twice.Class)) < rankOf(string(v.Class)) {
		t.Errorf("%s: %q is %+v, and twice %+v", d, text, v, twice)
	}
	want := max(rankOf(string(v.Class)), define)
	if more := Classify(d, text+"\n;\ndrop table t"); more.Class != classes[want] {
		t.Errorf("%s: %q is %+v, and with a DROP TABLE %+v", d, text, v, more)
	}
	if more := Classify(d, "drop table t;"+text); more.Class != classes[want] {
		t.Errorf("%s: %q is %+v, and with a DROP TABLE in front %+v", d, text, v, more)
	}
}

// spaced fails if white space and comments between the tokens change the class.
func spaced(t *testing.T, d Dialect, text string, tokens []token, v Verdict) {
	t.Helper()
	var b strings.Builder
	for i, tok := range tokens {
		if i > 0 && tok.kind == literal && tokens[i-1].kind == literal {
			return // a line feed joins strings
		}
		fmt.Fprintf(&b, "\n/* drop */ %s -- x\n", text[tok.start:tok.end])
	}
	if got := Classify(d, b.String()); got.Class != v.Class || got.Head != v.Head {
		t.Errorf("%s: %q is %+v, and %q is %+v", d, text, v, b.String(), got)
	}
}

// cut returns the tokens, and whether all of the text is SQL.
func cut(d Dialect, text string) (tokens []token, whole bool) {
	l := lexer{lexis: grammars[d]().lexis, text: text}
	for tok := l.next(); tok.kind != ending && tok.kind != broken; tok = l.next() {
		tokens = append(tokens, tok)
		if d == ClickHouse && strings.EqualFold(text[tok.start:tok.end], "FORMAT") {
			return tokens, false
		}
		whole = tok.end <= len(text)
	}
	return tokens, whole && l.why == ""
}

// vocabulary are the words that a head may have.
var vocabulary = map[Dialect]func() map[string]bool{
	Postgres:   sync.OnceValue(func() map[string]bool { return wordsOf(Postgres) }),
	Redshift:   sync.OnceValue(func() map[string]bool { return wordsOf(Redshift) }),
	Snowflake:  sync.OnceValue(func() map[string]bool { return wordsOf(Snowflake) }),
	Trino:      sync.OnceValue(func() map[string]bool { return wordsOf(Trino) }),
	ClickHouse: sync.OnceValue(func() map[string]bool { return wordsOf(ClickHouse) }),
}

func wordsOf(d Dialect) map[string]bool {
	words := set("SET SETTINGS FOR UPDATE SHARE INTO FROM DELETE MERGE INSERT EXECUTE POLICY AUTHORIZATION ENGINE INFILE OUTFILE FUNCTION PROCEDURE SESSION SOURCE DEFINER " +
		"BEGIN STATEMENT @ {}() () IDENTIFIER()()")
	g := grammars[d]()
	for name := range g.functions {
		words[name+"()"] = true
	}
	for _, p := range g.prefixes {
		words[p.name+"*()"] = true
	}
	nodes := []*node{g.heads, g.actions}
	for len(nodes) > 0 {
		n := nodes[0]
		nodes = nodes[1:]
		for w, next := range n.next {
			words[w] = true
			nodes = append(nodes, next)
		}
	}
	return words
}

// TestInTime: text of every shape takes time in proportion to its length.
func TestInTime(t *testing.T) {
	t.Parallel()
	for d := range grammars {
		for _, piece := range append(slices.Clone(odd), "(((", "E'a'\n", "explain ", "a.b(", "select (", "/**/", "$a", "@x", "((1)) ", "'a'", "1into ") {
			text := "select " + strings.Repeat(piece, 400_000/(len(piece)+1))
			Classify(d, text) // anything quadratic takes minutes here
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	for _, d := range []Dialect{Postgres, Redshift, Snowflake, Trino, ClickHouse} {
		b.Run(string(d), func(b *testing.B) {
			text := dbtComment + "create table t as (\n" + strings.Repeat(model, 4) + ")\n"
			if d == ClickHouse {
				text = strings.Replace(text, "as (", "engine = MergeTree order by a as (", 1)
			}
			if v := Classify(d, text); v.Class != Define {
				b.Fatalf("%+v", v)
			}
			b.ReportAllocs()
			for b.Loop() {
				Classify(d, text)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(len(text))*1024, "µs/kB")
		})
	}
}

// model is a part of a model as dbt compiles it.
const model = `with orders as (
    select * from "jaffle"."dbt_prod"."stg_orders" -- all of them
), payments as (
    select order_id, sum(case when status = 'success' then amount end) as total_amount, max(created_at) as latest
    from "jaffle"."dbt_prod"."stg_payments"
    group by 1
)
select orders.order_id, orders.customer_id, coalesce(payments.total_amount, 0) as amount, row_number() over (partition by orders.customer_id order by orders.order_date) as n
from orders left join payments on orders.order_id = payments.order_id where orders.status in ('placed', 'shipped', 'it''s')
`
