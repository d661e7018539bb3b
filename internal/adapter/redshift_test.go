package adapter_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// redshiftHost is one of a cluster called acme.
const redshiftHost = "acme.abc123.eu-central-1.redshift.amazonaws.com"

func TestRedshift(t *testing.T) {
	t.Parallel()
	const (
		login    = "method: \"database\"\nuser: \"IAM:dbt\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\n"
		verified = "sslmode: \"verify-full\"\n"
		group    = "query_group: \"oidc-dbt target=prod\"\n"
		variable = "DBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"
		proxy    = "method: \"database\"\nhost: \"127.0.0.1\"\nport: 20001\nsslmode: \"disable\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\n"
	)
	testRender(t, []renderCase{
		{name: "a cluster", provider: "aws", block: standin.Block("redshift"), want: login + verified + group + variable},
		{name: "a group", provider: "aws", block: `{type: redshift, host: r.acme.example, port: 5439, dbname: analytics, query_group: mine}`, want: login + verified + variable},
		{name: "a mode", provider: "aws", block: `{type: redshift, host: r.acme.example, port: 5439, dbname: analytics, sslmode: verify-ca}`, want: login + group + variable},
		{name: "a lease", provider: "vault", block: `{type: redshift, host: r.acme.example, port: 5439, dbname: analytics, user: somebody, query_group: mine}`,
			want: "method: \"database\"\nuser: \"v-dbt-1\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\n" + verified + variable},
		{name: "loopback", provider: "aws", block: `{type: redshift, host: localhost, port: 5439, dbname: analytics}`, want: login + group + variable},
		{name: "a cluster by the proxy", provider: "aws", served: true, block: standin.Block("redshift"), want: proxy + "user: \"IAM:dbt\"\n" + group + variable},
		{name: "a lease by the proxy", provider: "vault", served: true, block: `{type: redshift, host: r.acme.example, port: 5439, dbname: analytics, sslmode: verify-ca, query_group: mine}`,
			want: proxy + "user: \"oidc-dbt\"\n" + variable},
	})
}

// TestRedshiftRoute: the proxy verifies what the driver would.
func TestRedshiftRoute(t *testing.T) {
	t.Parallel()
	type u = route.Upstream
	for _, tt := range []struct {
		name, keys string
		want       u
	}{
		{"no mode", "host: r.acme.example, dbname: d, user: dbt", u{Host: "r.acme.example", Port: 5439, Database: "d", User: "dbt"}},
		{"verify-full", "host: r.acme.example, dbname: d, sslmode: verify-full", u{Host: "r.acme.example", Port: 5439, Database: "d"}},
		{"verify-ca", "host: r.acme.example, dbname: d, sslmode: verify-ca", u{Host: "r.acme.example", Port: 5439, Database: "d", AnyName: true}},
		{"the driver's default on loopback", "host: 127.0.0.1, dbname: d", u{Host: "127.0.0.1", Port: 5439, Database: "d", AnyName: true}},
		{"in the clear on loopback", "host: 127.0.0.1, dbname: d, sslmode: disable", u{Host: "127.0.0.1", Port: 5439, Database: "d", Plain: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, provider := range []string{"aws", "vault"} {
				got, err := adapter.Route("redshift", provider, policy.Values{}, node(t, "{type: redshift, port: 5439, "+tt.keys+"}"))
				checkUsage(t, err, "")
				if diff := cmp.Diff(route.Route{Kind: route.Postgres, Upstream: tt.want}, got); diff != "" {
					t.Errorf("%s (-want +got)\n%s", provider, diff)
				}
			}
		})
	}
	got, err := adapter.Route("redshift", "identity_center", policy.Values{}, node(t, standin.Block("redshift")))
	if want := (route.Route{Kind: route.TokenEndpoint, Only: true}); err != nil || got != want {
		t.Errorf("route of a person is %+v, %v, want %+v", got, err, want)
	}
}

