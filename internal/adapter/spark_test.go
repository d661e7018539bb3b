package adapter_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestSpark(t *testing.T) {
	t.Parallel()
	const region = "AWS_REGION=eu-central-1\nAWS_DEFAULT_REGION=eu-central-1\n"
	testRender(t, []renderCase{
		{name: "a lease", provider: "vault", block: standin.Block("spark"),
			want: "auth: \"LDAP\"\nuser: \"v-dbt-1\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"},
		{name: "a role for S3", provider: "aws", block: standin.PairBlock("spark", "aws"),
			want: `server_side_parameters: {spark.hadoop.fs.s3a.aws.credentials.provider: "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"}` + "\n" +
				"AWS_ACCESS_KEY_ID (secret)\nAWS_SECRET_ACCESS_KEY (secret)\nAWS_SESSION_TOKEN (secret)\n" + region},
		{name: "a role for S3, by the broker, with settings", provider: "aws", served: true, block: `{type: spark, method: session, host: NA, schema: marts, server_side_parameters: {spark.driver.memory: 4g}}`,
			want: `server_side_parameters: {spark.driver.memory: "4g", spark.hadoop.fs.s3a.aws.credentials.provider: "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider"}` + "\n" +
				"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:20001/credentials\nAWS_CONTAINER_AUTHORIZATION_TOKEN (secret)\nAWS_EC2_METADATA_DISABLED=true\n" + region},
		{name: "Azure storage, by the broker", provider: "entra", served: true, block: standin.PairBlock("spark", "entra"),
			want: `server_side_parameters: {spark.hadoop.fs.azure.account.auth.type: "OAuth", ` +
				`spark.hadoop.fs.azure.account.oauth.provider.type: "org.apache.hadoop.fs.azurebfs.oauth2.WorkloadIdentityTokenProvider", ` +
				`spark.hadoop.fs.azure.account.oauth2.msi.authority: "https://login.microsoftonline.com", ` +
				`spark.hadoop.fs.azure.account.oauth2.msi.tenant: "11111111-2222-3333-4444-555555555555", ` +
				`spark.hadoop.fs.azure.account.oauth2.client.id: "66666666-7777-8888-9999-000000000000", ` +
				`spark.hadoop.fs.azure.account.oauth2.token.file: "/step/file"}` + "\n" +
				"AZURE_FEDERATED_TOKEN_FILE=/step/file\nAZURE_CLIENT_ID=66666666-7777-8888-9999-000000000000\nAZURE_TENANT_ID=11111111-2222-3333-4444-555555555555\nAZURE_AUTHORITY_HOST=https://login.microsoftonline.com\n"},
	})
}

// TestSparkStores: settings that would lead the credential elsewhere, or be
// another one, are errors; by either name, for all or for one bucket.
func TestSparkStores(t *testing.T) {
	t.Parallel()
	var cases []placeCase
	for _, name := range []string{
		"fs.s3a.endpoint", "fs.s3a.bucket.lake.endpoint", "fs.s3a.bucket.lake.acme.example.endpoint", "fs.s3a.proxy.host", "fs.s3a.connection.ssl.enabled",
		"fs.s3a.aws.credentials.provider", "fs.s3a.bucket.lake.aws.credentials.provider",
		"fs.s3a.security.credential.provider.path", "fs.s3a.assumed.role.sts.endpoint", "fs.s3a.custom.signers", "fs.s3a.impl", "FS.S3A.Endpoint",
		"fs.azure.account.auth.type", "fs.azure.account.oauth2.client.endpoint", "fs.azure.always.use.https",
		"fs.abfss.impl", "hadoop.security.credential.provider.path",
	} {
		for _, prefix := range []string{"", "spark.hadoop."} {
			cases = append(cases, placeCase{name: prefix + name, provider: "aws", block: `{type: spark, method: session, host: NA, server_side_parameters: {"` + prefix + name + `": x}}`,
				err: "server_side_parameters." + prefix + name + " selects the store's login or who gets it: remove it, the exchange does this"})
		}
	}
	testPlaces(t, cases)
}

