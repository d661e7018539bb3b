package trust

import (
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// demand parses a policy of one target without dbt and returns its only login.
func demand(t *testing.T, text string, options Options) Demand {
	t.Helper()
	list := logins(t, text, options)
	if len(list) != 1 {
		t.Fatalf("%d logins, want 1", len(list))
	}
	return list[0]
}

// logins parses a policy and returns the logins of all targets.
func logins(t *testing.T, text string, options Options) (list []Demand) {
	t.Helper()
	p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{
		Providers: provider.Specs(), Adapters: adapter.Specs(), Now: agreeNow,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range p.Targets() {
		target, _ := p.Target(name)
		list = append(list, Demands(p, target, options)...)
	}
	return list
}

const onAWS = `
version: 1
targets:
  prod:
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`

func TestCompare(t *testing.T) {
	t.Parallel()
	d := demand(t, onAWS, Options{})
	start := time.Now()
	if c := d.Compare(d.PolicyFormula(), logic.Never()); !c.Same() {
		t.Errorf("the policy differs from itself: %+v", c)
	}
	c := d.Compare(logic.Is("sub", logic.Glob("repo:acme/*:environment:production", false)), logic.Never())
	for _, diff := range c.Differences {
		t.Logf("%v %v %v", diff.Wider, diff.Claims, diff.Witness)
	}
	t.Log(c.Undecided, time.Since(start))
}
