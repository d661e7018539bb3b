package adapter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestServed has, for each pair that dbt's own client asks a broker for, what
// the profile and the variables become.
func TestServed(t *testing.T) {
	t.Parallel()
	const (
		tags     = `query_tags: "{\"oidc_dbt_run_id\":\"16055869479\",\"oidc_dbt_target\":\"prod\"}"` + "\n"
		metadata = "DBT_ENV_SECRET_OIDC_TOKEN (secret)\nDATABRICKS_AUTH_TYPE=metadata-service\nDATABRICKS_METADATA_SERVICE_URL (secret)\n"
		token    = "token: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n"
		identity = "IDENTITY_ENDPOINT=http://127.0.0.1:20001/token\nIDENTITY_HEADER (secret)\n"
		azure    = "adb-1234567890123456.7.azuredatabricks.net"
		lake     = `extensions: ["azure"]` + "\n" + `secrets: [{type: "azure", account_name: "acmelake", provider: "managed_identity"}]` + "\n" +
			`settings: {azure_transport_option_type: "curl"}` + "\n"
	)
	entra := func(more string) string {
		return "{entra: {tenant: acme.example, client_id: 66666666-7777-8888-9999-000000000000" + more + "}}"
	}
	i := issuer(t)
	for _, tt := range []struct {
		name, provider, exchange, block string
		route                           route.Route
		want                            string
	}{
		{name: "Databricks", provider: "databricks", block: standin.Block("databricks"),
			route: route.Route{Kind: route.DatabricksMetadata, Upstream: route.Upstream{Host: azure, Port: 443}}, want: token + tags + metadata},
		{name: "Databricks with a token of Entra ID", provider: "entra", block: standin.Block("databricks"),
			route: route.Route{Kind: route.DatabricksMetadata, Upstream: route.Upstream{Host: azure, Port: 443}}, want: token + tags + metadata},
		{name: "a workspace on loopback", provider: "databricks", block: `{type: databricks, host: "127.0.0.1:8443", http_path: /x, schema: marts}`,
			route: route.Route{Kind: route.DatabricksMetadata, Upstream: route.Upstream{Host: "127.0.0.1", Port: 8443}}, want: token + tags + metadata},
		{name: "Fabric", provider: "entra", exchange: entra(""), block: standin.Block("fabric"),
			route: route.Route{Kind: route.FederatedTokenURL, IDToken: true},
			want: `authentication: "workload_identity"` + "\n" + `tenant_id: "acme.example"` + "\n" + `client_id: "66666666-7777-8888-9999-000000000000"` + "\n" +
				`federated_token_url: "http://127.0.0.1:20001/token"` + "\n" + `federated_token_header: "Bearer {{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}"` + "\n" +
				"DBT_ENV_SECRET_OIDC_TOKEN (secret)\nAZURE_AUTHORITY_HOST=https://login.microsoftonline.com\n"},
		{name: "Fabric with the public authority by name", provider: "entra", exchange: entra(`, authority: "https://login.microsoftonline.com/"`), block: standin.Block("fabric"),
			route: route.Route{Kind: route.FederatedTokenURL, IDToken: true},
			want: `authentication: "workload_identity"` + "\n" + `tenant_id: "acme.example"` + "\n" + `client_id: "66666666-7777-8888-9999-000000000000"` + "\n" +
				`federated_token_url: "http://127.0.0.1:20001/token"` + "\n" + `federated_token_header: "Bearer {{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}"` + "\n" +
				"DBT_ENV_SECRET_OIDC_TOKEN (secret)\nAZURE_AUTHORITY_HOST=https://login.microsoftonline.com\n"},
		{name: "Fabric in a sovereign cloud", provider: "entra", exchange: entra(`, authority: "https://login.microsoftonline.us"`), block: standin.Block("fabric"),
			route: route.Route{Kind: route.AzureManagedIdentity},
			want:  `authentication: "token_credential"` + "\n" + `credential_class: "azure.identity.ManagedIdentityCredential"` + "\n" + identity},
		{name: "Fabric with a scope", provider: "entra", exchange: entra(`, scope: "https://database.windows.net/.default"`), block: standin.Block("fabric"),
			route: route.Route{Kind: route.AzureManagedIdentity},
			want:  `authentication: "token_credential"` + "\n" + `credential_class: "azure.identity.ManagedIdentityCredential"` + "\n" + identity},
		{name: "SQL Server", provider: "entra", block: standin.Block("sqlserver"),
			route: route.Route{Kind: route.AzureManagedIdentity}, want: `authentication: "MSI"` + "\n" + identity},
		{name: "SQL Server by mssql-python", provider: "entra", block: `{type: sqlserver, backend: mssql-python, host: acme.database.windows.net, database: marts}`,
			route: route.Route{Kind: route.AzureManagedIdentity, Only: true}, want: `authentication: "MSI"` + "\n" + identity},
		{name: "DuckDB on Azure Storage", provider: "entra", block: standin.Block("duckdb"),
			route: route.Route{Kind: route.AzureManagedIdentity}, want: lake + identity},
		{name: "DuckDB with an identity of one's own", provider: "entra",
			block: `{type: duckdb, secrets: [{type: azure, account_name: acmelake, provider: managed_identity, client_id: x, Object_ID: y, resource_id: z}]}`,
			route: route.Route{Kind: route.AzureManagedIdentity}, want: lake + identity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			block := node(t, tt.block)
			dbtType := block.Content[1].Value
			if tt.exchange == "" {
				tt.exchange = standin.Exchange(dbtType, tt.provider)
			}
			g := grant(t, i, "{from: profiles.yml}", tt.exchange)
			r, err := adapter.Route(dbtType, tt.provider, g.Exchange(), block)
			if err != nil || r != tt.route {
				t.Errorf("the route is %+v, %v, want %+v", r, err, tt.route)
			}
			out, err := adapter.Render(adapter.Input{Facts: g, Type: dbtType, Block: block, Credential: standin.Credential(dbtType, tt.provider), Route: standin.Address()})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, k := range out.Keys {
				fmt.Fprintf(&got, "%s: %s\n", k.Name, flow(k.Value))
			}
			if diff := cmp.Diff(tt.want, got.String()+variables(out.Env)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestTools: what a cloud's own tools find without dbt.
func TestTools(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	for _, tt := range []struct {
		name, provider, exchange string
		route                    route.Route
		want                     string
	}{
		{name: "Databricks", provider: "databricks",
			exchange: "{databricks: {host: acme.cloud.databricks.com, account_id: 66666666-7777-8888-9999-000000000000}}",
			route:    route.Route{Kind: route.DatabricksMetadata, Upstream: route.Upstream{Host: "acme.cloud.databricks.com", Port: 443}},
			want:     "DATABRICKS_AUTH_TYPE=metadata-service\nDATABRICKS_METADATA_SERVICE_URL (secret)\nDATABRICKS_HOST=acme.cloud.databricks.com\n"},
		{name: "a Databricks account", provider: "databricks",
			exchange: "{databricks: {host: \"https://accounts.cloud.databricks.com/\", account_id: 66666666-7777-8888-9999-000000000000}}",
			route:    route.Route{Kind: route.DatabricksMetadata, Upstream: route.Upstream{Host: "accounts.cloud.databricks.com", Port: 443}},
			want:     "DATABRICKS_AUTH_TYPE=metadata-service\nDATABRICKS_METADATA_SERVICE_URL (secret)\nDATABRICKS_HOST=https://accounts.cloud.databricks.com/\n"},
		{name: "Azure", provider: "entra", exchange: standin.Exchange("", "entra"), route: route.Route{Kind: route.AzureTokenFile, IDToken: true},
			want: "AZURE_FEDERATED_TOKEN_FILE=/step/file\nAZURE_CLIENT_ID=66666666-7777-8888-9999-000000000000\nAZURE_TENANT_ID=11111111-2222-3333-4444-555555555555\nAZURE_AUTHORITY_HOST=https://login.microsoftonline.com\n"},
		{name: "Azure China", provider: "entra",
			exchange: "{entra: {tenant: acme.example, client_id: 66666666-7777-8888-9999-000000000000, authority: \"https://login.chinacloudapi.cn\"}}",
			route:    route.Route{Kind: route.AzureTokenFile, IDToken: true},
			want:     "AZURE_FEDERATED_TOKEN_FILE=/step/file\nAZURE_CLIENT_ID=66666666-7777-8888-9999-000000000000\nAZURE_TENANT_ID=acme.example\nAZURE_AUTHORITY_HOST=https://login.chinacloudapi.cn\n"},
		{name: "no tools of its own", provider: "oidc", exchange: standin.Exchange("", "oidc")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := grant(t, i, "{from: profiles.yml}", tt.exchange)
			r, err := adapter.Route("", tt.provider, g.Exchange(), nil)
			if err != nil || r != tt.route {
				t.Errorf("the route is %+v, %v, want %+v", r, err, tt.route)
			}
			if r == (route.Route{}) {
				return
			}
			if diff := cmp.Diff(tt.want, variables(adapter.Environment(g, standin.Credential("", tt.provider), standin.Address()))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// variables lists variables; of secret ones the name.
func variables(list []adapter.Variable) string {
	var out strings.Builder
	for _, v := range list {
		if v.Secret {
			fmt.Fprintf(&out, "%s (secret)\n", v.Name)
		} else {
			fmt.Fprintf(&out, "%s=%s\n", v.Name, v.Value.Reveal())
		}
	}
	return out.String()
}

// TestRouteHasEachFault: what is wrong with a block is one error a fault, each
// with the type, as CheckPlaces has them.
func TestRouteHasEachFault(t *testing.T) {
	t.Parallel()
	block := node(t, `{type: postgres, host: localhost, port: 5432, user: dbt, dbname: a, database: b, pass: c, password: d, schema: marts}`)
	_, err := adapter.Route("postgres", "vault", policy.Values{}, block)
	const prefix = `dbt output of type "postgres": `
	want := []string{prefix + "duplicate key: dbname and database are the same setting, remove one", prefix + "duplicate key: pass and password are the same setting, remove one"}
	var got []string
	for _, err := range fault.Each(err) {
		got = append(got, err.Error())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
