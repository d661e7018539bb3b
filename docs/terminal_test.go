package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// terminal is how the section of each warehouse's page begins.
const terminal = "An engineer gets a credential by the same kind of policy, without a stored password ([people](../identities/people.md)):\n\n" +
	"```sh\noidc-dbt approve\noidc-dbt login\noidc-dbt exec --target dev -- dbt build\n```\n"

var wholePolicy = regexp.MustCompile("(?s)```yaml\n(version: 1\n.*?)```")

// TestSignInAtATerminal: every warehouse's page says how an engineer signs in,
// with whole policies of its type for people only: the warehouses that take a
// person's own login show it, and those of AWS show both ways.
func TestSignInAtATerminal(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for dbtType, spec := range adapter.Specs() {
		page := all["../docs/warehouses/"+dbtType+".md"]
		_, section, _ := strings.Cut(page, "\n## Sign in at a terminal\n\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if !strings.HasPrefix(section, terminal) {
			t.Errorf("%s.md does not begin its section as the others do", dbtType)
		}
		var providers []string
		for _, m := range wholePolicy.FindAllStringSubmatch(section, -1) {
			p, err := policy.Parse(dbtType+".md", []byte(m[1]), job.Catalog())
			if err != nil {
				t.Errorf("%v", err)
				continue
			}
			target, err := p.Target("dev")
			if err != nil || target.DBT().Type != dbtType {
				t.Errorf("%s.md: target dev is of type %q, %v", dbtType, target.DBT().Type, err)
				continue
			}
			for _, id := range target.Identities() {
				if id.Kind != "people" {
					t.Errorf("%s.md: identity %q is of kind %q", dbtType, id.Name, id.Kind)
				}
			}
			if _, err := adapter.Warehouse(dbtType, target.Provider(), target.DBT().Block); err != nil {
				t.Errorf("%s.md: %v", dbtType, err)
			}
			providers = append(providers, target.Provider())
		}
		want := []string{"login"}
		switch {
		case slices.Contains([]string{"athena", "duckdb", "redshift"}, dbtType):
			want = []string{"aws", "login"}
		case dbtType == "databricks":
			want = []string{"databricks", "login"}
		case !slices.Contains(spec.Providers, "login") && len(providers) == 1:
			want = providers
		}
		if !slices.Equal(providers, want) {
			t.Errorf("%s.md shows the providers %q, want %q", dbtType, providers, want)
		}
	}
}
