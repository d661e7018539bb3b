package proposal_test

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
)

// TestEveryPairHasATemplate: without a profiles.yml, the proposal for each pair
// of type and provider is a policy whose forms are right.
func TestEveryPairHasATemplate(t *testing.T) {
	t.Parallel()
	for dbtType, spec := range adapter.Specs() {
		for _, provider := range spec.Providers {
			if provider == "login" {
				continue // of people, and not of a repository's jobs
			}
			t.Run(dbtType+" "+provider, func(t *testing.T) {
				t.Parallel()
				a := txtar.Parse([]byte("-- repo/dbt_project.yml --\nname: a\nprofile: a\n"))
				c := newCheckout(t, a, false)
				c.args = []string{"--repository", "acme/analytics", "--type", dbtType, "--provider", provider}
				p := c.propose("--write")
				// A session with a store in the cloud has a method of its own.
				if dbtType == "spark" && provider != "vault" && !strings.Contains(p.Files[0].Text, "method: session") {
					t.Error("the method is not session")
				}
				c.profileOnly(a, "prod")
			})
		}
	}
}
