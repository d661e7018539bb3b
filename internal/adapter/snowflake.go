package adapter

import (
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// snowflake logs in by workload identity federation: with the ID token
// itself, or with the identity of an AWS role, which the connector signs a
// request of at each login; or with an access token of an authorization
// server that it trusts (External OAuth), or a key pair that a vault lends.
// (dbt-snowflake 1.12; Snowflake: Workload identity federation, External
// OAuth, Key-pair authentication)
var snowflake = adapter{
	spec: policy.Adapter{
		Required: []string{"account", "database", "schema"},
		Written: []string{
			"authenticator", "method", "workload_identity_provider", "workload_identity_entra_resource", "token_file_path",
			"private_key_path", "oauth_client_id", "connection_name",
		},
		Literal:  []string{"account", "host", "port", "protocol", "proxy_host", "proxy_port", "insecure_mode", "user", "role"},
		NoClaims: []string{"account", "host", "port", "protocol", "proxy_host", "proxy_port", "insecure_mode"},
	},
	render: map[string]func(Input) Output{
		"oidc": func(in Input) Output {
			out := workloadIdentity(in, "OIDC")
			out.Keys = append(out.Keys, Key{"token", envVar(tokenVariable)})
			out.Env = []Variable{{tokenVariable, in.Credential.Token, true}}
			return out
		},
		"aws":            func(in Input) Output { return workloadIdentity(in, "AWS") },
		"entra":          externalOAuth,
		"token_exchange": externalOAuth,
		"vault": func(in Input) Output {
			return withTag(in, Output{
				Keys: []Key{{"user", text(in.Credential.User)}, {"private_key", envVar(privateKeyVariable)}},
				Env:  []Variable{{privateKeyVariable, in.Credential.PrivateKey, true}},
			})
		},
	},
	check:  checkSnowflake,
	routes: map[string]func(*yaml.Node) (route.Route, error){"aws": awsContainer},
}

// accountText keeps an account from being a host of somebody else's: the
// connector puts .snowflakecomputing.com behind it.
var accountText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// checkSnowflake holds for both providers: what the connector signs for AWS
// is a login too, for whoever gets it.
func checkSnowflake(block *yaml.Node, _, audience string) error {
	for _, key := range []string{"account", "host", "protocol", "proxy_host"} {
		if jinja(scalar(block, key)) {
			return fmt.Errorf("%s must be a literal: the login goes there", key)
		}
	}
	account, host, protocol := scalar(block, "account"), scalar(block, "host"), scalar(block, "protocol")
	if !accountText.MatchString(account) {
		return fmt.Errorf("account is %q, want an account identifier such as acme-prod", account)
	}
	if audience == "" {
		audience = "snowflakecomputing.com"
	}
	if err := policy.CheckHost(audience, host); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	switch protocol {
	case "", "https":
	case "http":
		peer := scalar(block, "proxy_host") // sees the login in the clear, as the server does
		if peer == "" {
			peer = host
		}
		if !policy.IsLoopback(peer) {
			return fmt.Errorf("protocol is %q, want https (http is for loopback only)", protocol)
		}
	default:
		return fmt.Errorf("protocol is %q, want https", protocol)
	}
	return nil
}

func workloadIdentity(in Input, provider string) Output {
	return withTag(in, Output{Keys: []Key{{"authenticator", text("workload_identity")}, {"workload_identity_provider", text(provider)}}})
}

// externalOAuth names the authenticator that both of dbt's engines take for a
// plain access token: `oauth` is a refresh token to the Rust one.
func externalOAuth(in Input) Output {
	return withTag(in, Output{
		Keys: []Key{{"authenticator", text("jwt")}, {"token", envVar(tokenVariable)}},
		Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
	})
}

func withTag(in Input, out Output) Output {
	if value(in.Block, "query_tag") == nil {
		out.Keys = append(out.Keys, Key{"query_tag", tag(in)})
	}
	return out
}
