package provider_test

import "time"

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
}

var gcp = []fixture{{
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
	hops: []hop{googleSTS, {
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
	}},
	want: issued{kind: "google_access_token", id: "dbt@acme-dbt.iam.gserviceaccount.com", life: 30 * time.Minute},
}}
