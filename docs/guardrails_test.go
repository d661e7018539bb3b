package docs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/policytest"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestGuardrailsExample: of the page's example, named people build, everyone
// else reads, and an agent builds by a role of its own.
func TestGuardrailsExample(t *testing.T) {
	t.Parallel()
	issuer, err := standin.StartIssuer(standin.GitHubClaims())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	_, text, ok := strings.Cut(pages(t)["../docs/guardrails.md"], "## People build")
	if !ok {
		t.Fatal("the page has no example of people who build")
	}
	src := strings.Replace(blocks(text)[0], "targets:", "identities:\n  github: {issuer: "+issuer.URL()+", kind: github}\ntargets:", 1)
	p, err := policy.Parse("oidc-dbt.yml", []byte(src), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, target string
		changes      map[string]any
		want         string
	}{
		{"a named person", "prod", map[string]any{"actor_id": "583231"}, "statements: build, stop_after: 20"},
		{"another person", "prod", map[string]any{"actor_id": "99"}, "statements: read, stop_after: 20"},
		{"a known agent", "prod", map[string]any{"actor": "Copilot", "actor_id": "198982749"}, "statements: read, stop_after: 20"},
		{"a schedule of somebody's", "prod", map[string]any{"actor_id": "99", "event_name": "schedule"}, "statements: read, stop_after: 20"},
		{"an agent's own target", "agent", map[string]any{"actor": "Copilot", "actor_id": "198982749", "environment": "agents"}, "statements: build, stop_after: 5"},
		{"a person at the agent's target", "agent", map[string]any{"environment": "agents"}, "denied"},
		{"an agent elsewhere", "agent", map[string]any{"actor": "Copilot", "actor_id": "198982749"}, "denied"},
	} {
		claims, err := issuer.Claims(t.Context(), "sts.amazonaws.com", tt.changes)
		if err != nil {
			t.Fatal(err)
		}
		got := "denied"
		if g, err := p.Authorize(tt.target, claims, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)); err == nil {
			got = g.Guard().String()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestGuardrailsTests: the tests of the page's example pass, and the first of
// them fails once the rules have changed places.
func TestGuardrailsTests(t *testing.T) {
	t.Parallel()
	_, text, _ := strings.Cut(pages(t)["../docs/guardrails.md"], "## People build")
	list := blocks(text)
	head, rest, ok := strings.Cut(list[0], "    allow:\n")
	rules, tail, ok2 := strings.Cut(rest, "  agent:")
	people, everyone, ok3 := strings.Cut(rules[1:], "      - ")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("the example has another form:\n%s", list[0])
	}
	swapped := head + "    allow:\n      - " + everyone + " " + people + "  agent:" + tail
	for _, tt := range []struct{ src, message string }{
		{list[0], ""},
		{swapped, `guard of "prod" is "statements: read, stop_after: 20" by rule 1 (line 9), want "statements: build, stop_after: 20"`},
	} {
		p, err := policy.Parse("oidc-dbt.yml", []byte(tt.src), job.Catalog())
		if err != nil {
			t.Fatal(err)
		}
		file, err := policytest.Parse("oidc-dbt.test.yml", []byte(list[1]), func(string) (*policy.Policy, error) { return p, nil })
		if err != nil {
			t.Fatal(err)
		}
		report := file.Run(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
		for i, r := range report.Results {
			if want := map[bool]string{true: tt.message}[i == 0]; r.Message != want {
				t.Errorf("%s: got %q, want %q", r.Case.Name, r.Message, want)
			}
		}
		if len(report.Uncovered) > 0 {
			t.Errorf("not covered: %v", report.Uncovered)
		}
	}
}

// TestGuardrailsTable: the page says for each type where a guard can be held.
func TestGuardrailsTable(t *testing.T) {
	t.Parallel()
	specs := adapter.Specs()
	var b strings.Builder
	b.WriteString("| type | providers with a guard | with others, or instead |\n| --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		spec := specs[name]
		guarded, native := "none", spec.Native
		if len(spec.Guarded) > 0 {
			guarded = "`" + strings.Join(spec.Guarded, "`, `") + "`"
		}
		if len(spec.Guarded) == len(spec.Providers) {
			native = ""
		} else if native == "" {
			t.Errorf("type %q has no native control for what a guard cannot be held on", name)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, guarded, native)
	}
	golden.Table(t, "guardrails.md", "guarded", b.String())
}
