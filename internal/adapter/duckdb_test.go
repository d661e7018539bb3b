package adapter_test

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestAWSRoutes: the session is served wherever the client can be led to the broker.
func TestAWSRoutes(t *testing.T) {
	t.Parallel()
	container, amazon := route.Route{Kind: route.AWSContainer}, route.Route{Kind: route.S3}
	at := func(u route.Upstream) route.Route { return route.Route{Kind: route.S3, Upstream: u} }
	s3 := func(options string) string { return "{type: duckdb, secrets: [{type: s3, " + options + "}]}" }
	for _, tt := range []struct {
		name, dbtType, provider, block string
		want                           route.Route
	}{
		{"DuckDB on Amazon S3", "duckdb", "aws", `{type: duckdb}`, amazon},
		{"DuckDB on Amazon S3, in two regions", "duckdb", "aws", `{type: duckdb, secrets: [{type: s3, region: eu-central-1, scope: s3://a}, {type: s3, endpoint: s3.amazonaws.com, region: us-east-1, scope: s3://b}]}`, amazon},
		{"a store on loopback", "duckdb", "aws", s3(`endpoint: "127.0.0.1:9000", url_style: path, use_ssl: false`), at(route.Upstream{Host: "127.0.0.1", Port: 9000, Plain: true})},
		{"a store on IPv6's loopback", "duckdb", "aws", s3(`endpoint: "[::1]", url_style: path, use_ssl: false`), at(route.Upstream{Host: "::1", Port: 80, Plain: true})},
		{"a store with buckets in its host", "duckdb", "aws", s3(`ENDPOINT: minio.acme.example, USE_SSL: true`), at(route.Upstream{Host: "minio.acme.example", Port: 443, Buckets: true})},
		{"a store with a certificate of one's own", "duckdb", "aws", `{type: duckdb, settings: {ca_cert_file: ca.pem}, secrets: [{type: s3, endpoint: "minio.acme.example:9443", url_style: path}]}`,
			at(route.Upstream{Host: "minio.acme.example", Port: 9443, CAFile: "ca.pem"})},
		{"beside another bucket's", "duckdb", "aws", s3(`endpoint: other.example, key_id: "{{ env_var('K') }}", secret: "{{ env_var('S') }}", scope: s3://theirs`), amazon},
		{"two stores", "duckdb", "aws", `{type: duckdb, secrets: [{type: s3, scope: s3://a}, {type: s3, endpoint: minio.acme.example, scope: s3://b}]}`, route.Route{}},
		{"a proxy", "duckdb", "aws", `{type: duckdb, settings: {http_proxy: p}}`, route.Route{}},
		{"any certificate", "duckdb", "aws", s3(`endpoint: "127.0.0.1:9000", url_style: path, verify_ssl: false`), at(route.Upstream{Host: "127.0.0.1", Port: 9000, Unverified: true})},
		{"Athena", "athena", "aws", standin.Block("athena"), container},
		{"Athena as a person", "athena", "identity_center", standin.Block("athena"), container},
		{"Snowflake", "snowflake", "aws", standin.Block("snowflake"), container},
		{"no dbt", "", "aws", "{}", container},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := adapter.Route(tt.dbtType, tt.provider, policy.Values{}, node(t, tt.block)); err != nil || got != tt.want {
				t.Errorf("route is %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestDuckDBOnGoogleCloudStorage(t *testing.T) {
	t.Parallel()
	const (
		google = `endpoint: "storage.googleapis.com", use_ssl: true, verify_ssl: true, `
		bearer = `bearer_token: "{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}"`
		httpfs = "extensions: [\"httpfs\"]\n"
		token  = "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"
	)
	testRender(t, []renderCase{
		{name: "nothing", provider: "gcp", block: `{type: duckdb}`, want: httpfs + `secrets: [{type: "gcs", ` + google + bearer + "}]\n" + token},
		{name: "an endpoint is completed", provider: "gcp", block: `{type: duckdb, secrets: [{type: GCS, endpoint: "127.0.0.1:9000", use_ssl: false, url_style: path, Key_ID: k, SECRET: s}]}`,
			want: httpfs + `secrets: [{type: "GCS", endpoint: "127.0.0.1:9000", use_ssl: false, url_style: "path", ` + bearer + "}]\n" + token},
		{name: "by the broker", provider: "gcp", block: `{type: duckdb}`, served: true,
			want: httpfs + `secrets: [{type: "gcs", endpoint: "127.0.0.1:20001", use_ssl: false, url_style: "path", ` + bearer + "}]\n" + token},
		{name: "an endpoint by the broker", provider: "gcp", block: `{type: duckdb, secrets: [{type: gcs, ENDPOINT: storage.googleapis.com, USE_SSL: true, Url_Style: vhost, scope: "gs://ours", requester_pays: true}, {type: s3, endpoint: e}]}`, served: true,
			want: httpfs + `secrets: [{type: "gcs", scope: "gs://ours", requester_pays: true, endpoint: "127.0.0.1:20001", use_ssl: false, url_style: "path", ` + bearer + `}, {type: "s3", endpoint: "e"}]` + "\n" + token},
		{name: "another bucket's token", provider: "gcp", block: `{type: duckdb, secrets: [{type: gcs, bearer_token: "{{ env_var('B') }}", scope: gs://theirs}, {type: s3, region: here}]}`,
			want: httpfs + `secrets: [{type: "gcs", bearer_token: "{{ env_var('B') }}", scope: "gs://theirs"}, {type: "s3", region: "here"}, {type: "gcs", ` + google + bearer + "}]\n" + token},
	})
	gcs := func(options string) string { return "{type: duckdb, secrets: [{type: gcs, " + options + "}]}" }
	testPlaces(t, []placeCase{
		{name: "Google's host", provider: "gcp", block: gcs(`endpoint: storage.googleapis.com`)},
		{name: "loopback", provider: "gcp", block: gcs(`endpoint: "127.0.0.1:9000", use_ssl: false`)},
		{name: "another store's secret", provider: "gcp", block: `{type: duckdb, secrets: [{type: s3, endpoint: minio.acme.example, use_ssl: false}]}`},
		{name: "a foreign host", provider: "gcp", block: gcs(`endpoint: storage.acme.example`),
			err: `secrets of type gcs: endpoint: host "storage.acme.example" does not belong to Google Cloud, but the access token would be sent there`},
		{name: "plain http", provider: "gcp", block: gcs(`use_ssl: false`),
			err: `secrets of type gcs: use_ssl is "false" for endpoint "", want TLS (plain http is for loopback only)`},
	})
}

func TestDuckDBRouteToGoogleCloudStorage(t *testing.T) {
	t.Parallel()
	google := route.Upstream{Host: "storage.googleapis.com", Port: 443}
	gcs := func(options string) string { return "{type: duckdb, secrets: [{type: gcs, " + options + "}]}" }
	for _, tt := range []struct {
		name, block string
		want        route.Upstream // zero: DuckDB has a token that it reads once
	}{
		{name: "nothing", block: `{type: duckdb}`, want: google},
		{name: "no endpoint", block: gcs(`scope: "gs://ours"`), want: google},
		{name: "a regional host", block: gcs(`endpoint: storage.me-central2.rep.googleapis.com`), want: route.Upstream{Host: "storage.me-central2.rep.googleapis.com", Port: 443}},
		{name: "loopback", block: gcs(`ENDPOINT: "127.0.0.1:9000", use_ssl: false`), want: route.Upstream{Host: "127.0.0.1", Port: 9000, Plain: true}},
		{name: "loopback by its name", block: gcs(`endpoint: localhost, use_ssl: no`), want: route.Upstream{Host: "localhost", Port: 80, Plain: true}},
		{name: "loopback of version 6", block: gcs(`endpoint: "[::1]", verify_ssl: true`), want: route.Upstream{Host: "::1", Port: 443}},
		{name: "two of one place", block: `{type: duckdb, secrets: [{type: gcs, scope: "gs://a"}, {type: gcs, scope: "gs://b", endpoint: storage.googleapis.com}]}`, want: google},
		{name: "somebody else's, with a login", block: `{type: duckdb, secrets: [{type: gcs, scope: "gs://a", key_id: "{{ env_var('K') }}", secret: "{{ env_var('S') }}", endpoint: "127.0.0.1:1", http_proxy: p}]}`, want: google},
		{name: "two places", block: `{type: duckdb, secrets: [{type: gcs, scope: "gs://a"}, {type: gcs, scope: "gs://b", endpoint: "127.0.0.1:9000"}]}`},
		{name: "a certificate that nobody looks at", block: gcs(`endpoint: "127.0.0.1:9000", verify_ssl: false`), want: route.Upstream{Host: "127.0.0.1", Port: 9000, Unverified: true}},
		{name: "a proxy", block: gcs(`http_proxy: proxy.acme.example`)},
		{name: "a proxy for all", block: `{type: duckdb, settings: {http_proxy: proxy.acme.example}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := route.Route{Kind: route.GoogleStorage, Upstream: tt.want}
			if tt.want == (route.Upstream{}) {
				want = route.Route{}
			}
			got, err := adapter.Route("duckdb", "gcp", policy.Values{}, node(t, tt.block))
			if err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestDuckDBOnAzureStorage(t *testing.T) {
	t.Parallel()
	const (
		bearer   = `provider: "access_token", access_token: "{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}"`
		settings = "settings: {azure_transport_option_type: \"curl\"}\n"
		token    = "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"
	)
	azure := func(options string) string { return "{type: duckdb, secrets: [{type: azure, " + options + "}]}" }
	testRender(t, []renderCase{
		{name: "an account is completed", provider: "entra", block: azure(`account_name: acmelake, Provider: credential_chain, chain: cli, scope: az://marts`),
			want: `extensions: ["azure"]` + "\n" + `secrets: [{type: "azure", account_name: "acmelake", scope: "az://marts", ` + bearer + "}]\n" + settings + token},
		{name: "settings of the user's", provider: "entra", block: `{type: duckdb, settings: {threads: 4, Azure_Transport_Option_Type: default}, secrets: [{type: azure, account_name: acmelake, connection_string: c}]}`,
			want: `extensions: ["azure"]` + "\n" + `secrets: [{type: "azure", account_name: "acmelake", ` + bearer + "}]\n" + `settings: {threads: 4, Azure_Transport_Option_Type: "default"}` + "\n" + token},
	})
	testPlaces(t, []placeCase{
		{name: "an account", provider: "entra", block: azure(`account_name: acmelake`)},
		{name: "an endpoint", provider: "entra", block: azure(`account_name: acmelake, endpoint: dfs.core.usgovcloudapi.net`)},
		{name: "loopback", provider: "entra", block: azure(`account_name: acmelake, endpoint: "localhost:10000"`)},
		{name: "no secret", provider: "entra", block: `{type: duckdb}`, err: "secrets: no entry of type azure; add one with account_name"},
		{name: "no account", provider: "entra", block: azure(`connection_string: c`), err: `secrets of type azure: account_name is "", want a storage account's name`},
		{name: "an account that is a host", provider: "entra", block: azure(`account_name: evil.example/`), err: `secrets of type azure: account_name is "evil.example/", want a storage account's name`},
		{name: "an account in Jinja", provider: "entra", block: azure(`account_name: "{{ env_var('A') }}"`), err: "secrets of type azure: account_name and endpoint must be literals: the credential is sent there"},
		{name: "a foreign host", provider: "entra", block: azure(`account_name: acmelake, endpoint: evil.example`),
			err: `secrets of type azure: endpoint "evil.example" is not an Azure Storage endpoint such as blob.core.windows.net, but the access token would be sent there`},
		{name: "a host that ends alike", provider: "entra", block: azure(`account_name: acmelake, ENDPOINT: evilblob.core.windows.net.evil.example`),
			err: `secrets of type azure: endpoint "evilblob.core.windows.net.evil.example" is not an Azure Storage endpoint such as blob.core.windows.net, but the access token would be sent there`},
		{name: "an address of loopback", provider: "entra", block: azure(`account_name: acmelake, endpoint: 127.0.0.1`), // acmelake.127.0.0.1 is none
			err: `secrets of type azure: endpoint "127.0.0.1" is not an Azure Storage endpoint such as blob.core.windows.net, but the access token would be sent there`},
	})
}

// TestNoLoginOfAProxyIsShown: a proxy's URL may hold a login.
func TestNoLoginOfAProxyIsShown(t *testing.T) {
	t.Parallel()
	for _, block := range []string{
		`{type: duckdb, secrets: [{type: s3, endpoint: localhost, use_ssl: false, http_proxy: "http://me:hunter2@proxy"}]}`,
		`{type: duckdb, secrets: [{type: s3, endpoint: localhost, use_ssl: false}], settings: {http_proxy: "http://me:hunter2@proxy"}}`,
	} {
		err := adapter.CheckPlaces("duckdb", "aws", "", node(t, block))
		if err == nil || !strings.Contains(err.Error(), "http_proxy requires use_ssl") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", block, err)
		}
	}
}
