package policy_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestCheckAudience: a token of a vendor's audience goes to the vendor's own
// hosts, or stays on this machine.
func TestCheckAudience(t *testing.T) {
	t.Parallel()
	const google = "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/gh/providers/gh"
	const workspace = "https://dbc-1.cloud.databricks.com/oidc/v1/token"
	refused := func(host, vendor, audience string) string {
		return `host "` + host + `" is not one of ` + vendor + `, whose audience "` + audience + `" the token has: give an audience of its own`
	}
	for _, tt := range []struct{ audience, endpoint, err string }{
		{"sts.amazonaws.com", "https://sts.eu-central-1.amazonaws.com", ""},
		{"sts.amazonaws.com", "https://vpce-1.sts.eu-central-1.vpce.amazonaws.com/x", ""},
		{"sts.amazonaws.com", "http://127.0.0.1:4566", ""},
		{"sts.amazonaws.com", "http://[::1]:4566", ""},
		{"sts.amazonaws.com", "https://sts.amazonaws.com", ""},
		{"sts.amazonaws.com", "https://sts-fips.us-gov-west-1.amazonaws.com", ""},
		{"sts.amazonaws.com", "https://sts.eusc-de-east-1.amazonaws.eu", ""},
		{"sts.amazonaws.com", "https://sts.cn-north-1.amazonaws.com.cn", ""},
		{"sts.amazonaws.com", "https://sts.us-iso-east-1.c2s.ic.gov", ""},
		{"sts.amazonaws.com", "https://sts.us-east-1.api.aws", ""},
		{"sts.amazonaws.com", "https://oidc.eu-central-1.amazonaws.com", ""},
		{"sts.amazonaws.com", "https://oidc.eks.eu-central-1.amazonaws.com", refused("oidc.eks.eu-central-1.amazonaws.com", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://a1b2c3.execute-api.eu-central-1.amazonaws.com", refused("a1b2c3.execute-api.eu-central-1.amazonaws.com", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://sts.execute-api.eu-central-1.amazonaws.com", refused("sts.execute-api.eu-central-1.amazonaws.com", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://sts.s3.amazonaws.com", refused("sts.s3.amazonaws.com", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://vpce-1.vpce-svc-2.eu-central-1.vpce.amazonaws.com", refused("vpce-1.vpce-svc-2.eu-central-1.vpce.amazonaws.com", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://evil.example", refused("evil.example", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://sts.amazonaws.com.evil.example", refused("sts.amazonaws.com.evil.example", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://evilamazonaws.com", refused("evilamazonaws.com", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://localhost.evil.example", refused("localhost.evil.example", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://sts.amazonaws.com@evil.example", refused("evil.example", "AWS", "sts.amazonaws.com")},
		{"sts.amazonaws.com", "https://sts.googleapis.com", refused("sts.googleapis.com", "AWS", "sts.amazonaws.com")},
		{google, "https://sts.googleapis.com/v1/token", ""},
		{google, "https://googleapis.com.evil.example", refused("googleapis.com.evil.example", "Google Cloud", google)},
		{"snowflakecomputing.com", "https://acme.snowflakecomputing.com", ""},
		{"snowflakecomputing.com", "https://snowflakecomputing.com.evil.example", refused("snowflakecomputing.com.evil.example", "Snowflake", "snowflakecomputing.com")},
		{"api://AzureADTokenExchange", "https://login.microsoftonline.com/t", ""},
		{"api://AzureADTokenExchange", "https://login.microsoftonline.evil", refused("login.microsoftonline.evil", "Microsoft Entra ID", "api://AzureADTokenExchange")},
		{"api://AzureADTokenExchangeUSGov", "https://login.microsoftonline.us/t", ""},
		{"api://AzureADTokenExchange", "https://westeurope.login.microsoft.com/t", ""},
		{"api://AzureADTokenExchange", "https://evil.login.microsoft.com.evil.example/t", refused("evil.login.microsoft.com.evil.example", "Microsoft Entra ID", "api://AzureADTokenExchange")},
		{workspace, "https://dbc-1.cloud.databricks.com", ""},
		{workspace, "https://accounts.gcp.databricks.com", ""},
		{workspace, "https://adb-1.7.azuredatabricks.net", ""},
		{workspace, "https://adb-1.7.databricks.azure.cn", ""},
		{workspace, "https://cloud.databricks.com", refused("cloud.databricks.com", "Databricks", workspace)},
		{workspace, "https://app.aws.databricksapps.com", refused("app.aws.databricksapps.com", "Databricks", workspace)},
		{workspace, "https://evilazuredatabricks.net", refused("evilazuredatabricks.net", "Databricks", workspace)},
		{"https://accounts.azuredatabricks.net/oidc/accounts/1/v1/token", "https://evil.example", refused("evil.example", "Databricks", "https://accounts.azuredatabricks.net/oidc/accounts/1/v1/token")},
		{"one-of-its-own", "https://minio.acme.com", ""},
		{"sts.amazonaws.com", "https://[", "not a URL"},
	} {
		got := ""
		if err := policy.CheckAudience(tt.audience, tt.endpoint); err != nil {
			got = err.Error()
		}
		if got != tt.err {
			t.Errorf("%q at %q: error is %q, want %q", tt.audience, tt.endpoint, got, tt.err)
		}
	}
}

func TestCheckLogin(t *testing.T) {
	t.Parallel()
	for audience, want := range map[string]string{
		"snowflakecomputing.com": "", "trino.acme.com": "",
		"sts.amazonaws.com":          `"sts.amazonaws.com" is the audience of AWS: the warehouse that got such a token could use it there`,
		"api://AzureADTokenExchange": `"api://AzureADTokenExchange" is the audience of Microsoft Entra ID: the warehouse that got such a token could use it there`,
	} {
		got := ""
		if err := policy.CheckLogin(audience); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: error is %q, want %q", audience, got, want)
		}
	}
}
