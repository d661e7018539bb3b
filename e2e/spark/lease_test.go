//go:build e2e && linux && amd64

package spark

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestOutlivesLeases: dbt logs in with one user for longer than its lease of
// ten seconds, because that is renewed; without the broker the same login is
// refused. The users are PostgreSQL's, which OpenBao makes and removes.
func TestOutlivesLeases(t *testing.T) {
	t.Parallel()
	issuer, python, users, bao := setup.Issuer(t), setup.Python(t), setup.Postgres(t, false), setup.OpenBao(t)
	bao.TrustIssuer(t, issuer)
	exchange := bao.Lend(t, users, 10*time.Second, 5*time.Minute)
	s, port := start(t, func(user, password string) bool {
		conn, err := users.Connect(t.Context(), user, password)
		if err != nil {
			return false
		}
		return conn.Close(t.Context()) == nil
	})
	workspace := setup.Project(t, issuer, fmt.Sprintf(`{type: spark, method: thrift, host: 127.0.0.1, port: %d, schema: marts}`, port), exchange)
	// Each fails after the login, because there is no Spark.
	debug := python.Program("dbt") + " debug"
	out, err := setup.Exec(t, issuer, workspace, nil, "sh", "-c", debug+"; sleep 22; "+debug+"; true")
	let, refused := s.counts()
	if err != nil || let < 2 || refused > 0 {
		t.Errorf("exec: %v, %d logins, %d refused:\n%s", err, let, refused, out)
	}
	// Token and lease may last equally long: which of them ends first is a matter of milliseconds.
	const token, lease = "hint: raise token_max_ttl of auth/jwt/role/dbt, or give it a token_period", "hint: raise max_ttl of the role behind database/creds/dbt"
	if strings.Count(out, "warning") != 1 || !strings.Contains(out, `oidc-dbt: warning: target "prod": the lease cannot be renewed beyond 20`) ||
		!strings.Contains(out, token) && !strings.Contains(out, lease) {
		t.Errorf("want one warning, of the five minutes:\n%s", out)
	}
	bao.Gone(t, users)

	env, _ := setup.Authenticate(t, issuer, workspace)
	time.Sleep(11 * time.Second)
	out, err = setup.DBT(t, python, workspace, env, "debug")
	if further, refused := s.counts(); err == nil || further > let || refused == 0 {
		t.Errorf("dbt after the lease: %v, %d logins, %d refused\n%s", err, further-let, refused, out)
	}
}
