package adapter_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestIdentities: a key that chose an identity is named with the provider's
// key that does the same, unless that says the same.
func TestIdentities(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, dbtType, provider, exchange, block, want string }{
		{"another service account", "bigquery", "gcp", "{gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/p/providers/q, service_account: a@acme-dbt.iam.gserviceaccount.com}}",
			"{impersonate_service_account: b@acme-dbt.iam.gserviceaccount.com, workload_pool_provider_path: x}", "impersonate_service_account=service_account workload_pool_provider_path=workload_identity_provider"},
		{"the same", "bigquery", "gcp", "{gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/p/providers/q, service_account: a@acme-dbt.iam.gserviceaccount.com}}",
			"{impersonate_service_account: a@acme-dbt.iam.gserviceaccount.com, service_account_impersonation_url: 'https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@acme-dbt.iam.gserviceaccount.com:generateAccessToken', workload_pool_provider_path: '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q'}", ""},
		{"roles", "athena", "aws", "", "{aws_profile_name: ci, assume_role_arn: arn:x, aws_access_key_id: AKIA}", "aws_profile_name=role assume_role_arn=then_assume"},
		{"the role that is assumed then", "athena", "aws", "{aws: {role: 'arn:aws:iam::123456789012:role/a', region: eu-central-1, then_assume: {role: 'arn:aws:iam::123456789012:role/b'}}}",
			"{assume_role_arn: 'arn:aws:iam::123456789012:role/b'}", ""},
		{"Redshift", "redshift", "aws", "", "{iam_profile: ci, user: dbt}", "iam_profile=role"},
		{"Databricks", "databricks", "databricks", "", "{client_id: x, azure_tenant_id: y}", "client_id=client_id azure_tenant_id="},
		{"Fabric", "fabric", "entra", "", "{client_id: x, UID: me, tenant_id: t, client_secret: s}", "client_id=client_id UID=client_id tenant_id=tenant"},
		{"SQL Server, a lease's user", "sqlserver", "vault", "", "{user: me}", ""},
		{"Snowflake, a person", "snowflake", "oidc", "", "{authenticator: externalbrowser}", "authenticator="},
		{"Snowflake, a key", "snowflake", "oidc", "", "{authenticator: snowflake_jwt, user: DBT}", ""},
		{"Trino", "trino", "oidc", "", "{impersonation_user: marts, user: dbt}", "impersonation_user="},
		{"DuckDB, in a secret", "duckdb", "aws", "", "{secrets: [{type: s3, PROFILE: ci}, {type: s3, key_id: a, secret: b, profile: own, scope: 's3://other'}, {type: azure, client_id: x}]}", "PROFILE=role"},
		{"nothing", "bigquery", "gcp", "", "{impersonate_service_account: null, workload_pool_provider_path: ''}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			exchange := tt.exchange
			if exchange == "" {
				exchange = standin.Exchange(tt.dbtType, tt.provider)
			}
			p, err := parse("https://token.acme.example", "{from: profiles.yml}", exchange)
			if err != nil {
				t.Fatal(err)
			}
			target, err := p.Target("prod")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range adapter.Identities(tt.dbtType, tt.provider, target.Exchange(), node(t, tt.block)) {
				got = append(got, d.Key+"="+d.Exchange)
			}
			if all := strings.Join(got, " "); all != tt.want {
				t.Errorf("got %q, want %q", all, tt.want)
			}
		})
	}
}
