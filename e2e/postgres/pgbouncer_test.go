//go:build e2e && linux && amd64

package postgres

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A bouncer is a real PgBouncer in front of a cloud: it has PAM check each client's password as the cloud does, and
// logs in at the server, which checks it too, with the same password.
type bouncer struct {
	*cloud
	port int
	ca   string
}

// startBouncer starts Debian's PgBouncer, which is too old for LDAP. PAM's module for programs passes on no more than
// 511 bytes of a password: the tokens are as short as stand-ins have them.
func startBouncer(t *testing.T, c *cloud) *bouncer {
	t.Helper()
	b := &bouncer{cloud: c, port: setup.Port(t)}
	debian, libraries := setup.Debian(t, "pgbouncer")
	host, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.admit(r.PostFormValue("user"), r.PostFormValue("password")); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	}))
	dir := t.TempDir()
	program := setup.Write(t, dir, "ask.py", ask)
	setup.Write(t, dir, "pam.d/pgbouncer", fmt.Sprintf(`
auth required pam_exec.so expose_authtok quiet %s %s http://%s:%d/
account required pam_permit.so
`, setup.Python(t).Program("python"), program, host, port))
	ca, key := setup.Certificate(t)
	b.ca = ca
	config := setup.Write(t, dir, "pgbouncer.ini", fmt.Sprintf(`[databases]
postgres = host=%s port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = pam
client_tls_sslmode = require
client_tls_key_file = %s
client_tls_cert_file = %[4]s
server_tls_sslmode = verify-full
server_tls_ca_file = %s
`, c.Host, c.Port, b.port, key, c.CA))
	// Only this process sees its file of PAM, and it is not root, as PgBouncer wants it.
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-euc",
		`mount --bind "$1" /etc/pam.d; shift; exec unshare --user --map-user=1 --map-group=1 "$@"`, "sh",
		filepath.Join(dir, "pam.d"), filepath.Join(debian, "usr", "sbin", "pgbouncer"), config)
	cmd.Env = append(os.Environ(), libraries)
	setup.StartCommand(t, cmd, func() error {
		_, err := b.connect(t, "made-up")
		if err != nil && strings.Contains(err.Error(), "PAM authentication failed") {
			return nil
		}
		return fmt.Errorf("login with a made-up password: %w", err)
	})
	c.expectRefusals(t, "the token is expired or unknown")
	return b
}

// ask is the program of PAM, which gets the password on its standard input.
const ask = `import os, sys, urllib.parse, urllib.request
login = {"user": os.environ["PAM_USER"], "password": sys.stdin.buffer.read().rstrip(b"\0")}
urllib.request.urlopen(sys.argv[1], urllib.parse.urlencode(login).encode())
`

func (b *bouncer) connect(t *testing.T, password string) (*pgx.Conn, error) {
	t.Helper()
	address := fmt.Sprintf("postgres://127.0.0.1:%d/postgres?sslmode=verify-full&sslrootcert=%s", b.port, b.ca)
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Password = b.user, password
	return pgx.ConnectConfig(t.Context(), config)
}

// block returns the `dbt:` block that leads to PgBouncer.
func (b *bouncer) block(schema, keys string) string {
	return fmt.Sprintf("{type: postgres, host: 127.0.0.1, port: %d, database: postgres, user: %s, schema: %s, "+
		"sslmode: verify-full, sslrootcert: %s%s}", b.port, b.user, schema, b.ca, keys)
}

// TestPgBouncer runs dbt builds that outlive Entra ID's tokens of four seconds through PgBouncer. It checks each
// client's token, and so does the server.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	const resource, life = "https://ossrdbms-aad.database.windows.net", 4 * time.Second
	issuer := setup.Issuer(t)
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant: "acme.onmicrosoft.com", Resources: []string{resource}, Lifetime: life,
		Applications: map[string][]standin.FederatedCredential{
			client: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	entra.SetGrace(standin.Grace)
	b := startBouncer(t, startCloud(t, "dbt-prod", func(_, password string) error {
		if !entra.Valid(password, resource+"/.default") {
			return errors.New("the token is expired or unknown")
		}
		return nil
	}))
	exchange := fmt.Sprintf("{entra: {tenant: acme.onmicrosoft.com, client_id: %s, authority: %q}}", client, entra.URL())
	t.Run("dbt", func(t *testing.T) {
		outlive(t, issuer, life, life+standin.Grace, func(schema string) string {
			return setup.Project(t, issuer, b.block(schema, ""), exchange)
		}, "PAM authentication failed")
	})
	b.expectRefusals(t, "the token is expired or unknown")
	if log := b.Log(t); !strings.Contains(log, `identity="cn=dbt-prod,ou=logins" method=ldap `) {
		t.Errorf("the server did not check PgBouncer's logins:\n%s", log)
	}
	b.expectCancelled(t, issuer, exchange)
	b.expectUnsupported(t, issuer, setup.Project(t, issuer, b.block("marts", ", search_path: marts"), exchange), "options")
	const guard = "\n    guard: {statements: build, limits: {statement_timeout: 90m}}"
	b.expectUnsupported(t, issuer, setup.Project(t, issuer, b.block("marts", ""), exchange+guard), "statement_timeout")
}

// expectCancelled interrupts dbt in the middle of a statement, which PgBouncer has the server cancel.
func (b *bouncer) expectCancelled(t *testing.T, issuer *standin.Issuer, exchange string) {
	t.Helper()
	workspace := setup.Project(t, issuer, b.block("interrupted", ""), exchange)
	setup.Write(t, workspace, "models/slow.sql", "{{ config(materialized='table') }}\nselect 1 as n from pg_sleep(3600)")
	active := func() [][]string {
		return b.SQL(t, "select query from pg_stat_activity "+
			"where state = 'active' and query like '%pg_sleep(3600)%' and pid <> pg_backend_pid()")
	}
	out := setup.Interrupt(t, issuer, workspace, "models/slow.sql", os.Interrupt, 1, func() int { return len(active()) })
	for deadline := time.Now().Add(5 * time.Minute); len(active()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) { // PgBouncer may answer before the server has seen the request
			t.Fatalf("the server is still at %v\n%s", active(), out)
		}
	}
}

// expectUnsupported runs a query whose session begins with a parameter that PgBouncer does not know, and refuses.
func (b *bouncer) expectUnsupported(t *testing.T, issuer *standin.Issuer, workspace, parameter string) {
	t.Helper()
	out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "show", "--inline", "select 1")
	if want := "unsupported startup parameter: " + parameter; err == nil || !strings.Contains(out, want) {
		t.Errorf("dbt with %s: %v, want %q\n%s", parameter, err, want, out)
	}
}
