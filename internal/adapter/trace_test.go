package adapter_test

import (
	"maps"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// traced are the facts of a run of a target with a name.
type traced struct{ target string }

func (f traced) Target() string        { return f.target }
func (traced) Provider() string        { return "" }
func (traced) Audience() string        { return "" }
func (traced) GuardedAudience() string { return "" }
func (traced) Exchange() policy.Values { return policy.Values{} }
func (traced) Claim(name string) string {
	return map[string]string{"sub": "repo:acme/analytics:environment:production"}[name]
}
func (traced) Run() string { return "16055869479" }

func TestTrace(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:sts::123456789012:assumed-role/dbt/acme-analytics@1"
	session := credential.Credential{Kind: credential.AWSSession, ID: arn, Serial: "ASIAEXAMPLEEXAMPLE12"}
	login := credential.Credential{Kind: credential.DatabaseLogin, ID: arn, Serial: "ASIAEXAMPLEEXAMPLE12", User: "IAM:dbt"}
	lent := credential.Credential{Kind: credential.DatabaseLogin, ID: "database/creds/dbt/4a57", User: "v-dbt-4a57", Lease: &credential.Lease{}}
	token := credential.Credential{Kind: credential.IDToken, ID: "repo:acme/analytics", Expiry: time.Time{}}
	for _, tt := range []struct {
		name, target, dbtType, block string
		c                            credential.Credential
		want                         map[string]string
	}{
		{"a session for nothing of dbt's", "state", "", "", session, map[string]string{"session": arn, "access_key_id": "ASIAEXAMPLEEXAMPLE12"}},
		{"athena", "prod", "athena", "{schema: marts}", session, map[string]string{"session": arn, "access_key_id": "ASIAEXAMPLEEXAMPLE12"}},
		{"redshift", "prod", "redshift", "{user: dbt}", login, map[string]string{
			"session": arn, "access_key_id": "ASIAEXAMPLEEXAMPLE12", "user": "IAM:dbt", "query_group": "oidc-dbt target=prod"}},
		{"redshift, a name that its log would cut", "analytics-production-eu", "redshift", "{user: dbt}", login, map[string]string{
			"session": arn, "access_key_id": "ASIAEXAMPLEEXAMPLE12", "user": "IAM:dbt", "query_group": "oidc-dbt target=analy~6decfc28"}},
		{"snowflake", "prod", "snowflake", "{user: DBT_PROD}", token, map[string]string{
			"principal": "repo:acme/analytics", "user": "DBT_PROD", "query_tag": "oidc-dbt target=prod"}},
		{"snowflake, the block's own tag", "prod", "snowflake", "{user: DBT_PROD, query_tag: finance}", token, map[string]string{
			"principal": "repo:acme/analytics", "user": "DBT_PROD", "query_tag": "finance"}},
		{"snowflake, what only dbt will know", "prod", "snowflake", "{user: DBT_PROD, query_tag: \"{{ env_var('TAG') }}\"}", token,
			map[string]string{"principal": "repo:acme/analytics", "user": "DBT_PROD"}},
		{"postgres by vault", "prod", "postgres", "{host: h}", lent, map[string]string{
			"lease": "database/creds/dbt/4a57", "user": "v-dbt-4a57", "application_name": "oidc-dbt target=prod"}},
		{"postgres by vault, a static secret", "prod", "postgres", "{host: h}", credential.Credential{Kind: credential.DatabaseLogin,
			ID: "secret/data/dbt", User: "dbt", Static: true, Lease: &credential.Lease{}}, map[string]string{
			"user": "dbt", "application_name": "oidc-dbt target=prod"}},
		{"trino", "prod", "trino", "{user: dbt}", token, map[string]string{
			"principal": "repo:acme/analytics", "user": "dbt", "client_tag": "run=16055869479"}},
		{"trino, the block's own tags", "prod", "trino", "{user: dbt, client_tags: [x]}", token, map[string]string{
			"principal": "repo:acme/analytics", "user": "dbt"}},
		{"databricks", "prod", "databricks", "{host: h}", credential.Credential{Kind: credential.AccessToken, ID: "app-1"}, map[string]string{
			"principal": "app-1", "run_tag": "16055869479"}},
		{"fabric", "prod", "fabric", "{host: h}", credential.Credential{Kind: credential.AccessToken, ID: "app-1", Serial: "UTI_1234-5"},
			map[string]string{"principal": "app-1", "uti": "UTI_1234-5"}},
		{"bigquery, direct", "prod", "bigquery", "{project: p}", credential.Credential{Kind: credential.GoogleAccessToken,
			ID: "projects/1/locations/global/workloadIdentityPools/gh/providers/gh"}, map[string]string{
			"principal": "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/gh/subject/repo:acme/analytics:environment:production"}},
		{"bigquery, a service account", "prod", "bigquery", "{project: p}", credential.Credential{Kind: credential.GoogleAccessToken,
			ID: "dbt@p.iam.gserviceaccount.com"}, map[string]string{"principal": "dbt@p.iam.gserviceaccount.com"}},
	} {
		var doc yaml.Node
		var block *yaml.Node
		if err := yaml.Unmarshal([]byte(tt.block), &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Content) > 0 {
			block = doc.Content[0]
		}
		got := adapter.Trace(adapter.Input{Facts: traced{tt.target}, Type: tt.dbtType, Block: block, Credential: tt.c})
		if !maps.Equal(got, tt.want) {
			t.Errorf("%s: got\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}