func TestSparkPlaces(t *testing.T) {
	t.Parallel()
	spark := func(keys string) string { return "{type: spark, " + keys + "}" }
	testPlaces(t, []placeCase{
		{name: "HTTP", provider: "vault", block: spark(`method: http, host: adb-1.azuredatabricks.net`)},
		{name: "HTTP with a scheme", provider: "vault", block: spark(`method: http, host: "https://adb-1.azuredatabricks.net"`)},
		{name: "Thrift by TLS", provider: "vault", block: spark(`method: thrift, host: spark.acme.example, use_ssl: true`)},
		{name: "Thrift in the clear on loopback", provider: "vault", block: spark(`method: thrift, host: localhost`)},
		{name: "ODBC", provider: "vault", block: spark(`method: odbc, host: spark.acme.example, connection_string_suffix: "EnableQueryResultDownload=0"`)},
		{name: "HTTP in the clear", provider: "vault", block: spark(`method: http, host: "http://spark.acme.example"`), err: `host is "http://spark.acme.example", want one host name or address: write "spark.acme.example", without http://`},
		{name: "a path", provider: "vault", block: spark(`method: http, host: "evil.example/x?"`), err: `host is "evil.example/x?", want one host name or address`},
		{name: "Thrift in the clear", provider: "vault", block: spark(`method: thrift, host: spark.acme.example`), err: `use_ssl is "" for host "spark.acme.example", want true (plain connections are for loopback only)`},
		{name: "a session with a login", provider: "vault", block: spark(`method: session, host: NA`), err: `method is "session", which has no login: Spark runs in dbt's process; for its store use provider "aws" or "entra"`},
		{name: "a session", provider: "aws", block: spark(`method: session, host: NA`)},
		{name: "a session with settings", provider: "entra", block: spark(`method: session, host: NA, server_side_parameters: {spark.driver.memory: 4g, spark.hadoop.fs.s3a.endpoint.region: eu-central-1, spark.hadoop.fs.s3a.path.style.access: true}`)},
		{name: "a session with empty settings", provider: "entra", block: spark(`method: session, host: NA, server_side_parameters: `)},
		{name: "a list of settings", provider: "aws", block: spark(`method: session, host: NA, server_side_parameters: [a]`), err: "server_side_parameters is a list, want a mapping"},
		{name: "a setting in Jinja", provider: "aws", block: spark(`method: session, host: NA, server_side_parameters: {"{{ env_var('K') }}": x}`), err: "server_side_parameters.{{ env_var('K') }} must be a literal: it may decide where the credential is sent"},
		{name: "Thrift with a role", provider: "aws", block: spark(`method: thrift, host: localhost`), err: `method is "thrift", for which provider "aws" has no login: want method session, for a store, or provider "vault"`},
		{name: "HTTP with a token of Entra ID", provider: "entra", block: spark(`method: http, host: localhost`), err: `method is "http", for which provider "entra" has no login: want method session, for a store, or provider "vault"`},
		{name: "another method", provider: "aws", block: spark(`method: livy, host: localhost`), err: `method is "livy", valid methods are ["http" "odbc" "session" "thrift"]`},
		{name: "a method in Jinja", provider: "vault", block: spark(`method: "{{ env_var('M') }}", host: localhost`), err: "method must be a literal: the login is sent there"},
		{name: "another server at the string's end", provider: "vault", block: spark(`method: odbc, host: spark.acme.example, connection_string_suffix: "a=b; HOST=evil.example"`), err: "connection_string_suffix: it must not change server, login or TLS"},
		{name: "no TLS at the string's end", provider: "vault", block: spark(`method: odbc, host: spark.acme.example, connection_string_suffix: "ssl=0"`), err: "connection_string_suffix: it must not change server, login or TLS"},
	})
}
