package standin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// askVault sends a request and returns the status and the body.
func askVault(t *testing.T, v *standin.Vault, token, method, path string, body any) (status int, reply map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, v.URL()+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Request", "true")
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&reply) // 204 has none
	return resp.StatusCode, reply
}

// TestVault: the same mutations that OpenBao refuses in the end-to-end tests,
// in the same words; leases end by the server's clock, and with their token.
func TestVault(t *testing.T) {
	t.Parallel()
	issuer, other := startIssuer(t), startIssuer(t)
	var later atomic.Int64
	v, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(), Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
		Roles: map[string]standin.VaultRole{"dbt": {
			BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"environment": {"production"}, "repository_id": {"487920697"}},
			Policies: []string{"database/creds/dbt", "kv/nothing"},
		}},
		Secrets: map[string]standin.VaultSecret{"database/creds/dbt": {TTL: 5 * time.Minute}, "kv/dbt": {Data: map[string]any{"token": "t"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	login := func(role, token string) (string, string) {
		status, reply := askVault(t, v, "", http.MethodPost, "auth/jwt/login", map[string]string{"role": role, "jwt": token})
		if status != http.StatusOK {
			return "", fmt.Sprint(status, " ", reply["errors"])
		}
		return reply["auth"].(map[string]any)["client_token"].(string), ""
	}
	past := time.Now().Add(-10 * time.Minute).Unix()
	for _, tt := range []struct{ name, role, token, err string }{
		{"good", "dbt", issuer.Sign("vault", nil), ""},
		{"another role", "nobody", issuer.Sign("vault", nil), `400 [role "nobody" could not be found]`},
		{"another audience", "dbt", issuer.Sign("sts.amazonaws.com", nil), "400 [error validating token: invalid audience (aud) claim: audience claim does not match any expected audience]"},
		{"expired", "dbt", issuer.Sign("vault", map[string]any{"iat": past, "nbf": past, "exp": past + 1}), "400 [error validating token: invalid expiration time (exp) claim: token is expired]"},
		{"another key", "dbt", other.Sign("vault", map[string]any{"iss": issuer.URL()}), "400 [error validating token: error verifying token signature: failed to verify id token signature]"},
		{"another issuer", "dbt", issuer.Sign("vault", map[string]any{"iss": other.URL()}), "400 [error validating token: invalid issuer (iss) claim]"},
		{"another environment", "dbt", issuer.Sign("vault", map[string]any{"environment": "staging"}), `400 [error validating claims: claim "environment" does not match any associated bound claim values]`},
		{"no environment", "dbt", issuer.Sign("vault", map[string]any{"environment": nil}), `400 [error validating claims: claim "environment" is missing]`},
	} {
		if _, got := login(tt.role, tt.token); got != tt.err {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.err)
		}
	}

	lend := func(token string) (user, password string) {
		status, reply := askVault(t, v, token, http.MethodGet, "database/creds/dbt", nil)
		if status != http.StatusOK || !strings.HasPrefix(reply["lease_id"].(string), "database/creds/dbt/") {
			t.Fatalf("status is %d: %v", status, reply)
		}
		data := reply["data"].(map[string]any)
		return data["username"].(string), data["password"].(string)
	}
	token, _ := login("dbt", issuer.Sign("vault", nil))
	user, password := lend(token)
	if !v.Login(user, password) || v.Login(user, "wrong") || v.Login("somebody", password) {
		t.Error("want the user that was made, and no other")
	}
	for path, want := range map[string]string{"kv/dbt": "403 [1 error occurred:\n\t* permission denied\n\n]", "kv/nothing": "404 []"} {
		if status, reply := askVault(t, v, token, http.MethodGet, path, nil); fmt.Sprint(status, " ", reply["errors"]) != want {
			t.Errorf("%s: got %d %v, want %s", path, status, reply, want)
		}
	}
	if status, _ := askVault(t, v, token, http.MethodPut, "auth/token/revoke-self", nil); status != http.StatusNoContent || v.Login(user, password) {
		t.Errorf("status is %d, and the user is still there: %v", status, v.Login(user, password))
	}
	if status, reply := askVault(t, v, token, http.MethodGet, "database/creds/dbt", nil); fmt.Sprint(status, reply["errors"]) != "403 [permission denied]" {
		t.Errorf("a token that has ended: %d %v", status, reply)
	}

	token, _ = login("dbt", issuer.Sign("vault", nil))
	user, password = lend(token)
	later.Store(int64(5 * time.Minute))
	if v.Login(user, password) {
		t.Error("the user outlives its lease")
	}
	user, password = lend(token)
	later.Store(int64(9*time.Minute + 59*time.Second))
	if !v.Login(user, password) {
		t.Error("the user does not live as long as its lease")
	}
	later.Store(int64(10 * time.Minute))
	if v.Login(user, password) {
		t.Error("the user outlives the token")
	}
}

// TestVaultCEL: what OpenBao does with CEL roles in the end-to-end tests.
func TestVaultCEL(t *testing.T) {
	t.Parallel()
	issuer := startIssuer(t)
	production := map[string][]string{"environment": {"production"}}
	v, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(),
		Roles: map[string]standin.VaultRole{
			"dbt":    {CEL: true, BoundAudiences: []string{"vault"}, BoundClaims: production},
			"anyone": {CEL: true, BoundClaims: production},
			"bound":  {BoundAudiences: []string{"vault"}, BoundClaims: production},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	const blocked = "400 [error executing cel program: CEL role 'dbt' blocked authorization with boolean false return]"
	staging := map[string]any{"environment": "staging"}
	for _, tt := range []struct{ name, path, role, token, want string }{
		{"good", "auth/jwt/cel/login", "dbt", issuer.Sign("vault", nil), "200 <nil>"},
		{"in capitals", "auth/jwt/cel/login", "DBT", issuer.Sign("vault", nil), "200 <nil>"},
		{"another environment", "auth/jwt/cel/login", "dbt", issuer.Sign("vault", staging), blocked},
		{"no environment", "auth/jwt/cel/login", "dbt", issuer.Sign("vault", map[string]any{"environment": nil}), blocked},
		{"another audience", "auth/jwt/cel/login", "dbt", issuer.Sign("sts.amazonaws.com", nil), "400 [error validating token: invalid audience (aud) claim: audience claim does not match any expected audience]"},
		{"a role without an audience", "auth/jwt/cel/login", "anyone", issuer.Sign("sts.amazonaws.com", nil), "200 <nil>"},
		{"a role with bound claims", "auth/jwt/cel/login", "bound", issuer.Sign("vault", nil), `400 [role "bound" could not be found]`},
		{"a CEL role at the other login", "auth/jwt/login", "dbt", issuer.Sign("vault", nil), `400 [role "dbt" could not be found]`},
		{"another method", "auth/github/cel/login", "dbt", issuer.Sign("vault", nil), "403 [permission denied]"},
	} {
		status, reply := askVault(t, v, "", http.MethodPost, tt.path, map[string]string{"role": tt.role, "jwt": tt.token})
		if got := fmt.Sprint(status, " ", reply["errors"]); got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func startIssuer(t *testing.T) *standin.Issuer {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}
