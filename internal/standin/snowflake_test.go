package standin_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestSnowflakeLogins: one good login, one mutation a case.
func TestSnowflakeLogins(t *testing.T) {
	t.Parallel()
	const subject = "repo:acme/analytics:environment:production"
	var issuers [2]*standin.Issuer
	for i := range issuers {
		started, err := standin.StartIssuer(nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(started.Close)
		issuers[i] = started
	}
	issuer, other := issuers[0], issuers[1]
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "behind")
	}))
	t.Cleanup(behind.Close)
	next, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	s, err := standin.StartSnowflake(standin.SnowflakeConfig{IssuerURL: issuer.URL(), Subject: subject, Next: next})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	sign := func(changes map[string]any) string { return issuer.Sign("snowflakecomputing.com", changes) }
	for _, tt := range []struct{ name, authenticator, provider, token, message string }{
		{"good", "WORKLOAD_IDENTITY", "OIDC", sign(nil), ""},
		{"authenticator", "OAUTH", "OIDC", sign(nil), `authenticator "OAUTH" with provider "OIDC" is not enabled for the user`},
		{"provider", "WORKLOAD_IDENTITY", "AWS", sign(nil),
			`authenticator "WORKLOAD_IDENTITY" with provider "AWS" is not enabled for the user`},
		{"expired", "WORKLOAD_IDENTITY", "OIDC", sign(map[string]any{"exp": time.Now().Add(-time.Second).Unix()}),
			"the ID token has expired"},
		{"subject", "WORKLOAD_IDENTITY", "OIDC", sign(map[string]any{"sub": "repo:acme/analytics:environment:staging"}),
			"token has invalid claims: token has invalid subject"},
		{"audience", "WORKLOAD_IDENTITY", "OIDC", issuer.Sign("sts.amazonaws.com", nil),
			"token has invalid claims: token has invalid audience"},
		{"issuer", "WORKLOAD_IDENTITY", "OIDC", sign(map[string]any{"iss": other.URL()}),
			"token has invalid claims: token has invalid issuer"},
		{"signature", "WORKLOAD_IDENTITY", "OIDC", other.Sign("snowflakecomputing.com", map[string]any{"iss": issuer.URL()}),
			"token is unverifiable: error while executing keyfunc: InvalidIdentityToken: Couldn't retrieve verification key " +
				"from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements"},
	} {
		for _, zip := range []bool{false, true} {
			body, message := snowflakeLogin(t, s.URL(), zip, tt.authenticator, tt.provider, tt.token)
			if message != tt.message || (tt.message == "") != (body == "behind") {
				t.Errorf("%s (gzip %t): got %q, %q, want %q", tt.name, zip, body, message, tt.message)
			}
		}
	}
	logins := s.Logins()
	if len(logins) != 16 || logins[0].Err != nil || logins[0].Expiry.Before(time.Now()) || logins[2].Err == nil {
		t.Errorf("the attempts are %d, the first %v, the third %v", len(logins), logins[0], logins[2])
	}
}

// snowflakeLogin sends a login as the connector does. The message is that of a refusal.
func snowflakeLogin(t *testing.T, address string, zip bool, authenticator, provider, token string) (body, message string) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"data": map[string]any{
		"AUTHENTICATOR": authenticator, "PROVIDER": provider, "TOKEN": token,
	}})
	if err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	sent.Write(text)
	if zip {
		sent.Reset()
		z := gzip.NewWriter(&sent)
		_, _ = z.Write(text)
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/session/v1/login-request", &sent)
	if err != nil {
		t.Fatal(err)
	}
	if zip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var refusal struct{ Message string }
	_ = json.Unmarshal(got, &refusal) // what is behind does not answer in JSON
	return string(got), refusal.Message
}
