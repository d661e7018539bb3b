package logic

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// texts are all of up to n of the characters.
func texts(chars string, n int) []string {
	list := []string{""}
	for from := 0; n > 0; n-- {
		to := len(list)
		for _, prefix := range list[from:to] {
			for _, c := range chars {
				list = append(list, prefix+string(c))
			}
		}
		from = to
	}
	return list
}

// expressions are small ones, of texts that the characters make.
func randomExpression(r *rand.Rand, depth int) string {
	switch n := r.IntN(9); {
	case depth == 0 || n < 3:
		return []string{"a", "b", "/", ":", "[ab]", "[^/]", ".", `\b`, "^", "$"}[r.IntN(10)]
	case n < 5:
		return randomExpression(r, depth-1) + randomExpression(r, depth-1)
	case n < 6:
		return "(?:" + randomExpression(r, depth-1) + "|" + randomExpression(r, depth-1) + ")"
	case n < 8:
		return "(?:" + randomExpression(r, depth-1) + ")" + []string{"*", "+", "?"}[r.IntN(3)]
	}
	return "(?i:" + randomExpression(r, depth-1) + ")"
}

func randomLanguage(t *testing.T, r *rand.Rand) Language {
	t.Helper()
	switch r.IntN(4) {
	case 0:
		return Literal([]string{"a", "ab", "a/b", ":"}[r.IntN(4)])
	case 1:
		return Glob([]string{"a*", "*b", "a*b*", "?/*", "*"}[r.IntN(5)], true)
	case 2:
		l, err := Anywhere(randomExpression(r, 3))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l, err := Whole(randomExpression(r, 3))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSamples: of random languages each way to be in some and not in others is
// found, and nothing that no text has.
func TestSamples(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	all := texts("ab/:", 5)
	domain := MustWhole("[ab/:]*")
	for range 1000 {
		languages := make([]Language, 1+r.IntN(3))
		for i := range languages {
			languages[i] = randomLanguage(t, r)
		}
		signature := func(text string) string {
			key := ""
			for _, l := range languages {
				key += map[bool]string{true: "1", false: "0"}[l.Contains(text)]
			}
			return key
		}
		samples, decided := Alone("x", domain).samples(newPool(append([]Language{domain}, languages...)), [][]Language{languages})
		if !decided {
			t.Fatalf("%v: not decided", languages)
		}
		found := map[string]int{}
		for _, s := range samples {
			if strings.Trim(s[0], "ab/:") != "" {
				t.Fatalf("%v: %q is not of the domain", languages, s[0])
			}
			found[signature(s[0])]++
		}
		for key, n := range found {
			if n > 1 {
				t.Fatalf("%v: %d samples are alike: %s of %q", languages, n, key, samples)
			}
		}
		for _, text := range all {
			if found[signature(text)] == 0 {
				t.Fatalf("%v: %q is like no sample of %q", languages, text, samples)
			}
		}
	}
}

// TestWord: claims that are made of common pieces are sampled together.
func TestWord(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 2))
	piece := MustWhole("[ab]{1,3}")
	w := Word{Claims: []string{"sub", "owner", "name"}, Segments: []Segment{
		{Domain: Literal(":"), In: []int{0}}, {Domain: piece, In: []int{0, 1}}, {Domain: Literal("/"), In: []int{0}}, {Domain: piece, In: []int{0, 2}},
	}}
	var pieces []string
	for _, s := range texts("ab", 3) {
		if s != "" {
			pieces = append(pieces, s)
		}
	}
	for range 300 {
		var parts []Formula
		for range 1 + r.IntN(4) {
			f := Is(w.Claims[r.IntN(3)], randomLanguage(t, r))
			if r.IntN(3) == 0 {
				f = Not(f)
			}
			parts = append(parts, f)
		}
		f := And(parts...)
		if r.IntN(2) == 0 {
			f = Or(parts...)
		}
		want := false
		for _, owner := range pieces {
			for _, name := range pieces {
				want = want || f.Eval(map[string]string{"sub": ":" + owner + "/" + name, "owner": owner, "name": name}) == True
			}
		}
		got, decided := NewFinder(f, []World{{Words: []Word{w}}}).Find(f)
		if !decided || (got != nil) != want {
			t.Fatalf("%v: found %v (decided: %t), want one: %t", f, got, decided, want)
		}
		if got != nil && (f.Eval(got) != True || got["sub"] != ":"+got["owner"]+"/"+got["name"]) {
			t.Fatalf("%v: %v does not meet it", f, got)
		}
	}
}

func TestEval(t *testing.T) {
	t.Parallel()
	a, unknown := Is("a", Literal("1")), Undecided("why")
	for _, c := range []struct {
		f    Formula
		want Verdict
	}{
		{a, True}, {Is("b", Literal("1")), False}, {Has("a"), True}, {Has("b"), False}, {Not(Has("b")), True},
		{And(a, unknown), Unknown}, {And(Not(a), unknown), False}, {Or(a, unknown), True}, {Or(Not(a), unknown), Unknown},
		{Not(unknown), Unknown}, {And(), True}, {Or(), False}, {And(a, Never()), False}, {Or(Not(a), Always()), True},
	} {
		if got := c.f.Eval(map[string]string{"a": "1"}); got != c.want {
			t.Errorf("%v is %v, want %v", c.f, got, c.want)
		}
	}
	if _, decided := NewFinder(unknown, []World{{}}).Find(And(unknown)); decided {
		t.Error("a condition that cannot be evaluated is decided")
	}
}

// TestBounded: languages that would take minutes are not decided.
func TestBounded(t *testing.T) {
	t.Parallel()
	var parts []Formula
	for range 3 {
		parts = append(parts, Is("a", Glob(strings.Repeat("*a?", 700), true)), Is("a", Glob(strings.Repeat("?", 2000)+"*b", true)))
	}
	f := And(And(parts...), Not(Is("a", Glob("*c", true))), Is("a", MustWhole("(?:c|d){900}e")))
	if token, decided := NewFinder(f, []World{{}}).Find(f); token != nil || decided {
		t.Errorf("found %v, decided: %t", token, decided)
	}
}

// FuzzLanguage: what the machine says of a text is what regexp says.
func FuzzLanguage(f *testing.F) {
	f.Add(`^a|b$`, "ab")
	f.Add(`\bx\B`, "x\nxx")
	f.Add(`(?m)^a$`, "b\na")
	f.Add(`\Qa`, "a")
	f.Add(`(?i)ſ|K`, "s\u212a")
	f.Fuzz(func(t *testing.T, expr, text string) {
		if len(expr) > 60 || len(text) > 60 || strings.Contains(expr, "{") {
			return
		}
		l, err := Anywhere(expr)
		if err != nil {
			return
		}
		text = string([]rune(text))
		m := newMachine(l, new(int))
		state := 0
		for _, r := range text {
			state = m.step(state, 0, 1, r)
			m.states[0].next = nil
			for i := range m.states {
				m.states[i].next = nil // one symbol stands for every rune here
			}
		}
		if got, want := m.ends(state), regexp.MustCompile(expr).MatchString(text); got != want {
			t.Errorf("%q of %q: %t, want %t", expr, text, got, want)
		}
		if runes := alphabet([]Language{l}); slices.Contains(runes, 0xD800) {
			t.Error("the alphabet has a surrogate")
		}
	})
}
