package trust

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// celEnvironment is Google's own implementation with the functions of IAM's
// pages that it lacks.
func celEnvironment(t testing.TB) *cel.Env {
	t.Helper()
	claims := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewEnv(cel.ClearMacros(), cel.Macros(cel.HasMacro), ext.Strings(ext.StringsVersion(0)),
		cel.Variable("assertion", claims), cel.Variable("google", claims), cel.Variable("attribute", claims),
		cel.Function("extract", cel.MemberOverload("extract", []*cel.Type{cel.StringType, cel.StringType},
			cel.StringType,
			cel.BinaryBinding(func(value, template ref.Val) ref.Val {
				before, rest, _ := strings.Cut(string(template.(types.String)), "{")
				_, after, _ := strings.Cut(rest, "}")
				_, found, ok := strings.Cut(string(value.(types.String)), before)
				if !ok {
					return types.String("")
				}
				end := strings.Index(found, after)
				switch {
				case after == "":
					return types.String(found)
				case end < 0:
					return types.String("")
				}
				return types.String(found[:end])
			}))))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// celVerdict is what an expression comes to: true, false, or failed.
func celVerdict(env *cel.Env, expression string) (func(claims map[string]string) string, error) {
	parsed, issues := env.Parse(expression)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	program, err := env.Program(parsed)
	return func(claims map[string]string) string {
		assertion := map[string]any{}
		for k, v := range claims {
			assertion[k] = v
		}
		out, _, err := program.Eval(map[string]any{"assertion": assertion, "google": map[string]any{},
			"attribute": map[string]any{}})
		if err == nil {
			if b, ok := out.Value().(bool); ok {
				return fmt.Sprint(b)
			}
		}
		return "failed"
	}, err
}

var (
	celClaims = []string{"sub", "ref", "environment", "repository"}
	celTexts  = []string{"a", "b", "a/b", "a:b", "b/a", "", "A", "a/", "aa", "a'b", "a\\b", "é"}
)

// A celMaker makes random expressions.
type celMaker struct{ *rand.Rand }

func (m celMaker) literal() string {
	text := pick(m.Rand, celTexts)
	switch m.IntN(4) {
	case 0:
		if !strings.ContainsAny(text, `'`) {
			return "r'" + text + "'"
		}
	case 1:
		return `"` + strings.ReplaceAll(text, `\`, `\\`) + `"`
	}
	return celText(text)
}

func (m celMaker) claim() string {
	if m.IntN(6) == 0 {
		return "assertion['" + pick(m.Rand, celClaims) + "']"
	}
	return "assertion." + pick(m.Rand, celClaims)
}

// text is an expression that is a text, mostly.
func (m celMaker) text(depth int) string {
	switch n := m.IntN(16); {
	case n < 8:
		return m.claim()
	case n < 10 || depth <= 0:
		return m.literal()
	case n == 10:
		return m.text(depth-1) + " + " + m.text(depth-1)
	case n == 11:
		return "(" + m.bool(depth-1) + " ? " + m.text(depth-1) + " : " + m.text(depth-1) + ")"
	case n == 12:
		return m.claim() + ".lowerAscii()"
	case n == 13:
		return m.claim() + ".split('" + pick(m.Rand, []string{"/", ":"}) + "')[" + fmt.Sprint(m.IntN(3)) + "]"
	case n == 14:
		return m.claim() + ".extract('" + pick(m.Rand, []string{"{x}", "{x}/", "a{x}", "a{x}/", "/{x}"}) + "')"
	}
	return pick(m.Rand, []string{"1", "true", "null", "assertion.none"})
}

func (m celMaker) bool(depth int) string {
	if depth <= 0 {
		return m.claim() + " == " + m.literal()
	}
	switch m.IntN(13) {
	case 0, 1:
		return "(" + m.bool(depth-1) + " && " + m.bool(depth-1) + ")"
	case 2, 3:
		return "(" + m.bool(depth-1) + " || " + m.bool(depth-1) + ")"
	case 4:
		return "!(" + m.bool(depth-1) + ")"
	case 5:
		return "(" + m.bool(depth-1) + " ? " + m.bool(depth-1) + " : " + m.bool(depth-1) + ")"
	case 6:
		return "has(assertion." + pick(m.Rand, celClaims) + ")"
	case 7:
		return m.text(depth-1) + " in [" + m.text(depth-1) + ", " + m.text(depth-1) + "]"
	case 8:
		return m.claim() + "." + pick(m.Rand, []string{"startsWith", "endsWith", "contains"}) + "(" + m.literal() + ")"
	case 9:
		return m.text(depth-1) + ".matches('" + pick(m.Rand, []string{"a", "^a$", "^a|b$", "^(?:a|b)/[^/]*$", "(?i)A",
			".", "a/?b"}) + "')"
	case 10:
		return "'" + pick(m.Rand, celClaims) + "' in assertion"
	case 11:
		return m.text(depth-1) + " != " + m.text(depth-1)
	}
	return m.text(depth-1) + " == " + m.text(depth-1)
}

func (m celMaker) claims() map[string]string {
	claims := map[string]string{}
	for _, c := range celClaims {
		if m.IntN(4) > 0 {
			claims[c] = pick(m.Rand, celTexts)
		}
	}
	return claims
}

// TestCEL compares what this package understands of random expressions with
// what Google's implementation makes of them.
func TestCEL(t *testing.T) {
	t.Parallel()
	env := celEnvironment(t)
	m := celMaker{rand.New(rand.NewPCG(5, 6))}
	counts := map[string]int{}
	for range 10_000 / sampling.Share {
		expression := m.bool(3)
		verdict, err := celVerdict(env, expression)
		node, own := celParse(expression)
		if err != nil || own != nil {
			t.Fatalf("%s: cel-go: %v, here: %v", expression, err, own)
		}
		v := (&celReader{github: true, mapped: map[string]*celValue{}}).eval(node).bool()
		for range 10 {
			claims := m.claims()
			want := verdict(claims)
			got := "failed"
			yes, no := v.yes.Eval(claims), v.no.Eval(claims)
			switch {
			case yes == logic.True && no == logic.True:
				t.Fatalf("%s is true and false of %v", expression, claims)
			case yes == logic.True:
				got = "true"
			case no == logic.True:
				got = "false"
			case yes == logic.Unknown || no == logic.Unknown:
				counts["undecided"]++
				if yes == logic.False && want == "true" || no == logic.False && want == "false" {
					t.Fatalf("%s is %s of %v, and that was excluded", expression, want, claims)
				}
				continue
			}
			counts[got]++
			if got != want {
				t.Fatalf("%s\nof %v: got %s, want %s", expression, claims, got, want)
			}
		}
	}
	t.Log(counts)
	for _, verdict := range []string{"true", "false", "failed"} {
		if counts[verdict] < 5000/sampling.Share {
			t.Errorf("only %d of 100,000 are %s: the test shows little", counts[verdict], verdict)
		}
	}
}

// FuzzCELText holds our literals to Google's parser, and our parser to both.
func FuzzCELText(f *testing.F) {
	for _, s := range []string{"", `'`, `\`, `\'`, "' || true || '", "\n\r\x00", "\u2028\u2029\u0085", "é$", `r'`, `${x}`, "'''", `"`} {
		f.Add(s)
	}
	env := celEnvironment(f)
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "")
		for _, literal := range []string{celText(s), celExpression(s)} {
			parsed, issues := env.Parse(literal)
			if issues.Err() != nil {
				t.Fatalf("%s: %v", literal, issues.Err())
			}
			program, err := env.Program(parsed)
			if err != nil {
				t.Fatal(err)
			}
			out, _, err := program.Eval(cel.NoVars())
			if err != nil || out.Value() != s {
				t.Errorf("%s is %q (%v), want %q", literal, out, err, s)
			}
			node, err := celParse(literal)
			if err != nil || node.kind != celString || node.text != s {
				t.Errorf("%s is read as %+v (%v), want %q", literal, node, err, s)
			}
		}
	})
}

