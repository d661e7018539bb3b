package adapter

import (
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// bigquery logs in with an access token, which is read once and not renewed.
// (dbt-bigquery 1.12: method oauth-secrets)
var bigquery = adapter{
	spec: policy.Adapter{
		Written: []string{
			"method", "keyfile", "client_id", "token_uri", "impersonate_service_account", "token_endpoint",
			"workload_pool_provider_path", "service_account_impersonation_url",
		},
		Literal:  []string{"project", "database", "api_endpoint"},
		NoClaims: []string{"api_endpoint"},
	},
	render: map[string]func(Input) Output{
		"gcp": func(in Input) Output {
			out := Output{
				Keys: []Key{{"method", text("oauth-secrets")}, {"token", envVar(tokenVariable)}},
				Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
			}
			for _, key := range []string{"execution_project", "project", "database"} {
				// Without the variable google-auth asks the resource manager
				// for the project, with a credential that may not.
				if v := value(in.Block, key); v != nil && v.Value != "" && !jinja(v.Value) {
					out.Env = append(out.Env, Variable{"GOOGLE_CLOUD_PROJECT", secret.New(v.Value), false})
					break
				}
			}
			return out
		},
	},
}
