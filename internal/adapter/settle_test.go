package adapter_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// rendered returns the output that a profile gets: the block with the keys
// removed and set.
func rendered(block *yaml.Node, out adapter.Output) string {
	var lines []string
	set := map[string]bool{}
	for _, k := range out.Keys {
		set[k.Name] = true
		lines = append(lines, k.Name+": "+flow(k.Value))
	}
	for i := 0; i+1 < len(block.Content); i += 2 {
		if name := block.Content[i].Value; !set[name] && !slices.Contains(out.Remove, name) {
			lines = append(lines, name+": "+flow(block.Content[i+1]))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestNestedLogins: a login at any depth of an output goes, and nothing else.
func TestNestedLogins(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	for _, tt := range []struct {
		name, provider, block string
		gone, stays           []string
		notes                 []string
	}{
		{name: "DuckDB's settings", provider: "aws",
			block: `{type: duckdb, path: x.duckdb, settings: {s3_access_key_id: STATIC, S3_Secret_Access_Key: STATIC, s3_session_token: STATIC, threads: 4}}`,
			gone:  []string{"STATIC"}, stays: []string{"settings: {threads: 4}"},
			notes: []string{"settings.s3_access_key_id is another login, and was removed", "settings.S3_Secret_Access_Key is another login, and was removed", "settings.s3_session_token is another login, and was removed"}},
		{name: "DuckDB's settings from variables", provider: "aws",
			block: `{type: duckdb, settings: {s3_access_key_id: "{{ env_var('OLD_KEY_ID') }}", s3_secret_access_key: "{{ env_var('OLD_KEY_SECRET') }}"}}`,
			gone:  []string{"OLD_KEY"}, stays: []string{"settings: {}"},
			notes: []string{"settings.s3_access_key_id is another login, and was removed", "settings.s3_secret_access_key is another login, and was removed"}},
		{name: "DuckDB's file systems", provider: "aws",
			block: `{type: duckdb, filesystems: [{fs: s3, key: STATIC, secret: STATIC, profile: STATIC, client_kwargs: {endpoint_url: "https://s3.acme.example", aws_access_key_id: STATIC, aws_session_token: STATIC}}]}`,
			gone:  []string{"STATIC"}, stays: []string{`filesystems: [{fs: "s3", client_kwargs: {endpoint_url: "https://s3.acme.example"}}]`},
			notes: []string{"filesystems[0].key is another login, and was removed", "filesystems[0].secret is another login, and was removed", "filesystems[0].profile is another login, and was removed", "filesystems[0].client_kwargs.aws_access_key_id is another login, and was removed", "filesystems[0].client_kwargs.aws_session_token is another login, and was removed"}},
		{name: "a login for something else, from a variable", provider: "aws",
			block: `{type: duckdb, path: "md:db", motherduck_token: "{{ env_var('MD') }}", attach: [{path: p, type: postgres, secret: pg}], secrets: [{type: postgres, name: pg, password: "{{ env_var('PG') }}"}]}`,
			stays: []string{`motherduck_token: "{{ env_var('MD') }}"`, `secret: "pg"`, `password: "{{ env_var('PG') }}"`},
			notes: []string{"motherduck_token is a login that the credential does not replace, and is kept", "secrets[0].password is a login that the credential does not replace, and is kept"}},
		{name: "Trino's headers", provider: "oidc",
			block: `{type: trino, host: trino.acme.example, port: 443, database: d, schema: s, http_headers: {Authorization: STATIC, COOKIE: STATIC, Proxy-Authorization: STATIC, X-Trino-User: STATIC, X-Trino-Extra-Credential: STATIC, X-Api-Key: STATIC, X-Team: data}, starburst_client_secret: STATIC}`,
			gone:  []string{"STATIC"}, stays: []string{`http_headers: {X-Team: "data"}`},
			notes: []string{"http_headers.Authorization is another login, and was removed", "http_headers.COOKIE is another login, and was removed", "http_headers.Proxy-Authorization is another login, and was removed", "http_headers.X-Trino-User is another login, and was removed", "http_headers.X-Trino-Extra-Credential is another login, and was removed", "http_headers.X-Api-Key is another login, and was removed"}},
		{name: "Spark's parameters", provider: "vault",
			block: `{type: spark, method: thrift, host: spark.acme.example, port: 10001, use_ssl: true, schema: s, server_side_parameters: {spark.hadoop.fs.s3a.secret.key: STATIC, spark.hadoop.fs.s3a.access.key: STATIC, fs.azure.account.key.acct.dfs.core.windows.net: STATIC, spark.hadoop.javax.jdo.option.ConnectionPassword: STATIC, spark.executor.memory: 4g}}`,
			gone:  []string{"STATIC"}, stays: []string{`server_side_parameters: {spark.executor.memory: "4g"}`},
			notes: []string{"server_side_parameters.spark.hadoop.fs.s3a.secret.key is another login, and was removed", "server_side_parameters.spark.hadoop.fs.s3a.access.key is another login, and was removed", "server_side_parameters.fs.azure.account.key.acct.dfs.core.windows.net is another login, and was removed", "server_side_parameters.spark.hadoop.javax.jdo.option.ConnectionPassword is another login, and was removed"}},
		{name: "Databricks' parameters", provider: "databricks",
			block: `{type: databricks, host: acme.cloud.databricks.com, http_path: /sql, schema: s, connection_parameters: {access_token: STATIC, http_headers: {authorization: STATIC, X-Team: data}}}`,
			gone:  []string{"STATIC"}, stays: []string{`connection_parameters: {http_headers: {X-Team: "data"}}`},
			notes: []string{"connection_parameters.access_token is another login, and was removed", "connection_parameters.http_headers.authorization is another login, and was removed"}},
		{name: "BigQuery's key file", provider: "gcp",
			block: `{type: bigquery, project: p, dataset: d, method: service-account-json, keyfile_json: {type: service_account, private_key: STATIC, client_email: STATIC}}`,
			gone:  []string{"STATIC"}, stays: []string{`dataset: "d"`}},
		{name: "what looks like a login", provider: "oidc",
			block: `{type: snowflake, account: acme-prod, database: d, schema: s, session_parameters: {MY_AUTH_THING: not-one-of-ours, KEY: AKIAIOSFODNN7EXAMPLE}, client_request_mfa_token: true}`,
			stays: []string{"not-one-of-ours", "client_request_mfa_token: true"},
			notes: []string{"session_parameters.MY_AUTH_THING looks like a login, and is kept", "session_parameters.KEY looks like a login, and is kept"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			block := node(t, tt.block)
			before, dbtType := flow(block), block.Content[1].Value
			out, err := adapter.Render(adapter.Input{
				Facts: grant(t, i, "{from: profiles.yml}", standin.Exchange(dbtType, tt.provider)), Type: dbtType, Block: block, Credential: standin.Credential(dbtType, tt.provider),
			})
			if err != nil {
				t.Fatal(err)
			}
			got := rendered(block, out)
			for _, s := range tt.gone {
				if strings.Contains(got, s) {
					t.Errorf("%s is still in\n%s", s, got)
				}
			}
			for _, s := range tt.stays {
				if !strings.Contains(got, s) {
					t.Errorf("%s is not in\n%s", s, got)
				}
			}
			var notes []string
			for _, n := range adapter.Notes(dbtType, tt.provider, block) {
				notes = append(notes, n.Text)
				if n.At.Line == 0 {
					t.Errorf("%s: it has no place", n.Text)
				}
			}
			if diff := cmp.Diff(tt.notes, notes); diff != "" {
				t.Errorf("notes (-want +got)\n%s", diff)
			}
			if after := flow(block); after != before {
				t.Errorf("the user's block became %s", after)
			}
		})
	}
}

// TestInlineNestedLogins: what goes from a profiles.yml is refused in a policy.
func TestInlineNestedLogins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, block, key string }{
		{"DuckDB's settings", `{type: duckdb, settings: {s3_access_key_id: x}}`, "s3_access_key_id"},
		{"DuckDB's settings, otherwise spelt", `{type: duckdb, settings: {S3_SESSION_TOKEN: x}}`, "S3_SESSION_TOKEN"},
		{"DuckDB's chain", `{type: duckdb, config_options: {azure_credential_chain: cli}}`, "azure_credential_chain"},
		{"a file system's key", `{type: duckdb, filesystems: [{fs: s3, key: x}]}`, "key"},
		{"a file system's connection string", `{type: duckdb, filesystems: [{fs: abfs, connection_string: x}]}`, "connection_string"},
		{"a proxy's user", `{type: duckdb, settings: {http_proxy_username: x}}`, "http_proxy_username"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse("https://token.actions.githubusercontent.com", tt.block, standin.Exchange("duckdb", "aws"))
			want := tt.key + " holds a secret (…), which a policy must not contain: remove it, the credential comes from the exchange"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want one with %s", err, want)
			}
		})
	}
	if _, err := parse("https://token.actions.githubusercontent.com", `{type: duckdb, attach: [{path: "postgres:", secret: pg}]}`, standin.Exchange("duckdb", "aws")); err != nil {
		t.Errorf("the name of a secret: %v", err)
	}
}

