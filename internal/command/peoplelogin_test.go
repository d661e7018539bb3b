package command_test

import (
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// targetOf writes a clone's policy with the one target dev.
func (d *desk) targetOf(scopes, dbt, exchange string) {
	d.t.Helper()
	d.write(policyFile, `version: 1
identities:
  engineers: {issuer: $IDP, kind: people, client_id: dbt-cli, flow: device, scopes: [`+scopes+`]}
targets:
  dev:
    dbt: `+dbt+`
    exchange: `+exchange+`
    allow:
      - {identity: engineers, groups: analysts}
`)
}

const snowflakeBlock = "{type: snowflake, account: acme-prod, role: ANALYST, database: ANALYTICS, schema: dev}"

// TestPersonsOwnLogin: the warehouse gets the person's access token for the
// output's role, and neither the ID token nor the refresh token.
func TestPersonsOwnLogin(t *testing.T) {
	t.Parallel()
	d := sit(t)
	d.targetOf("session:role:ANALYST", snowflakeBlock, "{login: {}}")
	d.says(0, `policy $WORKSPACE/.github/oidc-dbt.yml
  SHA-256 SHA256
identities
  engineers: signs you in at $IDP as client "dbt-cli"
tokens go to
  dev: LOOPBACK, acme-prod.snowflakecomputing.com:443 (login)
`, "oidc-dbt: approved\n", "approve", "--yes")
	d.says(3, "", "oidc-dbt: request ID token: not signed in as identity \"engineers\" ($IDP)\nhint: sign in: oidc-dbt login engineers\n",
		"exec", "--target", "dev", "--", "true")
	d.signIn()
	r := d.here("exec", "--target", "dev", "--", "sh", "-c", `grep -c 'host: "127.0.0.1"' "$DBT_PROFILES_DIR/profiles.yml"; echo "$DBT_ENV_SECRET_OIDC_TOKEN"`)
	if r.status != 0 || !strings.HasPrefix(r.stdout, "1\n") {
		t.Fatalf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	for token, scope := range d.idp.Access() {
		if strings.Contains(r.stdout+r.stderr, token) {
			t.Error("the access token is in the command's environment, and not only in the proxy")
		}
		if asked := "openid offline_access session:role:ANALYST"; strings.HasPrefix(scope, "openid offline_access") && scope != asked {
			t.Errorf("an access token was asked for with scope %q, want %q", scope, asked)
		}
	}
	if n := d.idp.Refreshes(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	if r := d.here("exec", "--target", "dev", "--", "true"); r.status != 0 || d.idp.Refreshes() != 1 {
		t.Errorf("the next command: status %d, %d refreshes, want the token that there is", r.status, d.idp.Refreshes())
	}
}

// TestPersonsOwnLoginRefused: a scope that the client may not have is the
// provider's refusal, and what would send a token for another service is the policy's fault.
func TestPersonsOwnLoginRefused(t *testing.T) {
	t.Parallel()
	d := sit(t)
	d.targetOf("groups", snowflakeBlock, "{login: {}}")
	d.signIn()
	const refused = `oidc-dbt: exchange ID token with "login": refresh the login of identity "engineers": "invalid_scope": ` +
		`"Invalid scopes: openid offline_access session:role:ANALYST"
hint: let the client "dbt-cli" at $IDP have the scope session:role:ANALYST, add it to the ` + "`scopes`" + ` of identity "engineers" ` +
		"unless the provider is Entra ID, and sign in again: oidc-dbt login engineers\n"
	d.says(6, "", "oidc-dbt: allowed: target dev by rule 1 (line 9) for 00u1ann\n"+refused, "exec", "--target", "dev", "--", "true")
	d.targetOf("groups", snowflakeBlock, "{login: {scope: User.Read}}")
	d.says(2, "", `oidc-dbt: provider "login": scope is "User.Read", so type "snowflake" would get a token for the identity provider's own API: `+
		"set session:role:ROLE, or the scope of your own resource\n", "exec", "--target", "dev", "--", "true")
}

// TestWorkforcePool: a person's ID token at Google's token service, which wants
// the client for its audience and a project that the person may use.
func TestWorkforcePool(t *testing.T) {
	t.Parallel()
	const pool = "locations/global/workforcePools/acme/providers/okta"
	for _, tt := range []struct {
		name, client, project string
		status                int
		stderr                string
	}{
		{"allowed", cliClient, "acme-dbt", 0, "oidc-dbt: the credential is kept fresh for as long as this program runs\n"},
		{"another client", "other", "acme-dbt", 6, "invalid_grant"},
		{"another project", cliClient, "acme-prod", 6, "The caller does not have permission serviceusage.services.use on the user project."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t)
			google, err := standin.StartGoogle(standin.GoogleConfig{IssuerURL: d.idp.URL(), Provider: pool, ClientID: tt.client,
				UserProjects: []string{"acme-dbt"}})
			d.started("$WORKFORCE", google, err)
			d.targetOf("groups", "{type: bigquery, project: acme-dbt, dataset: dev}",
				"{gcp: {workload_identity_provider: "+pool+", user_project: "+tt.project+", sts_endpoint: $WORKFORCE}}")
			d.signIn()
			r := d.here("exec", "--target", "dev", "--", "grep", "-c", `"workforce_pool_user_project": "acme-dbt"`, d.at("file"))
			if tt.status != 0 {
				if r.status != tt.status || !strings.Contains(r.stderr, tt.stderr) {
					t.Errorf("status %d, want %d\n%s", r.status, tt.status, r.stderr)
				}
				return
			}
			r = d.here("exec", "--target", "dev", "--", "sh", "-c", `grep -c '"workforce_pool_user_project": "acme-dbt"' "$GOOGLE_APPLICATION_CREDENTIALS"`)
			if r.status != 0 || r.stdout != "1\n" || !strings.HasSuffix(r.stderr, tt.stderr) {
				t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
			}
			if list := google.Tokens(); len(list) == 0 || list[0].Principal != "00u1ann" || time.Until(list[0].Expiry) <= 0 {
				t.Errorf("issued: %d tokens", len(list))
			}
		})
	}
}
