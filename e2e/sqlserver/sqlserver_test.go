//go:build e2e

// Package sqlserver logs in with dbt-sqlserver and dbt-fabric, by Microsoft's
// ODBC driver, at a front that verifies the token or the password.
package sqlserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const (
	application = "11111111-2222-3333-4444-555555555555"
	resource    = "https://database.windows.net"
)

// driver returns Microsoft's ODBC driver, which is part of mssql-python.
func driver(t *testing.T) string {
	t.Helper()
	site := filepath.Join(filepath.Dir(filepath.Dir(setup.Python(t).Program("python"))), "lib", "python*", "site-packages")
	for _, pattern := range []string{"mssql_python*/libs/linux/debian_ubuntu/x86_64/lib/libmsodbcsql-18*", "mssql_python*/*/*/*/*/*/libmsodbcsql-18*"} {
		if found, _ := filepath.Glob(filepath.Join(site, pattern)); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatalf("no ODBC driver below %s", site)
	return ""
}

// libraries returns the folder of the system libraries that pyodbc and the
// driver need, from Debian's or Ubuntu's packages.
func libraries(t *testing.T) string {
	t.Helper()
	dir := setup.Cached(t, "odbc-libraries", func(dir string) {
		for _, args := range [][]string{{"apt-get", "download", "libodbc2", "libodbcinst2", "libltdl7"}, {"sh", "-c", "for f in *.deb; do dpkg -x $f . && rm $f; done"}} {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%q: %v\n%s", args, err, out)
			}
		}
	})
	return filepath.Join(dir, "usr", "lib", "x86_64-linux-gnu")
}

// debug runs dbt debug, which queries a row after its login.
func debug(t *testing.T, workspace string, env map[string]string) (out string, err error) {
	t.Helper()
	env["LD_LIBRARY_PATH"] = libraries(t)
	return setup.DBT(t, setup.Python(t), workspace, env, "debug")
}

// A refusal is the front's error for a login that it does not accept.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

// errRefused is SQL Server's message.
const errRefused = refusal("Login failed for user '<token-identified principal>'.")

// TestToken: both adapters pass the token of the exchange to the driver.
func TestToken(t *testing.T) {
	for _, adapter := range []string{"sqlserver", "fabric"} {
		t.Run(adapter, func(t *testing.T) {
			issuer := setup.Issuer(t)
			late := time.Duration(0)
			tokens, err := standin.StartEntra(standin.EntraConfig{Tenant: "acme.example", Resources: []string{resource}, Now: func() time.Time { return time.Now().Add(late) },
				Applications: map[string][]standin.FederatedCredential{application: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(tokens.Close)
			f := &front{admit: func(l login) error {
				if l.Database != "marts" || !tokens.Valid(l.Token, resource+"/.default") {
					return errRefused
				}
				return nil
			}}
			port := f.start(t)
			dbt := fmt.Sprintf(`{type: fabric, host: "127.0.0.1,%d", database: marts, schema: dbo, trust_cert: true, retries: 0}`, port)
			if adapter == "sqlserver" {
				dbt = fmt.Sprintf(`{type: sqlserver, driver: %q, host: 127.0.0.1, port: %d, database: marts, schema: dbo, trust_cert: true, retries: 0}`, driver(t), port)
			}
			exchange := fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s, authority: %q}}", application, tokens.URL())
			workspace := setup.Project(t, issuer, dbt, exchange)
			env, _ := setup.Authenticate(t, issuer, workspace)
			good := env["DBT_ENV_SECRET_OIDC_TOKEN"]
			out, err := debug(t, workspace, env)
			if err == nil || f.logins == 0 || len(f.refused) > 0 || !strings.Contains(out, "This server has no database.") {
				t.Fatalf("dbt debug: %v, %d logins, refused %q\n%s", err, f.logins, f.refused, out)
			}
			if strings.Contains(out, good) {
				t.Error("the token is in dbt's output")
			}
			for name, token := range map[string]string{"one that was never issued": good + "x", "an expired one": good} {
				if late = 0; name == "an expired one" {
					late = 2 * time.Hour
				}
				logins := f.logins
				env["DBT_ENV_SECRET_OIDC_TOKEN"] = token
				out, err := debug(t, workspace, env)
				if err == nil || f.logins != logins || !strings.Contains(out, "Login failed for user") {
					t.Errorf("dbt debug with %s: %v, %d logins more\n%s", name, err, f.logins-logins, out)
				}
			}
		})
	}
}

// TestPerson: both adapters log in with an engineer's own access token.
func TestPerson(t *testing.T) {
	for _, adapter := range []string{"sqlserver", "fabric"} {
		t.Run(adapter, func(t *testing.T) {
			var person *setup.Person
			f := &front{admit: func(l login) error {
				if l.Database != "marts" || !person.Valid(l.Token, resource+"/.default") {
					return errRefused
				}
				return nil
			}}
			port := f.start(t)
			dbt := fmt.Sprintf(`{type: fabric, host: "127.0.0.1,%d", database: marts, schema: dbo, trust_cert: true, retries: 0}`, port)
			if adapter == "sqlserver" {
				dbt = fmt.Sprintf(`{type: sqlserver, driver: %q, host: 127.0.0.1, port: %d, database: marts, schema: dbo, trust_cert: true, retries: 0}`,
					driver(t), port)
			}
			person = setup.SignedIn(t, resource+"/.default", dbt, "LD_LIBRARY_PATH="+libraries(t))
			out, err := person.Exec(t, "dbt", "--no-use-colors", "debug")
			if err == nil || f.logins == 0 || len(f.refused) > 0 || !strings.Contains(out, "This server has no database.") {
				t.Errorf("dbt debug: %v, %d logins, refused %q\n%s", err, f.logins, f.refused, out)
			}
		})
	}
}

// TestLease: a login from OpenBao, with mssql-python.
func TestLease(t *testing.T) {
	issuer := setup.Issuer(t)
	const user, password = "v-dbt-1", "leased;Password{1}"
	exchange := setup.OpenBao(t).Static(t, issuer, map[string]any{"username": user, "password": password})
	dropped := false
	f := &front{admit: func(l login) error {
		if dropped || l.User != user || l.Password != password || l.Token != "" {
			return fmt.Errorf("Login failed for user '%s'.", l.User)
		}
		return nil
	}}
	dbt := fmt.Sprintf(`{type: sqlserver, backend: mssql-python, host: 127.0.0.1, port: %d, database: marts, schema: dbo, trust_cert: true, retries: 0}`, f.start(t))
	workspace := setup.Project(t, issuer, dbt, exchange)
	env, _ := setup.Authenticate(t, issuer, workspace)
	out, err := debug(t, workspace, env)
	if err == nil || f.logins == 0 || len(f.refused) > 0 || !strings.Contains(out, "This server has no database.") {
		t.Fatalf("dbt debug: %v, %d logins, refused %q\n%s", err, f.logins, f.refused, out)
	}
	if strings.Contains(out, password) {
		t.Error("the password is in dbt's output")
	}
	dropped = true
	out, err = debug(t, workspace, env)
	if err == nil || !strings.Contains(out, "Login failed for user 'v-dbt-1'.") {
		t.Errorf("dbt debug after the lease: %v\n%s", err, out)
	}
}