// TestDuckDBPlaces has each place of a block where DuckDB takes a host, a
// proxy, a switch of TLS or a login for something else.
func TestDuckDBPlaces(t *testing.T) {
	t.Parallel()
	const replaces = " is a login that the credential does not replace: read it from a variable, as in {{ env_var('NAME') }}, or remove it"
	const outranks = " has a parameter that overrides the secret that oidc-dbt writes: move endpoint, use_ssl and url_style to an entry of secrets, and remove any login"
	duck := func(keys string) string { return "{type: duckdb, " + keys + "}" }
	var cases []placeCase
	for _, top := range []string{"settings", "config_options"} {
		cases = append(cases, []placeCase{
			{name: "a store over plain http", provider: "aws", block: duck(top + `: {s3_endpoint: "minio.acme.example:9000", s3_use_ssl: false, s3_url_style: path}`),
				err: `secrets of type s3, with what settings say: use_ssl is "false" for endpoint "minio.acme.example:9000", want TLS (plain http is for loopback only)`},
			{name: "in other letters", provider: "aws", block: duck(top + `: {S3_ENDPOINT: "minio.acme.example:9000", S3_Use_SSL: "0"}`),
				err: `secrets of type s3, with what settings say: use_ssl is "0" for endpoint "minio.acme.example:9000", want TLS (plain http is for loopback only)`},
			{name: "Amazon's over plain http", provider: "aws", block: duck(top + `: {s3_use_ssl: "no"}`),
				err: `secrets of type s3, with what settings say: use_ssl is "no" for endpoint "", want TLS (plain http is for loopback only)`},
			{name: "Google's over plain http", provider: "gcp", block: duck(top + `: {s3_use_ssl: false}`),
				err: `secrets of type gcs, with what settings say: use_ssl is "false" for endpoint "", want TLS (plain http is for loopback only)`},
			{name: "not Google's", provider: "gcp", block: duck(top + `: {s3_endpoint: "minio.acme.example:9000"}`),
				err: top + `.s3_endpoint: host "minio.acme.example" does not belong to Google Cloud, but the access token would be sent there`},
			{name: "a store in Jinja", provider: "aws", block: duck(top + `: {s3_endpoint: "{{ env_var('S3_ENDPOINT') }}"}`),
				err: "secrets of type s3, with what settings say: endpoint, use_ssl and verify_ssl must be literals: the credential is sent there"},
			{name: "a store in Jinja next to one in a secret", provider: "aws", block: duck(top + `: {s3_endpoint: "{{ env_var('S3_ENDPOINT') }}"}, secrets: [{type: s3, endpoint: s3.acme.example}]`),
				err: top + ".s3_endpoint must be a literal: it decides where the credential is sent"},
			{name: "a store with TLS", provider: "aws", block: duck(top + `: {s3_endpoint: "minio.acme.example:9000", s3_url_style: path}`)},
			{name: "a store on loopback", provider: "aws", block: duck(top + `: {s3_endpoint: "127.0.0.1:9000", s3_use_ssl: false, enable_server_cert_verification: false}`)},
			{name: "any certificate", provider: "aws", block: duck(top + `: {enable_server_cert_verification: false}`),
				err: top + `.enable_server_cert_verification is "false", want TLS verified (turning it off is for loopback only)`},
			{name: "any certificate by curl", provider: "aws", block: duck(top + `: {enable_curl_server_cert_verification: "off"}`),
				err: top + `.enable_curl_server_cert_verification is "off", want TLS verified (turning it off is for loopback only)`},
			{name: "an authority in Jinja", provider: "aws", block: duck(top + `: {ca_cert_file: "{{ env_var('CA') }}"}`), err: top + ".ca_cert_file must be a literal: it decides where the credential is sent"},
			{name: "an authority", provider: "aws", block: duck(top + `: {ca_cert_file: ca.pem}`)},
			{name: "a proxy", provider: "aws", block: duck(top + `: {http_proxy: "proxy.acme.example:3128"}`)},
			{name: "a proxy in Jinja", provider: "aws", block: duck(top + `: {http_proxy: "{{ env_var('P') }}"}`), err: top + ".http_proxy must be a literal: the credential passes through it"},
			{name: "a proxy with a login", provider: "aws", block: duck(top + `: {azure_http_proxy: "me@proxy.acme.example"}`), err: top + ".azure_http_proxy contains a login, want host:port"},
			{name: "a proxy that sees all", provider: "aws", block: duck(top + `: {http_proxy: "proxy.acme.example", s3_endpoint: localhost, s3_use_ssl: false}`),
				err: "http_proxy requires use_ssl: the credential would pass through it unencrypted"},
			{name: "unsigned extensions", provider: "aws", block: duck(top + `: {allow_unsigned_extensions: true}`),
				err: top + `.allow_unsigned_extensions is "true": an unsigned extension could read the credential: remove it`},
			{name: "somebody's extensions", provider: "aws", block: duck(top + `: {custom_extension_repository: "http://evil.example"}`),
				err: top + `.custom_extension_repository is "http://evil.example", want core, community or a URL with https: its extensions can read the credential`},
			{name: "stored logins", provider: "aws", block: duck(top + `: {secret_directory: /tmp/x}`), err: top + ".secret_directory points to stored logins, which could be used instead of the credential: remove it"},
			{name: "SQL in a name", provider: "aws", block: duck(top + `: {"GLOBAL s3_endpoint": evil.example}`), err: top + `: "GLOBAL s3_endpoint" is not the name of an option`},
			{name: "MotherDuck's token", provider: "aws", block: duck(top + `: {motherduck_token: hunter2}`), err: top + ".motherduck_token" + replaces},
			{name: "Azure's host", provider: "entra", block: duck(top + `: {azure_account_name: acmelake, azure_endpoint: evil.example}`),
				err: `secrets of type azure, with what settings say: endpoint "evil.example" is not an Azure Storage endpoint such as blob.core.windows.net, but the access token would be sent there`},
			{name: "Azure's account", provider: "entra", block: duck(top + `: {azure_account_name: acmelake}`)},
		}...)
		for i := range cases {
			if !strings.Contains(cases[i].name, " in `") {
				cases[i].name += " in `" + top + "`"
			}
		}
	}
	cases = append(cases, []placeCase{
		{name: "a login for another bucket", provider: "aws", block: duck(`secrets: [{type: s3, key_id: k, secret: s, scope: s3://theirs}]`), err: "secrets[0].key_id" + replaces + "\nsecrets[0].secret" + replaces},
		{name: "a database's login", provider: "aws", block: duck(`secrets: [{type: postgres, host: h, password: hunter2}]`), err: "secrets[0].password" + replaces},
		{name: "a type in Jinja", provider: "aws", block: duck(`secrets: [{type: "{{ env_var('T') }}"}]`), err: `secrets[0].type is "{{ env_var('T') }}", want a name`},
		{name: "SQL in a type", provider: "aws", block: duck(`secrets: [{type: "s3, endpoint 'evil.example'"}]`), err: `secrets[0].type is "s3, endpoint 'evil.example'", want a name`},
		{name: "a secret of type aws over plain http", provider: "aws", block: duck(`secrets: [{type: aws, endpoint: evil.example, use_ssl: false}]`),
			err: `secrets of type s3: use_ssl is "false" for endpoint "evil.example", want TLS (plain http is for loopback only)`},
		{name: "a proxy in a secret", provider: "aws", block: duck(`secrets: [{type: http, http_proxy: "{{ env_var('P') }}"}]`), err: "secrets[0].http_proxy must be a literal: the credential passes through it"},
		{name: "any certificate by another secret", provider: "aws", block: duck(`secrets: [{type: http, verify_ssl: false}]`), err: `secrets[0].verify_ssl is "false", want TLS verified`},

		{name: "a path's endpoint", provider: "aws", block: duck(`path: "s3://lake/x.duckdb?s3_endpoint=evil.example"`), err: "path" + outranks},
		{name: "a path's endpoint in other letters", provider: "aws", block: duck(`path: "S3://lake/x.duckdb?s3_region=eu&S3%5FEndpoint=evil.example"`), err: "path" + outranks},
		{name: "a path's TLS", provider: "gcp", block: duck(`attach: [{path: "gs://lake/x.duckdb?s3_use_ssl=false"}]`), err: "attach[0].path" + outranks},
		{name: "a root's login", provider: "aws", block: duck(`external_root: "s3://lake/out?s3_access_key_id=AKIA"`), err: "external_root" + outranks},
		{name: "parameters in Jinja", provider: "aws", block: duck(`path: "s3://lake/x.duckdb?{{ env_var('P') }}"`), err: "path" + outranks},
		{name: "a path behind an extension's name", provider: "aws", block: duck(`attach: [{path: "ducklake:meta.db", options: {data_path: "s3://lake/?s3_endpoint=evil.example"}}]`), err: "attach[0].options.data_path" + outranks},
		{name: "a path's region", provider: "aws", block: duck(`path: "s3://lake/x.duckdb?s3_region=eu-west-1&s3_url_style=path"`)},
		{name: "MotherDuck's token in a path", provider: "aws", block: duck(`path: "md:db?motherduck_token=hunter2"`), err: "path holds a secret (…): remove it"},
		{name: "MotherDuck's token in an attached path", provider: "aws", block: duck(`attach: [{path: "md:db?motherduck_token=hunter2"}]`), err: "attach[0].path holds a secret (…): remove it"},
		{name: "a database's password in a path", provider: "aws", block: duck(`attach: [{path: "postgres:host=h password=hunter2"}]`), err: "attach[0].path holds a secret (…): remove it"},
		{name: "a key of an encrypted database", provider: "aws", block: duck(`attach: [{path: x, options: {encryption_key: hunter2}}]`), err: "attach[0].options.encryption_key" + replaces},
		{name: "a host in a path to Azure", provider: "entra", block: duck(`path: "abfss://c@acme.dfs.evil.example/x", secrets: [{type: azure, account_name: acmelake}]`),
			err: `path: host "acme.dfs.evil.example" does not belong to Azure Storage, but the access token would be sent there`},
		{name: "a path to Azure", provider: "entra", block: duck(`path: "abfss://acmelake.dfs.core.windows.net/c/x", secrets: [{type: azure, account_name: acmelake}]`)},

		{name: "a file system's host", provider: "aws", block: duck(`filesystems: [{fs: s3, client_kwargs: {endpoint_url: "http://evil.example"}}]`),
			err: `filesystems[0].client_kwargs.endpoint_url is "http://evil.example", want https (http is for loopback only)`},
		{name: "a file system's host in Jinja", provider: "aws", block: duck(`filesystems: [{fs: s3, endpoint_url: "{{ env_var('E') }}"}]`), err: "filesystems[0].endpoint_url must be a literal: the credential is sent there"},
		{name: "a file system without TLS", provider: "aws", block: duck(`filesystems: [{fs: s3, use_ssl: false}]`), err: `filesystems[0].use_ssl is "false", want TLS verified (turning it off is for loopback only)`},
		{name: "a file system on loopback", provider: "aws", block: duck(`filesystems: [{fs: s3, use_ssl: false, endpoint_url: "http://127.0.0.1:9000"}]`)},
		{name: "a file system that verifies nothing", provider: "aws", block: duck(`filesystems: [{fs: s3, client_kwargs: {verify: false}}]`), err: `filesystems[0].client_kwargs.verify is "false", want TLS verified (turning it off is for loopback only)`},
		{name: "a file system with an authority", provider: "aws", block: duck(`filesystems: [{fs: s3, client_kwargs: {verify: ./ca.pem}}]`)},
		{name: "a file system's proxy", provider: "aws", block: duck(`filesystems: [{fs: s3, config_kwargs: {proxies: {https: "http://me:pw@proxy"}}}]`), err: "filesystems[0].config_kwargs.proxies.https holds a secret (…): remove it"},
		{name: "a file system's proxy in Jinja", provider: "aws", block: duck(`filesystems: [{fs: s3, config_kwargs: {proxies: {https: "{{ env_var('P') }}"}}}]`),
			err: "filesystems[0].config_kwargs.proxies.https must be a literal: the credential passes through it"},
		{name: "a file system that is not Google's", provider: "gcp", block: duck(`filesystems: [{fs: gcs, endpoint_url: "https://evil.example"}]`),
			err: `filesystems[0].endpoint_url: host "evil.example" does not belong to Google Cloud, but the access token would be sent there`},
		{name: "a file system that is not Azure's", provider: "entra", block: duck(`filesystems: [{fs: abfs, account_host: evil.example}], secrets: [{type: azure, account_name: acmelake}]`),
			err: `filesystems[0].account_host: host "evil.example" does not belong to Azure Storage, but the access token would be sent there`},

		{name: "a plugin's password", provider: "aws", block: duck(`plugins: [{module: sqlalchemy, config: {connection_url: "postgresql://me:hunter2@h/d"}}]`), err: "plugins[0].config.connection_url holds a secret (…): remove it"},
		{name: "a plugin's connection string", provider: "aws", block: duck(`plugins: [{module: postgres, config: {dsn: "host=h user=me password=hunter2"}}]`), err: "plugins[0].config.dsn holds a secret (…): remove it"},
		{name: "MySQL's connection string", provider: "aws", block: duck(`attach: [{path: "host=h user=me passwd=hunter2", type: mysql}]`), err: "attach[0].path holds a secret (…): remove it"},
		{name: "a path's key", provider: "aws", block: duck(`external_root: "s3://b/x?s3_access_key_id=a&s3_secret_access_key=hunter2"`), err: "external_root holds a secret (…): remove it"},
		{name: "a path's signature", provider: "aws", block: duck(`attach: [{path: "https://a.blob.core.windows.net/c/x.db?sv=1&sig=hunter2"}]`), err: "attach[0].path holds a secret (…): remove it"},
		{name: "a storage account's string", provider: "aws", block: duck(`plugins: [{module: x, config: {store: "AccountName=a;AccountKey=hunter2=="}}]`), err: "plugins[0].config.store holds a secret (…): remove it"},
		{name: "SQL in an alias", provider: "aws", block: duck(`attach: [{path: x.db, alias: "a; SET s3_endpoint='evil.example'"}]`), err: `attach[0].alias is "a; SET s3_endpoint='evil.example'", want a name`},
		{name: "aliases", provider: "aws", block: duck(`attach: [{path: x.db, alias: raw_2}, {path: y.db, alias: '"my db"'}, {path: z.db, alias: "{{ env_var('A') }}"}, {path: u.db, alias: größe}]`)},
		{name: "SQL in headers", provider: "aws", block: duck(`secrets: [{type: http, extra_http_headers: "MAP {'a': 'b'}, http_proxy 'evil.example'"}]`), err: "secrets[0].extra_http_headers is a string, want a mapping of headers"},
		{name: "headers", provider: "aws", block: duck(`secrets: [{type: http, extra_http_headers: "MAP {'a': 'b'}"}, {type: http, extra_http_headers: {a: b}}]`)},
		{name: "a plugin's host", provider: "aws", block: duck(`plugins: [{module: iceberg, config: {catalog: c, s3.endpoint: "http://evil.example"}}]`),
			err: `plugins[0].config.s3.endpoint is "http://evil.example", want https (http is for loopback only)`},
		{name: "a plugin's key", provider: "aws", block: duck(`plugins: [{module: iceberg, config: {s3.secret-access-key: hunter2}}]`), err: "plugins[0].config.s3.secret-access-key" + replaces},
		{name: "a catalog's host", provider: "aws", block: duck(`attach: [{path: wh, type: iceberg, options: {endpoint: "http://evil.example"}}]`), err: `attach[0].options.endpoint is "http://evil.example", want https (http is for loopback only)`},

		{name: "an extension over http", provider: "aws", block: duck(`extensions: [{name: evil, repo: "'http://evil.example'"}]`),
			err: `extensions[0].repo is "http://evil.example", want core, community or a URL with https: its extensions can read the credential`},
		{name: "an extension from a bucket", provider: "aws", block: duck(`extensions: [{name: evil, repo: "s3://evil"}]`),
			err: `extensions[0].repo is "s3://evil", want core, community or a URL with https: its extensions can read the credential`},
		{name: "an extension in Jinja", provider: "aws", block: duck(`extensions: [{name: evil, repo: "{{ env_var('R') }}"}]`), err: "extensions[0].repo must be a literal: its extensions can read the credential"},
		{name: "SQL in an extension's name", provider: "aws", block: duck(`extensions: [{name: "evil from 'http://evil.example' --", repo: core}]`), err: `extensions[0].name is "evil from 'http://evil.example' --", want a name`},
		{name: "extensions", provider: "aws", block: duck(`extensions: [httpfs, {name: spatial, repo: community}, {name: own, repo: "'https://extensions.acme.example'"}]`)},
	}...)
	testPlaces(t, cases)
}

