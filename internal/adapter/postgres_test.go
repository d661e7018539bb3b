package adapter_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	const (
		password = "password: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\n"
		variable = "DBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"
		account  = "user: \"dbt@acme-dbt.iam\"\n"
		proxy    = "host: \"127.0.0.1\"\nport: 20001\nsslmode: \"disable\"\n" + password
		plain    = variable + "PGSSLMODE=disable\n"
	)
	testRender(t, []renderCase{
		{name: "Cloud SQL", provider: "gcp", block: `{type: postgres, host: db.acme.example, port: 5432}`,
			want: password + account + "sslmode: \"require\"\napplication_name: \"oidc-dbt target=prod\"\n" + variable + "PGSSLMODE=require\n"},
		{name: "a CA", provider: "gcp", block: `{type: postgres, host: 10.0.0.3, port: 5432, sslrootcert: ca.pem, application_name: mine}`,
			want: password + account + "sslmode: \"verify-full\"\n" + variable + "PGSSLMODE=verify-full\nPGSSLROOTCERT=ca.pem\n"},
		{name: "a mode", provider: "gcp", block: `{type: postgres, host: 10.0.0.3, port: 5432, sslmode: verify-ca, application_name: mine}`,
			want: password + account + variable + "PGSSLMODE=verify-ca\n"},
		{name: "a lease", provider: "vault", block: `{type: postgres, host: db.acme.example, port: 5432, user: somebody, sslmode: verify-full, application_name: mine}`,
			want: password + "user: \"v-dbt-1\"\n" + variable + "PGSSLMODE=verify-full\n"},
		{name: "loopback", provider: "gcp", block: `{type: postgres, host: localhost, port: 5432, application_name: mine}`,
			want: password + account + variable},
		{name: "RDS", provider: "aws", block: `{type: postgres, host: dw.c1a2.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt, sslmode: verify-full, sslrootcert: global-bundle.pem, application_name: mine}`,
			want: password + "user: \"dbt\"\n" + variable + "PGSSLMODE=verify-full\nPGSSLROOTCERT=global-bundle.pem\n"},
		{name: "Azure", provider: "entra", block: `{type: postgres, host: acme.postgres.database.azure.com, port: 5432, user: dbt-prod, sslmode: require, application_name: mine}`,
			want: password + variable + "PGSSLMODE=require\n"},
		{name: "Lakebase", provider: "databricks", block: `{type: postgres, host: ep-cool-sky-d2ab.database.eu-central-1.cloud.databricks.com, port: 5432, user: 5bf7c6a1-0f43-4a36-a7cf-3a2a9a4d4f5e, application_name: mine}`,
			want: password + "sslmode: \"require\"\n" + variable + "PGSSLMODE=require\n"},
		{name: "Cloud SQL by the proxy", provider: "gcp", served: true, block: `{type: postgres, host: db.acme.example, port: 5432, sslmode: verify-ca, sslrootcert: ca.pem}`,
			want: proxy + account + "application_name: \"oidc-dbt target=prod\"\n" + plain},
		{name: "RDS by the proxy", provider: "aws", served: true, block: `{type: postgres, host: dw.c1a2.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt, application_name: mine}`,
			want: proxy + "user: \"dbt\"\n" + plain},
		{name: "Azure by the proxy", provider: "entra", served: true, block: `{type: postgres, host: acme.postgres.database.azure.com, port: 5432, user: dbt-prod, sslmode: require, application_name: mine}`,
			want: proxy + plain},
		{name: "a lease by the proxy", provider: "vault", served: true, block: `{type: postgres, host: db.acme.example, port: 5432, application_name: mine}`,
			want: proxy + "user: \"oidc-dbt\"\n" + plain},
		{name: "a lease by the proxy, with a name for its user", provider: "vault", served: true, block: `{type: postgres, host: db.acme.example, port: 5432, user: somebody, application_name: mine}`,
			want: proxy + plain},
	})
	out, err := adapter.Render(adapter.Input{
		Facts: grant(t, issuer(t), "{from: profiles.yml}", standin.Exchange("postgres", "gcp")), Type: "postgres",
		Block: node(t, `{type: postgres, host: 10.0.0.3, port: 5432, sslrootcert: system}`), Credential: standin.Credential("postgres", "gcp"), Route: standin.Address(),
	})
	if err != nil || !slices.Contains(out.Remove, "sslrootcert") {
		t.Errorf("what goes is %q, %v: libpq refuses sslrootcert=system without TLS", out.Remove, err)
	}
}

