package adapter

import (
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// snowflake logs in by workload identity federation: with the ID token
// itself, or with the identity of an AWS role. (dbt-snowflake 1.12;
// Snowflake: Workload identity federation)
var snowflake = adapter{
	spec: policy.Adapter{
		Required: []string{"account"},
		Written: []string{
			"authenticator", "method", "workload_identity_provider", "workload_identity_entra_resource", "token_file_path",
			"private_key_path", "oauth_client_id", "connection_name",
		},
		Literal:  []string{"account", "host", "port", "protocol", "proxy_host", "proxy_port", "user", "role"},
		NoClaims: []string{"account", "host", "port", "protocol", "proxy_host", "proxy_port"},
	},
	render: map[string]func(Input) Output{
		"oidc": func(in Input) Output {
			out := workloadIdentity(in, "OIDC")
			out.Keys = append(out.Keys, Key{"token", envVar(tokenVariable)})
			out.Env = []Variable{{tokenVariable, in.Credential.Token, true}}
			return out
		},
		"aws": func(in Input) Output { return workloadIdentity(in, "AWS") },
	},
	check: func(block map[string]string, audience string) error {
		if audience == "" {
			return nil
		}
		for _, key := range []string{"account", "host", "protocol", "proxy_host"} {
			if jinja(block[key]) {
				return fmt.Errorf("%s must be a literal: the ID token goes there", key)
			}
		}
		if account := block["account"]; !accountText.MatchString(account) {
			return fmt.Errorf("account is %q, want an account identifier such as acme-prod", account)
		}
		for _, key := range []string{"host", "proxy_host"} {
			if err := policy.CheckHost(audience, block[key]); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		if block["protocol"] == "http" && (block["host"] == "" || !policy.IsLoopback(block["host"])) {
			return fmt.Errorf("protocol is %q, want https (http is for loopback only)", block["protocol"])
		}
		return nil
	},
}

func workloadIdentity(in Input, provider string) Output {
	out := Output{Keys: []Key{{"authenticator", text("workload_identity")}, {"workload_identity_provider", text(provider)}}}
	if value(in.Block, "query_tag") == nil {
		out.Keys = append(out.Keys, Key{"query_tag", tag(in)})
	}
	return out
}
