package policy

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// reference matches as the design says, by a regular expression: a second
// implementation to hold the first one to.
func reference(claim, pattern, value string) bool {
	if isWorkflow(claim) && strings.Contains(pattern, "*") {
		path, ref, _ := strings.Cut(pattern, "@")
		valuePath, valueRef, ok := strings.Cut(value, "@")
		return ok && reference("", path, valuePath) && reference("", ref, valueRef)
	}
	stops := "/"
	if claim == "sub" {
		stops = "/:"
	}
	var re strings.Builder
	re.WriteString(`^(?:`)
	for rest := pattern; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "**"):
			re.WriteString(`[^\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]*`)
			rest = strings.TrimLeft(rest, "*")
		case rest[0] == '*':
			re.WriteString(`[^` + stops + `\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]*`)
			rest = rest[1:]
		default:
			text, _, _ := strings.Cut(rest, "*")
			re.WriteString(regexp.QuoteMeta(text))
			rest = rest[len(text):]
		}
	}
	re.WriteString(`)$`)
	return regexp.MustCompile(re.String()).MatchString(value)
}

var testClaims = []string{"ref", "sub", "job_workflow_ref"}

func TestMatchAsTheReference(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func(alphabet string, most int) string {
		out := make([]byte, random.IntN(most))
		for i := range out {
			out[i] = alphabet[random.IntN(len(alphabet))]
		}
		return string(out)
	}
	matched := 0
	for range 50_000 / sampling.Share {
		claim := testClaims[random.IntN(len(testClaims))]
		pattern, value := text("a/:@***", 7), text("a/:@\n", 8)
		p, err := compilePattern("github", claim, pattern)
		if err != nil || pattern == "" {
			continue
		}
		got, want := p.match(value), reference(claim, pattern, value)
		if got != want {
			t.Fatalf("%s: pattern %q with %q: match is %t, want %t", claim, pattern, value, got, want)
		}
		if got {
			matched++
		}
	}
	if matched < 150/sampling.Share {
		t.Errorf("only %d of the values matched: the test says little", matched)
	}
}

func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"acme/analytics", "acme/analytics-evil"}, {"acme/*", "acme/analytics"}, {"refs/heads/**", "refs/heads/a/b"}, {"refs/heads/*", "refs/heads/main\n"},
		{"repo:acme/*:environment:prod", "repo:acme/x:environment:prod"}, {"acme/p/.github/workflows/*@refs/tags/v*", "acme/p/.github/workflows/x@refs/heads/a@refs/tags/v1"},
		{"a" + strings.Repeat("*a", 200), strings.Repeat("a", 500)}, {"größe*", "größe\u2028"}, {"x*", "x\xff"}, {"[a-z]+(", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, value string) {
		for _, claim := range testClaims {
			p, err := compilePattern("github", claim, pattern)
			if err != nil || pattern == "" {
				continue
			}
			got := p.match(value)
			if p.literal && got != (pattern == value) {
				t.Errorf("%s: literal %q with %q: match is %t", claim, pattern, value, got)
			}
			if !p.literal && clean(value) && got != reference(claim, pattern, value) {
				t.Errorf("%s: pattern %q with %q: match is %t", claim, pattern, value, got)
			}
			if got && !clean(value) {
				t.Errorf("%s: pattern %q matches %q, which has control characters", claim, pattern, value)
			}
			if got && p.binds("github", "repository") > not && claim == "ref" {
				// What binds a repository holds its owner to the letter.
				owner, _, _ := strings.Cut(pattern, "/")
				if !strings.HasPrefix(value, owner+"/") {
					t.Errorf("pattern %q binds owner %q and matches %q", pattern, owner, value)
				}
			}
		}
	})
}

// TestMatchTime: no pattern of a policy and no claim of a token makes a
// decision slow.
func TestMatchTime(t *testing.T) {
	t.Parallel()
	p, err := compilePattern("github", "ref", strings.Repeat("**a", maxPattern/3))
	if err != nil {
		t.Fatal(err)
	}
	if p.match(strings.Repeat("a", 16<<10) + "b") {
		t.Error("it matches")
	}
}
