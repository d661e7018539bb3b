package trust

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSnowflake(t *testing.T) {
	t.Parallel()
	goldens(t, "snowflake")
}

func TestExternalOAuth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		entra string
		want  []string
	}{
		{"tenant: 99999999-8888-7777-6666-555555555555", []string{
			"EXTERNAL_OAUTH_TYPE = AZURE", "EXTERNAL_OAUTH_ISSUER = 'https://sts.windows.net/99999999-8888-7777-6666-555555555555/'",
			"EXTERNAL_OAUTH_JWS_KEYS_URL = 'https://login.microsoftonline.com/99999999-8888-7777-6666-555555555555/discovery/v2.0/keys'",
			"EXTERNAL_OAUTH_AUDIENCE_LIST = ('api://snowflake.acme.example')", "LOGIN_NAME = $OIDC_DBT_SUBJECT",
			"EXTERNAL_OAUTH_ALLOWED_ROLES_LIST = ('TRANSFORMER')"}},
		{"tenant: acme.onmicrosoft.com", []string{"EXTERNAL_OAUTH_ISSUER = $OIDC_DBT_ISSUER",
			"EXTERNAL_OAUTH_JWS_KEYS_URL = 'https://login.microsoftonline.com/acme.onmicrosoft.com/discovery/v2.0/keys'"}},
		{"tenant: 99999999-8888-7777-6666-555555555555, authority: https://login.microsoftonline.us, audience: api://AzureADTokenExchangeUSGov",
			[]string{"EXTERNAL_OAUTH_ISSUER = $OIDC_DBT_ISSUER", "EXTERNAL_OAUTH_JWS_KEYS_URL = 'https://login.microsoftonline.us/"}},
	} {
		d := demand(t, `
version: 1
targets:
  prod:
    dbt: {type: snowflake, account: acme-prod, role: transformer, database: ANALYTICS, warehouse: TRANSFORMING, schema: marts}
    exchange:
      entra: {`+tt.entra+`, client_id: 11111111-2222-3333-4444-555555555555, scope: "api://snowflake.acme.example/.default"}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`, Options{})
		var w Wall
		d.addWarehouse("entra", &w)
		for _, want := range tt.want {
			if !strings.Contains(w.Documents[0].Text, want) {
				t.Errorf("%s: %s is not in\n%s", tt.entra, want, w.Documents[0].Text)
			}
		}
		checkTerraform(t, w.Terraform)
	}
}

func TestSnowflakeOverAWS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, more, arn, account string }{
		{"one role", "", "arn:aws:iam::123456789012:role/first", "123456789012"},
		{"a chain", `, then_assume: {role: "arn:aws:iam::210987654321:role/second", external_id: acme-dbt}`,
			"arn:aws:iam::210987654321:role/second", "210987654321"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := demand(t, `
version: 1
targets:
  prod:
    dbt: {type: snowflake, account: acme-prod, user: dbt_prod, role: transformer, database: ANALYTICS, warehouse: TRANSFORMING, schema: marts}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/first", region: eu-central-1`+tt.more+`}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
    lifetime: 1h
`, Options{Values: map[string]string{"policy-schema": "SECURITY.POLICIES"}})
			var w Wall
			d.addWarehouse("aws", &w)
			want := `-- Target "prod": who logs in as this user.
CREATE USER IF NOT EXISTS DBT_PROD
  TYPE = SERVICE
  DEFAULT_ROLE = TRANSFORMER
  DEFAULT_WAREHOUSE = TRANSFORMING
  WORKLOAD_IDENTITY = (
    TYPE = AWS
    ARN = '` + tt.arn + `'
  );
GRANT ROLE TRANSFORMER TO USER DBT_PROD;

-- Only this way to log in: no password, no key, no other issuer. The policy lives in a schema that dbt does not own.
USE SCHEMA SECURITY.POLICIES;
CREATE AUTHENTICATION POLICY IF NOT EXISTS OIDC_DBT_PROD
  AUTHENTICATION_METHODS = ('WORKLOAD_IDENTITY')
  WORKLOAD_IDENTITY_POLICY = (
    ALLOWED_PROVIDERS = (AWS)
    ALLOWED_AWS_ACCOUNTS = ('` + tt.account + `')
  );
ALTER USER DBT_PROD SET AUTHENTICATION POLICY OIDC_DBT_PROD;
`
			if diff := cmp.Diff(want, w.Documents[0].Text); diff != "" {
				t.Error(diff)
			}
			checkTerraform(t, w.Terraform)
		})
	}
}
