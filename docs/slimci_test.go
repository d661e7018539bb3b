package docs

import (
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestSlimCI decides the recipe's own policy, with an issuer of this machine in
// the place of GitHub's.
func TestSlimCI(t *testing.T) {
	t.Parallel()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	var recipes []string
	for _, b := range blocks(pages(t)["../docs/pull-requests.md"]) {
		if strings.HasPrefix(b, "version: 1\n") {
			recipes = append(recipes, b)
		}
	}
	if len(recipes) != 2 {
		t.Fatalf("found %d policies, want that of slim CI and that of its end", len(recipes))
	}
	source := strings.Replace(recipes[0], "version: 1\n", "version: 1\nidentities: {github: {issuer: \""+issuer.URL()+"\", kind: github}}\n", 1)
	p, err := policy.Parse("policy.yml", []byte(source), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	if w := p.Warnings(); len(w) > 0 {
		t.Errorf("the recipe warns: %q", w)
	}
	pull := map[string]any{"event_name": "pull_request", "ref": "refs/pull/7/merge", "sub": "repo:acme/analytics:pull_request", "environment": nil}
	for _, tt := range []struct {
		name    string
		changes map[string]any
		schema  string // "" for a denial
	}{
		{"a pull request", nil, "pr_7"},
		{"another one", map[string]any{"ref": "refs/pull/4711/merge"}, "pr_4711"},
		{"a push", map[string]any{"event_name": "push", "ref": "refs/heads/main"}, ""},
		{"another event with the ref", map[string]any{"event_name": "pull_request_target"}, ""},
		{"a branch with such a name", map[string]any{"ref": "refs/heads/refs/pull/7/merge"}, ""},
		{"the head", map[string]any{"ref": "refs/pull/7/head"}, ""},
		{"another repository", map[string]any{"repository": "evil/analytics", "repository_id": "1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			changes := map[string]any{}
			for _, m := range []map[string]any{pull, tt.changes} {
				for name, v := range m {
					changes[name] = v
				}
			}
			claims, err := issuer.Claims(t.Context(), "snowflakecomputing.com", changes)
			if err != nil {
				t.Fatal(err)
			}
			g, err := p.Authorize("ci", claims, time.Now())
			if tt.schema == "" {
				if fault.ClassOf(err) != fault.Denied || err == nil {
					t.Errorf("error is %v, want a denial", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			schema := ""
			for i, n := range g.DBT().Block.Content {
				if n.Value == "schema" && i%2 == 0 {
					schema = g.DBT().Block.Content[i+1].Value
				}
			}
			if schema != tt.schema {
				t.Errorf("schema is %q, want %q", schema, tt.schema)
			}
		})
	}
}
