package policy_test

import (
	"errors"
	"regexp"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// catalog is a small one with a provider and an adapter of each shape: this
// package's tests must not depend on what the product's are.
func catalog() policy.Catalog {
	role := func(value string) error {
		if !regexp.MustCompile(`^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9._-]{1,64}$`).MatchString(value) {
			return errors.New("want arn:aws:iam::ACCOUNT:role/NAME")
		}
		return nil
	}
	return policy.Catalog{
		Providers: map[string]policy.Provider{
			"oidc": {
				Keys:     []policy.Key{{Name: "audience", Required: true, Doc: "The audience."}},
				Audience: func(v policy.Values) string { return v.Get("audience") },
				NeedsDBT: true,
				Check: func(v policy.Values, _ time.Duration) []policy.KeyError {
					if err := policy.CheckLogin(v.Get("audience")); err != nil {
						return []policy.KeyError{{Key: "audience", Err: err}}
					}
					return nil
				},
			},
			"aws": {
				Keys: []policy.Key{
					{Name: "role", Required: true, Claims: true, Check: role}, {Name: "region", Required: true}, {Name: "endpoint"},
					{Name: "policy_arns", List: true},
					{Name: "then_assume", Keys: []policy.Key{{Name: "role", Required: true, Claims: true, Check: role}, {Name: "external_id"}}},
				},
				Audience:  func(policy.Values) string { return "sts.amazonaws.com" },
				Lifetimes: &policy.Lifetimes{Min: 15 * time.Minute, Max: 12 * time.Hour, Default: time.Hour},
				Check: func(v policy.Values, lifetime time.Duration) (faults []policy.KeyError) {
					if err := policy.CheckAudience("sts.amazonaws.com", v.Get("endpoint")); v.Get("endpoint") != "" && err != nil {
						faults = append(faults, policy.KeyError{Key: "endpoint", Err: err})
					}
					if v.Get("then_assume.role") != "" && lifetime > time.Hour {
						faults = append(faults, policy.KeyError{Key: "lifetime", Err: errors.New("at most 1h behind a role chain")})
					}
					return faults
				},
			},
			"gcp": {
				Keys: []policy.Key{{Name: "workload_identity_provider", Required: true}, {Name: "service_account", Claims: true}, {Name: "static", Bool: true}},
				Audience: func(v policy.Values) string {
					return "https://iam.googleapis.com/" + v.Get("workload_identity_provider")
				},
				Lifetimes: &policy.Lifetimes{Min: time.Minute, Max: 12 * time.Hour, Default: time.Hour},
			},
		},
		Adapters: map[string]policy.Adapter{
			"snowflake": {
				Providers: []string{"aws", "oidc"}, Required: []string{"account"}, Written: []string{"authenticator", "token", "private_key_path"},
				Secret: []string{"passcode"}, Literal: []string{"account", "user", "role"}, NoClaims: []string{"account"},
				Client: []string{"account", "user", "role"}, Given: map[string][]string{"aws": {"role"}},
				Guarded: []string{"oidc"}, Native: "a role of its own", Unscanned: "a resource monitor",
			},
			"bigquery": {Native: "roles on datasets", Providers: []string{"gcp"}, Written: []string{"method"}, Literal: []string{"project"}},
			"duckdb":   {Providers: []string{"aws"}, Secret: []string{"key_id"}},
		},
	}
}
