//go:build e2e && linux && amd64

package sqlserver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestOutlivesLeases: dbt logs in with one user for longer than its lease of
// ten seconds, because that is renewed; without the broker the same login is
// refused. The users are PostgreSQL's, which OpenBao makes and removes: it has
// no plugin for SQL Server.
func TestOutlivesLeases(t *testing.T) {
	issuer, python, users, bao := setup.Issuer(t), setup.Python(t), setup.Postgres(t, false), setup.OpenBao(t)
	bao.TrustIssuer(t, issuer)
	exchange := bao.Lend(t, users, 10*time.Second, 8*time.Hour)
	f := &front{admit: func(l login) error {
		conn, err := users.Connect(t.Context(), l.User, l.Password)
		if err != nil {
			return fmt.Errorf("Login failed for user '%s'.", l.User)
		}
		return conn.Close(t.Context())
	}}
	dbt := fmt.Sprintf(`{type: sqlserver, backend: mssql-python, host: 127.0.0.1, port: %d, database: marts, schema: dbo, trust_cert: true, retries: 0}`, f.start(t))
	workspace := setup.Project(t, issuer, dbt, exchange)
	loop := "LD_LIBRARY_PATH=" + libraries(t) + " " + python.Program("dbt") + " debug"
	out, err := setup.Exec(t, issuer, workspace, nil, "sh", "-c", loop+"; sleep 22; "+loop+"; true")
	logins, refused := f.counts()
	if err != nil || logins < 2 || refused > 0 || strings.Count(out, "This server has no database.") != 2 {
		t.Errorf("exec: %v, %d logins, %d refused:\n%s", err, logins, refused, out)
	}
	if strings.Contains(out, "warning") {
		t.Errorf("exec warns:\n%s", out)
	}
	bao.Gone(t, users)

	env, _ := setup.Authenticate(t, issuer, workspace)
	time.Sleep(11 * time.Second)
	out, err = debug(t, workspace, env)
	if further, refused := f.counts(); err == nil || further > logins || refused == 0 || !strings.Contains(out, "Login failed for user 'v-jwt-repo-") {
		t.Errorf("dbt after the lease: %v, %d logins, %d refused\n%s", err, further-logins, refused, out)
	}
}

// counts returns how many logins were accepted and refused.
func (f *front) counts() (logins, refused int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logins, len(f.refused)
}
