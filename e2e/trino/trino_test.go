//go:build e2e

// Package trino runs dbt against a real Trino that verifies tokens itself.
package trino

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const (
	audience = "trino"
	user     = "acme"
)

// TestTrino has one server, which takes a quarter of a minute to start, for all its cases.
func TestTrino(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	server := start(t, issuer)
	t.Run("verifies the token itself", func(t *testing.T) { verifies(t, server, issuer) })
	t.Run("dbt build", func(t *testing.T) { build(t, server, issuer) })
	t.Run("dbt with a token that the policy lets through", func(t *testing.T) { refused(t, server, issuer) })
}

// start starts a server that accepts only the issuer's tokens of production.
func start(t *testing.T, issuer *standin.Issuer) *setup.TrinoServer {
	return startWith(t, issuer, false)
}

func startWith(t *testing.T, issuer *standin.Issuer, iceberg bool) *setup.TrinoServer {
	t.Helper()
	return setup.Trino(t, setup.TrinoConfig{
		Iceberg: iceberg, Issuer: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks", Audience: audience, Claim: "sub", UserPattern: `repo:([^/]+)/analytics:environment:production`,
	}, user, func() string { return issuer.Sign(audience, nil) })
}

// output returns an output of profiles.yml for a user of the server.
func output(server *setup.TrinoServer, user string) string {
	return fmt.Sprintf("{type: trino, host: %q, port: %d, user: %q, database: memory, schema: marts, threads: 4, cert: %q}", server.Host, server.Port, user, server.CA)
}

// environ returns the step's variables without the machine's certificate
// authorities, which requests prefers to the profile's `cert`.
func environ(step map[string]string) map[string]string {
	env := map[string]string{"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
	maps.Copy(env, step)
	return env
}

func build(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer) {
	workspace := setup.Project(t, issuer, output(server, user), fmt.Sprintf("{oidc: {audience: %q}}", audience))
	env, step := setup.Authenticate(t, issuer, workspace)
	out := setup.Build(t, setup.Python(t), issuer, workspace, environ(env))
	if !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") {
		t.Errorf("dbt did not build three nodes:\n%s", out)
	}
	rows, err := server.Query(t.Context(), user, step.Outputs["token"], "select customer, orders from memory.marts.customers order by customer")
	if err != nil || fmt.Sprint(rows) != "[[ada 2] [grace 1]]" {
		t.Errorf("what dbt built: got %v, %v", rows, err)
	}
	env["DBT_ENV_SECRET_OIDC_TOKEN"] = issuer.Sign(audience, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})
	if out, err := setup.DBT(t, setup.Python(t), workspace, environ(env), "build"); err == nil || !strings.Contains(out, "JWT expired ") {
		t.Errorf("with an expired token: %v\n%s", err, out)
	}
}

// refused has an audience in the policy that Trino does not accept.
func refused(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer) {
	workspace := setup.Project(t, issuer, output(server, user), "{oidc: {audience: starburst}}")
	env, _ := setup.Authenticate(t, issuer, workspace)
	if out, err := setup.DBT(t, setup.Python(t), workspace, environ(env), "build"); err == nil || !strings.Contains(out, "Invalid Audience: [starburst]. Allowed audiences: trino") {
		t.Errorf("with another audience: %v\n%s", err, out)
	}
}

// verifies bypasses the action: Trino, too, refuses tokens that the policy would refuse.
func verifies(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer) {
	other := setup.Issuer(t)
	for _, tt := range []struct{ name, user, token, refusal string }{
		{"good", user, issuer.Sign(audience, nil), ""},
		{"another audience", user, issuer.Sign("other", nil), "401 Unauthorized: Invalid Audience: [other]. Allowed audiences: trino"},
		{"expired", user, issuer.Sign(audience, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "401 Unauthorized: JWT expired "},
		{"another key", user, setup.Forge(t, issuer, audience), "401 Unauthorized: JWT signature does not match locally computed signature."},
		{"another issuer", user, issuer.Sign(audience, map[string]any{"iss": other.URL()}), "401 Unauthorized: Expected iss claim to be: " + issuer.URL() + ", but was: " + other.URL()},
		{"another subject", user, issuer.Sign(audience, map[string]any{"sub": "repo:acme/analytics:environment:staging"}), "401 Unauthorized: No user mapping patterns match the principal"},
		{"another user", "root", issuer.Sign(audience, nil), "PERMISSION_DENIED: Access Denied: User acme cannot impersonate user root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := server.Query(t.Context(), tt.user, tt.token, "select current_user")
			switch {
			case tt.refusal == "" && (err != nil || fmt.Sprint(rows) != "[[acme]]"):
				t.Errorf("got %v, %v, want [[acme]]", rows, err)
			case tt.refusal != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.refusal)):
				t.Errorf("got %v, %v\nwant an error that starts with %s", rows, err, tt.refusal)
			}
		})
	}
}
