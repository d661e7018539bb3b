package adapter

import (
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// bigquery logs in with application default credentials that lead to the
// broker, and without one with an access token, which is read once and not
// renewed. (dbt-bigquery 1.12: methods oauth and oauth-secrets)
var bigquery = adapter{
	spec: policy.Adapter{
		Native: "roles on datasets of a service account of its own, `maximum_bytes_billed` and " +
			"`job_execution_timeout_seconds` in the profile, and custom quotas",
		Required: []string{"database"},
		Aliases: map[string]string{
			"project": "database", "dataset": "schema", "target_project": "target_database", "target_dataset": "target_schema",
			"retries":         "job_retries",
			"timeout_seconds": "job_execution_timeout_seconds", "dataproc_region": "compute_region",
		},
		Written: []string{
			"method", "keyfile", "client_id", "token_uri", "impersonate_service_account", "token_endpoint",
			"workload_pool_provider_path", "service_account_impersonation_url",
		},
		Literal:  []string{"database", "api_endpoint", "compute_region"},
		NoClaims: []string{"api_endpoint", "compute_region"},
	},
	mappings: []string{"dataproc_batch"},
	check: func(block *yaml.Node, _ pair, _ string) error {
		var f faults
		if scalar(block, "database") == "" {
			f.missing("project", ": without it google-auth asks the Resource Manager")
		}
		// dbt-bigquery puts the region in front of Dataproc's host.
		if region := scalar(block, "compute_region"); region != "" && !regionText.MatchString(region) {
			f.add("compute_region", " is %q, want a region such as europe-west3", region)
		}
		host, err := checkEndpoint(top("api_endpoint"), scalar(block, "api_endpoint"))
		f.join(err)
		if policy.CheckHost(googleAudience, host) != nil {
			f.add("api_endpoint", ": host %q does not belong to Google Cloud, but the access token would be sent there", host)
		}
		return f.err()
	},
	pairs: map[string]pair{
		"gcp": {
			gives: credential.GoogleAccessToken, render: bigqueryToken, route: googleADC,
			identities: map[string]string{
				"impersonate_service_account":       "service_account",
				"service_account_impersonation_url": "service_account",
				"workload_pool_provider_path":       "workload_identity_provider",
			},
		},
	},
}

// bigqueryToken writes the token, or has google-auth find the broker's file.
func bigqueryToken(in Input) Output {
	out := Output{
		Keys: []Key{{"method", text("oauth-secrets")}, {"token", envVar(tokenVariable)}},
		Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
	}
	if in.Route.File != "" {
		out = Output{Keys: []Key{{"method", text("oauth")}}, Env: googleEnvironment(in.Route)}
		if universe := in.Facts.Exchange().Get("universe_domain"); universe != "" {
			// The client refuses a credential of another universe than its own.
			out.Env = append(out.Env, Variable{"GOOGLE_CLOUD_UNIVERSE_DOMAIN", secret.New(universe), false})
		}
	}
	for _, key := range []string{"execution_project", "database"} {
		// Without the variable google-auth asks the resource manager
		// for the project, with a credential that may not.
		if project := scalar(in.Block, key); project != "" && !policy.IsJinja(project) {
			out.Env = append(out.Env, Variable{"GOOGLE_CLOUD_PROJECT", secret.New(project), false})
			break
		}
	}
	return out
}

var regionText = lazy.MustCompile(`^[a-z0-9-]+$`)

// googleAudience is one that only Google's own hosts may get a token of.
const googleAudience = "https://iam.googleapis.com/"
