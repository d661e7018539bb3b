//go:build e2e && linux && amd64

package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A clock is a stand-in's: the machine's, which tests can advance.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

const sqlLogin = "https://www.googleapis.com/auth/sqlservice.login"

// TestCloudSQL runs a dbt build with a service account's token as the password,
// which is checked as Cloud SQL does: it must be valid, belong to the
// user's service account, and have the scope for logins.
func TestCloudSQL(t *testing.T) {
	t.Parallel()
	issuer, clock := setup.Issuer(t), &clock{}
	google, err := standin.StartGoogle(standin.GoogleConfig{
		IssuerURL: issuer.URL(), Provider: setup.Pool, ServiceAccounts: map[string][]string{setup.ServiceAccount: {setup.Subject}}, Now: clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Close)
	user := strings.TrimSuffix(setup.ServiceAccount, ".gserviceaccount.com")
	c := startCloud(t, user, func(user, password string) error {
		token, live := google.Token(password)
		switch {
		case !live:
			return errors.New("the token is expired or unknown")
		case token.Principal != user+".gserviceaccount.com":
			return fmt.Errorf("the token is that of %s", token.Principal)
		case !slices.Contains(token.Scopes, sqlLogin):
			return errors.New("the token has not the scope for logins")
		}
		return nil
	})
	workspace := setup.Project(t, issuer, c.block(""),
		fmt.Sprintf("{gcp: {workload_identity_provider: %s, service_account: %s, sts_endpoint: %q, iam_endpoint: %[3]q}}", setup.Pool, setup.ServiceAccount, google.URL()))
	env, step := setup.Authenticate(t, issuer, workspace)
	if got, _ := google.Token(step.Outputs["password"]); !slices.Equal(got.Scopes, []string{sqlLogin}) {
		t.Errorf("the token's scopes are %q, want only that for logins", got.Scopes)
	}
	if step.Outputs["user"] != user {
		t.Errorf("output user is %q, want %q", step.Outputs["user"], user)
	}
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	c.expectBuilt(t, issuer, workspace)
	c.expectLogins(t)
	for _, row := range c.SQL(t, "select tableowner from pg_tables where schemaname = 'marts'") {
		if row[0] != user {
			t.Errorf("a table is %s's, want %s's", row[0], user)
		}
	}
	for _, token := range google.Tokens() {
		if token.Federated {
			c.expectRefused(t, workspace, env, token.Value, "the token is that of repo:acme/analytics:environment:production")
		}
	}
	c.expectRefused(t, workspace, env, "ya29.made-up", "the token is expired or unknown")
	clock.forward(61 * time.Minute)
	c.expectRefused(t, workspace, env, "", "the token is expired or unknown")
}
