package trust

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

// checks checks documents that were generated from one policy against another
// one, near it: each witness must be one for the provider's evaluator and for
// the policy, and no token may contradict a verdict.
type checks struct {
	exchange string
	options  Options
	policies int
	tokens   int
	// export returns what the provider's tool would print of the documents.
	export func(d Demand, w Wall) []File
	// evaluate returns whether the provider would admit a token.
	evaluate func(d Demand, w Wall) (func(claims map[string]any) (bool, error), error)
}

func (c checks) run(t *testing.T) {
	t.Helper()
	random := rand.New(rand.NewPCG(5, 6))
	verdicts := map[Verdict]int{}
	c.policies = max(c.policies/sampling.Share, 2)
	for range c.policies {
		rules, d, own := c.generated(random)
		other, foreign, w := rules, d, own
		if random.IntN(4) > 0 {
			other, foreign, w = c.generated(random)
		}
		checked, err := Check(d, c.export(foreign, w))
		if err != nil {
			t.Fatalf("%v\n%s", err, documents(w))
		}
		verdicts[checked.Verdict]++
		admits, err := c.evaluate(foreign, w)
		if err != nil {
			t.Fatalf("%v\n%s", err, documents(w))
		}
		c.judge(t, d, own, checked, admits, random, rules+"\nthe provider's:\n"+other)
	}
	t.Logf("%v", verdicts)
	for _, v := range []Verdict{Same, Wider} {
		if verdicts[v] == 0 && sampling.Share == 1 {
			t.Errorf("no verdict is %q: the test shows nothing", v)
		}
	}
}

func (c checks) demand(rules string) (Demand, bool) {
	text := "version: 1\ntargets:\n  prod:\n    exchange: " + c.exchange + "\n    allow:\n" + rules
	p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs(), Now: agreeNow})
	if err != nil {
		return Demand{}, false
	}
	target, _ := p.Target("prod")
	return Demands(p, target, c.options)[0], true
}

// generated returns random rules for which trust can be generated.
func (c checks) generated(random *rand.Rand) (rules string, d Demand, w Wall) {
	for {
		rules = randomRules(random)
		d, ok := c.demand(rules)
		if !ok {
			continue
		}
		if w, err := Generate(d); err == nil {
			return rules, d, w
		}
	}
}

func (c checks) judge(t *testing.T, d Demand, own Wall, checked Checked, admits func(map[string]any) (bool, error),
	random *rand.Rand, about string) {
	t.Helper()
	formula := d.PolicyFormula()
	at := func(token map[string]string) (byProvider, byPolicy bool) {
		claims := map[string]any{}
		for name, text := range token {
			claims[name] = text
		}
		byProvider, err := admits(claims)
		if err != nil {
			t.Fatalf("%v\n%v", err, token)
		}
		return byProvider, formula.Eval(token) == logic.True
	}
	for _, f := range checked.Findings {
		if f.whole == nil || f.Name != string(Wider) && f.Name != string(Narrower) {
			continue
		}
		if byProvider, byPolicy := at(f.whole); byProvider != (f.Name == string(Wider)) || byPolicy == byProvider {
			t.Fatalf("%s: %v: the provider admits it: %t, the policy: %t\n%s", f.Name, f.whole, byProvider, byPolicy, about)
		}
	}
	for range c.tokens {
		token := map[string]string{}
		for name, value := range randomToken(random, d) {
			token[name] = value.(string)
		}
		if !real(token) {
			continue
		}
		byProvider, byPolicy := at(token)
		possible := own.Admits.Eval(token) == logic.True
		if wider := byProvider && !byPolicy && !possible; wider && (checked.Verdict == Same || checked.Verdict == Narrower) {
			t.Fatalf("the verdict is %s, and %v is admitted\n%s", checked.Verdict, token, about)
		}
		if narrower := !byProvider && byPolicy && possible; narrower && (checked.Verdict == Same || checked.Verdict == Wider) {
			t.Fatalf("the verdict is %s, and %v is not admitted\n%s", checked.Verdict, token, about)
		}
	}
}

func TestDatabricksChecks(t *testing.T) {
	t.Parallel()
	checks{
		exchange: `{databricks: {client_id: 8a1b2c3d-0000-4000-8000-000000000001, account_id: 11111111-2222-3333-4444-555555555555, host: dbc-a1b2c3d4-e5f6.cloud.databricks.com}}`,
		options:  Options{OwnerIDs: map[string]string{"acme": "7"}}, policies: 30, tokens: 100,
		export: func(_ Demand, w Wall) []File {
			return []File{{Name: "policies.json", Text: []byte(w.Documents[0].Text)}}
		},
		evaluate: func(_ Demand, w Wall) (func(map[string]any) (bool, error), error) {
			return wall.Databricks([]byte(w.Documents[0].Text))
		},
	}.run(t)
}

// real reports whether GitHub issues such tokens: an event has refs of its own.
func real(token map[string]string) bool {
	event, ref := token["event_name"], token["ref"]
	if strings.HasPrefix(ref, "refs/pull/") || event == pullEvent {
		return event == pullEvent && !strings.HasPrefix(ref, "refs/tags/")
	}
	refs := policy.RefsOf(event)
	return refs == nil || slices.ContainsFunc(refs, func(prefix string) bool { return strings.HasPrefix(ref, prefix) })
}
