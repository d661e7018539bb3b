package provider_test

import (
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// entraToken is the one hop at Entra ID. (Microsoft identity platform: OAuth
// 2.0 client credentials flow; authentication and authorization error codes)
var entraToken = hop{
	name:    "token",
	reply:   `{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "eyJ0eXAi.entra-access-token.0123456789"}`,
	secrets: []string{"access_token"},
	expiry:  "expires_in",
	kind:    "token_type",
	also:    []mutation{{"token_type", nil}, {"token_type", "pop"}, {"expires_in", "3599s"}, {"expires_in", 3599.5}},
	refusal: `{"error": "$CODE", "error_description": "$MESSAGE Trace ID: 6d1a2b3c-0000-4000-8000-000000000000 Correlation ID: 7e1a2b3c-0000-4000-8000-000000000000 Timestamp: 2000-01-01 00:00:00Z", "error_codes": [70021], "timestamp": "2000-01-01 00:00:00Z", "error_uri": "https://login.microsoftonline.com/error?code=70021"}`,
	refusals: []refusal{
		{401, "invalid_client", "AADSTS700213: No matching federated identity record found for presented assertion subject 'repo:acme/analytics:environment:production'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."},
		{401, "invalid_client", "AADSTS700211: No matching federated identity record found for presented assertion issuer 'https://token.actions.githubusercontent.com'."},
		{401, "invalid_client", "AADSTS700212: No matching federated identity record found for presented assertion audience 'api://AzureADTokenExchange'."},
		{401, "invalid_client", "AADSTS70025: The client '11111111-2222-3333-4444-555555555555'(dbt) has no configured federated identity credentials."},
		{401, "invalid_client", "AADSTS700024: Client assertion is not within its valid time range."},
		{401, "invalid_client", "AADSTS50013: Assertion failed signature validation."},
		{400, "unauthorized_client", "AADSTS700016: Application with identifier '11111111-2222-3333-4444-555555555555' was not found in the directory 'Acme'."},
		{400, "invalid_request", "AADSTS90002: Tenant 'acme.example' not found."},
		{400, "invalid_request", "AADSTS900382: Confidential Client is not supported in Cross Cloud request."},
		{401, "invalid_client", "AADSTS7000112: Application is disabled."},
		{400, "invalid_grant", "AADSTS65001: The user or administrator has not consented to use the application."},
		{400, "invalid_grant", "AADSTS50196: The server terminated an operation because it encountered a loop while processing a request."},
		{400, "invalid_resource", "AADSTS500011: The resource principal named https://database.windows.net was not found in the tenant named Acme."},
		{400, "invalid_scope", "AADSTS1002012: The provided value for scope is not valid."},
		{400, "invalid_grant", "AADSTS50034: The user account does not exist in the directory."},
		{400, "invalid_grant", "AADSTS50105: Your administrator has configured the application to block users unless they are specifically granted access."},
		{400, "invalid_grant", "AADSTS53003: Access has been blocked by Conditional Access policies."},
		{400, "invalid_grant", "AADSTS9999999: A code of tomorrow."},
		{400, "temporarily_unavailable", "AADSTS90033: A transient error has occurred. Please try again."},
	},
	passing: []refusal{
		{400, "invalid_request", "AADSTS50166: Request to External OIDC endpoint failed."},
		{400, "invalid_request", "AADSTS501661: Request to External OIDC endpoint failed."},
		{400, "invalid_request", "AADSTS90061: Request to External OIDC endpoint failed."},
		{400, "temporarily_unavailable", "AADSTS90055: There are too many incoming requests."},
		{400, "invalid_request", "AADSTS90033: A transient error has occurred. Please try again."},
		{400, "invalid_grant", "AADSTS90012: The request has timed out."},
	},
}

// entraString is how version 1 of the endpoint, and some clouds, write numbers.
var entraString = hop{
	name:     "token",
	reply:    `{"token_type": "bearer", "expires_in": "3599", "ext_expires_in": "3599", "expires_on": "946688399", "resource": "https://database.usgovcloudapi.net", "access_token": "eyJ0eXAi.entra-access-token.0123456789"}`,
	secrets:  []string{"access_token"},
	expiry:   "expires_in",
	kind:     "token_type",
	refusal:  entraToken.refusal,
	refusals: entraToken.refusals[:1],
}

const application = "11111111-2222-3333-4444-555555555555"

var entra = []fixture{{
	name: "entra",
	target: `
    exchange:
      entra: {tenant: 99999999-8888-7777-6666-555555555555, client_id: ` + application + `, scope: https://storage.azure.com/.default}`,
	hops: []hop{entraToken},
	want: issued{kind: "access_token", id: application, life: 3599 * time.Second},
}, {
	name: "entra-government",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      entra: {tenant: acme.onmicrosoft.us, client_id: ` + application + `, authority: https://login.microsoftonline.us}`,
	place: typed("sqlserver", "entra", credential.Warehouse{Host: "acme.database.usgovcloudapi.net"}),
	hops:  []hop{entraString},
	want:  issued{kind: "access_token", id: application, life: 3599 * time.Second},
}}

func TestEntraRefusesPolicies(t *testing.T) {
	t.Parallel()
	const good = "tenant: acme.example, client_id: " + application
	checkPolicies(t, "entra", []policyCase{
		{name: "good", block: good, place: typed("fabric", "entra", credential.Warehouse{})},
		{name: "with a scope", block: good + ", scope: https://storage.azure.com/.default"},
		{name: "a region's authority", block: good + ", scope: a/.default, authority: https://westeurope.login.microsoft.com/"},
		{name: "China", block: good + ", scope: a/.default, authority: https://login.partner.microsoftonline.cn"},
		{name: "an authority of its own with an audience of its own", block: good + ", scope: a/.default, authority: https://login.acme.example, audience: acme"},
		{name: "nothing", block: "", err: "entra has no tenant\nentra has no client_id"},
		{name: "any tenant", block: "tenant: common, client_id: " + application, err: `tenant "common": want a tenant's id or domain`},
		{name: "a path for a tenant", block: "tenant: a.example/x, client_id: " + application, err: `tenant "a.example/x": want a tenant's id or domain`},
		{name: "no id", block: "tenant: acme.example, client_id: dbt", err: `client_id "dbt": want an application (client) id, not the object id`},
		{name: "a scope of one's choice", block: good + ", scope: https://database.windows.net/user_impersonation",
			err: `scope "https://database.windows.net/user_impersonation": want a resource and /.default, such as https://database.windows.net/.default`},
		{name: "two scopes", block: good + ", scope: a/.default b/.default", err: `scope "a/.default b/.default": want a resource and /.default, such as https://database.windows.net/.default`},
		{name: "plain http", block: good + ", authority: http://login.microsoftonline.com", err: `authority "http://login.microsoftonline.com": scheme is "http", want https (http is for loopback only)`},
		{name: "an authority with a tenant", block: good + ", authority: https://login.microsoftonline.com/acme", err: `authority "https://login.microsoftonline.com/acme": has a path, want https://HOST`},
		{name: "somebody else's authority", block: good + ", authority: https://evil.example",
			err: `authority: host "evil.example" is not one of Microsoft Entra ID, whose audience "api://AzureADTokenExchange" the token has: give an audience of its own`},
		{name: "a vendor's audience to another", block: good + ", audience: sts.amazonaws.com",
			err: `audience: host "login.microsoftonline.com" is not one of AWS, whose audience "sts.amazonaws.com" the token has: give an audience of its own`},
		{name: "no default", block: good, place: typed("snowflake", "entra", credential.Warehouse{}), err: `provider "entra": scope is required: type "snowflake" has no default`},
		{name: "a resource of one's own", block: good + `, scope: "api://trino.acme.example/.default"`, place: typed("trino", "entra", credential.Warehouse{})},
		{name: "Microsoft's databases for somebody's Trino", block: good + `, scope: "https://database.windows.net/.default"`, place: typed("trino", "entra", credential.Warehouse{}),
			err: `provider "entra": scope is "https://database.windows.net/.default", so type "trino" would get a token that is valid for a Microsoft service: set the scope of your own resource`},
		{name: "Azure Databricks for Snowflake", block: good + `, scope: 2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default`, place: typed("snowflake", "entra", credential.Warehouse{}),
			err: `provider "entra": scope is "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default", so type "snowflake" would get a token that is valid for a Microsoft service: set the scope of your own resource`},
		{name: "no dbt", block: good, err: `provider "entra": scope is required: a target without dbt has no default`},
	})
}

// TestEntraScopes: by type and cloud, what is asked for.
func TestEntraScopes(t *testing.T) {
	t.Parallel()
	checkScopes(t, []scopeCase{
		{"tenant: acme.example, client_id: " + application, "fabric", "https://database.windows.net/.default"},
		{"tenant: acme.example, client_id: " + application, "sqlserver", "https://database.windows.net/.default"},
		{"tenant: acme.example, client_id: " + application, "postgres", "https://ossrdbms-aad.database.windows.net/.default"},
		{"tenant: acme.example, client_id: " + application, "databricks", "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"},
		{"tenant: acme.example, client_id: " + application, "duckdb", "https://storage.azure.com/.default"},
		{"tenant: acme.example, authority: https://login.microsoftonline.us, client_id: " + application, "postgres", "https://ossrdbms-aad.database.usgovcloudapi.net/.default"},
		{"tenant: acme.example, authority: https://login.partner.microsoftonline.cn, client_id: " + application, "fabric", "https://database.chinacloudapi.cn/.default"},
		{"tenant: acme.example, authority: https://login.chinacloudapi.cn/, client_id: " + application, "databricks", "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"},
		{"tenant: acme.example, scope: https://analysis.windows.net/powerbi/api/.default, client_id: " + application, "fabric", "https://analysis.windows.net/powerbi/api/.default"},
	})
}
