package adapter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestClientRoute: by the proxy where the place is known, else as the clients
// read it themselves.
func TestClientRoute(t *testing.T) {
	t.Parallel()
	const place = `{type: snowflake, account: acme-my_prod}`
	proxied := route.Route{Kind: route.Snowflake, Upstream: route.Upstream{Host: "acme-my-prod.snowflakecomputing.com", Port: 443, Account: "acme-my-prod"}}
	file := route.Route{Kind: route.SnowflakeTokenFile}
	for _, tt := range []struct {
		name, provider, audience, block string
		direct                          bool
		want                            route.Route
		err                             string
	}{
		{name: "the ID token", provider: "oidc", audience: "snowflakecomputing.com", block: place, want: proxied},
		{name: "an access token", provider: "entra", block: place, want: proxied},
		{name: "a key pair", provider: "vault", block: place, want: proxied},
		{name: "an AWS role", provider: "aws", block: place, want: route.Route{Kind: route.AWSContainer}},
		{name: "without the proxy", provider: "oidc", audience: "snowflakecomputing.com", block: place, direct: true, want: file},
		{name: "an access token without the proxy", provider: "token_exchange", block: place, direct: true, want: file},
		{name: "a key pair without the proxy", provider: "vault", block: place, direct: true, want: route.Route{Kind: route.Lease}},
		{name: "an AWS role without the proxy", provider: "aws", block: place, direct: true, want: route.Route{Kind: route.AWSContainer}},
		{name: "a place of the client's", provider: "oidc", audience: "snowflakecomputing.com", block: `{type: snowflake}`, want: file},
		{name: "an AWS role at a place of the client's", provider: "aws", block: `{type: snowflake}`, want: route.Route{Kind: route.AWSContainer}},
		{name: "a foreign host", provider: "oidc", audience: "snowflakecomputing.com", block: `{type: snowflake, account: acme, host: evil.example}`,
			err: `client "snowflake": host: host "evil.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "a foreign host without the proxy", provider: "entra", block: `{type: snowflake, account: acme, host: evil.example}`, direct: true,
			err: `client "snowflake": host: host "evil.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
		{name: "an account that is a host", provider: "oidc", audience: "snowflakecomputing.com", block: `{type: snowflake, account: evil.example/}`,
			err: `client "snowflake": account is "evil.example/", want an account identifier such as acme-prod`},
		{name: "plain HTTP", provider: "oidc", audience: "snowflakecomputing.com", block: `{type: snowflake, account: acme, protocol: http}`,
			err: `client "snowflake": protocol is "http", want https (http is for loopback only)`},
		{name: "a port that is none", provider: "oidc", audience: "snowflakecomputing.com", block: `{type: snowflake, account: acme, port: high}`,
			err: `client "snowflake": port is "high", want a number`},
		{name: "another provider", provider: "gcp", block: place,
			err: `type "snowflake" does not support provider "gcp", valid providers are ["aws" "entra" "login" "oidc" "token_exchange" "vault"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := adapter.ClientRoute("snowflake", tt.provider, tt.audience, policy.Values{}, node(t, tt.block), tt.direct)
			checkUsage(t, err, tt.err)
			if err == nil && got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestSnowflakeClient: the variables of snow, schemachange and Terraform.
func TestSnowflakeClient(t *testing.T) {
	t.Parallel()
	const (
		account  = "SNOWFLAKE_ACCOUNT=acme-my-prod\nSNOWFLAKE_ORGANIZATION_NAME=acme\nSNOWFLAKE_ACCOUNT_NAME=my-prod\n"
		there    = account + "SNOWFLAKE_HOST=acme-my-prod.snowflakecomputing.com\nSNOWFLAKE_PORT=443\nSNOWFLAKE_PROTOCOL=https\n"
		proxied  = account + "SNOWFLAKE_HOST=127.0.0.1\nSNOWFLAKE_PORT=20001\nSNOWFLAKE_PROTOCOL=http\n"
		session  = "SNOWFLAKE_ROLE=DEPLOYER\nSNOWFLAKE_WAREHOUSE=W\n"
		oauth    = "SNOWFLAKE_AUTHENTICATOR=OAUTH\n"
		oidc     = "SNOWFLAKE_AUTHENTICATOR=WORKLOAD_IDENTITY\nSNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER=OIDC\n"
		signed   = "SNOWFLAKE_AUTHENTICATOR=WORKLOAD_IDENTITY\nSNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER=AWS\n"
		token    = "SNOWFLAKE_TOKEN (secret)\n"
		file     = "SNOWFLAKE_TOKEN_FILE_PATH=/step/file\n"
		region   = "AWS_REGION=eu-central-1\nAWS_DEFAULT_REGION=eu-central-1\n"
		place    = `{type: snowflake, account: acme-my_prod, role: DEPLOYER, warehouse: W}`
		nowhere  = `{type: snowflake}`
		fileOnly = "/step/file"
	)
	broker := standin.Address()
	for _, tt := range []struct {
		name, provider, block string
		served                route.Address
		want                  string
	}{
		{name: "the ID token", provider: "oidc", block: place, want: there + session + oidc + token},
		{name: "the ID token, by the broker", provider: "oidc", block: place, served: broker, want: proxied + session + oauth + token},
		{name: "the ID token in a file", provider: "oidc", block: place, served: route.Address{File: fileOnly}, want: there + session + oidc + file},
		{name: "the ID token, at a place of the client's", provider: "oidc", block: nowhere, want: oidc + token},
		{name: "in a file, at a place of the client's", provider: "oidc", block: nowhere, served: route.Address{File: fileOnly}, want: oidc + file},
		{name: "an access token", provider: "entra", block: place, want: there + session + oauth + token},
		{name: "an access token, by the broker", provider: "token_exchange", block: place, served: broker, want: proxied + session + oauth + token},
		{name: "an access token in a file", provider: "token_exchange", block: place, served: route.Address{File: fileOnly}, want: there + session + oauth + file},
		{name: "a key pair", provider: "vault", block: place,
			want: there + session + "SNOWFLAKE_AUTHENTICATOR=SNOWFLAKE_JWT\nSNOWFLAKE_USER=V_DBT_1\nSNOWFLAKE_PRIVATE_KEY_RAW (secret)\nSNOWFLAKE_PRIVATE_KEY (secret)\n"},
		{name: "a key pair, by the broker", provider: "vault", block: place, served: broker, want: proxied + session + oauth + token},
		{name: "an AWS role", provider: "aws", block: place,
			want: there + session + signed + "AWS_ACCESS_KEY_ID (secret)\nAWS_SECRET_ACCESS_KEY (secret)\nAWS_SESSION_TOKEN (secret)\n" + region},
		{name: "an AWS role, by the broker", provider: "aws", block: place, served: route.Address{Host: "127.0.0.1", Port: 20001, Secret: broker.Secret},
			want: there + session + signed + "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:20001/credentials\nAWS_CONTAINER_AUTHORIZATION_TOKEN (secret)\nAWS_EC2_METADATA_DISABLED=true\n" + region},
		{name: "a locator", provider: "oidc", block: `{type: snowflake, account: xy12345.eu-central-1, user: DEPLOY}`,
			want: "SNOWFLAKE_ACCOUNT=xy12345.eu-central-1\nSNOWFLAKE_HOST=xy12345.eu-central-1.snowflakecomputing.com\nSNOWFLAKE_PORT=443\nSNOWFLAKE_PROTOCOL=https\nSNOWFLAKE_USER=DEPLOY\n" + oidc + token},
		{name: "by PrivateLink", provider: "oidc", block: `{type: snowflake, account: acme, host: acme.privatelink.snowflakecomputing.com, port: 8443}`,
			want: "SNOWFLAKE_ACCOUNT=acme\nSNOWFLAKE_HOST=acme.privatelink.snowflakecomputing.com\nSNOWFLAKE_PORT=8443\nSNOWFLAKE_PROTOCOL=https\n" + oidc + token},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got strings.Builder
			c := standin.Credential("snowflake", tt.provider)
			for _, v := range adapter.Client(adapter.Input{Type: "snowflake", Block: node(t, tt.block), Credential: c, Route: tt.served}) {
				switch marked := strings.Contains(v.Value.Reveal(), "marked"); {
				case v.Secret != marked:
					t.Errorf("%s: secret is %t, its value says %t", v.Name, v.Secret, marked)
				case v.Secret:
					fmt.Fprintf(&got, "%s (secret)\n", v.Name)
				default:
					fmt.Fprintf(&got, "%s=%s\n", v.Name, v.Value.Reveal())
				}
			}
			if got.String() != tt.want {
				t.Errorf("got\n%swant\n%s", got.String(), tt.want)
			}
		})
	}
}

// TestHeldByAClient: the outputs hold what the client reads.
func TestHeldByAClient(t *testing.T) {
	t.Parallel()
	in := adapter.Input{Type: "snowflake", Block: node(t, `{type: snowflake, account: acme}`), Credential: standin.Credential("snowflake", "oidc"), Route: standin.Address()}
	if c := adapter.Held(adapter.Client(in)); c.Token.Reveal() != "marked-secret-of-the-run" {
		t.Error("the token is not the secret of the run")
	}
	in.Credential, in.Route = credential.Credential{Kind: "key_pair", PrivateKey: in.Credential.Token}, route.Address{}
	if c := adapter.Held(adapter.Client(in)); c.PrivateKey.Reveal() != "marked-id-token" {
		t.Error("the key is not the credential's")
	}
}