// TestDuckDBWritesOneStore: a step and a run with a broker use the store that
// settings name, and what they name is in the secret, which overrides them.
func TestDuckDBWritesOneStore(t *testing.T) {
	t.Parallel()
	block := node(t, `{type: duckdb, settings: {s3_endpoint: "minio.acme.example:9000", s3_url_style: path, S3_REGION: eu-west-1}}`)
	i := issuer(t)
	out, err := adapter.Render(adapter.Input{Facts: grant(t, i, "{from: profiles.yml}", standin.Exchange("duckdb", "aws")), Type: "duckdb", Block: block, Credential: standin.Credential("duckdb", "aws")})
	if err != nil {
		t.Fatal(err)
	}
	if want := `secrets: [{type: "s3", endpoint: "minio.acme.example:9000", region: "eu-west-1", url_style: "path", use_ssl: true, verify_ssl: true, key_id:`; !strings.Contains(rendered(block, out), want) {
		t.Errorf("no %s in\n%s", want, rendered(block, out))
	}
	r, err := adapter.Route("duckdb", "aws", policy.Values{}, block)
	if err != nil || r.Upstream.Host != "minio.acme.example" || r.Upstream.Port != 9000 || r.Upstream.Buckets || r.Upstream.Plain {
		t.Errorf("the route is %+v, %v", r, err)
	}
}

