package adapter_test

import "testing"

func TestDuckDBOnGoogleCloudStorage(t *testing.T) {
	t.Parallel()
	const (
		bearer = `bearer_token: "{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}"`
		httpfs = "extensions: [\"httpfs\"]\n"
		token  = "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"
	)
	testRender(t, []renderCase{
		{name: "nothing", provider: "gcp", block: `{type: duckdb}`, want: httpfs + `secrets: [{type: "gcs", ` + bearer + "}]\n" + token},
		{name: "an endpoint is completed", provider: "gcp", block: `{type: duckdb, secrets: [{type: GCS, endpoint: "127.0.0.1:9000", use_ssl: false, url_style: path, Key_ID: k, SECRET: s}]}`,
			want: httpfs + `secrets: [{type: "GCS", endpoint: "127.0.0.1:9000", use_ssl: false, url_style: "path", ` + bearer + "}]\n" + token},
		{name: "another bucket's token", provider: "gcp", block: `{type: duckdb, secrets: [{type: gcs, bearer_token: b, scope: gs://theirs}, {type: s3, region: here}]}`,
			want: httpfs + `secrets: [{type: "gcs", bearer_token: "b", scope: "gs://theirs"}, {type: "s3", region: "here"}, {type: "gcs", ` + bearer + "}]\n" + token},
	})
	gcs := func(options string) string { return "{type: duckdb, secrets: [{type: gcs, " + options + "}]}" }
	testPlaces(t, []placeCase{
		{name: "Google's host", provider: "gcp", block: gcs(`endpoint: storage.googleapis.com`)},
		{name: "loopback", provider: "gcp", block: gcs(`endpoint: "127.0.0.1:9000", use_ssl: false`)},
		{name: "another store's secret", provider: "gcp", block: `{type: duckdb, secrets: [{type: s3, endpoint: minio.acme.example, use_ssl: false}]}`},
		{name: "a foreign host", provider: "gcp", block: gcs(`endpoint: storage.acme.example`),
			err: `secrets of type gcs: endpoint: host "storage.acme.example" is not one of Google Cloud, and the access token goes there`},
		{name: "plain http", provider: "gcp", block: gcs(`use_ssl: false`),
			err: `secrets of type gcs: use_ssl is "false" for endpoint "", want TLS (plain http is for loopback only)`},
	})
}