// TestPostgresRoute: the proxy verifies what libpq would, and the name where
// any certificate would do.
func TestPostgresRoute(t *testing.T) {
	t.Parallel()
	type u = route.Upstream
	for _, tt := range []struct {
		name, keys string
		want       u
		err        string
	}{
		{name: "no mode", keys: "host: h", want: u{Host: "h", Port: 5432}},
		{name: "require", keys: "host: h, sslmode: require", want: u{Host: "h", Port: 5432}},
		{name: "the system's authorities", keys: "host: h, sslrootcert: system, sslmode: verify-ca", want: u{Host: "h", Port: 5432}},
		{name: "a CA", keys: "host: h, sslrootcert: ca.pem", want: u{Host: "h", Port: 5432, CAFile: "ca.pem"}},
		{name: "verify-full", keys: "host: h, sslrootcert: ca.pem, sslmode: verify-full", want: u{Host: "h", Port: 5432, CAFile: "ca.pem"}},
		{name: "verify-ca", keys: "host: 10.0.0.3, sslrootcert: ca.pem, sslmode: verify-ca", want: u{Host: "10.0.0.3", Port: 5432, CAFile: "ca.pem", AnyName: true}},
		{name: "require with a CA", keys: "host: h, sslrootcert: ca.pem, sslmode: require", want: u{Host: "h", Port: 5432, CAFile: "ca.pem", AnyName: true}},
		{name: "loopback", keys: "host: 127.0.0.1", want: u{Host: "127.0.0.1", Port: 5432, Plain: true}},
		{name: "loopback, in doubt", keys: "host: localhost, sslmode: prefer, sslrootcert: ca.pem", want: u{Host: "localhost", Port: 5432, Plain: true, CAFile: "ca.pem"}},
		{name: "loopback with TLS", keys: "host: 127.0.0.1, sslmode: verify-full, sslrootcert: ca.pem", want: u{Host: "127.0.0.1", Port: 5432, CAFile: "ca.pem"}},
		{name: "user and database", keys: "host: h, user: dbt, database: analytics", want: u{Host: "h", Port: 5432, User: "dbt", Database: "analytics"}},
		{name: "dbname", keys: "host: h, dbname: analytics", want: u{Host: "h", Port: 5432, Database: "analytics"}},
		{name: "a database in Jinja", keys: `host: h, database: "{{ env_var('D') }}"`, want: u{Host: "h", Port: 5432}},
		{name: "a CA in Jinja", keys: `host: h, sslrootcert: "{{ env_var('C') }}"`, err: `dbt output of type "postgres": sslrootcert must be a literal: oidc-dbt verifies the server with it`},
		{name: "no port", keys: "host: h, port: x", err: `dbt output of type "postgres": port is "x", want a number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys := tt.keys
			if tt.name != "no port" {
				keys += ", port: 5432"
			}
			for _, provider := range []string{"aws", "databricks", "entra", "gcp", "vault"} {
				got, err := adapter.Route("postgres", provider, policy.Values{}, node(t, "{type: postgres, "+keys+"}"))
				checkUsage(t, err, tt.err)
				if diff := cmp.Diff(route.Route{Kind: route.Postgres, Upstream: tt.want}, got); err == nil && diff != "" {
					t.Errorf("%s (-want +got)\n%s", provider, diff)
				}
			}
		})
	}
}

func TestPostgresPlaces(t *testing.T) {
	t.Parallel()
	pg := func(keys string) string { return "{type: postgres, port: 5432, " + keys + "}" }
	testPlaces(t, []placeCase{
		{name: "an address", provider: "gcp", block: pg(`host: 10.0.0.3`)},
		{name: "an IPv6 address", provider: "gcp", block: pg(`host: "fd00::3", sslmode: verify-full`)},
		{name: "in the clear on loopback", provider: "gcp", block: pg(`host: 127.0.0.1, sslmode: disable`)},
		{name: "in the clear", provider: "gcp", block: pg(`host: 10.0.0.3, sslmode: disable`),
			err: `sslmode is "disable", want require, verify-ca or verify-full (an unencrypted password is for loopback only)`},
		{name: "in the clear when in doubt", provider: "gcp", block: pg(`host: 10.0.0.3, sslmode: prefer`),
			err: `sslmode is "prefer", want require, verify-ca or verify-full (an unencrypted password is for loopback only)`},
		{name: "a mode in Jinja", provider: "gcp", block: pg(`host: 10.0.0.3, sslmode: "{{ env_var('M') }}"`), err: "sslmode must be a literal: the login is sent there"},
		{name: "a host in Jinja", provider: "gcp", block: pg(`host: "{{ env_var('H') }}"`), err: "host must be a literal: the login is sent there"},
		{name: "no host", provider: "gcp", block: `{type: postgres, port: 5432}`, err: `host is "", want one host name or address`},
		{name: "several hosts", provider: "gcp", block: pg(`host: "10.0.0.3,evil.example"`), err: `host is "10.0.0.3,evil.example", want one host name or address`},
		{name: "a login before the host", provider: "gcp", block: pg(`host: "user:hunter2@db.acme.example"`), err: `host is "…@db.acme.example", want one host name or address`},
		{name: "a socket", provider: "gcp", block: pg(`host: /var/run/postgresql`), err: `host is "/var/run/postgresql", want one host name or address`},
		{name: "an abstract socket", provider: "gcp", block: pg(`host: "@evil"`), err: `host is "@evil", want one host name or address`},
		{name: "RDS without a user", provider: "aws", block: pg(`host: dw.c1a2.eu-central-1.rds.amazonaws.com`), err: `requires user: provider "aws" supplies none`},
		{name: "Azure", provider: "entra", block: pg(`host: Acme.postgres.database.usgovcloudapi.net, user: dbt`)},
		{name: "Azure's stand-in on loopback", provider: "entra", block: pg(`host: localhost, user: dbt`)},
		{name: "Azure without a user", provider: "entra", block: pg(`host: acme.postgres.database.azure.com`), err: `requires user: provider "entra" supplies none`},
		{name: "Azure with a user in Jinja", provider: "entra", block: pg(`host: acme.postgres.database.azure.com, user: "{{ env_var('U') }}"`), err: "user must be a literal: the login is for that user"},
		{name: "Azure's token elsewhere", provider: "entra", block: pg(`host: db.acme.example, user: dbt`), err: `host "db.acme.example" does not belong to Azure Database for PostgreSQL, but the token would be sent there`},
		{name: "Azure's token at a host that ends alike", provider: "entra", block: pg(`host: evilpostgres.database.azure.com, user: dbt`),
			err: `host "evilpostgres.database.azure.com" does not belong to Azure Database for PostgreSQL, but the token would be sent there`},
		{name: "Lakebase", provider: "databricks", block: pg(`host: instance-0935a9d9.database.azuredatabricks.net, user: dbt`)},
		{name: "Lakebase's token elsewhere", provider: "databricks", block: pg(`host: x.database.cloud.databricks.com.evil.example, user: dbt`),
			err: `host "x.database.cloud.databricks.com.evil.example" does not belong to Lakebase, but the token would be sent there`},
		{name: "a host behind a line's end", provider: "gcp", block: pg(`host: "localhost\nevil.example"`), err: `host is "localhost\nevil.example", want one host name or address`},
	})
}