// TestNoLoginSurvives: of random nestings of keys that hold logins, none is
// left in what any adapter writes.
func TestNoLoginSurvives(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	keys := append(policy.SecretKeys(), "Authorization", "Proxy-Authorization", "Cookie", "X-Trino-Extra-Credential", "s3_secret_access_key", "S3_ACCESS_KEY_ID",
		"fs.s3a.secret.key", "spark.hadoop.fs.s3a.access.key", "secretAccessKey", "AWSSecretKey", "azure_storage_connection_string", "account_key", "sas_token",
		"fs.azure.account.key.acct.blob.core.windows.net", "api-key", "ConnectionPassword")
	tops := []string{"settings", "config_options", "filesystems", "http_headers", "server_side_parameters", "connection_parameters", "session_properties",
		"custom_settings", "session_parameters", "compute", "anything", "plugins", "attach", "secrets"}
	for _, dbtType := range adapter.Types() {
		name := adapter.Specs()[dbtType].Providers[0]
		t.Run(dbtType, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, uint64(len(dbtType))))
			g := grant(t, i, "{from: profiles.yml}", standin.Exchange(dbtType, name))
			for range 200 {
				key, top := keys[random.IntN(len(keys))], tops[random.IntN(len(tops))]
				if key == "secret" && (top == "attach" || top == "plugins") {
					continue // the name of a secret
				}
				inner := fmt.Sprintf("{%q: STATIC-%d}", key, random.IntN(9))
				for range random.IntN(4) {
					if random.IntN(2) == 0 {
						inner = "[" + inner + "]"
					} else {
						inner = fmt.Sprintf("{level%d: %s, other: 1}", random.IntN(3), inner)
					}
				}
				block := node(t, strings.TrimSuffix(standin.PairBlock(dbtType, name), "}")+fmt.Sprintf(", extra_%s: %s, %s: %s}", "a", inner, top, inner))
				out, err := adapter.Render(adapter.Input{Facts: g, Type: dbtType, Block: block, Credential: standin.Credential(dbtType, name)})
				if err == nil && strings.Contains(rendered(block, out), "STATIC") {
					t.Fatalf("a login survives:\n%s\n%s", flow(block), rendered(block, out))
				}
			}
		})
	}
}

