package adapter_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestDatabricks(t *testing.T) {
	t.Parallel()
	const (
		login = "token: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n"
		tags  = `query_tags: "{\"oidc_dbt_run_id\":\"16055869479\",\"oidc_dbt_target\":\"prod\"}"` + "\n"
		token = "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"
	)
	testRender(t, []renderCase{
		{name: "a token of its own", provider: "databricks", block: standin.Block("databricks"), want: login + tags + token},
		{name: "a token of Entra ID", provider: "entra", block: standin.Block("databricks"), want: login + tags + token},
		{name: "tags of one's own", provider: "databricks", block: `{type: databricks, host: acme.cloud.databricks.com, query_tags: '{"team": "data"}'}`, want: login + token},
	})
	w, err := adapter.Warehouse("databricks", "databricks", node(t, standin.Block("databricks")))
	if err != nil || w.Host != "adb-1234567890123456.7.azuredatabricks.net" {
		t.Errorf("the warehouse is at %q, %v", w.Host, err)
	}
}

// TestDatabricksPlaces has each way to lead a token astray, by its name.
func TestDatabricksPlaces(t *testing.T) {
	t.Parallel()
	block := func(keys string) string { return "{type: databricks, http_path: /sql/1.0/warehouses/a, " + keys + "}" }
	parameters := func(p string) string { return block("host: acme.cloud.databricks.com, connection_parameters: " + p) }
	local := func(p string) string { return block("host: localhost, connection_parameters: " + p) }
	testPlaces(t, []placeCase{
		{name: "on AWS", provider: "databricks", block: block(`host: acme.cloud.databricks.com`)},
		{name: "on AWS for the US government", provider: "databricks", block: block(`host: ACME.cloud.databricks.us`)},
		{name: "on Google Cloud", provider: "databricks", block: block(`host: 123.4.gcp.databricks.com`)},
		{name: "in Azure China", provider: "entra", block: block(`host: adb-1.2.databricks.azure.cn`)},
		{name: "Entra ID's token on AWS", provider: "entra", block: block(`host: acme.cloud.databricks.com`), err: `host "acme.cloud.databricks.com" does not belong to Azure Databricks, which Entra ID's token is for`},
		{name: "a foreign host", provider: "databricks", block: block(`host: evil.example`), err: `host "evil.example" does not belong to Databricks, but the token would be sent there: a workspace with a custom domain requires its own audience under exchange`},
		{name: "a host that ends alike", provider: "databricks", block: block(`host: evilcloud.databricks.com`), err: `host "evilcloud.databricks.com" does not belong to Databricks, but the token would be sent there: a workspace with a custom domain requires its own audience under exchange`},
		{name: "a foreign host for Entra ID's token", provider: "entra", audience: "api://AzureADTokenExchange", block: block(`host: evil.example`), err: `host "evil.example" does not belong to Databricks, but the token would be sent there`},
		{name: "a domain of one's own, with an audience of its own", provider: "databricks", audience: "https://dbt.acme.example", block: block(`host: lake.acme.example`)},
		{name: "a domain of one's own, by the account's id", provider: "databricks", audience: "66666666-7777-8888-9999-000000000000", block: block(`host: lake.acme.example`),
			err: `host "lake.acme.example" does not belong to Databricks, but the token would be sent there: a workspace with a custom domain requires its own audience under exchange`},
		{name: "a domain of one's own, with Databricks' audience", provider: "databricks", audience: "https://acme.cloud.databricks.com/oidc/v1/token", block: block(`host: lake.acme.example`),
			err: `host "lake.acme.example" does not belong to Databricks, but the token would be sent there: a workspace with a custom domain requires its own audience under exchange`},
		{name: "Databricks' own ring", provider: "databricks", block: block(`host: acme.staging.cloud.databricks.com`)},
		{name: "Databricks' own domain for development", provider: "databricks", block: block(`host: acme.dev.databricks.com`)},
		{name: "an application of somebody's", provider: "databricks", block: block(`host: evil.databricksapps.com`), err: `host "evil.databricksapps.com" does not belong to Databricks, but the token would be sent there: a workspace with a custom domain requires its own audience under exchange`},
		{name: "a host that is a URL", provider: "databricks", block: block(`host: "https://acme.cloud.databricks.com"`), err: `host is "https://acme.cloud.databricks.com", want a host name only: write "acme.cloud.databricks.com", without https://`},
		{name: "a host behind a login", provider: "databricks", block: block(`host: "acme.cloud.databricks.com@evil.example"`), err: `host is "acme.cloud.databricks.com@evil.example", want a host name only`},
		{name: "a stand-in with a port", provider: "databricks", block: block(`host: "127.0.0.1:8443"`)},
		{name: "a host with a port", provider: "databricks", block: block(`host: "acme.cloud.databricks.com:8443"`), err: `host is "acme.cloud.databricks.com:8443", want a host name only`},
		{name: "a host that looks like loopback", provider: "databricks", block: block(`host: "127.0.0.1:1@evil.example"`), err: `host is "…@evil.example", want a host name only`},
		{name: "a host in Jinja", provider: "databricks", block: block(`host: "{{ env_var('H') }}"`), err: "host must be a literal: the token is sent there"},
		{name: "a path in Jinja", provider: "databricks", block: `{type: databricks, host: acme.cloud.databricks.com, http_path: "{{ env_var('P') }}"}`, err: "http_path must be a literal: the token is sent there"},

		{name: "harmless parameters", provider: "databricks", block: parameters(`{_retry_delay_max: 5, use_cloud_fetch: false, _tls_trusted_ca_file: ca.pem, _tls_no_verify: false, _tls_verify_hostname: true, http_headers: {X-Team: data}}`)},
		{name: "no parameters", provider: "databricks", block: parameters(``)},
		{name: "a stand-in on loopback", provider: "databricks", block: local(`{_connection_uri: "https://127.0.0.1:8443/sql", _tls_no_verify: true, _tls_verify_hostname: false, _port: 8443}`)},
		{name: "parameters that are none", provider: "databricks", block: parameters(`x`), err: "connection_parameters is a single value, want a mapping"},
		{name: "another place", provider: "databricks", block: parameters(`{_connection_uri: "https://evil.example/"}`), err: "connection_parameters._connection_uri is for loopback only: the token is sent to host"},
		{name: "another place than loopback", provider: "databricks", block: local(`{_connection_uri: "https://evil.example/"}`), err: "connection_parameters._connection_uri is for loopback only: the token is sent to host"},
		{name: "another place by http", provider: "databricks", block: parameters(`{_connection_uri: "http://evil.example/"}`), err: `connection_parameters._connection_uri is "http://evil.example/", want https (http is for loopback only)`},
		{name: "a port that is a host", provider: "databricks", block: parameters(`{_port: "443@evil.example"}`), err: `connection_parameters._port is "443@evil.example", want a number`},
		{name: "not verified", provider: "databricks", block: parameters(`{_tls_no_verify: true}`), err: `connection_parameters._tls_no_verify is "true", want TLS verified (turning it off is for loopback only)`},
		{name: "the name not verified", provider: "databricks", block: parameters(`{_tls_verify_hostname: 0}`), err: `connection_parameters._tls_verify_hostname is "0", want TLS verified (turning it off is for loopback only)`},
		{name: "verification in Jinja", provider: "databricks", block: parameters(`{_tls_no_verify: "{{ env_var('V') }}"}`), err: "connection_parameters._tls_no_verify must be a literal: it decides where the token is sent"},
		{name: "another login", provider: "databricks", block: parameters(`{auth_type: databricks-oauth}`), err: "connection_parameters.auth_type selects another login: remove it"},
		{name: "another client", provider: "databricks", block: parameters(`{azure_client_id: x}`), err: "connection_parameters.azure_client_id selects another login: remove it"},
		{name: "a header beside the token", provider: "databricks", block: parameters(`{http_headers: {authorization: Basic x}}`)}, // it goes
	})
}