func TestRedshiftPlaces(t *testing.T) {
	t.Parallel()
	rs := func(keys string) string { return "{type: redshift, port: 5439, " + keys + "}" }
	jinja := func(key string) placeCase {
		return placeCase{name: key + " in Jinja", provider: "aws", block: rs(`host: h, dbname: d, ` + key + `: "{{ env_var('X') }}"`), err: key + " must be a literal: the login is made from it, or is sent there"}
	}
	testPlaces(t, []placeCase{
		{name: "a cluster", provider: "aws", block: standin.Block("redshift")},
		{name: "a name of one's own", provider: "aws", block: rs(`host: r.acme.example, database: d, sslmode: verify-ca`)},
		{name: "in the clear on loopback", provider: "aws", block: rs(`host: 127.0.0.1, dbname: d, sslmode: disable`)},
		{name: "in the clear", provider: "aws", block: rs(`host: r.acme.example, dbname: d, sslmode: disable`),
			err: `sslmode is "disable", want verify-full or verify-ca (an unencrypted login is for loopback only)`},
		{name: "no host", provider: "aws", block: rs(`dbname: d`), err: `host is "", want one host name or address`},
		{name: "a host behind a line's end", provider: "aws", block: rs(`host: "localhost\nevil.example", dbname: d`), err: `host is "localhost\nevil.example", want one host name or address`},
		{name: "a host behind a login", provider: "aws", block: rs(`host: "localhost@evil.example", dbname: d`), err: `host is "localhost@evil.example", want one host name or address`},
		{name: "no database", provider: "aws", block: rs(`host: h`), err: "requires dbname"},
		{name: "a host in Jinja", provider: "aws", block: rs(`dbname: d, host: "{{ env_var('X') }}"`), err: "host must be a literal: the login is made from it, or is sent there"},
		{name: "a group in Jinja", provider: "aws", block: rs(`host: h, dbname: d, db_groups: [a, "{{ env_var('X') }}"]`), err: "db_groups must be literals: the login is made from them"},
		jinja("sslmode"), jinja("user"), jinja("cluster_id"), jinja("serverless_work_group"), jinja("is_serverless"), jinja("autocreate"),
	})
}

func TestRedshiftWarehouse(t *testing.T) {
	t.Parallel()
	const serverless = "marts.123456789012.eu-central-1.redshift-serverless.amazonaws.com"
	for _, tt := range []struct {
		name, keys string
		want       credential.Warehouse
	}{
		{name: "by the host", keys: "host: " + redshiftHost + ", dbname: d, user: dbt, autocreate: true, db_groups: [readers, writers]",
			want: credential.Warehouse{Host: redshiftHost, Database: "d", User: "dbt", Redshift: credential.Redshift{Cluster: "acme", AutoCreate: true, Groups: []string{"readers", "writers"}}}},
		{name: "by cluster_id", keys: "host: r.acme.example, cluster_id: other, database: d",
			want: credential.Warehouse{Host: "r.acme.example", Database: "d", Redshift: credential.Redshift{Cluster: "other"}}},
		{name: "a host in capitals", keys: "host: Acme.ABC123.eu-central-1.redshift.amazonaws.com, dbname: d",
			want: credential.Warehouse{Host: "Acme.ABC123.eu-central-1.redshift.amazonaws.com", Database: "d", Redshift: credential.Redshift{Cluster: "acme"}}},
		{name: "in China", keys: "host: acme.abc123.cn-north-1.redshift.amazonaws.com.cn, dbname: d",
			want: credential.Warehouse{Host: "acme.abc123.cn-north-1.redshift.amazonaws.com.cn", Database: "d", Redshift: credential.Redshift{Cluster: "acme"}}},
		{name: "a cluster that is called serverless", keys: "host: serverless.abc123.eu-central-1.redshift.amazonaws.com, dbname: d",
			want: credential.Warehouse{Host: "serverless.abc123.eu-central-1.redshift.amazonaws.com", Database: "d", Redshift: credential.Redshift{Cluster: "serverless"}}},
		{name: "serverless by the host", keys: "host: " + serverless + ", dbname: d, user: dbt",
			want: credential.Warehouse{Host: serverless, Database: "d", User: "dbt", Redshift: credential.Redshift{Workgroup: "marts"}}},
		{name: "serverless by the key", keys: "host: r.acme.example, serverless_work_group: other, dbname: d",
			want: credential.Warehouse{Host: "r.acme.example", Database: "d", Redshift: credential.Redshift{Workgroup: "other"}}},
		{name: "serverless by the switch", keys: "host: r.acme.example, is_serverless: true, serverless_work_group: other, cluster_id: acme, dbname: d",
			want: credential.Warehouse{Host: "r.acme.example", Database: "d", Redshift: credential.Redshift{Workgroup: "other"}}},
		{name: "neither", keys: "host: r.acme.example, dbname: d", want: credential.Warehouse{Host: "r.acme.example", Database: "d"}},
		{name: "a host that begins alike", keys: "host: acme.abc123.eu-central-1.redshift.amazonaws, dbname: d",
			want: credential.Warehouse{Host: "acme.abc123.eu-central-1.redshift.amazonaws", Database: "d"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := adapter.Warehouse("redshift", "aws", node(t, "{type: redshift, port: 5439, "+tt.keys+"}"))
			checkUsage(t, err, "")
			tt.want.Name, tt.want.Port, tt.want.Asks = `type "redshift"`, 5439, adapter.Asks("redshift", "aws")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	_, err := adapter.Warehouse("redshift", "aws", node(t, "{type: redshift, host: h, dbname: d, port: x}"))
	checkUsage(t, err, `dbt output of type "redshift": port is "x", want a number`)
}
