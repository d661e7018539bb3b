package policy

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// texts returns all texts of an alphabet up to a length.
func texts(alphabet string, most int) []string {
	list := []string{""}
	for from := 0; most > 0; most-- {
		grown := list[from:]
		from = len(list)
		for _, t := range grown {
			for _, c := range alphabet {
				list = append(list, t+string(c))
			}
		}
	}
	return list
}

// TestCommonByBruteForce compares the search with trying every text of up to
// six characters; longer ones that are found must match.
func TestCommonByBruteForce(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	claims := []string{"ref", "sub", "job_workflow_ref"}
	const longest = 6
	all := texts("a/:@", longest)
	type tried struct {
		pattern
		matches []int // of all
	}
	patterns := map[string][]tried{}
	for len(patterns[claims[0]])+len(patterns[claims[1]])+len(patterns[claims[2]]) < 3*380/sampling.Share {
		claim := claims[random.IntN(len(claims))]
		text := make([]byte, 1+random.IntN(5))
		for i := range text {
			text[i] = "aa/:@***"[random.IntN(8)]
		}
		p := newPattern(claim, string(text))
		if isWorkflow(claim) {
			var err error
			if p, err = compilePattern("github", claim, string(text)); err != nil {
				continue
			}
		}
		if slices.ContainsFunc(patterns[claim], func(o tried) bool { return o.text == p.text }) || len(patterns[claim]) > 420 {
			continue
		}
		one := tried{pattern: p}
		for i, value := range all {
			if p.match(value) {
				one.matches = append(one.matches, i)
			}
			if got := p.chain().matches(value); got != p.match(value) {
				t.Fatalf("%s: chain of %q matches %q: %t", claim, p.text, value, got)
			}
		}
		patterns[claim] = append(patterns[claim], one)
	}
	pairs, none := 0, 0
	for claim, list := range patterns {
		for _, p := range list {
			for _, q := range list {
				pairs++
				text, found, decided := common([]chain{p.chain(), q.chain()}, 'a', new(int))
				shortest, exists := 0, false
				for i, j := 0, 0; i < len(p.matches) && j < len(q.matches); {
					switch {
					case p.matches[i] == q.matches[j]:
						shortest, exists = len(all[p.matches[i]]), true
						i = len(p.matches)
					case p.matches[i] < q.matches[j]:
						i++
					default:
						j++
					}
				}
				switch {
				case !decided || found && (!p.match(text) || !q.match(text)):
					t.Fatalf("%s: %q and %q: found %q, decided %t", claim, p.text, q.text, text, decided)
				case exists && (!found || len(text) != shortest):
					t.Fatalf("%s: %q and %q: found %q, want a text of %d characters", claim, p.text, q.text, text, shortest)
				case found && !exists && len(text) <= longest:
					t.Fatalf("%s: %q and %q: %q was not found by trying", claim, p.text, q.text, text)
				}
				if !found {
					none++
				}
			}
		}
	}
	t.Logf("%d pairs, %d without a common text", pairs, none)
	if pairs < 200_000/(sampling.Share*sampling.Share) || none < pairs/10 {
		t.Errorf("%d pairs, %d without a common text: the test says little", pairs, none)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	all := texts("a/:", 6)
	for range 2_000 / sampling.Share {
		text := make([]byte, 1+random.IntN(6))
		for i := range text {
			text[i] = "aa/:**"[random.IntN(6)]
		}
		c := newPattern("sub", string(text)).chain()
		pairs, rests := c.cut('/'), c.after("a:")
		for _, value := range all {
			before, after, ok := strings.Cut(value, "/")
			split := ok && slices.ContainsFunc(pairs, func(p [2]chain) bool { return p[0].matches(before) && p[1].matches(after) })
			if split != (ok && c.matches(value)) {
				t.Fatalf("%q cut at /: %q matches %t", text, value, split)
			}
			if rest := slices.ContainsFunc(rests, func(r chain) bool { return r.matches(value) }); rest != c.matches("a:"+value) {
				t.Fatalf("%q after \"a:\": %q matches %t", text, value, rest)
			}
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(9, 10))
	all := texts("ab/:", 5)
	within, said := 0, 0
	for range 20_000 / sampling.Share {
		var patterns [2]pattern
		for i := range patterns {
			text := make([]byte, 1+random.IntN(4))
			for j := range text {
				text[j] = "ab/:***"[random.IntN(7)]
			}
			patterns[i] = newPattern([]string{"sub", "ref"}[random.IntN(2)], string(text))
		}
		p, q := patterns[0], patterns[1]
		is := p.chain().within(q.chain())
		outside := slices.IndexFunc(all, func(value string) bool { return p.match(value) && !q.match(value) })
		if is && outside >= 0 {
			t.Fatalf("%q within %q: not %q", p.text, q.text, all[outside])
		}
		if outside < 0 && slices.ContainsFunc(all, p.match) {
			within++
		}
		if is {
			said++
		}
	}
	t.Logf("%d within, %d found", within, said)
	if said < within*3/4 {
		t.Errorf("%d within, only %d found", within, said)
	}
}
