//go:build e2e && linux && amd64

package engine2

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestPostgres: a build with a token as the password, over verified TLS.
func TestPostgres(t *testing.T) {
	t.Parallel()
	e, issuer := start(t), setup.Issuer(t)
	google, err := standin.StartGoogle(standin.GoogleConfig{
		IssuerURL: issuer.URL(), Provider: setup.Pool, ServiceAccounts: map[string][]string{setup.ServiceAccount: {setup.Subject}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Close)
	server := setup.Postgres(t, true)
	workspace := setup.Project(t, issuer,
		fmt.Sprintf(`{type: postgres, host: 127.0.0.1, port: %d, database: postgres, schema: marts, sslmode: verify-full, sslrootcert: %q}`, server.Port, server.CA),
		fmt.Sprintf(`{gcp: {workload_identity_provider: %q, service_account: %q, sts_endpoint: %q, iam_endpoint: %q}}`, setup.Pool, setup.ServiceAccount, google.URL(), google.URL()))
	env, step := setup.Authenticate(t, issuer, workspace)
	user, token := step.Outputs["user"], step.Outputs["password"]
	setPassword := func(password string) {
		server.SQL(t, fmt.Sprintf(`alter role %q password '%s'`, user, password))
	}
	server.SQL(t, fmt.Sprintf(`create role %q login; grant create on database postgres to %q`, user, user))
	setPassword(token)
	out, err := e.dbt(t, workspace, env, "build")
	if err != nil || !strings.Contains(out, "3 success") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	if strings.Contains(out, token) {
		t.Error("the token is in dbt's output")
	}

	// The engine reads neither sslmode nor sslrootcert: libpq gets them from the environment.
	for name, value := range map[string]string{"PGSSLROOTCERT": setup.Write(t, t.TempDir(), "empty.pem", ""), "DBT_ENV_SECRET_OIDC_PASSWORD": "made-up"} {
		other := maps.Clone(env)
		other[name] = value
		if out, err := e.dbt(t, workspace, other, "build"); err == nil {
			t.Errorf("dbt passed with another %s:\n%s", name, out)
		}
	}

	// It puts the password into a URL without escaping it. A token for RDS cannot
	// be used there; dbt-postgres logs in with it.
	const signed = "db.eu-central-1.rds.amazonaws.com:5432/?Action=connect&DBUser=dbt&X-Amz-Credential=ASIA%2F20261125"
	setPassword(signed)
	env["DBT_ENV_SECRET_OIDC_PASSWORD"] = signed
	if out, err := e.dbt(t, workspace, env, "build"); err == nil || !strings.Contains(out, "invalid port number") {
		t.Errorf("dbt with a login of RDS: %v\n%s", err, out)
	}
	setup.Build(t, setup.Python(t), issuer, workspace, env)
}

// TestPostgresByTheProxy: the engine logs in at the proxy, whose password needs
// no escaping in a URL, and the proxy with a token for RDS, over TLS.
func TestPostgresByTheProxy(t *testing.T) {
	t.Parallel()
	e, bao, issuer, server := start(t), setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	const password = "db.eu-central-1.rds.amazonaws.com:5432/?Action=connect&DBUser=dbt&X-Amz-Credential=ASIA%2F20261125#/@"
	server.SQL(t, fmt.Sprintf(`create role "dbt@acme.iam" login password '%s'; grant create on database postgres to "dbt@acme.iam"`, password))
	workspace := setup.Project(t, issuer,
		fmt.Sprintf(`{type: postgres, host: 127.0.0.1, port: %d, database: postgres, schema: marts, sslmode: verify-full, sslrootcert: %q}`, server.Port, server.CA),
		bao.Static(t, issuer, map[string]any{"username": "dbt@acme.iam", "password": password}))
	out, err := setup.Exec(t, issuer, workspace, nil, slices.Concat([]string{"env"}, e.variables(), []string{e.python.Program("dbt"), "build"})...)
	if err != nil || !strings.Contains(out, "3 success") {
		t.Errorf("dbt build: %v\n%s", err, out)
	}
	if owner := server.SQL(t, "select distinct tableowner from pg_tables where schemaname = 'marts'"); len(owner) != 1 || owner[0][0] != "dbt@acme.iam" {
		t.Errorf("the tables are %q's", owner)
	}
}
