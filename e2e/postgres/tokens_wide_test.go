//go:build e2e && linux && amd64 && wide

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

// TestOutlivesEntraTokens: Entra ID announces a lifetime of four seconds.
func TestOutlivesEntraTokens(t *testing.T) {
	t.Parallel()
	const resource, life = "https://ossrdbms-aad.database.windows.net", 4 * time.Second
	issuer := setup.Issuer(t)
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant:       "acme.onmicrosoft.com",
		Applications: map[string][]standin.FederatedCredential{client: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}},
		Resources:    []string{resource}, Lifetime: life,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	entra.SetGrace(standin.Grace)
	c := startCloud(t, "dbt-prod", func(_, password string) error {
		if !entra.Valid(password, resource+"/.default") {
			return errors.New("the token is expired or unknown")
		}
		return nil
	})
	t.Run("dbt", func(t *testing.T) {
		outlive(t, issuer, life, life+standin.Grace, func(schema string) string {
			return setup.Project(t, issuer, strings.Replace(c.block(", user: dbt-prod"), "schema: marts", "schema: "+schema, 1),
				fmt.Sprintf("{entra: {tenant: acme.onmicrosoft.com, client_id: %s, authority: %q}}", client, entra.URL()))
		}, c.refusal())
	})
	c.expectRefusals(t, "the token is expired or unknown")
}

// TestLakebase runs a dbt build with a password that Lakebase issues for one
// database instance, which is accepted only for that instance.
func TestLakebase(t *testing.T) {
	t.Parallel()
	issuer, clock := setup.Issuer(t), &clock{}
	const account = "11111111-2222-3333-4444-555555555555"
	databricks, err := standin.StartDatabricks(standin.DatabricksConfig{
		Account: account, Policies: []standin.FederationPolicy{{ServicePrincipal: client, Issuer: issuer.URL(), Subject: setup.Subject}},
		Instances: []string{"dw", "other"}, Now: clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(databricks.Close)
	c := startCloud(t, client, func(user, password string) error {
		bearer, live := databricks.Bearer(password)
		switch {
		case !live:
			return errors.New("the token is expired or unknown")
		case bearer.Client != user:
			return fmt.Errorf("the token is that of %s", bearer.Client)
		case !databricks.Valid(password, "database") || !databricks.Valid(password, "dw"):
			return fmt.Errorf("the token is for %q", bearer.Scopes)
		}
		return nil
	})
	exchange := func(instance string) string {
		return fmt.Sprintf("{databricks: {host: %q, client_id: %s, account_id: %s, database_instance: %s}}", databricks.URL(), client, account, instance)
	}
	workspace := setup.Project(t, issuer, c.block(", user: "+client), exchange("dw"))
	env, _ := setup.Authenticate(t, issuer, workspace)
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	c.expectBuilt(t, issuer, workspace)
	c.expectLogins(t)
	other, _ := setup.Authenticate(t, issuer, setup.Project(t, issuer, c.block(", user: "+client), exchange("other")))
	c.expectRefused(t, workspace, env, other["DBT_ENV_SECRET_OIDC_PASSWORD"], "the token is for")
	for _, b := range databricks.Bearers() {
		if len(b.Scopes) == 1 { // the token of the workspace
			c.expectRefused(t, workspace, env, b.Value, "the token is for")
			break
		}
	}
	clock.forward(61 * time.Minute)
	c.expectRefused(t, workspace, env, "", "the token is expired or unknown")
}