// FuzzCELParse holds our parser to Google's: it refuses what that refuses.
func FuzzCELParse(f *testing.F) {
	for _, s := range []string{
		"a", "a.b.c == 'x'", "!a || b && c", "a ? b : c ? d : e", "[1, 2u, 0x1F, 1.5e3,]", "{'a': 1}", "x in [a]",
		"-1 + 2 * 3 % 4", "a.f(b)[0]",
		`b'x' == r"\"`, "'''a\nb''' == 'c'", "// only\n true", "a == ", "a = b", "(a", "'a", "a..b", "1a", "a.in",
		"null == true", ".a.b", "a.`b`",
	} {
		f.Add(s)
	}
	env := celEnvironment(f)
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 200 || strings.ToValidUTF8(s, "") != s {
			return
		}
		_, issues := env.Parse(s)
		if node, err := celParse(s); err == nil && issues.Err() != nil && !strings.Contains(issues.Err().Error(), "has()") {
			t.Errorf("%q is read as %+v, and Google refuses it: %v", s, node, issues.Err())
		}
	})
}

func TestCELErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ expression, err string }{
		{"assertion.sub == 'a", "string at character 18: it has no end"},
		{"assertion.sub = 'a'", `unexpected '=' at character 15`},
		{"assertion.sub == ", "the expression ends too early"},
		{"(assertion.sub", "the expression ends too early"},
		{"assertion.sub 'a'", `unexpected "a" at character 15`},
		{`assertion.sub == '\q'`, `string at character 18: unknown escape \q`},
		{`assertion.sub == '\ud800'`, `string at character 18: \ud800 is no character`},
		{strings.Repeat("(", 300) + "a", "the expression is nested more than 200 deep"},
		{strings.Repeat("!", 300) + "a", "the expression is nested more than 200 deep"},
		{"a" + strings.Repeat(".b", 300), "the expression is nested more than 200 deep"},
		{"a" + strings.Repeat("||a", 100_000), "the expression has 300001 characters, and nothing that evaluates CEL stores more than 100000"},
		{"é", "unexpected 'é' at character 1"},
		{"a[", "the expression ends too early"},
		{"{a b}", `unexpected "b" at character 4`},
	} {
		if _, err := celParse(tt.expression); err == nil || err.Error() != tt.err {
			t.Errorf("%s: got %v, want %s", tt.expression, err, tt.err)
		}
	}
}
