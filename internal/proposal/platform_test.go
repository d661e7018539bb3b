package proposal_test

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestPlatform: the entry for the platform's policy parses there and admits
// only its workflow, and the repository's own policy is not in the way.
func TestPlatform(t *testing.T) {
	t.Parallel()
	c := newCheckout(t, txtar.Parse([]byte(sound)), false)
	c.write("repo/.github/oidc-dbt.yml", "version: 1\n")
	p := c.propose("--platform", "acme/platform", "--repository-id", "487920697", "--write")
	text := "version: 1\ntargets:\n" + p.Entry
	parsed, err := policy.Parse("policy", []byte(text), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	if warnings := parsed.Warnings(); len(warnings) > 0 {
		t.Errorf("warnings are %q", warnings)
	}
	if want := "job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v1 # guess"; strings.Count(text, want) != 1 {
		t.Errorf("the entry has no %q:\n%s", want, text)
	}
	if len(p.Written) != 1 || p.Written[0] != ".github/workflows/dbt.yml" || strings.Contains(p.Files[0].Text, "secrets") {
		t.Errorf("wrote %q:\n%s", p.Written, p.Files[0].Text)
	}
}
