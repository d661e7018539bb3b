//go:build e2e && linux && amd64

package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const client = "66666666-7777-8888-9999-000000000000"

// TestAzure runs a dbt build with Entra ID's token as the password, which is
// checked as Azure Database for PostgreSQL does: it must be valid, for its resource,
// and of the role's principal.
func TestAzure(t *testing.T) {
	t.Parallel()
	const resource = "https://ossrdbms-aad.database.windows.net"
	issuer, clock := setup.Issuer(t), &clock{}
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant:       "acme.onmicrosoft.com",
		Applications: map[string][]standin.FederatedCredential{client: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}},
		Resources:    []string{resource, "https://storage.azure.com"}, Now: clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	c := startCloud(t, "dbt-prod", func(user, password string) error {
		bearer, live := entra.Bearer(password)
		switch {
		case !live:
			return errors.New("the token is expired or unknown")
		case bearer.Client != client || user != "dbt-prod":
			return fmt.Errorf("the token is that of %s", bearer.Client)
		case !entra.Valid(password, resource+"/.default"):
			return fmt.Errorf("the token is for %q", bearer.Scopes)
		}
		return nil
	})
	exchange := func(more string) string {
		return fmt.Sprintf("{entra: {tenant: acme.onmicrosoft.com, client_id: %s, authority: %q%s}}", client, entra.URL(), more)
	}
	workspace := setup.Project(t, issuer, c.block(", user: dbt-prod"), exchange(""))
	env, _ := setup.Authenticate(t, issuer, workspace)
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	c.expectLogins(t)
	other, _ := setup.Authenticate(t, issuer, setup.Project(t, issuer, c.block(", user: dbt-prod"), exchange(`, scope: "https://storage.azure.com/.default"`)))
	c.expectRefused(t, workspace, env, other["DBT_ENV_SECRET_OIDC_PASSWORD"], "the token is for")
	clock.forward(61 * time.Minute)
	c.expectRefused(t, workspace, env, "", "the token is expired or unknown")
}

// TestPerson runs a dbt build with an engineer's own access token for Azure
// Database for PostgreSQL as the password.
func TestPerson(t *testing.T) {
	t.Parallel()
	const scope = "https://ossrdbms-aad.database.windows.net/.default"
	var person *setup.Person
	c := startCloud(t, "ann@acme.example", func(_, password string) error {
		if !person.Valid(password, scope) {
			return errors.New("the token is not one for PostgreSQL")
		}
		return nil
	})
	person = setup.SignedIn(t, scope, c.block(", user: ann@acme.example"))
	if out, err := person.Exec(t, "dbt", "--no-use-colors", "build"); err != nil || !strings.Contains(out, "PASS=3 ") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	c.expectLogins(t)
	want := c.refusal() + " (SQLSTATE 28000)" // which is also RDS's: that of a wrong password is 28P01
	if _, err := c.Connect(t.Context(), c.user, "made-up"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("login with another password: %v, want %q", err, want)
	}
	c.expectRefusals(t, "the token is not one for PostgreSQL")
}
