package adapter_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestSnowflake(t *testing.T) {
	t.Parallel()
	const tag = "query_tag: \"oidc-dbt target=prod\"\n"
	const token = "authenticator: \"jwt\"\ntoken: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n"
	const broker = "host: \"127.0.0.1\"\nport: 20001\nprotocol: \"http\"\n" + token
	block := standin.Block("snowflake")
	with := func(keys string) string { return strings.TrimSuffix(block, "}") + ", " + keys + "}" }
	testRender(t, []renderCase{
		{name: "a token of Entra ID", provider: "entra", block: block, want: token + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "a token of the company's identity provider", provider: "token_exchange", block: block, want: token + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "a key pair that a vault lends", provider: "vault", block: block,
			want: "user: \"V_DBT_1\"\nprivate_key: \"{{ env_var('DBT_ENV_SECRET_OIDC_PRIVATE_KEY') }}\"\n" + tag + "DBT_ENV_SECRET_OIDC_PRIVATE_KEY (secret)\n"},

		{name: "the ID token, by the broker", provider: "oidc", served: true, block: block, want: broker + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "Entra ID, by the broker", provider: "entra", served: true, block: block, want: broker + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "a tag of the user's", provider: "token_exchange", served: true, block: with("query_tag: mine"), want: broker + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "behind a company's proxy", provider: "oidc", served: true, block: with("proxy_host: proxy.acme.example, proxy_port: 3128"),
			want: broker + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\nHTTPS_PROXY=http://proxy.acme.example:3128\nhttps_proxy=http://proxy.acme.example:3128\n"},
		{name: "a key pair, by the broker", provider: "vault", served: true, block: block, want: broker + tag + "reuse_connections: false\nDBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "connections that the user wants kept", provider: "vault", served: true, block: with("reuse_connections: true"), want: broker + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
	})
	testPlaces(t, []placeCase{
		{name: "a foreign host for what a key pair signs", provider: "vault", block: `{type: snowflake, account: acme, host: evil.example}`,
			err: `host: host "evil.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "a port in Jinja", provider: "vault", block: `{type: snowflake, account: acme, port: "{{ env_var('P') }}"}`, err: "port must be a literal: the login is sent there"},
	})
}

// TestSnowflakeRoute: the proxy leads where the connector would.
func TestSnowflakeRoute(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, block string
		want        route.Upstream
		err         string
	}{
		{name: "an organisation's account", block: `{account: acme-prod}`, want: route.Upstream{Host: "acme-prod.snowflakecomputing.com", Port: 443, Account: "acme-prod"}},
		{name: "an underscore", block: `{account: acme-my_prod}`, want: route.Upstream{Host: "acme-my-prod.snowflakecomputing.com", Port: 443, Account: "acme-my-prod"}},
		{name: "a locator in a region", block: `{account: xy12345.eu-central-1}`, want: route.Upstream{Host: "xy12345.eu-central-1.snowflakecomputing.com", Port: 443, Account: "xy12345"}},
		{name: "in a cloud", block: `{account: xy12345.west-europe.azure}`, want: route.Upstream{Host: "xy12345.west-europe.azure.snowflakecomputing.com", Port: 443, Account: "xy12345"}},
		{name: "in China", block: `{account: xy12345.cn-northwest-1.aws}`, want: route.Upstream{Host: "xy12345.cn-northwest-1.aws.snowflakecomputing.cn", Port: 443, Account: "xy12345"}},
		{name: "by PrivateLink", block: `{account: xy12345.eu-central-1.privatelink}`, want: route.Upstream{Host: "xy12345.eu-central-1.privatelink.snowflakecomputing.com", Port: 443, Account: "xy12345"}},
		{name: "a global one", block: `{account: acme-x1y2.global}`, want: route.Upstream{Host: "acme-x1y2.global.snowflakecomputing.com", Port: 443, Account: "acme"}},
		{name: "a host", block: `{account: acme-prod, host: acme-prod.privatelink.snowflakecomputing.com}`, want: route.Upstream{Host: "acme-prod.privatelink.snowflakecomputing.com", Port: 443, Account: "acme-prod"}},
		{name: "loopback", block: `{account: acme-prod, host: 127.0.0.1, port: 8000, protocol: http}`, want: route.Upstream{Host: "127.0.0.1", Port: 8000, Plain: true, Account: "acme-prod"}},
		{name: "a proxy", block: `{account: acme-prod, proxy_host: proxy.acme.example, proxy_port: 3128}`, want: route.Upstream{Host: "acme-prod.snowflakecomputing.com", Port: 443, Account: "acme-prod", Proxy: "http://proxy.acme.example:3128"}},
		{name: "a proxy with a scheme", block: `{account: acme-prod, proxy_host: "https://proxy.acme.example", proxy_port: 3128}`, want: route.Upstream{Host: "acme-prod.snowflakecomputing.com", Port: 443, Account: "acme-prod", Proxy: "http://proxy.acme.example:3128"}},
		{name: "half a proxy", block: `{account: acme-prod, proxy_host: proxy.acme.example}`, want: route.Upstream{Host: "acme-prod.snowflakecomputing.com", Port: 443, Account: "acme-prod"}},
		{name: "a port that is none", block: `{account: acme-prod, port: high}`, err: `dbt output of type "snowflake": port is "high", want a number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, provider := range []string{"oidc", "entra", "token_exchange", "vault"} {
				got, err := adapter.Route("snowflake", provider, policy.Values{}, node(t, tt.block))
				checkUsage(t, err, tt.err)
				if diff := cmp.Diff(route.Route{Kind: route.Snowflake, Upstream: tt.want}, got); err == nil && diff != "" {
					t.Errorf("route with %s (-want +got):\n%s", provider, diff)
				}
			}
		})
	}
}
