package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// before and after are a policy around a line that a test writes.
const (
	before = "version: 1\ntargets:\n  prod:\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}\n    allow:\n" +
		"      - {repository: acme/analytics, repository_id: \"1\", environment: prod}\n"
	after = "      - {repository: acme/other, repository_id: \"2\", environment: prod}\n"
)

// FuzzParse: nothing makes Parse panic, its errors have places inside the
// text and show no secret, and what it accepts says the same thing twice.
func FuzzParse(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if strings.HasSuffix(file.Name, ".yml") {
			f.Add(file.Data)
		}
	}
	f.Add([]byte(example))
	f.Add([]byte(mapped("dbt-${team}-${size}", `{repository_id: ["2", "487920697"], environment: staging}`)))
	f.Add([]byte(defaulted))
	f.Add([]byte(denying(`{actor: [mallory, "*-bot"]}`, `{repository: "*/x", ref: "refs/**"}`)))
	for _, br := range []string{"\r", "\u0085", "\u2028", "\u2029", "\f"} {
		f.Add([]byte(before + "      # until 2025:" + br + "      - {repository: evil/x, repository_id: \"9\"}\n"))
	}
	f.Add([]byte("version: 1\ntargets: {prod: {exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}, allow: [{repository_id: \"1\", environment: \"a\n# b\"}, {repository_id: \"2\"}]}}"))
	cat := catalog()
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := policy.Parse("policy.yml", src, cat)
		if err != nil {
			if fault.ClassOf(err) != fault.Usage || !strings.HasPrefix(err.Error(), `parse policy "policy.yml": `) {
				t.Errorf("error is %v (%s)", err, fault.ClassOf(err))
			}
			for line := range strings.Lines(err.Error()) {
				var number, column int
				if n, _ := fmt.Sscanf(line, "policy.yml:%d:%d:", &number, &column); n == 2 && (number < 1 || column < 1 || number > strings.Count(string(src), "\n")+len(src)+1) {
					t.Errorf("a place outside of the text: %s", line)
				}
			}
			return
		}
		if len(p.Targets()) == 0 {
			t.Error("a policy without targets parses")
		}
		lines := strings.Split(string(src), "\n")
		for _, number := range p.RuleLines() {
			if number < 1 || number > len(lines) || strings.HasPrefix(strings.TrimLeft(lines[number-1], " \t\r"), "#") {
				t.Errorf("a rule is on line %d, where a reader sees a comment or nothing:\n%s", number, src)
			}
		}
		for _, name := range p.Targets() {
			target, err := p.Target(name)
			if err != nil {
				t.Fatal(err)
			}
			if target.Provider() == "" || len(target.Identities()) == 0 {
				t.Errorf("target %q has provider %q and identities %v", name, target.Provider(), target.Identities())
			}
		}
	})
}

// FuzzDecide: removing a rule never turns a denial into a grant, the order of
// rules decides nothing, and no token is allowed whose owner no rule names. Tokens
// are of a table, signed and verified once; rules are the fuzzer's.
func FuzzDecide(f *testing.F) {
	type token struct {
		repository, ref string
		claims          idtoken.Claims
	}
	var tokens []token
	for _, repository := range []string{"acme/analytics", "acme/analytics-evil", "evil/analytics", "acme/analytics\n"} {
		for _, ref := range []string{"refs/heads/main", "refs/heads/a/b", "refs/heads/x@refs/tags/v3", "refs/heads/main\n"} {
			tokens = append(tokens, token{repository, ref, claims(f, map[string]any{"repository": repository, "ref": ref})})
		}
	}
	f.Add("acme/analytics", "refs/heads/*", "acme/other", "refs/**", byte(0))
	f.Add("acme/*", "refs/heads/main", "acme/analytics", "refs/tags/*", byte(1))
	f.Add("acme/analytics", "refs/heads/x", "acme/analytics", "refs/heads/**", byte(7))
	f.Add("evil/*", "**/main", "*/analytics", "refs/heads/main", byte(8))
	f.Fuzz(func(t *testing.T, repository1, ref1, repository2, ref2 string, which byte) {
		token := tokens[int(which)%len(tokens)]
		one := fmt.Sprintf("{repository: %q, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3, ref: %q}", repository1, ref1)
		two := fmt.Sprintf("{repository: %q, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3, ref: %q}", repository2, ref2)
		decide := func(rules ...string) (allowed, parsed bool) {
			p, err := policy.Parse("policy.yml", []byte(policyOf(rules...)), catalog())
			if err != nil {
				return false, false
			}
			g, err := p.Authorize("prod", token.claims, reviewDay)
			return err == nil && g.Valid(), true
		}
		both, parsed := decide(one, two)
		if !parsed {
			return
		}
		swapped, _ := decide(two, one)
		first, _ := decide(one)
		second, _ := decide(two)
		if both != (first || second) || both != swapped {
			t.Errorf("both rules: %t, swapped: %t, the first: %t, the second: %t", both, swapped, first, second)
		}
		owner, _, _ := strings.Cut(token.repository, "/")
		if both && !strings.HasPrefix(repository1, owner+"/") && !strings.HasPrefix(repository2, owner+"/") {
			t.Errorf("%q is let in by rules for %q and %q", token.repository, repository1, repository2)
		}
		if both && strings.Contains(token.repository+token.ref, "\n") {
			t.Errorf("%q on %q is let in by %s and %s", token.repository, token.ref, one, two)
		}
	})
}
