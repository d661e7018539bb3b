package policy_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

func TestOutline(t *testing.T) {
	t.Parallel()
	const source = `version: 1
targets:
  ci:
    dbt: {type: snowflake, account: acme, database: CI, schema: "pr_${pull_number}_${environment}", output: slim, vars: [a, "${environment}"]}
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-${environment}", region: eu-central-1}}
    allow:
      - {repository: acme/analytics, environment: ci, event_name: pull_request, ref: "refs/pull/*/merge"}
`
	p, err := policy.Parse("policy.yml", []byte(source), catalog())
	if err != nil {
		t.Fatal(err)
	}
	target, err := p.Target("ci")
	if err != nil {
		t.Fatal(err)
	}
	o := target.Outline()
	if o.Target() != "ci" || o.Provider() != "aws" || o.GuardedAudience() != target.Audience() || o.Direct() || o.Claim("run_id") != "" {
		t.Errorf("got %+v", o)
	}
	var values []string
	for _, n := range o.DBT().Block.Content {
		if values = append(values, n.Value); n.Kind != 0 && len(n.Content) > 0 {
			for _, e := range n.Content {
				values = append(values, e.Value)
			}
		}
	}
	got := strings.Join(values, " ")
	if !strings.Contains(got, "schema pr_placeholder_placeholder") || !strings.Contains(got, "a placeholder") || strings.Contains(got, "${") {
		t.Errorf("the block is %s", got)
	}
	if text := target.DBT().Block; text == o.DBT().Block {
		t.Error("the outline is the policy's own block")
	}
}

// TestPullNumberNeedsPullRequests: what a rule needs is said key by key.
func TestPullNumberNeedsPullRequests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, rule, err string }{
		{"the recipe", `event_name: pull_request, ref: "refs/pull/*/merge"`, ""},
		{"one pull request", `event_name: pull_request, ref: refs/pull/7/merge`, ""},
		{"the number itself", `event_name: pull_request, pull_number: "7"`, ""},
		{"no ref", `event_name: pull_request`, missing},
		{"no event", `ref: "refs/pull/*/merge"`, missing},
		{"another ref", `event_name: pull_request, ref: "refs/pull/**"`, missing},
		{"branches too", `event_name: pull_request, ref: ["refs/pull/*/merge", refs/heads/main]`, missing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source := "version: 1\ntargets:\n  ci:\n    dbt: {type: duckdb, schema: \"pr_${pull_number}\"}\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: eu-central-1}}\n" +
				"    allow:\n      - {repository: acme/analytics, environment: ci, " + tt.rule + "}\n"
			_, err := policy.Parse("policy.yml", []byte(source), catalog())
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.err {
				t.Errorf("error is %q, want %q", got, tt.err)
			}
		})
	}
}

const missing = "parse policy \"policy.yml\": 1 error\npolicy.yml:4:33: schema: ${pull_number} is the number in a pull request's ref, and rule 1 (line 7) is not for pull requests only: it needs `event_name: pull_request` and `ref: \"refs/pull/*/merge\"`\n" +
	"      dbt: {type: duckdb, schema: \"pr_${pull_number}\"}\n                                  ^"
