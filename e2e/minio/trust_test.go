//go:build e2e

package minio

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestTrust has MinIO evaluate the conditions of the generated trust policy.
//
// MinIO has no trust policies: every token of the issuer gets a session. But
// policies of sessions have the same operators on the token's sub and aud, as
// jwt:sub and jwt:aud, and what the issuer is not GitHub's own for has no other
// keys. So the trust policy's conditions become those of the session's policy,
// and who does not meet them has a session that may do nothing.
func TestTrust(t *testing.T) {
	t.Parallel()
	endpoint, _, issuer := start(t)
	text := strings.ReplaceAll(`version: 1
identities:
  github: {issuer: "ISSUER", kind: github}
targets:
  prod:
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt", region: us-east-1}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: [production, eu/*], ref: refs/heads/main}
`, "ISSUER", issuer.URL())
	session := sessionPolicy(t, generated(t, text), issuer)
	p, err := policy.Parse("policy.yml", []byte(text), policy.Catalog{Providers: provider.Specs(), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, environment, sub string
		allowed                bool
	}{
		{"production", "production", "repo:acme/analytics:environment:production", true},
		{"a new repository", "production", "repo:acme@9919/analytics@487920697:environment:production", true},
		{"a pattern", "eu/1", "repo:acme/analytics:environment:eu/1", true},
		{"staging", "staging", "repo:acme/analytics:environment:staging", false},
		{"more than the pattern", "eu/1/2", "repo:acme/analytics:environment:eu/1/2", false},
		{"a name that goes on", "production2", "repo:acme/analytics:environment:production2", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claims := standin.GitHubClaims()
			claims["environment"], claims["sub"] = tt.environment, tt.sub
			claims["iss"], claims["aud"] = issuer.URL(), audience
			token, err := idtoken.NewUnverified(claims)
			if err != nil {
				t.Fatal(err)
			}
			if _, allowed := p.Decides("prod", token, time.Now()); allowed != tt.allowed {
				t.Errorf("the policy allows it: %t, want %t", allowed, tt.allowed)
			}
			status := listed(t, endpoint, issuer.Sign(audience, map[string]any{"environment": tt.environment, "sub": tt.sub}), session)
			if want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[tt.allowed]; status != want {
				t.Errorf("MinIO replies %d, want %d", status, want)
			}
		})
	}
}

// generated is the role's trust policy as the command writes it.
func generated(t *testing.T, text string) []byte {
	t.Helper()
	dir := t.TempDir()
	path := setup.Write(t, dir, "policy.yml", text)
	out, err := exec.Command(setup.Binary(t), "trust", "generate", "--policy", path, "--out", filepath.Join(dir, "trust")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	doc, err := os.ReadFile(filepath.Join(dir, "trust", "prod.aws.json"))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// sessionPolicy is a policy of sessions with the conditions of a trust policy.
func sessionPolicy(t *testing.T, trust []byte, issuer *standin.Issuer) string {
	t.Helper()
	var doc struct {
		Version   string
		Statement []map[string]any
	}
	text := strings.ReplaceAll(string(trust), strings.TrimPrefix(issuer.URL(), "http://")+":", "jwt:")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for _, s := range doc.Statement {
		delete(s, "Principal")
		delete(s, "Sid")
		s["Action"], s["Resource"] = "s3:*", "arn:aws:s3:::*"
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// listed is the status of a list of the bucket by a session for a token.
func listed(t *testing.T, endpoint, token, session string) int {
	t.Helper()
	resp, err := http.PostForm(endpoint, url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "DurationSeconds": {"900"}, "WebIdentityToken": {token},
		"Policy": {session},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var reply struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string } `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
	}
	if err := xml.NewDecoder(resp.Body).Decode(&reply); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("a session: %s, %v", resp.Status, err)
	}
	c := reply.Credentials
	keys := aws.Credentials{AccessKeyID: c.AccessKeyId, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
	status, _ := setup.SendS3(t, keys, http.MethodGet, endpoint+"/lake?list-type=2", "", "")
	return status
}
