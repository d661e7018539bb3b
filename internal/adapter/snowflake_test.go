package adapter_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestSnowflake(t *testing.T) {
	t.Parallel()
	const tag = "query_tag: \"oidc-dbt target=prod\"\n"
	const token = "authenticator: \"jwt\"\ntoken: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n"
	testRender(t, []renderCase{
		{name: "a token of Entra ID", provider: "entra", block: standin.Block("snowflake"), want: token + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "a token of the company's identity provider", provider: "token_exchange", block: standin.Block("snowflake"), want: token + tag + "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"},
		{name: "a key pair that a vault lends", provider: "vault", block: standin.Block("snowflake"),
			want: "user: \"V_DBT_1\"\nprivate_key: \"{{ env_var('DBT_ENV_SECRET_OIDC_PRIVATE_KEY') }}\"\n" + tag + "DBT_ENV_SECRET_OIDC_PRIVATE_KEY (secret)\n"},
	})
	testPlaces(t, []placeCase{
		{name: "a foreign host for what a key pair signs", provider: "vault", block: `{type: snowflake, account: acme, host: evil.example}`,
			err: `host: host "evil.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
	})
}
