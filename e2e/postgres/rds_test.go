//go:build e2e && linux && amd64

package postgres

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestRDS runs a dbt build with a token that a role's session has signed as the
// password, which is verified as RDS does: signature, user, address, and
// 15 minutes.
func TestRDS(t *testing.T) {
	t.Parallel()
	issuer, clock := setup.Issuer(t), &clock{}
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Now: clock.now, Roles: map[string]standin.Role{
		setup.Role: {Audience: "sts.amazonaws.com", Claims: map[string][]string{"sub": {setup.Subject}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	var c *cloud
	c = startCloud(t, "dbt", func(user, password string) error {
		_, err := sts.AuthenticateRDS(password, net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)), user, "eu-central-1")
		return err
	})
	exchange := fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", setup.Role, sts.URL())
	workspace := setup.Project(t, issuer, c.block(", user: dbt"), exchange)
	env, step := setup.Authenticate(t, issuer, workspace)
	expires, err := time.Parse(time.RFC3339, step.Outputs["expires-at"])
	if life := time.Until(expires); err != nil || life > 15*time.Minute || life < 13*time.Minute {
		t.Errorf("expires-at is %q, want 15 minutes from now", step.Outputs["expires-at"])
	}
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	c.expectLogins(t)
	const refusal = "PAM authentication failed for user"
	password := env["DBT_ENV_SECRET_OIDC_PASSWORD"]
	c.expectRefused(t, workspace, env, strings.Replace(password, "DBUser=dbt", "DBUser=postgres", 1), refusal)
	for _, block := range []string{
		c.block(", user: postgres"), // the token is for another user
		strings.Replace(c.block(", user: dbt"), fmt.Sprint("port: ", c.Port), "port: 5432", 1),
	} {
		other, _ := setup.Authenticate(t, issuer, setup.Project(t, issuer, block, exchange))
		c.expectRefused(t, workspace, env, other["DBT_ENV_SECRET_OIDC_PASSWORD"], refusal)
	}
	clock.forward(16 * time.Minute)
	c.expectRefused(t, workspace, env, "", refusal)
}
