package provider

import (
	"context"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// oidcProvider exchanges nothing: the warehouse verifies the ID token itself
// (Snowflake's workload identity federation with provider OIDC, Trino's JWT
// authentication). The credential expires with the token.
var oidcProvider = provider{
	spec: policy.Provider{
		Doc: "The ID token itself is the login: the warehouse verifies it.",
		Keys: []policy.Key{
			{Name: "audience", Required: true, Example: "snowflakecomputing.com", Check: exchange.Named("snowflakecomputing.com"),
				Doc: "The audience that the warehouse expects in the ID token, such as snowflakecomputing.com."},
		},
		Audience: func(v policy.Values) string { return v.Get("audience") },
		NeedsDBT: true, // a login at a warehouse is nothing without one
		Check: func(v policy.Values, _ time.Duration) []policy.KeyError {
			if err := v.CheckLogin(v.Get("audience")); err != nil {
				return []policy.KeyError{{Key: "audience", Err: err}}
			}
			return nil
		},
	},
	exchange: func(_ context.Context, _ exchange.Env, r exchange.Request) (credential.Credential, error) {
		return IDToken(r.Grant, r.IDToken)
	},
	endpoints: func(policy.Values, credential.Warehouse) []string { return nil },
}
