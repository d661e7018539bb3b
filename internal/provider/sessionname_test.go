package provider_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// TestPersonsSessionName: CloudTrail has the person's name, and none that the
// identity provider says is not known to be the person's.
func TestPersonsSessionName(t *testing.T) {
	t.Parallel()
	for claims, want := range map[string]string{
		`{"sub": "00u1ann"}`:                                                        "00u1ann",
		`{"sub": "00u1ann", "email": "ann@acme.example"}`:                           "ann@acme.example",
		`{"sub": "00u1ann", "email": "ann@acme.example", "email_verified": true}`:   "ann@acme.example",
		`{"sub": "00u1ann", "email": "boss@acme.example", "email_verified": false}`: "00u1ann",
		`{"sub": "00u1ann", "email": ["boss@acme.example"]}`:                        "00u1ann",
	} {
		c, err := idtoken.ParseUnverified([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		if got := provider.SessionName("aws", policy.Values{}, policy.Identity{Kind: "people"}, c); got != want {
			t.Errorf("%s: %q, want %q", claims, got, want)
		}
	}
	if !(policy.Identity{Kind: "people", Source: policy.Source{Env: "TOKEN"}}).FixedToken() {
		t.Error("a person's token in a variable is taken for one that can be refreshed")
	}
}
