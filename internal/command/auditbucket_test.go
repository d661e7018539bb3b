package command_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// bucketStep is a step whose records went to a bucket, which the target audit-read reads by a session policy.
func bucketStep(t *testing.T, reader string) (s *step, store *standin.Store) {
	t.Helper()
	s = newStep(t)
	s.startSTS(standin.STSConfig{IssuerURL: s.issuer.URL(), Roles: map[string]standin.Role{
		prodRole: {Audience: "sts.amazonaws.com"}, auditRole: {Audience: "sts.amazonaws.com"},
	}})
	store, err := standin.StartStore(s.sts, "acme-audit")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	rule := `[{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]`
	s.write(policyFile, fmt.Sprintf(`version: 1
identities:
  github: {issuer: $ISSUER, kind: github}
audit: {bucket: {target: audit-log, url: "s3://acme-audit/oidc-dbt/", endpoint: %[1]q}, require: bucket}
targets:
  prod:
    exchange: {aws: {role: %[2]q, region: eu-central-1, endpoint: $STS}}
    allow: %[4]s
  dbt:
    dbt: {type: duckdb, path: ":memory:", schema: main}
    exchange: {aws: {role: %[2]q, region: eu-central-1, endpoint: $STS}}
    allow: %[4]s
  google:
    exchange: {gcp: {workload_identity_provider: projects/1/locations/global/workloadIdentityPools/p/providers/p}}
    allow: %[4]s
  audit-log:
    exchange: {aws: {role: %[3]q, region: eu-central-1, endpoint: $STS}}
    allow: %[4]s
  audit-read:
    exchange: {aws: {role: %[3]q, region: eu-central-1, endpoint: $STS, session_policy: '%[5]s'}}
    allow: %[4]s
`, store.URL(), prodRole, auditRole, rule, reader))
	s.env["INPUT_TARGET"] = "prod"
	if r := s.here(); r.status != 0 || store.Served("PUT") != 2 {
		t.Fatalf("status %d, %d objects\n%s%s", r.status, store.Served("PUT"), r.stdout, r.stderr)
	}
	delete(s.env, "INPUT_TARGET")
	return s, store
}

const auditReader = `{"Statement":[{"Effect":"Allow","Action":["s3:ListBucketVersions"],"Resource":"arn:aws:s3:::acme-audit"},` +
	`{"Effect":"Allow","Action":["s3:GetObject","s3:GetObjectVersion"],"Resource":"arn:aws:s3:::acme-audit/oidc-dbt/*"}]}`

// TestAuditBucket: what a run has shipped is read back by show, verify and review, by a credential whose own request is
// decided and recorded as every one is.
func TestAuditBucket(t *testing.T) {
	t.Parallel()
	s, store := bucketStep(t, auditReader)
	const url = "s3://acme-audit/oidc-dbt/"
	today := time.Now().UTC().Format(time.DateOnly)
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"show", "--bucket-target", "audit-read", url}, "Z  prod        github    repo:acme/analytics:environment:production  allowed   issued   1     aws  "},
		{[]string{"show", "--since", "1h", "--target", "prod", "--json", "--bucket-target", "audit-read", url},
			`"records":[{"file":"` + url + "date=" + today + "/"},
		{[]string{"verify", "--bucket-target", "audit-read", url}, "findings: 0\n"},
		{[]string{"review", "--period", today[:4], "--bucket-target", "audit-read", "--records", url}, "prod"},
	} {
		r := s.here(append([]string{"audit"}, tt.args...)...)
		if r.status != 0 || !strings.Contains(r.stdout, tt.says) || !strings.HasPrefix(r.stderr, "oidc-dbt: allowed: target audit-read by rule 1 (line 21) for ") ||
			strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%q: status %d\n%s%s\nwant %q", tt.args, r.status, r.stdout, r.stderr, tt.says)
		}
		checkSecrets(t, map[string]string{"stdout": r.stdout, "stderr": r.stderr}, s.secrets()...)
	}
	if store.Refused() > 0 {
		t.Errorf("the store refused %d requests", store.Refused())
	}
	if log := auditLines(s.audit()); strings.Count(log, "Preauth Success audit-read\n") != 4 || strings.Count(log, "Logon Success audit-read\n") != 4 {
		t.Errorf("the audit log is\n%s", log)
	}
}

// TestAuditBucketRefused: why a bucket is not read, and what to do.
func TestAuditBucketRefused(t *testing.T) {
	t.Parallel()
	s, _ := bucketStep(t, strings.Replace(auditReader, "s3:GetObject\"", "s3:GetObjectTagging\"", 1))
	const (
		url  = "s3://acme-audit/oidc-dbt/"
		want = ", want s3://BUCKET/PREFIX/, gs://BUCKET/PREFIX/ or https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX/\n"
	)
	for _, tt := range []struct {
		name   string
		args   []string
		claims map[string]any
		status int
		stderr string
	}{
		{"no target", []string{url}, nil, 2, `"s3://acme-audit/oidc-dbt/" is in a bucket, and no target is named that may read it
hint: add --bucket-target NAME: a target of the policy, for credentials only
`},
		{"no such target", []string{"--bucket-target", "audit-reader", url}, nil, 2,
			`unknown target "audit-reader", ` + s.at(policyFile) + ` has ["prod" "dbt" "google" "audit-log" "audit-read"]: did you mean "audit-read"?` + "\n"},
		{"dbt's own", []string{"--bucket-target", "dbt", url}, nil, 2, `target "dbt" has a dbt block or a client: want a target for credentials only, ` +
			"which is for the bucket and nothing else\n"},
		{"another store's", []string{"--bucket-target", "google", url}, nil, 2, `target "google" has provider "gcp", want "aws" for s3://acme-audit/oidc-dbt/` + "\n"},
		{"another scheme", []string{"--bucket-target", "audit-read", "ftp://acme-audit/"}, nil, 2, `bucket "ftp://acme-audit/" is "ftp://acme-audit/"` + want},
		{"a password in it", []string{"--bucket-target", "audit-read", "s3://user:hunter2@acme-audit/oidc-dbt/"}, nil, 2,
			"oidc-dbt: the bucket's URL contains user information (…): remove it\n"},
		{"denied", []string{"--bucket-target", "audit-read", url}, map[string]any{"ref": "refs/heads/feature"}, 5,
			`read audit records "s3://acme-audit/oidc-dbt/": target "audit-read": denied by policy: no rule of target "audit-read" matches`},
		{"may not read", []string{"--bucket-target", "audit-read", url}, nil, 6,
			`may not read objects in bucket "acme-audit": status 403: "AccessDenied"` + "\n" + `hint: target "audit-read" needs s3:GetObject and s3:GetObjectVersion on its objects` + "\n"},
		{"a prefix without records", []string{"--bucket-target", "audit-log", "s3://acme-audit/oidc/"}, nil, 2,
			`read audit records "s3://acme-audit/oidc/": there is no object below "oidc/" in bucket "acme-audit"` + "\n"},
	} {
		s.claims(tt.claims)
		r := s.here(append([]string{"audit", "show"}, tt.args...)...)
		if r.status != tt.status || !strings.Contains(r.stderr, tt.stderr) || r.stdout != "" {
			t.Errorf("%s: status %d, want %d\n%s%s\nwant %s", tt.name, r.status, tt.status, r.stdout, r.stderr, tt.stderr)
		}
	}
}
