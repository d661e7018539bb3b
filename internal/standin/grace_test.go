package standin_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestGrace: what a client is told of a credential's end stays, and the
// credential is refused so much later.
func TestGrace(t *testing.T) {
	t.Parallel()
	const life = 2 * time.Minute
	issuer := startIssuer(t)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }

	auth, err := standin.StartAuthServer(standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Audience: "auth", Lifetime: life, Clients: map[string]standin.AuthClient{"dbt": {Subject: "repo:acme/analytics:environment:production"}}, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(auth.Close)
	google, err := standin.StartGoogle(standin.GoogleConfig{IssuerURL: issuer.URL(), Provider: "pool", Life: life, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Close)
	vault, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(), Now: now, Roles: map[string]standin.VaultRole{"dbt": {TokenTTL: time.Hour, Policies: []string{"database/creds/dbt"}}},
		Secrets: map[string]standin.VaultSecret{"database/creds/dbt": {TTL: life}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vault.Close)
	token, err := vault.Token("dbt")
	if err != nil {
		t.Fatal(err)
	}
	_, lease := askVault(t, vault, token, http.MethodGet, "database/creds/dbt", nil)
	login, _ := lease["data"].(map[string]any)
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Life: life, Now: now, Roles: map[string]standin.Role{
		"arn:aws:iam::123456789012:role/dbt": {Audience: "sts.amazonaws.com"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)

	post := func(url string, form url.Values) {
		t.Helper()
		resp, err := http.PostForm(url, form)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s replies %s", url, resp.Status)
		}
	}
	post(auth.URL()+"/token", url.Values{
		"grant_type": {"client_credentials"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {issuer.Sign("auth", nil)},
	})
	post(sts.URL(), url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {"arn:aws:iam::123456789012:role/dbt"}, "RoleSessionName": {"dbt"},
		"WebIdentityToken": {issuer.Sign("sts.amazonaws.com", nil)},
	})
	body := `{"grantType": "urn:ietf:params:oauth:grant-type:token-exchange", "audience": "//iam.googleapis.com/pool", "scope": "https://www.googleapis.com/auth/cloud-platform",
		"requestedTokenType": "urn:ietf:params:oauth:token-type:access_token", "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt", "subjectToken": "` + issuer.Sign("https://iam.googleapis.com/pool", nil) + `"}`
	resp, err := http.Post(google.URL()+"/v1/token", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	live := map[string]func() bool{
		"bearer": func() bool { return auth.Valid(auth.Bearers()[0].Value, "") },
		"Google's token": func() bool {
			_, ok := google.Token(google.Tokens()[0].Value)
			return ok
		},
		"lease": func() bool {
			user, _ := login["username"].(string)
			password, _ := login["password"].(string)
			return vault.Login(user, password)
		},
		"session": func() bool {
			session := sts.Sessions()[0]
			r := httptest.NewRequest(http.MethodGet, sts.URL(), nil)
			r.Header.Set("X-Amz-Security-Token", session.SessionToken)
			r.Header.Set("X-Amz-Date", "20261125T000000Z")
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+session.AccessKeyID+"/20261125/eu-central-1/sts/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64))
			_, err := sts.Authenticate(r, nil, "sts")
			return err != nil && !strings.HasPrefix(err.Error(), "ExpiredToken") // that it is not signed comes later
		},
	}
	for _, grace := range []time.Duration{0, standin.Grace} {
		auth.SetGrace(grace)
		google.SetGrace(grace)
		vault.SetGrace(grace)
		sts.SetGrace(grace)
		for _, tt := range []struct {
			ahead time.Duration
			want  bool
		}{{0, true}, {life + time.Second, grace > 0}, {life + grace + time.Second, false}} {
			ahead.Store(int64(tt.ahead))
			for name, is := range live {
				if got := is(); got != tt.want {
					t.Errorf("%s, %s after it was issued, with a grace of %s: live is %v", name, tt.ahead, grace, got)
				}
			}
		}
	}
}
