package provider_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// TestFixedAudience: tokens of Azure Pipelines have Microsoft's audience, and no
// other. They go where the policy says, to real hosts of other vendors too;
// tokens of kinds that can have another audience do not.
func TestFixedAudience(t *testing.T) {
	t.Parallel()
	const (
		audience  = `audience: "api://AzureADTokenExchange"`
		snowflake = "dbt: {type: snowflake, account: acme-prod, user: DBT, database: d, schema: s}\n    "
		postgres  = "dbt: {type: postgres, host: db.acme.example, user: dbt, port: 5432, dbname: d, schema: s}\n    "
		trino     = "dbt: {type: trino, host: trino.acme.example, port: 443, user: dbt, database: d, schema: s}\n    "
		aws       = `exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1, ` + audience + `}}`
		gcp       = `exchange: {gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/a/providers/a, ` +
			`service_account: dbt@acme.iam.gserviceaccount.com, ` + audience + `}}`
		azure  = `- {identity: azure, prj_id: a, def_id: "7"}`
		github = `- {repository: acme/analytics, repository_id: "1", environment: production}`
		own    = `- {identity: own, sub: a}`
	)
	refused := func(key, host string) string {
		return key + `: host "` + host + `" is not one of Microsoft Entra ID, whose audience "api://AzureADTokenExchange" the token has: ` +
			`give an audience of its own`
	}
	login := `audience: "api://AzureADTokenExchange" is the audience of Microsoft Entra ID: the warehouse that got such a token could use it there`
	for _, tt := range []struct{ name, target, allow, err string }{
		{"AWS", aws, azure, ""},
		{"AWS, by a job of GitHub", aws, github, refused("audience", "sts.eu-central-1.amazonaws.com")},
		{"AWS, by a job of GitHub too", aws, azure + "\n      " + github, refused("audience", "sts.eu-central-1.amazonaws.com")},
		{"AWS, by a workload whose source has that audience", aws, own, refused("audience", "sts.eu-central-1.amazonaws.com")},
		{"AWS, with AWS's own audience", strings.ReplaceAll(aws, ", "+audience, ""), azure,
			`tokens of identity "azure" always have the audience "api://AzureADTokenExchange", and target "prod" asks for ` +
				`"sts.amazonaws.com": repeat that audience in ` + "`exchange`"},
		{"Snowflake", snowflake + "exchange: {oidc: {" + audience + "}}", azure, ""},
		{"Snowflake, by a job of GitHub", snowflake + "exchange: {oidc: {" + audience + "}}", github, login},
		{"Google", gcp, azure, ""},
		{"Google, by a job of GitHub", gcp, github, refused("audience", "sts.googleapis.com")},
		{"Vault", postgres + `exchange: {vault: {address: "https://vault.acme.example", role: dbt, secret: database/creds/dbt, ` + audience + `}}`, azure, ""},
		{"Vault, by a job of GitHub", postgres + `exchange: {vault: {address: "https://vault.acme.example", role: dbt, secret: database/creds/dbt, ` +
			audience + `}}`, github, refused("address", "vault.acme.example")},
		{"Databricks", `exchange: {databricks: {host: dbc-1.cloud.databricks.com, ` + audience + `}}`, azure, ""},
		{"Databricks, by a job of GitHub", `exchange: {databricks: {host: dbc-1.cloud.databricks.com, ` + audience + `}}`, github,
			refused("host", "dbc-1.cloud.databricks.com")},
		{"Trino", trino + "exchange: {oidc: {" + audience + "}}", azure, ""},
		{"an authorization server", `exchange: {token_exchange: {token_url: "https://id.acme.example/token", ` + audience + `}}`, azure, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := `version: 1
identities:
  github: {issuer: https://token.actions.githubusercontent.com}
  azure: {issuer: https://vstoken.dev.azure.com/5c10b5e1-1f2b-4a8f-8e3e-8f2d2d6f0a11}
  own: {issuer: https://issuer.acme.example, kind: workload, bind: [sub], source: {env: A}, audience: "api://AzureADTokenExchange"}
targets:
  prod:
    ` + tt.target + "\n    allow:\n      " + tt.allow + "\n"
			p, err := policy.Parse("policy", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
			got := ""
			if err != nil {
				_, got, _ = strings.Cut(strings.Split(err.Error(), "\n")[1], ": ")
			}
			if got != tt.err {
				t.Errorf("error is %q, want %q", got, tt.err)
			}
			if err != nil {
				return
			}
			warning := `target "prod": tokens of identity "azure" always have the audience "api://AzureADTokenExchange": everyone who receives such a token could use it here`
			if w := p.Warnings(); len(w) != 1 || w[0] != warning {
				t.Errorf("warnings are %q, want %q", w, warning)
			}
			checkPlaces(t, p)
		})
	}
}

// checkPlaces holds the places that the block names to what a run holds them to.
func checkPlaces(t *testing.T, p *policy.Policy) {
	t.Helper()
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	if dbt := target.DBT(); dbt.Block != nil {
		if err := adapter.CheckPlaces(dbt.Type, target.Provider(), target.GuardedAudience(), dbt.Block); err != nil {
			t.Errorf("the warehouse's place: %v", err)
		}
	}
}
