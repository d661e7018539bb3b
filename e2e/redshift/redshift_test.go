//go:build e2e && linux && amd64

// Package redshift runs dbt-redshift against PostgreSQL behind a server that
// speaks Redshift's protocol and verifies logins as Redshift does.
package redshift

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A clock is a stand-in's: the machine's, which tests can advance.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// region is the region of all services; a loopback host contains none.
const region = "eu-central-1"

// A warehouse is an account's Redshift with its database.
type warehouse struct {
	issuer   *standin.Issuer
	sts      *standin.STS
	redshift *standin.Redshift
	server   *setup.PostgresServer
	clock    *clock
}

// start starts a cluster and a workgroup whose database has the user dbt. The
// role may get logins of both.
func start(t *testing.T) *warehouse {
	t.Helper()
	w := &warehouse{issuer: setup.Issuer(t), clock: &clock{}, server: setup.Postgres(t, false)}
	w.sts = setup.STS(t, w.issuer)
	w.server.SQL(t, fmt.Sprintf("create role dbt login password '%[1]s'; grant create on database postgres to dbt; create role \"IAMR:dbt-prod\" login password '%[1]s'; grant create on database postgres to \"IAMR:dbt-prod\"", w.server.Password))
	var err error
	w.redshift, err = standin.StartRedshift(w.sts, standin.RedshiftConfig{
		Region: region, Now: w.clock.now,
		Clusters: map[string]standin.Cluster{"acme": {Users: []string{"dbt"}}}, Workgroups: map[string]standin.Workgroup{"marts": {ID: "8a5b"}},
		Policies: map[string]string{setup.Role: `{"Statement": {"Effect": "Allow", "Action": ["redshift:GetClusterCredentials*", "redshift-serverless:GetCredentials"], "Resource": [
			"arn:aws:redshift:eu-central-1:123456789012:dbuser:acme/dbt", "arn:aws:redshift:eu-central-1:123456789012:dbname:acme/postgres", "arn:aws:redshift-serverless:eu-central-1:123456789012:workgroup/8a5b"]}}`},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.redshift.Close)
	return w
}

// front starts the gateway of a cluster or workgroup.
func (w *warehouse) front(t *testing.T, place string) *front {
	return startFront(t, w.server, func(l login) (string, string, error) {
		if err := w.redshift.Check(place, l.user, l.database, func(p string) bool { return p == l.password }); err != nil {
			return "", "", err
		}
		return strings.TrimPrefix(l.user, "IAM:"), w.server.Password, nil
	})
}

func (w *warehouse) exchange() string {
	return fmt.Sprintf("{aws: {role: %q, region: %s, endpoint: %q, redshift_endpoint: %q}}", setup.Role, region, w.sts.URL(), w.redshift.URL())
}

// expectRefused runs a query that the front must refuse.
func expectRefused(t *testing.T, name, workspace string, env map[string]string, want string) {
	t.Helper()
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1")
	if err == nil || !strings.Contains(out, want) {
		t.Errorf("dbt with %s: %v, want %q\n%s", name, err, want, out)
	}
}

// TestCluster: GetClusterCredentials, a dbt build with the login, and uses of the
// login that must be refused.
func TestCluster(t *testing.T) {
	t.Parallel()
	w := start(t)
	f := w.front(t, "acme")
	workspace := setup.Project(t, w.issuer, f.block(", cluster_id: acme, user: dbt"), w.exchange())
	env, step := setup.Authenticate(t, w.issuer, workspace)
	env["SSL_CERT_FILE"] = f.CA
	for name := range env {
		if strings.HasPrefix(name, "AWS_") {
			t.Errorf("%s is handed on with the login", name)
		}
	}
	if got := w.redshift.Logins(); len(got) != 1 || step.Outputs["user"] != "IAM:dbt" || step.Outputs["password"] != got[0].Password || !strings.HasPrefix(step.Outputs["expires-at"], got[0].Expiration.UTC().Format(time.RFC3339)) {
		t.Errorf("outputs are user %q, expires-at %s; the service has issued %d logins", step.Outputs["user"], step.Outputs["expires-at"], len(got))
	}
	out := setup.Build(t, setup.Python(t), w.issuer, workspace, env)
	f.checkLogins(t)
	if strings.Contains(out, step.Outputs["password"]) {
		t.Error("dbt prints the password")
	}
	for _, row := range w.server.SQL(t, "select tableowner from pg_tables where schemaname = 'marts'") {
		if row[0] != "dbt" {
			t.Errorf("a table is %s's, want dbt's", row[0])
		}
	}

	changed := func(name, value string) map[string]string {
		env := maps.Clone(env)
		env[name] = value
		return env
	}
	const refused = `password authentication failed for user "IAM:dbt"`
	expectRefused(t, "another password", workspace, changed("DBT_ENV_SECRET_OIDC_PASSWORD", "made-up"), refused)
	expectRefused(t, "an untrusted certificate", workspace, changed("SSL_CERT_FILE", "/dev/null"), "certificate verify failed")
	w.clock.forward(61 * time.Minute)
	expectRefused(t, "a login that is expired", workspace, env, refused)
}

// TestServerless: GetCredentials, and a query with the login.
func TestServerless(t *testing.T) {
	t.Parallel()
	w := start(t)
	f := w.front(t, "marts")
	workspace := setup.Project(t, w.issuer, f.block(", serverless_work_group: marts"), w.exchange())
	env, step := setup.Authenticate(t, w.issuer, workspace)
	env["SSL_CERT_FILE"] = f.CA
	if step.Outputs["user"] != "IAMR:dbt-prod" {
		t.Errorf("output user is %q", step.Outputs["user"])
	}
	if out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select current_user as who"); err != nil || !strings.Contains(out, "IAMR:dbt-prod") {
		t.Errorf("dbt show: %v\n%s", err, out)
	}
	f.checkLogins(t)
}
