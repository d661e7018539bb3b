package policy_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// catalog is a small one: this package's tests must not depend on what the
// product's providers and adapters are.
func catalog() policy.Catalog {
	return policy.Catalog{
		Providers: map[string]policy.Provider{
			"oidc": {Keys: []policy.Key{{Name: "audience", Required: true}}, Audience: func(v policy.Values) string { return v.Get("audience") }},
			"gcp":  {Keys: []policy.Key{{Name: "workload_identity_provider", Required: true}, {Name: "service_account", Claims: true}}, Audience: func(policy.Values) string { return "gcp" }, Lifetimes: &policy.Lifetimes{Min: 1, Max: 12 * 3600e9}},
		},
		Adapters: map[string]policy.Adapter{
			"snowflake": {Providers: []string{"oidc"}, Required: []string{"account"}, Written: []string{"authenticator", "token"}, Literal: []string{"account", "user"}, NoClaims: []string{"account"}},
			"bigquery":  {Providers: []string{"gcp"}, Written: []string{"method"}},
		},
	}
}

const example = `version: 1
identities:
  github: {issuer: https://token.actions.githubusercontent.com}
  engineers:
    issuer: https://acme.okta.com/oauth2/default
    kind: people
    client_id: 0oa1b2c3
    flow: device
targets:
  prod:
    dbt:
      type: snowflake
      account: acme-prod
      user: DBT_PROD
      role: TRANSFORMER
      database: ANALYTICS
      warehouse: TRANSFORMING
      schema: marts
      threads: 8
    exchange:
      oidc: {audience: snowflakecomputing.com}
    allow:
      - repository: acme/analytics
        repository_id: "487920697"
        environment: production
        ref: refs/heads/main
        event_name: [push, schedule, workflow_dispatch]
        job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3
    trust_reviewed: 2026-10-01
  team:
    dbt: {type: bigquery, project: acme-dbt, dataset: "r${repository_id}"}
    exchange:
      gcp:
        workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh
        service_account: dbt-${environment}@acme-dbt.iam.gserviceaccount.com
    allow:
      - {repository_owner: acme, repository_id: ["101", "102"], environment: [staging, production], ref: refs/heads/main}
    lifetime: 1h
    max_lifetime: 1h
`

func TestParseTheExample(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse("policy.yml", []byte(example), catalog())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Targets(), " "); got != "prod team" {
		t.Errorf("targets are %q, want %q", got, "prod team")
	}
}
