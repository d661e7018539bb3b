//go:build e2e && wide

package snowflake

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestOtherClients: by the variables that snow and schemachange pass on,
// Snowflake's connector finds the token's file, also after the first one has
// expired; or the broker's proxy; or, in a step without a broker, the token.
func TestOtherClients(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	issuer.SetLife(30 * time.Second) // after reading the file, ten seconds are left for the login
	s, port := start(t, issuer, nil)
	place := fmt.Sprintf("{type: snowflake, account: acme-prod, host: 127.0.0.1, port: %d, protocol: http, user: DEPLOY, role: DEPLOYER}", port)
	project := func(further string) string {
		workspace := setup.Project(t, issuer, place, "{oidc: {audience: snowflakecomputing.com}}"+further)
		policy := strings.Replace(setup.Policy(issuer, place, "{oidc: {audience: snowflakecomputing.com}}"+further), "    dbt: ", "    client: ", 1)
		setup.Write(t, workspace, ".github/oidc-dbt.yml", policy)
		return workspace
	}
	check := func(t *testing.T, out string, err error, logins, tokens int) {
		t.Helper()
		setup.NoSecrets(t, issuer, "the output", out)
		if err != nil || len(s.refused) > 0 {
			t.Fatalf("%v, refused: %q\n%s", err, s.refused, out)
		}
		if s.logins < logins || len(s.used) < tokens {
			t.Errorf("%d logins with %d tokens, want %d with %d\n%s", s.logins, len(s.used), logins, tokens, out)
		}
		s.logins, s.used = 0, map[string]bool{}
	}

	connect := filepath.Join(setup.Repository(t), "e2e", "snowflake", "clients.py")
	out, err := setup.Exec(t, issuer, project(""), nil, "env", loopback+"=127.0.0.1", setup.Python(t).Program("python"), connect, "2")
	check(t, out, err, 2, 2)
	out, err = setup.Exec(t, issuer, project("\n    proxy: true"), nil, setup.Python(t).Program("python"), connect, "2")
	check(t, out, err, 2, 2)
	if !strings.Contains(out, "OAUTH") {
		t.Errorf("at the proxy the connector printed\n%s", out)
	}

	issuer.SetLife(5 * time.Minute)
	env, _ := setup.Authenticate(t, issuer, project(""))
	env[loopback] = "127.0.0.1"
	step := exec.CommandContext(t.Context(), setup.Python(t).Program("python"), connect, "1")
	step.Env = setup.Python(t).Environ()
	for name, value := range env {
		step.Env = append(step.Env, name+"="+value)
	}
	text, err := step.CombinedOutput()
	check(t, string(text), err, 1, 1)
}
