package adapter_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestFabric(t *testing.T) {
	t.Parallel()
	testRender(t, []renderCase{
		{name: "a token of Entra ID", provider: "entra", block: standin.Block("fabric"),
			want: "authentication: \"ActiveDirectoryAccessToken\"\naccess_token: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\nDBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "a service principal that a vault lends", provider: "vault", block: standin.Block("fabric"),
			want: "authentication: \"ActiveDirectoryServicePrincipal\"\nclient_id: \"66666666-7777-8888-9999-000000000000\"\nclient_secret: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"},
	})
}

// TestFabricPlaces has each way to lead a login astray, by its name.
func TestFabricPlaces(t *testing.T) {
	t.Parallel()
	block := func(keys string) string {
		return "{type: fabric, database: marts, tenant_id: acme.example, " + keys + "}"
	}
	testPlaces(t, []placeCase{
		{name: "a SQL database in Fabric", provider: "vault", block: block(`server: "acme.database.fabric.microsoft.com,1433"`)},
		{name: "an older warehouse", provider: "vault", block: block(`host: acme.datawarehouse.pbidedicated.windows.net, encrypt: true, trust_cert: false`)},
		{name: "a stand-in on loopback", provider: "vault", block: block(`host: "127.0.0.1,1433", encrypt: false, trust_cert: true`)},
		{name: "no host", provider: "vault", block: block(`workspace_name: acme`), err: "requires host: without it dbt-fabric sends the login to Fabric's API to find it"},
		{name: "a ring of Microsoft's own", provider: "entra", block: block(`host: abc-def.msit-datawarehouse.fabric.microsoft.com`)},
		{name: "a zone of Fabric's", provider: "entra", block: block(`host: abc.z12.datawarehouse.fabric.microsoft.com`)},
		{name: "a database of Fabric's", provider: "entra", block: block(`host: abc-def.database.fabric.microsoft.com`)},
		{name: "Power BI's", provider: "entra", block: block(`host: abc.dxt-datawarehouse.pbidedicated.windows.net`)},
		{name: "Fabric's own domain before another", provider: "entra", block: block(`host: abc.datawarehouse.fabric.microsoft.com.evil.example`), err: `host "abc.datawarehouse.fabric.microsoft.com.evil.example" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
		{name: "a domain of Microsoft's where strangers have names", provider: "entra", block: block(`host: evil.cloudapp.azure.com`), err: `host "evil.cloudapp.azure.com" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
		{name: "a foreign host", provider: "vault", block: block(`host: evil.example`), err: `host "evil.example" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
		{name: "a host that ends alike", provider: "vault", block: block(`host: evilfabric.microsoft.com`), err: `host "evilfabric.microsoft.com" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
		{name: "another key in the host", provider: "vault", block: block(`host: "acme.database.windows.net;Server=evil.example"`), err: `host is "acme.database.windows.net;Server=evil.example", want one server`},
		{name: "another key in the database", provider: "vault", block: `{type: fabric, tenant_id: acme.example, host: acme.database.windows.net, database: "x;Server=evil.example"}`,
			err: `database is "x;Server=evil.example", want a name that is valid in a connection string`},
		{name: "another key in the driver", provider: "entra", block: block(`host: acme.datawarehouse.fabric.microsoft.com, driver: "x};Server=evil.example;{"`),
			err: `driver is "x};Server=evil.example;{", want the name of an ODBC driver`},
		{name: "a driver", provider: "entra", block: block(`host: acme.datawarehouse.fabric.microsoft.com, driver: "ODBC Driver 18 for SQL Server"`)},
		{name: "a driver in Jinja", provider: "entra", block: block(`host: acme.datawarehouse.fabric.microsoft.com, driver: "{{ env_var('D') }}"`)},
		{name: "a database in Jinja", provider: "vault", block: `{type: fabric, tenant_id: acme.example, host: acme.database.windows.net, database: "{{ env_var('D') }}"}`, err: "database must be a literal: the login is sent there"},
		{name: "in the clear", provider: "vault", block: block(`host: acme.database.windows.net, encrypt: false`), err: `encrypt is "false", want TLS (turning it off is for loopback only)`},
		{name: "not verified", provider: "vault", block: block(`host: acme.database.windows.net, TrustServerCertificate: true`), err: `trust_cert is "true", want the certificate verified (turning it off is for loopback only)`},
		{name: "verification in Jinja", provider: "vault", block: block(`host: acme.database.windows.net, trust_cert: "{{ env_var('T') }}"`), err: "trust_cert must be a literal: the login is sent there"},
		{name: "Fabric's API elsewhere", provider: "vault", block: block(`host: acme.database.windows.net, fabric_base_api_uri: "https://evil.example/v1"`), err: `fabric_base_api_uri: host "evil.example" does not belong to Fabric, but the login would be sent there`},
		{name: "Purview by http", provider: "vault", block: block(`host: acme.database.windows.net, purview: "http://acme.purview.azure.com"`), err: `purview_endpoint is "http://acme.purview.azure.com", want https (http is for loopback only)`},
		{name: "no tenant for a token", provider: "entra", block: `{type: fabric, host: acme.database.windows.net, database: marts}`},
		{name: "a foreign host for a token", provider: "entra", block: block(`host: evil.example`), err: `host "evil.example" does not belong to Azure SQL, Synapse and Fabric, but the login is valid for all of its hosts`},
		{name: "no tenant", provider: "vault", block: `{type: fabric, host: acme.database.windows.net, database: marts}`, err: `tenant_id is "", want the id of the service principal's tenant`},
	})
}
