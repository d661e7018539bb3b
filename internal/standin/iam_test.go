package standin_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const closedRole = "arn:aws:iam::123456789012:role/closed"

// administrator starts an account with one role, whose trust policy admits production, and its IAM.
func administrator(t *testing.T) (a account, call func(key string, form url.Values) (int, string)) {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	name := strings.TrimPrefix(issuer.URL(), "http://")
	service, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{closedRole: {
		Audience: "sts.amazonaws.com",
		Trust: `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
			"Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/` + name + `"},
			"Condition": {"StringEquals": {"` + name + `:sub": "repo:acme/analytics:environment:production"}}}}`,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	iam, err := standin.StartIAM(service, "123456789012")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(iam.Close)
	env := map[string]string{}
	for _, v := range iam.Env() {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return account{issuer, service}, func(key string, form url.Values) (int, string) {
		form.Set("Version", "2010-05-08")
		form.Set("RoleName", "closed")
		keys := aws.Credentials{
			AccessKeyID: env["AWS_ACCESS_KEY_ID"], SecretAccessKey: env["AWS_SECRET_ACCESS_KEY"], SessionToken: env["AWS_SESSION_TOKEN"],
		}
		if s, ok := service.Session(key); ok {
			keys = aws.Credentials{AccessKeyID: key, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken}
		}
		return signed(t, env["AWS_ENDPOINT_URL"], keys, form.Encode())
	}
}

func signed(t *testing.T, address string, keys aws.Credentials, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(context.Background(), keys, req, hex.EncodeToString(sum[:]), "iam", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestIAM: only the administrator may change a role; a document that IAM refuses is refused; a role that is closed
// admits no token, and a session from before may do nothing.
func TestIAM(t *testing.T) {
	t.Parallel()
	a, call := administrator(t)
	assume := func() (string, error) {
		token := a.issuer.Sign("sts.amazonaws.com", nil)
		out, err := a.withToken(t.Context(), token, func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleArn = aws.String(closedRole) })
		if err != nil {
			return "", err
		}
		return *out.Credentials.AccessKeyId, nil
	}
	before, err := assume()
	if err != nil {
		t.Fatal(err)
	}
	closed := `{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRoleWithWebIdentity"}]}`
	ended := func(condition string) string {
		return `{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": ` + condition + `}]}`
	}
	for _, tt := range []struct {
		name, key string
		form      url.Values
		status    int
		says      string
	}{
		{"a job's session", before, url.Values{"Action": {"UpdateAssumeRolePolicy"}, "PolicyDocument": {closed}}, 403, "AccessDenied"},
		{"no document", "", url.Values{"Action": {"UpdateAssumeRolePolicy"}, "PolicyDocument": {"{"}}, 400, "MalformedPolicyDocument"},
		{"a condition that is not evaluated", "", url.Values{"Action": {"PutRolePolicy"}, "PolicyName": {"p"},
			"PolicyDocument": {ended(`{"StringEquals": {"aws:TokenIssueTime": "now"}}`)}}, 400, "only DateLessThan is evaluated here"},
		{"a time that is none", "", url.Values{"Action": {"PutRolePolicy"}, "PolicyName": {"p"},
			"PolicyDocument": {ended(`{"DateLessThan": {"aws:TokenIssueTime": "now"}}`)}}, 400, "only aws:TokenIssueTime"},
		{"a policy that is not there", "", url.Values{"Action": {"DeleteRolePolicy"}, "PolicyName": {"p"}}, 404, "NoSuchEntity"},
		{"another action", "", url.Values{"Action": {"DeleteRole"}}, 400, "InvalidAction"},
		{"the role", "", url.Values{"Action": {"GetRole"}}, 200, url.QueryEscape("oidc-provider/")},
		{"closed", "", url.Values{"Action": {"UpdateAssumeRolePolicy"}, "PolicyDocument": {closed}}, 200, "UpdateAssumeRolePolicyResponse"},
	} {
		if status, text := call(tt.key, tt.form); status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s: got %d, want %d with %q:\n%s", tt.name, status, tt.status, tt.says, text)
		}
	}
	if _, err := assume(); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("the closed role: %v, want AccessDenied", err)
	}
}
