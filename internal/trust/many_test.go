package trust

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// TestFortyRepositories: a rule of forty repositories, whose names and owner are
// given, comes to an end: what is known of one of them is not looked for in the
// tokens of another.
func TestFortyRepositories(t *testing.T) {
	t.Parallel()
	const snowflake = "type: snowflake, account: acme, database: D, warehouse: W, schema: s"
	options := Options{OwnerIDs: map[string]string{"acme": "9919"}, Repositories: map[string]string{}}
	var ids []string
	for i := 1001; i <= 1040; i++ {
		ids = append(ids, fmt.Sprintf("%q", fmt.Sprint(i)))
		options.Repositories[fmt.Sprint(i)] = fmt.Sprintf("acme/repo%d", i)
	}
	for _, tt := range []struct {
		name, target string
		logins       int
		err          string // a part of it
	}{
		{"a user for each", "dbt: {" + snowflake + `, user: "DBT_${repository_id}"}` + "\n    exchange: {oidc: {audience: snowflakecomputing.com}}", 40, ""},
		{"one user", "dbt: {" + snowflake + ", user: DBT}\n    exchange: {oidc: {audience: snowflakecomputing.com}}", 1,
			"its rules come to 80 subjects, and a user in Snowflake has at most 10 workload identities"},
		{"one principal", "exchange: {databricks: {client_id: 5c10b5e1-1f2b-4a8f-8e3e-8f2d2d6f0a11, host: https://dbc-1.cloud.databricks.com}}", 1,
			"its rules come to 80 subjects, and a service principal in Databricks has at most 20 federation policies"},
		{"one role", `exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}}`, 1, ""},
		{"one pool", "exchange: {gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh}}", 1, ""},
		{"one role of Vault's", "exchange: {vault: {address: https://vault.example, role: dbt, secret: database/creds/dw, audience: vault}}", 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := "version: 1\ntargets:\n  production:\n    " + tt.target + "\n    allow:\n      - {repository_owner: acme, repository_id: [" +
				strings.Join(ids, ", ") + "], environment: production, ref: refs/heads/main, " +
				"job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3}\n"
			p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs(), Now: agreeNow})
			if err != nil {
				t.Fatal(err)
			}
			target, _ := p.Target("production")
			demands := Demands(p, target, options)
			if len(demands) != tt.logins {
				t.Fatalf("%d logins, want %d", len(demands), tt.logins)
			}
			w, err := Generate(demands[0])
			switch {
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error is %v, want %q in it", err, tt.err)
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err == "" && len(w.Rules) != 1:
				t.Errorf("%d rules are reported, want 1", len(w.Rules))
			}
		})
	}
}
