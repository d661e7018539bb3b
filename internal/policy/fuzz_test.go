package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
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

// FuzzDecide: removing a rule never turns a denial into a grant, and the
// order of rules decides nothing.
func FuzzDecide(f *testing.F) {
	f.Add("acme/analytics", "refs/heads/*", "acme/other", "refs/**", "acme/analytics", "refs/heads/main")
	f.Add("acme/*", "refs/heads/main", "acme/analytics", "refs/tags/*", "acme/analytics", "refs/tags/v1")
	f.Add("acme/analytics", "refs/heads/x", "acme/analytics", "refs/heads/y", "acme/analytics-evil", "refs/heads/x\n")
	f.Add("evil/*", "**/main", "*/analytics", "refs/heads/main", "evil/analytics", "refs/heads/main")
	f.Fuzz(func(t *testing.T, repository1, ref1, repository2, ref2, repository, ref string) {
		one := fmt.Sprintf("{repository: %q, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3, ref: %q}", repository1, ref1)
		two := fmt.Sprintf("{repository: %q, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3, ref: %q}", repository2, ref2)
		decide := func(rules ...string) (allowed, parsed bool) {
			p, err := policy.Parse("policy.yml", []byte(policyOf(rules...)), catalog())
			if err != nil {
				return false, false
			}
			g, err := p.Authorize("prod", claims(t, map[string]any{"repository": repository, "ref": ref}), reviewDay)
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
		if owner, _, _ := strings.Cut(repository, "/"); both && !strings.HasPrefix(repository1, owner+"/") && !strings.HasPrefix(repository2, owner+"/") {
			t.Errorf("%q is let in by rules for %q and %q", repository, repository1, repository2)
		}
	})
}
