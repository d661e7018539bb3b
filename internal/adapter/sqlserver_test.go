package adapter_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestSQLServer(t *testing.T) {
	t.Parallel()
	testRender(t, []renderCase{
		{name: "a token of Entra ID", provider: "entra", block: standin.Block("sqlserver"),
			want: "authentication: \"ActiveDirectoryAccessToken\"\naccess_token: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\naccess_token_expires_on: 1795600000\nDBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "a login that a vault lends", provider: "vault", block: standin.Block("sqlserver"),
			want: "authentication: \"sql\"\nuser: \"v-dbt-1\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"},
	})
}

// TestSQLServerServicePrincipal: the server names the place where its client
// sends the secret, so it must be one of Microsoft's.
func TestSQLServerServicePrincipal(t *testing.T) {
	t.Parallel()
	g := grant(t, issuer(t), "{from: profiles.yml}", standin.Exchange("sqlserver", "vault"))
	c := credential.Credential{Kind: "service_principal", User: "app", Password: secret.New("marked")}
	for _, tt := range []struct{ name, block, err string }{
		{name: "Azure SQL", block: standin.Block("sqlserver")},
		{name: "loopback", block: `{type: sqlserver, host: 127.0.0.1, database: marts}`},
		{name: "a server of one's own", block: `{type: sqlserver, host: sql.acme.example, database: marts}`,
			err: `dbt output of type "sqlserver": host "sql.acme.example" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := adapter.Render(adapter.Input{Facts: g, Type: "sqlserver", Block: node(t, tt.block), Credential: c})
			checkUsage(t, err, tt.err)
		})
	}
}

// TestSQLServerPlaces has each way to lead a login astray, by its name.
func TestSQLServerPlaces(t *testing.T) {
	t.Parallel()
	block := func(keys string) string { return "{type: sqlserver, database: marts, " + keys + "}" }
	testPlaces(t, []placeCase{
		{name: "a server of one's own", provider: "vault", block: block(`host: sql.acme.example, port: 1433, encrypt: yes`)},
		{name: "an instance", provider: "vault", block: block(`server: 'sql.acme.example\DW'`)},
		{name: "a stand-in on loopback", provider: "vault", block: block(`host: 127.0.0.1, encrypt: false, trust_cert: true`)},
		{name: "Azure SQL Managed Instance, from outside", provider: "entra", block: block(`host: mi.public.abc123.database.windows.net, port: 3342`)},
		{name: "Synapse without servers", provider: "entra", block: block(`host: acme-ondemand.sql.azuresynapse.net`)},
		{name: "Synapse in China", provider: "entra", block: block(`host: acme.sql.azuresynapse.azure.cn`)},
		{name: "Azure SQL for the US government", provider: "entra", block: block(`host: ACME.database.usgovcloudapi.net, backend: pyodbc`)},
		{name: "a token for a server of one's own", provider: "entra", block: block(`host: sql.acme.example`), err: `host "sql.acme.example" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
		{name: "a token for a host that ends alike", provider: "entra", block: block(`host: database.windows.net.evil.example`), err: `host "database.windows.net.evil.example" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
		{name: "a token by a backend that takes none", provider: "entra", block: block(`host: acme.database.windows.net, backend: adbc`), err: `backend is "adbc", but only pyodbc and mssql-python accept a token of Entra ID`},
		{name: "a token by mssql-python", provider: "entra", block: block(`host: acme.database.windows.net, backend: mssql-python`)},
		{name: "a host in Jinja", provider: "vault", block: block(`host: "{{ env_var('H') }}"`), err: "host must be a literal: the login is sent there"},
		{name: "another key in the host", provider: "vault", block: block(`host: "sql.acme.example;Encrypt=no"`), err: `host is "sql.acme.example;Encrypt=no", want one server`},
		{name: "another key in the port", provider: "vault", block: block(`host: sql.acme.example, port: "1433;Encrypt=no"`), err: `port is "1433;Encrypt=no", want a number`},
		{name: "another key in the driver", provider: "vault", block: block(`host: sql.acme.example, driver: "{a};Server=evil.example;{b}"`), err: `driver is "{a};Server=evil.example;{b}", want the name of an ODBC driver`},
		{name: "a driver in Jinja", provider: "vault", block: block(`host: sql.acme.example, driver: "{{ env_var('D') }}"`), err: "driver and backend must be literals: they carry the login"},
		{name: "in the clear", provider: "vault", block: block(`host: sql.acme.example, encrypt: false`), err: `encrypt is "false", want TLS (turning it off is for loopback only)`},
		{name: "not verified", provider: "vault", block: block(`host: sql.acme.example, trust_cert: true`), err: `trust_cert is "true", want the certificate verified (turning it off is for loopback only)`},
	})
}