// TestAliases: each name that dbt takes for a key is known in a policy, by
// `from`, to an exchange and to a route; a key under two of its names is an error.
func TestAliases(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	for _, tt := range []struct{ dbtType, provider, block, want string }{
		{"bigquery", "gcp", `{type: bigquery, database: acme-dbt, schema: marts}`, ""},
		{"bigquery", "gcp", `{type: bigquery, project: acme-dbt, dataset: marts}`, ""},
		{"bigquery", "gcp", `{type: bigquery, project: acme-dbt, database: acme-dbt}`, "duplicate key: project and database are the same setting, remove one"},
		{"bigquery", "gcp", `{type: bigquery, dataset: marts}`, "database or project, which type \"bigquery\" needs"},
		{"bigquery", "gcp", `{type: bigquery, project: }`, "project is empty"},
		{"bigquery", "gcp", `{type: bigquery, project: "{{ env_var('P') }}"}`, "project chooses server or identity: want a literal, not Jinja"},
		{"clickhouse", "vault", `{type: clickhouse, host: ch.acme.example, port: 8443, secure: true, dbname: marts}`, ""},
		{"clickhouse", "vault", `{type: clickhouse}`, ""},
		{"sqlserver", "entra", `{type: sqlserver, server: acme.database.windows.net, database: marts, schema: dbo}`, ""},
		{"sqlserver", "entra", `{type: sqlserver, server: acme.database.windows.net, host: acme.database.windows.net, database: marts, schema: dbo}`, "duplicate key: server and host are the same setting, remove one"},
		{"sqlserver", "entra", `{type: sqlserver, server: acme.database.windows.net, database: marts, schema: dbo, auth: cli}`, "auth is written by oidc-dbt, from the exchange: remove it"},
		{"fabric", "entra", `{type: fabric, server: acme.datawarehouse.fabric.microsoft.com, database: marts, schema: dbo}`, ""},
		{"postgres", "vault", `{type: postgres, host: localhost, port: 5432, dbname: marts, schema: dbo}`, ""},
		{"postgres", "vault", `{type: postgres, host: localhost, port: 5432, dbname: marts, schema: dbo, pass: x}`, "pass holds a secret"},
		{"redshift", "vault", `{type: redshift, host: localhost, port: 5439, database: marts, schema: dbo}`, ""},
		{"trino", "oidc", `{type: trino, host: trino.acme.example, port: 443, catalog: lake, schema: marts}`, ""},
		{"trino", "oidc", `{type: trino, host: trino.acme.example, port: 443, catalog: lake, database: lake, schema: marts}`, "duplicate key: catalog and database are the same setting, remove one"},
		{"databricks", "databricks", `{type: databricks, host: acme.cloud.databricks.com, http_path: /sql, catalog: main, schema: marts}`, ""},
		{"athena", "aws", `{type: athena, catalog: awsdatacatalog, schema: marts}`, ""},
	} {
		t.Run(tt.dbtType+tt.block, func(t *testing.T) {
			t.Parallel()
			_, err := parse("https://token.actions.githubusercontent.com", tt.block, standin.Exchange(tt.dbtType, tt.provider))
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error is %v, want one with %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			block := node(t, tt.block)
			if _, err := adapter.Warehouse(tt.dbtType, tt.provider, block); err != nil {
				t.Error(err)
			}
			if _, err := adapter.Route(tt.dbtType, tt.provider, policy.Values{}, block); err != nil {
				t.Error(err)
			}
			in := adapter.Input{Facts: grant(t, i, "{from: profiles.yml}", standin.Exchange(tt.dbtType, tt.provider)), Type: tt.dbtType, Block: block, Credential: standin.Credential(tt.dbtType, tt.provider)}
			out, err := adapter.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			spec, seen := adapter.Specs()[tt.dbtType], map[string]bool{}
			for line := range strings.SplitSeq(rendered(block, out), "\n") {
				key, _, _ := strings.Cut(line, ":")
				if name := spec.Canonical(key); seen[name] {
					t.Errorf("%s is there twice", name)
				} else {
					seen[name] = true
				}
			}
		})
	}
	// Through a broker's proxy other keys are written, by names of their own.
	block := node(t, `{type: postgres, host: localhost, port: 5432, dbname: marts, schema: dbo, pass: x}`)
	out, err := adapter.Render(adapter.Input{Facts: grant(t, i, "{from: profiles.yml}", standin.Exchange("postgres", "vault")), Type: "postgres", Block: block, Credential: standin.Credential("postgres", "vault"), Route: standin.Address()})
	if err != nil {
		t.Fatal(err)
	}
	if got := rendered(block, out); strings.Contains(got, "pass:") || !strings.Contains(got, `dbname: "marts"`) {
		t.Errorf("got\n%s", got)
	}
	checkUsage(t, adapter.CheckPlaces("postgres", "vault", "", node(t, `{type: postgres, host: localhost, port: 5432, dbname: marts, database: marts}`)),
		`dbt output of type "postgres": duplicate key: dbname and database are the same setting, remove one`)
}

