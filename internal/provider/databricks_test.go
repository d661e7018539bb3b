package provider_test

import (
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// databricksToken is the first hop at Databricks. (Databricks: Authenticate
// with an identity provider token)
var databricksToken = hop{
	name:    "token",
	reply:   `{"access_token": "eyJraWQi.databricks-access-token.0123456789", "scope": "all-apis", "token_type": "Bearer", "expires_in": 298}`,
	secrets: []string{"access_token"},
	expiry:  "expires_in",
	kind:    "token_type",
	also:    []mutation{{"token_type", nil}},
	refusal: `{"error": "$CODE", "error_description": "$MESSAGE"}`,
	refusals: []refusal{
		{400, "invalid_grant", "No federation policy matches the token."},
		{400, "invalid_request", "TOKEN_SUBJECT_INVALID: the subject of the token is not the policy's."},
		{401, "invalid_client", "Client authentication failed."},
	},
	passing: []refusal{{400, "temporarily_unavailable", "Try again."}, {400, "REQUEST_LIMIT_EXCEEDED", "Too many requests."}},
}

const (
	principal = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	account   = "12121212-3434-5656-7878-909090909090"
)

var databricks = []fixture{{
	name: "databricks",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      databricks: {client_id: ` + principal + `, account_id: ` + account + `}`,
	place: typed("databricks", "databricks", credential.Warehouse{Host: "dbc-1.cloud.databricks.com"}),
	hops:  []hop{databricksToken},
	want:  issued{kind: "access_token", id: principal, life: 298 * time.Second},
}, {
	name: "databricks-account",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      databricks: {account_id: ` + account + `, host: accounts.azuredatabricks.net}`,
	place: typed("databricks", "databricks", credential.Warehouse{Host: "adb-1.7.azuredatabricks.net"}),
	hops: []hop{{
		name: "token", reply: databricksToken.reply, secrets: databricksToken.secrets, expiry: databricksToken.expiry,
		refusal:  `{"errorCode": "$CODE", "errorSummary": "$MESSAGE"}`, // the form of accounts, as databricks-sdk-py reads it
		refusals: []refusal{{400, "invalid_request", "No federation policy matches the token."}},
	}},
	want: issued{kind: "access_token", id: "repo:acme/analytics:environment:production", life: 298 * time.Second},
}, {
	name: "databricks-lakebase-instance",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      databricks: {client_id: ` + principal + `, audience: https://github.com/acme, host: https://dbc-1.cloud.databricks.com/, database_instance: marts}`,
	place: typed("postgres", "databricks", credential.Warehouse{Host: "instance-1.database.cloud.databricks.com"}),
	hops: []hop{databricksToken, {
		name:     "password",
		reply:    `{"token": "eyJraWQi.lakebase-password.0123456789", "expiration_time": "2000-01-01T01:00:00Z"}`,
		secrets:  []string{"token"},
		expiry:   "expiration_time",
		refusal:  lakebaseRefusal,
		refusals: lakebaseRefusals,
	}},
	want: issued{kind: "access_token", id: principal, life: time.Hour},
}, {
	name: "databricks-lakebase-endpoint",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      databricks: {client_id: ` + principal + `, host: dbc-1.cloud.databricks.com, database_endpoint: projects/acme/branches/production/endpoints/primary}`,
	place: typed("postgres", "databricks", credential.Warehouse{Host: "ep-1.database.us-east-1.cloud.databricks.com"}),
	hops: []hop{databricksToken, {
		name:     "password",
		reply:    `{"token": "eyJraWQi.lakebase-password.0123456789", "expire_time": "2000-01-01T01:00:00Z"}`,
		secrets:  []string{"token"},
		expiry:   "expire_time",
		refusal:  lakebaseRefusal,
		refusals: lakebaseRefusals,
	}},
	want: issued{kind: "access_token", id: principal, life: time.Hour},
}}

// lakebaseRefusal is the form of Databricks' REST API.
const lakebaseRefusal = `{"error_code": "$CODE", "message": "$MESSAGE", "details": []}`

var lakebaseRefusals = []refusal{
	{403, "PERMISSION_DENIED", "The caller is not a user of the workspace."},
	{404, "RESOURCE_DOES_NOT_EXIST", "Database instance 'marts' does not exist."},
}

func TestDatabricksRefusesPolicies(t *testing.T) {
	t.Parallel()
	place := typed("databricks", "databricks", credential.Warehouse{Host: "dbc-1.cloud.databricks.com"})
	lakebase := typed("postgres", "databricks", credential.Warehouse{Host: "instance-1.database.cloud.databricks.com"})
	const byID, byHost = "account_id: " + account, "host: dbc-1.cloud.databricks.com"
	checkPolicies(t, "databricks", []policyCase{
		{name: "good", block: byID + ", client_id: " + principal, place: place},
		{name: "a host, whose token endpoint is the audience", block: byHost, place: place},
		{name: "in capitals", block: byID, place: typed("databricks", "databricks", credential.Warehouse{Host: "ADB-1.7.AzureDatabricks.net"})},
		{name: "Lakebase", block: byHost + ", database_instance: marts", place: lakebase},
		{name: "a stand-in", block: byID + ", host: http://127.0.0.1:8080", place: place},
		{name: "a proxy of one's own, with an audience of its own", block: "audience: acme, host: databricks.acme.example", place: place},
		{name: "a dbt host of one's own, with an audience of its own", block: "audience: acme", place: typed("databricks", "databricks", credential.Warehouse{Host: "databricks.acme.example"})},
		{name: "no audience", block: "client_id: " + principal, place: place,
			err: "audience: is required: set the audience in the federation policy, or set account_id, which is Databricks' default"},
		{name: "no ids", block: "client_id: dbt, account_id: acme",
			err: `client_id "dbt": want a service principal's application id` + "\n" + `account_id "acme": want an account's id`},
		{name: "a console without an account", block: "audience: acme, host: accounts.gcp.databricks.com", err: "host: is an account console, which requires account_id"},
		{name: "a path", block: byID + ", host: https://dbc-1.cloud.databricks.com/sql", err: `host "https://dbc-1.cloud.databricks.com/sql": has a path, want https://HOST`},
		{name: "a port without a scheme", block: byID + `, host: "dbc-1.cloud.databricks.com:443"`, err: `host "dbc-1.cloud.databricks.com:443": want a host, or https://HOST`},
		{name: "plain http", block: byID + ", host: http://dbc-1.cloud.databricks.com", err: `host "http://dbc-1.cloud.databricks.com": scheme is "http", want https (http is for loopback only)`},
		{name: "somebody else's host", block: byID + ", host: evil.example",
			err: `host: host "evil.example" is not one of Databricks, whose audience "` + account + `" the token has: give an audience of its own`},
		{name: "the account's id by hand, in capitals", block: "account_id: AAAAAAAA-3434-5656-7878-909090909090, audience: aaaaaaaa-3434-5656-7878-909090909090, host: evil.example",
			err: `host: host "evil.example" is not one of Databricks, whose audience "aaaaaaaa-3434-5656-7878-909090909090" the token has: give an audience of its own`},
		{name: "a workspace's audience to somebody else", block: "audience: https://dbc-1.cloud.databricks.com/oidc/v1/token, host: evil.example",
			err: `host: host "evil.example" is not one of Databricks, whose audience "https://dbc-1.cloud.databricks.com/oidc/v1/token" the token has: give an audience of its own`},
		{name: "two databases", block: byHost + ", database_instance: marts, database_endpoint: projects/a/branches/b/endpoints/c",
			err: "database_endpoint: is for Lakebase Autoscaling, database_instance for Provisioned: set only one"},
		{name: "no endpoint", block: byHost + ", database_endpoint: ep-1", err: `database_endpoint "ep-1": want projects/PROJECT/branches/BRANCH/endpoints/ENDPOINT`},
		{name: "no host", block: byID, err: `provider "databricks": host is required: the workspace that issues the token`},
		{name: "a database's host", block: byID + ", database_instance: marts", place: lakebase, err: `provider "databricks": host is required: the workspace that issues the token`},
		{name: "Lakebase without a database", block: byHost, place: lakebase,
			err: `provider "databricks": database_instance or database_endpoint is required: Lakebase issues a password for one of them`},
		{name: "Lakebase by the account", block: byID + ", host: accounts.cloud.databricks.com, database_instance: marts", place: lakebase,
			err: `provider "databricks": host is an account console, but Lakebase accepts only tokens of its own workspace`},
		{name: "a database for no Lakebase", block: byHost + ", database_instance: marts", place: place,
			err: `provider "databricks": database_instance and database_endpoint are for Lakebase, which is type "postgres", not type "databricks"`},
		{name: "somebody else's host in the dbt output", block: byID, place: typed("databricks", "databricks", credential.Warehouse{Host: "evil.example"}),
			err: `provider "databricks": host "evil.example" is not one of Databricks, whose audience "` + account + `" the token has: give an audience of its own`},
		{name: "a dbt host of one's own, with Databricks' exchange", block: "audience: acme, host: dbc-1.cloud.databricks.com", place: typed("databricks", "databricks", credential.Warehouse{Host: "lake.acme.example"}),
			err: `provider "databricks": host "lake.acme.example" of the dbt output does not belong to Databricks, but the token of "dbc-1.cloud.databricks.com" would be sent there: remove host from the exchange`},
		{name: "a dbt host of one's own, which is the exchange's", block: "audience: acme, host: https://lake.acme.example/", place: typed("databricks", "databricks", credential.Warehouse{Host: "Lake.acme.example"})},
		{name: "the same with a port", block: "audience: acme, host: https://lake.acme.example:8443/", place: typed("databricks", "databricks", credential.Warehouse{Host: "lake.acme.example:8443"})},
		{name: "a dbt host that names another before an @", block: "audience: acme, host: dbc-1.cloud.databricks.com", place: typed("databricks", "databricks", credential.Warehouse{Host: "dbc-1.cloud.databricks.com@evil.example"}),
			err: `provider "databricks": host "dbc-1.cloud.databricks.com@evil.example" of the dbt output does not belong to Databricks, but the token of "dbc-1.cloud.databricks.com" would be sent there: remove host from the exchange`},
		{name: "a dbt host that is none", block: "audience: acme, host: dbc-1.cloud.databricks.com", place: typed("databricks", "databricks", credential.Warehouse{Host: "%zz"}),
			err: `provider "databricks": host "%zz" of the dbt output does not belong to Databricks, but the token of "dbc-1.cloud.databricks.com" would be sent there: remove host from the exchange`},
		{name: "a URL in the dbt output", block: byID, place: typed("databricks", "databricks", credential.Warehouse{Host: "dbc-1.cloud.databricks.com/x"}),
			err: `provider "databricks": host "dbc-1.cloud.databricks.com/x" of the dbt output: want a host, or https://HOST`},
	})
}
