//go:build e2e && linux && amd64

package postgres

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// audience is the warehouse's own: no other service accepts such a token.
const audience = "https://bao.acme.example"

// trust creates the role dbt-prod for the claims of the issuer's usual token.
func trust(t *testing.T, bao *setup.OpenBaoServer, issuer *standin.Issuer) {
	t.Helper()
	bao.TrustIssuer(t, issuer)
	bao.Write(t, "auth/jwt/role/dbt-prod", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{audience}, "bound_claims_type": "glob",
		"bound_claims": map[string]string{
			"repository_id": "487920697", "environment": "production", "job_workflow_ref": "acme/platform/.github/workflows/dbt.yml@refs/tags/*",
		},
		"token_policies": []string{"dbt-prod"}, "token_no_default_policy": true, "token_ttl": "10m",
	})
}

// lend lets OpenBao create users for the role dbt-prod in a database: members of
// the group that owns what dbt builds.
func lend(t *testing.T, bao *setup.OpenBaoServer, server *setup.PostgresServer) {
	t.Helper()
	server.SQL(t, "create role dbt; grant create on database postgres to dbt; create table made (name text)")
	bao.Write(t, "sys/mounts/database", map[string]any{"type": "database"})
	bao.Write(t, "database/config/warehouse", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "dbt-prod",
		"connection_url": server.URL("{{username}}:{{password}}"), "username": server.User, "password": server.Password,
	})
	lendFor(t, bao, "5m", "10m")
	bao.Write(t, "sys/policies/acl/dbt-prod", map[string]any{"policy": `path "database/creds/dbt-prod" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`})
}

// lendFor sets the initial and the maximum lifetime of the users.
func lendFor(t *testing.T, bao *setup.OpenBaoServer, life, longest string) {
	t.Helper()
	bao.Write(t, "database/roles/dbt-prod", map[string]any{
		"db_name": "warehouse", "default_ttl": life, "max_ttl": longest,
		"creation_statements": []string{
			`create role "{{name}}" with login password '{{password}}' valid until '{{expiration}}' in role dbt`,
			`alter role "{{name}}" set role dbt`,
			`insert into made values ('{{name}}')`,
		},
	})
}

// gone waits until a login is refused: OpenBao revokes a token's leases after
// it has answered.
func gone(t *testing.T, server *setup.PostgresServer, user, password string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := server.Connect(t.Context(), user, password)
		if err != nil {
			// The second error is that of a login while the user is being dropped.
			if text := err.Error(); !strings.Contains(text, "password authentication failed for user") && !strings.Contains(text, fmt.Sprintf("role %q does not exist", user)) {
				t.Errorf("login after the revocation: %v", err)
			}
			return
		}
		conn.Close(t.Context())
		if time.Now().After(deadline) {
			t.Error("the login is there ten seconds after its revocation")
			return
		}
	}
}

// TestOpenBaoLendsAUser: the user exists until its lease is revoked, which
// happens with the token.
func TestOpenBaoLendsAUser(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	login, err := bao.Request(t.Context(), "", http.MethodPost, "auth/jwt/login", map[string]string{"role": "dbt-prod", "jwt": issuer.Sign(audience, nil)})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := bao.Request(t.Context(), login.Auth.ClientToken, http.MethodGet, "database/creds/dbt-prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	var user struct{ Username, Password string }
	if err := json.Unmarshal(lease.Data, &user); err != nil || lease.LeaseID == "" || lease.LeaseDuration != 300 {
		t.Fatalf("the lease %q of %d s, %v", lease.LeaseID, lease.LeaseDuration, err)
	}
	conn, err := server.Connect(t.Context(), user.Username, user.Password)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "create schema marts"); err != nil {
		t.Error(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := bao.Request(t.Context(), login.Auth.ClientToken, http.MethodPost, "auth/token/revoke-self", nil); err != nil {
		t.Fatal(err)
	}
	gone(t, server, user.Username, user.Password)
	if owner := server.SQL(t, "select nspowner::regrole from pg_namespace where nspname = 'marts'")[0][0]; owner != "dbt" {
		t.Errorf("what the user built is %s's, want dbt's", owner)
	}
}

// TestOpenBaoVerifiesTheTokenItself bypasses the action.
func TestOpenBaoVerifiesTheTokenItself(t *testing.T) {
	t.Parallel()
	bao, issuer, other := setup.OpenBao(t), setup.Issuer(t), setup.Issuer(t)
	trust(t, bao, issuer)
	past := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for _, tt := range []struct{ name, token, err string }{
		{"good", issuer.Sign(audience, nil), ""},
		{"another audience", issuer.Sign("https://vault.example", nil), "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience"},
		{"expired", issuer.Sign(audience, map[string]any{"iat": past(20 * time.Minute), "nbf": past(20 * time.Minute), "exp": past(15 * time.Minute)}), "error validating token: invalid expiration time (exp) claim: token is expired"},
		{"another key", setup.Forge(t, issuer, audience), "error validating token: error verifying token signature: failed to verify id token signature"},
		{"another issuer", issuer.Sign(audience, map[string]any{"iss": other.URL()}), "error validating token: invalid issuer (iss) claim"},
		{"another environment", issuer.Sign(audience, map[string]any{"environment": "staging"}), `error validating claims: claim "environment" does not match any associated bound claim values`},
		{"another workflow", issuer.Sign(audience, map[string]any{"job_workflow_ref": "acme/platform/.github/workflows/dbt.yml@refs/heads/main"}), `error validating claims: claim "job_workflow_ref" does not match any associated bound claim values`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reply, err := bao.Request(t.Context(), "", http.MethodPost, "auth/jwt/login", map[string]string{"role": "dbt-prod", "jwt": tt.token})
			got := ""
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "POST auth/jwt/login: 400 Bad Request: ")
			}
			if got != tt.err || (reply.Auth.ClientToken != "") != (err == nil) {
				t.Errorf("got %s\nwant %s", got, tt.err)
			}
		})
	}
}
