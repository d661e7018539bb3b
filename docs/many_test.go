package docs

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/policytest"
)

// TestManyRepositories runs the tests of the page about many repositories by
// the policy on it, which is a page long, and covers forty of them.
func TestManyRepositories(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("many-repositories.md")
	if err != nil {
		t.Fatal(err)
	}
	list := blocks(string(text))
	if len(list) != 2 {
		t.Fatalf("the page has %d blocks, want a policy and its tests", len(list))
	}
	if lines := strings.Count(list[0], "\n"); lines > 60 {
		t.Errorf("the policy has %d lines, which is no page", lines)
	}
	p, err := policy.Parse("oidc-dbt.yml", []byte(list[0]), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	file, err := policytest.Parse("oidc-dbt.test.yml", []byte(list[1]), func(string) (*policy.Policy, error) { return p, nil })
	if err != nil {
		t.Fatal(err)
	}
	report := file.Run(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	for _, r := range report.Results {
		if r.Message != "" {
			t.Errorf("%s: %s\n%s", r.Case.Name, r.Message, r.Table)
		}
	}
	if len(report.Results) < 5 || report.Failed() {
		t.Errorf("%d cases, not covered: %v", len(report.Results), report.Uncovered)
	}
	for _, name := range p.Targets() {
		target, err := p.Target(name)
		if err != nil {
			t.Fatal(err)
		}
		if ids := target.Rules()[0].Patterns("repository_id"); len(ids) != 40 {
			t.Errorf("target %q is for %d repositories, want 40", name, len(ids))
		}
	}
	if w := p.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
}
