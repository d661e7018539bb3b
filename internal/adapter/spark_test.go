package adapter_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestSpark(t *testing.T) {
	t.Parallel()
	testRender(t, []renderCase{
		{name: "a lease", provider: "vault", block: standin.Block("spark"),
			want: "auth: \"LDAP\"\nuser: \"v-dbt-1\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"},
	})
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
		{name: "HTTP in the clear", provider: "vault", block: spark(`method: http, host: "http://spark.acme.example"`), err: `host is "http://spark.acme.example", want one host name or address`},
		{name: "a path", provider: "vault", block: spark(`method: http, host: "evil.example/x?"`), err: `host is "evil.example/x?", want one host name or address`},
		{name: "Thrift in the clear", provider: "vault", block: spark(`method: thrift, host: spark.acme.example`), err: `use_ssl is "" for host "spark.acme.example", want true (plain connections are for loopback only)`},
		{name: "a session", provider: "vault", block: spark(`method: session, host: localhost`), err: `method is "session", valid methods are ["http" "odbc" "thrift"]`},
		{name: "a method in Jinja", provider: "vault", block: spark(`method: "{{ env_var('M') }}", host: localhost`), err: "method must be a literal: the login goes there"},
		{name: "another server at the string's end", provider: "vault", block: spark(`method: odbc, host: spark.acme.example, connection_string_suffix: "a=b; HOST=evil.example"`), err: "connection_string_suffix: it must not change server, login or TLS"},
		{name: "no TLS at the string's end", provider: "vault", block: spark(`method: odbc, host: spark.acme.example, connection_string_suffix: "ssl=0"`), err: "connection_string_suffix: it must not change server, login or TLS"},
	})
}
