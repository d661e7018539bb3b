//go:build e2e && linux && amd64

package postgres

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A cloud is a real PostgreSQL, over TLS only, which has its role's password checked as a cloud's service does.
type cloud struct {
	*setup.PostgresServer
	user  string
	check func(user, password string) error

	mu      sync.Mutex
	against []string // what the check said against passwords
}

// startCloud starts a server whose role `user` may create schemas. PostgreSQL itself asks for the role's password and
// has the check decide, which its method `ldap` finds behind a simple bind. The tokens are too long for its other ways
// out: RADIUS takes 128 bytes, and PAM's module for programs 511.
func startCloud(t *testing.T, user string, check func(user, password string) error) *cloud {
	t.Helper()
	c := &cloud{PostgresServer: setup.DebianPostgres(t, true, "log_connections=on"), user: user, check: check}
	const prefix, suffix = "cn=", ",ou=logins"
	port := setup.LDAP(t, func(name, password string) error {
		return c.admit(strings.TrimSuffix(strings.TrimPrefix(name, prefix), suffix), password)
	})
	c.SQL(t, fmt.Sprintf("create role %q login; grant create on database postgres to %[1]q", user))
	c.Ask(t, user, fmt.Sprintf("ldap ldapserver=127.0.0.1 ldapport=%d ldapprefix=%q ldapsuffix=%q", port, prefix, suffix))
	return c
}

// admit decides on a password, and keeps what is said against it: the server does not tell its clients.
func (c *cloud) admit(user, password string) error {
	err := c.check(user, password)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.against = append(c.against, err.Error())
	}
	return err
}

// block returns the `dbt:` block that leads to the server.
func (c *cloud) block(keys string) string {
	return fmt.Sprintf("{type: postgres, host: %s, port: %d, database: postgres, schema: marts, threads: 2, sslmode: verify-full, sslrootcert: %s%s}",
		c.Host, c.Port, c.CA, keys)
}

// refusal is what the server tells its clients.
func (c *cloud) refusal() string {
	return fmt.Sprintf("LDAP authentication failed for user %q", c.user)
}

// expectLogins checks by the server's log that there were logins of the role, all of them by the check and with the
// target's tag, and no refusals.
func (c *cloud) expectLogins(t *testing.T) {
	t.Helper()
	log := c.Log(t)
	user := regexp.QuoteMeta(c.user)
	count := func(pattern string) int { return len(regexp.MustCompile(pattern).FindAllString(log, -1)) }
	logins := count("connection authorized: user=" + user + " ")
	checked := count(`connection authenticated: identity="cn=` + user + `,ou=logins" method=ldap `)
	tagged := count("connection authorized: user=" + user + " database=postgres application_name=oidc-dbt target=prod SSL enabled ")
	if refused := strings.Count(log, c.refusal()); logins == 0 || checked != logins || tagged != logins || refused > 0 {
		t.Errorf("%d logins, of which %d were checked and %d have the target's tag, and %d refusals; want some, all, all and none",
			logins, checked, tagged, refused)
	}
}

// expectRefusals checks that the check said nothing but why against passwords, and that it did.
func (c *cloud) expectRefusals(t *testing.T, why string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.against) == 0 || slices.ContainsFunc(c.against, func(got string) bool { return !strings.Contains(got, why) }) {
		t.Errorf("the check said %q against passwords, want %q", c.against, why)
	}
	c.against = nil
}

// expectBuilt builds again, through the proxy.
func (c *cloud) expectBuilt(t *testing.T, issuer *standin.Issuer, workspace string) {
	t.Helper()
	c.SQL(t, "drop schema marts cascade")
	out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "build")
	if err != nil || !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") {
		t.Errorf("dbt build through the proxy: %v\n%s", err, out)
	}
}

// expectRefused runs a query with another password, which the server must refuse because of what the check says.
func (c *cloud) expectRefused(t *testing.T, workspace string, env map[string]string, password, why string) {
	t.Helper()
	if password != "" {
		env = map[string]string{"DBT_PROFILES_DIR": env["DBT_PROFILES_DIR"], "DBT_ENV_SECRET_OIDC_PASSWORD": password}
	}
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1")
	if err == nil || !strings.Contains(out, c.refusal()) {
		t.Errorf("dbt with a login that must be refused: %v, want %q\n%s", err, c.refusal(), out)
	}
	c.expectRefusals(t, why)
}
