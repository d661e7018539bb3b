package provider_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// googleSTS is the first hop of everything at Google.
var googleSTS = hop{
	name:    "STS",
	reply:   `{"access_token": "ya29.d.federated-access-token-0123456789", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 300}`,
	secrets: []string{"access_token"},
	expiry:  "expires_in",
	kind:    "token_type",
	refusal: `{"error": "$CODE", "error_description": "$MESSAGE"}`,
	refusals: []refusal{
		{400, "invalid_grant", "The audience in ID Token [https://example.com] does not match the expected audience."},
		{400, "invalid_target", `The target service indicated by the \"audience\" parameters is invalid. This might either be because the pool or provider is disabled or deleted or because it doesn't exist.`},
		{401, "unauthorized_client", "The given credential is rejected by the attribute condition."},
	},
	passing: []refusal{{400, "invalid_grant", "Error connecting to the given credential's issuer."}, {400, "server_error", "Internal error."}},
}

// googleIAM is the second, where a service account is named.
var googleIAM = hop{
	name:    "IAM Credentials",
	reply:   `{"accessToken": "ya29.c.service-account-access-token-0123456789", "expireTime": "2000-01-01T00:30:00Z"}`,
	secrets: []string{"accessToken"},
	expiry:  "expireTime",
	refusal: `{"error": {"code": $STATUS, "message": "$MESSAGE", "status": "$CODE"}}`,
	refusals: []refusal{
		{403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."},
		{404, "NOT_FOUND", "Unknown service account"},
		{403, "PERMISSION_DENIED", "IAM Service Account Credentials API has not been used in project 123 before or it is disabled."},
		{400, "INVALID_ARGUMENT", "The access token lifetime cannot exceed 3600s. To extend it, add the service account to the organisation policy's list."},
	},
	passing: []refusal{{429, "RESOURCE_EXHAUSTED", "Quota exceeded"}, {409, "ABORTED", "There were concurrent policy changes."}, {503, "UNAVAILABLE", "The service is currently unavailable."}},
}

var gcp = []fixture{{
	name: "gcp-workforce",
	target: `
    exchange:
      gcp: {workload_identity_provider: locations/global/workforcePools/acme/providers/okta, user_project: acme-dbt}
    dbt: {type: bigquery, project: acme-dbt, dataset: dev}`,
	people: true,
	hops:   []hop{googleSTS},
	want:   issued{kind: "google_access_token", id: "locations/global/workforcePools/acme/providers/okta", life: 5 * time.Minute},
}, {
	name: "gcp",
	target: `
    exchange:
      gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh, scopes: [https://www.googleapis.com/auth/bigquery, https://www.googleapis.com/auth/drive.readonly]}
    dbt: {type: bigquery, project: acme-dbt, dataset: marts}`,
	hops: []hop{googleSTS},
	want: issued{kind: "google_access_token", id: "projects/123/locations/global/workloadIdentityPools/gh/providers/gh", life: 5 * time.Minute},
}, {
	name: "gcp-service-account",
	target: `
    lifetime: 30m
    exchange:
      gcp:
        workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh
        service_account: dbt@acme-dbt.iam.gserviceaccount.com
        delegates: [first@acme-dbt.iam.gserviceaccount.com, second@acme-dbt.iam.gserviceaccount.com]
    dbt: {type: bigquery, project: acme-dbt, dataset: marts}`,
	hops: []hop{googleSTS, googleIAM},
	want: issued{kind: "google_access_token", id: "dbt@acme-dbt.iam.gserviceaccount.com", life: 30 * time.Minute},
}, {
	name: "gcp-cloud-sql",
	target: `
    lifetime: 30m
    exchange:
      gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh, service_account: dbt@acme-dbt.iam.gserviceaccount.com}
    dbt: {type: postgres, host: 10.0.0.3, port: 5432, database: analytics, schema: marts}`,
	hops: []hop{googleSTS, googleIAM},
	want: issued{kind: "database_login", id: "dbt@acme-dbt.iam.gserviceaccount.com", user: "dbt@acme-dbt.iam", life: 30 * time.Minute},
}, {
	name: "gcp-storage",
	target: `
    lifetime: 30m
    exchange:
      gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh, service_account: dbt@acme-dbt.iam.gserviceaccount.com}
    dbt: {type: duckdb, path: lake.duckdb}`,
	hops: []hop{googleSTS, googleIAM},
	want: issued{kind: "google_access_token", id: "dbt@acme-dbt.iam.gserviceaccount.com", life: 30 * time.Minute},
}}

// TestCloudSQL has what keeps Google from giving a login at PostgreSQL.
func TestCloudSQL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, keys, err string }{
		{name: "a service account", keys: "service_account: dbt@acme-dbt.iam.gserviceaccount.com"},
		{name: "none", keys: "audience: other",
			err: `provider "gcp": principals of a workload identity pool cannot log in to Cloud SQL: set service_account`},
		{name: "a token for more", keys: `service_account: dbt@acme-dbt.iam.gserviceaccount.com, scopes: ["https://www.googleapis.com/auth/cloud-platform"]`,
			err: `provider "gcp": scopes: a token that is a password at Cloud SQL has only the scope https://www.googleapis.com/auth/sqlservice.login`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Parse("policy", []byte(fmt.Sprintf(`version: 1
targets:
  prod:
    dbt: {type: postgres, host: 10.0.0.3, port: 5432, schema: marts}
    exchange:
      gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh, %s}
    allow:
      - {repository_id: "487920697"}
`, tt.keys)), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
			if err != nil {
				t.Fatal(err)
			}
			target, err := p.Target("prod")
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := provider.Check("gcp", target.Exchange(), typed("postgres", "gcp", credential.Warehouse{})); err != nil {
				got = err.Error()
			}
			if got != tt.err {
				t.Errorf("error is\n%s\nwant\n%s", got, tt.err)
			}
			if err := provider.Check("gcp", target.Exchange(), typed("duckdb", "gcp", credential.Warehouse{})); err != nil {
				t.Errorf("for duckdb: %v", err)
			}
		})
	}
}
