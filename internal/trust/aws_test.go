package trust

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

const awsExchange = `{aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}}`

// TestAWSSays: what a report says is wider or narrower is what is, claim by claim.
func TestAWSSays(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	for made := 0; made < 12; {
		text := "version: 1\ntargets:\n  prod:\n    exchange: " + awsExchange + "\n    allow:\n" + randomRules(random)
		p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Now: agreeNow})
		if err != nil {
			continue
		}
		target, _ := p.Target("prod")
		d := Demands(p, target, Options{})[0]
		d.Rules = d.Rules[:1] // tokens that another rule admits too widely are near both
		w, err := Generate(d)
		if err != nil {
			continue
		}
		f := d.Rules[0].Formula()
		if token, _ := logic.NewFinder(f, d.worlds()).Find(f); token == nil {
			continue // no token meets such a rule
		}
		made++
		if checkWall(t, d, w); t.Failed() {
			t.Fatalf("%s\n%s", text, documents(w))
		}
	}
}

// TestAWSAgrees: an implementation of IAM's language that is not ours decides
// as the generator says, over random policies and tokens.
func TestAWSAgrees(t *testing.T) {
	t.Parallel()
	policies := map[string]int{"GitHub's subject": 300, "a template": 100}
	for name, template := range map[string][]string{
		"GitHub's subject": nil, "a template": {"repo", "context", "ref", "event_name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agreement{
				exchange: awsExchange, policies: policies[name], tokens: 250, options: Options{SubTemplate: template}, evaluate: evaluateAWS(),
			}.run(t)
		})
	}
}

// evaluateAWS decides by the documents, and holds them to what IAM accepts.
func evaluateAWS() func(Demand, Wall, map[string]any) (bool, error) {
	last, trust := "", wall.Wall(nil)
	return func(_ Demand, w Wall, claims map[string]any) (bool, error) {
		if text := w.Documents[0].Text; text != last {
			err := errors.Join(wall.AWSFits([]byte(text), wall.AWSRaisedQuota), wall.AWSControl([]byte(text)))
			if trust, last = nil, text; err != nil {
				return false, err
			}
			if trust, err = wall.AWS([]byte(text)); err != nil {
				return false, err
			}
		}
		return trust(claims)
	}
}
