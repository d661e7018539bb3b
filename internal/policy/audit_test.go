package policy_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// shipped is a policy whose records go to a bucket by a target of their own.
func shipped(audit, exchange string) string {
	const rule = `{repository: acme/analytics, repository_id: "487920697", environment: production}`
	return fmt.Sprintf("version: 1\naudit: %s\ntargets:\n  prod: {exchange: {oidc: {audience: snowflakecomputing.com}}, dbt: {type: snowflake, account: acme-prod, user: DBT}, allow: [%s]}\n"+
		"  audit-log: {exchange: %s, allow: [%s]}\n", audit, rule, exchange, rule)
}

func TestAudit(t *testing.T) {
	t.Parallel()
	const (
		aws   = `{aws: {role: "arn:aws:iam::123456789012:role/audit", region: eu-central-1}}`
		gcp   = `{gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/p/providers/p}}`
		entra = `{entra: {tenant: 11111111-2222-3333-4444-555555555555, client_id: 66666666-7777-8888-9999-000000000000}}`
		otlp  = "https://otel.acme.example"
	)
	for _, tt := range []struct {
		audit, exchange string
		want            policy.Audit
		places          []string
	}{
		{`{otlp: {endpoint: "https://otel.acme.example"}}`, aws, policy.Audit{OTLP: otlp}, []string{otlp}},
		{
			`{bucket: {target: audit-log, url: "s3://acme.audit"}, require: bucket}`, aws,
			policy.Audit{Bucket: policy.Bucket{Target: "audit-log", URL: "s3://acme.audit", Kind: "s3", Name: "acme.audit"}, Required: []string{"bucket"}},
			[]string{"s3://acme.audit (target audit-log)"},
		},
		{
			`{bucket: {target: audit-log, url: "s3://acme/oidc-dbt/v=1", endpoint: "https://minio.acme.example/"}}`, aws,
			policy.Audit{Bucket: policy.Bucket{
				Target: "audit-log", URL: "s3://acme/oidc-dbt/v=1", Kind: "s3", Name: "acme", Prefix: "oidc-dbt/v=1/", Endpoint: "https://minio.acme.example",
			}},
			[]string{"s3://acme/oidc-dbt/v=1 at https://minio.acme.example (target audit-log)"},
		},
		{
			`{bucket: {target: audit-log, url: "gs://acme_audit/a/"}, otlp: {endpoint: "https://otel.acme.example"}, require: [otlp, bucket]}`, gcp,
			policy.Audit{OTLP: otlp, Required: []string{"otlp", "bucket"}, Bucket: policy.Bucket{
				Target: "audit-log", URL: "gs://acme_audit/a/", Kind: "gs", Name: "acme_audit", Prefix: "a/",
			}},
			[]string{otlp, "gs://acme_audit/a/ (target audit-log)"},
		},
		{
			`{bucket: {target: audit-log, url: "https://acme.blob.core.windows.net/audit/a/b/"}}`, entra,
			policy.Audit{Bucket: policy.Bucket{
				Target: "audit-log", URL: "https://acme.blob.core.windows.net/audit/a/b/", Kind: "azure", Name: "audit", Prefix: "a/b/",
				Endpoint: "https://acme.blob.core.windows.net",
			}},
			[]string{"https://acme.blob.core.windows.net/audit/a/b/ (target audit-log)"},
		},
	} {
		c := catalog()
		c.Providers["entra"] = policy.Provider{
			Keys:     []policy.Key{{Name: "tenant"}, {Name: "client_id"}},
			Audience: func(policy.Values) string { return "api://AzureADTokenExchange" },
		}
		p, err := policy.Parse("policy.yml", []byte(shipped(tt.audit, tt.exchange)), c)
		if err != nil {
			t.Errorf("%s: %v", tt.audit, err)
			continue
		}
		if diff := cmp.Diff(tt.want, p.Audit()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.audit, diff)
		}
		if got := p.Audit().Places(); !slices.Equal(got, tt.places) {
			t.Errorf("%s: places %q, want %q", tt.audit, got, tt.places)
		}
		want := []string{"prod"}
		if tt.want.Bucket.Target == "" {
			want = append(want, "audit-log")
		}
		if got := p.Candidates(); !slices.Equal(got, want) {
			t.Errorf("%s: candidates %q, want %q", tt.audit, got, want)
		}
	}
}