// TestPassThroughs: what an adapter hands on as it is must not lead the login
// elsewhere, or add to the string that it puts together.
func TestPassThroughs(t *testing.T) {
	t.Parallel()
	pg := func(keys string) string {
		return "{type: postgres, host: localhost, port: 5432, user: dbt, schema: s, " + keys + "}"
	}
	snow := func(keys string) string {
		return "{type: snowflake, account: acme-prod, database: d, schema: s, " + keys + "}"
	}
	spark := func(keys string) string {
		return "{type: spark, method: odbc, host: acme.cloud.databricks.com, schema: s, " + keys + "}"
	}
	bricks := func(keys string) string {
		return "{type: databricks, host: acme.cloud.databricks.com, schema: s, " + keys + "}"
	}
	testPlaces(t, []placeCase{
		{name: "PostgreSQL: a connection string", provider: "vault", block: pg(`dbname: "host=evil.example user=x"`), err: "database is a connection string (…), want a database's name"},
		{name: "PostgreSQL: a URI", provider: "vault", block: pg(`database: "postgresql://evil.example/d"`), err: "database is a connection string (…), want a database's name"},
		{name: "PostgreSQL: two hosts", provider: "vault", block: `{type: postgres, host: "localhost,evil.example", port: 5432, database: d}`, err: `host is "localhost,evil.example", want one host name or address`},
		{name: "PostgreSQL: a host and an address", provider: "vault", block: `{type: postgres, host: "localhost hostaddr=1.2.3.4", port: 5432, database: d}`, err: `host is "localhost hostaddr=1.2.3.4", want one host name or address`},
		{name: "PostgreSQL: a name", provider: "vault", block: pg(`dbname: my-marts`)},
		{name: "Redshift: a connection string", provider: "vault", block: `{type: redshift, host: localhost, port: 5439, dbname: "d sslmode=disable"}`, err: "database is a connection string (…), want a database's name"},

		{name: "Snowflake: a port that is a host", provider: "aws", block: snow(`port: "443@evil.example"`), err: `port is "443@evil.example", want a number`},
		{name: "Snowflake: a proxy's port that is a host", provider: "aws", block: snow(`proxy_host: p, proxy_port: "1@evil.example"`), err: `proxy_port is "1@evil.example", want a number`},
		{name: "Snowflake: a proxy with a login", provider: "aws", block: snow(`proxy_host: "me:hunter2@p", proxy_port: 1`), err: "proxy_host contains a login, want host:port"},
		{name: "Snowflake: a host that is a path", provider: "oidc", audience: "acme", block: snow(`host: "evil.example/x"`), err: `host is "evil.example/x", want a host name only`},
		{name: "Snowflake: a stage elsewhere", provider: "aws", block: snow(`s3_stage_vpce_dns_name: evil.example`), err: `s3_stage_vpce_dns_name: host "evil.example" is not an Amazon S3 endpoint, but the stage's files and session would be sent there`},
		{name: "Snowflake: a stage's endpoint", provider: "aws", block: snow(`s3_stage_vpce_dns_name: vpce-000000000000a12b3-xxxxxxxx.s3.us-west-2.vpce.amazonaws.com`)},
		{name: "Snowflake: revocation in Jinja", provider: "aws", block: snow(`insecure_mode: "{{ env_var('I') }}"`), err: "insecure_mode must be a literal: the login is sent there"},

		{name: "ClickHouse: a port that is a host", provider: "vault", block: `{type: clickhouse, host: ch.acme.example, secure: true, port: "1@evil.example"}`, err: `port is "1@evil.example", want a number`},

		{name: "Databricks: another compute's path in Jinja", provider: "databricks", block: bricks(`http_path: /sql, compute: {big: {http_path: "{{ env_var('P') }}"}}`), err: "compute.big.http_path must be a literal: the token is sent there"},
		{name: "Databricks: a path that is a host", provider: "databricks", block: bricks(`http_path: "@evil.example/"`), err: `http_path is "@evil.example/", want a path such as /sql/1.0/warehouses/ID`},
		{name: "Databricks: a header in Jinja", provider: "databricks", block: bricks(`http_path: /sql, connection_parameters: {http_headers: {X-A: "{{ env_var('A') }}"}}`), err: "connection_parameters.http_headers must be a literal: it decides where the token is sent"},
		{name: "Databricks: a client's certificate", provider: "databricks", block: bricks(`http_path: /sql, connection_parameters: {_tls_client_cert_file: c.pem}`), err: "connection_parameters._tls_client_cert_file selects another login: remove it"},
		{name: "Databricks: computes", provider: "databricks", block: bricks(`http_path: /sql/1.0/warehouses/a, compute: {big: {http_path: /sql/1.0/warehouses/b}}`)},

		{name: "BigQuery: Dataproc elsewhere", provider: "gcp", block: `{type: bigquery, project: p, dataproc_region: "evil.example/"}`, err: `compute_region is "evil.example/", want a region such as europe-west3`},
		{name: "BigQuery: Dataproc in Jinja", provider: "gcp", block: `{type: bigquery, project: p, compute_region: "{{ env_var('R') }}"}`, err: `compute_region is "{{ env_var('R') }}", want a region such as europe-west3`},
		{name: "BigQuery: Dataproc", provider: "gcp", block: `{type: bigquery, project: p, compute_region: europe-west3}`},

		{name: "Spark: a driver with keywords", provider: "vault", block: spark(`driver: "x;Host=evil.example"`), err: `driver is "x;Host=evil.example", want a literal that is valid in a connection string`},
		{name: "Spark: an endpoint with keywords", provider: "vault", block: spark(`driver: x, endpoint: "e;Host=evil.example"`), err: `endpoint is "e;Host=evil.example", want a literal that is valid in a connection string`},
		{name: "Spark: a parameter with keywords", provider: "vault", block: spark(`driver: x, server_side_parameters: {a: "b};Host={evil.example"}`), err: "server_side_parameters.a is not valid in a connection string"},
		{name: "Spark: a parameter's name with keywords", provider: "vault", block: spark(`driver: x, server_side_parameters: {"a=1;Host": evil.example}`), err: "server_side_parameters.a=1;Host is not valid in a connection string"},
		{name: "Spark: a port that is a host", provider: "vault", block: `{type: spark, method: http, host: s.acme.example, port: "443@evil.example", schema: s}`, err: `port is "443@evil.example", want a number`},
		{name: "Spark: a driver", provider: "vault", block: spark(`driver: "{Simba Spark ODBC Driver}", endpoint: abc`)},
	})
}
