//go:build e2e && linux && amd64

package dbtpackage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const (
	runs     = 50
	audience = "https://bao.acme.example"
)

// csvlog is the table that PostgreSQL documents for its csvlog:
// https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG
const csvlog = `create schema audit; create table audit.postgres_log (
  log_time timestamp(3) with time zone, user_name text, database_name text, process_id integer, connection_from text,
  session_id text, session_line_num bigint, command_tag text, session_start_time timestamp with time zone,
  virtual_transaction_id text, transaction_id bigint, error_severity text, sql_state_code text, message text, detail text,
  hint text, internal_query text, internal_query_pos integer, context text, query text, query_pos integer, location text,
  application_name text, backend_type text, leader_pid integer, query_id bigint, primary key (session_id, session_line_num));
create table audit.oidc_dbt_records (record jsonb)`

// TestRoundTrip has the real log of a real PostgreSQL: runs log in with leases of
// a real OpenBao, of which the product keeps its records, and ten logins have
// none. The package finds these ten.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	logs := t.TempDir()
	server := setup.Postgres(t, false, "logging_collector=on", "log_destination=csvlog", "log_directory="+logs, "log_filename=server.log",
		"log_connections=on", "log_statement=all")
	bao, issuer := setup.OpenBao(t), setup.Issuer(t)
	lend(t, bao, issuer, server)
	server.SQL(t, csvlog+"; create role dbt_old login password 'old-"+server.Password+"'")

	block := fmt.Sprintf("{type: postgres, host: %q, port: %d, dbname: postgres, schema: marts}", server.Host, server.Port)
	workspace := setup.Project(t, issuer, block, fmt.Sprintf("{vault: {address: %q, role: dbt-prod, audience: %q, secret: database/creds/dbt-prod}}", bao.URL, audience))
	script, err := filepath.Abs("login.py")
	if err != nil {
		t.Fatal(err)
	}
	records := filepath.Join(t.TempDir(), "audit.jsonl")
	for run := range runs {
		claims := standin.GitHubClaims()
		claims["run_id"] = fmt.Sprint(16055869000 + run)
		issuer.SetClaims(claims)
		if out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", records}, setup.Python(t).Program("python"), script); err != nil {
			t.Fatalf("run %d: %v\n%s", run, err, out)
		}
		if run%(runs/5) == 0 { // while others run
			login(t, server, "dbt_old", "old-"+server.Password)
			user, password := steal(t, bao, issuer)
			login(t, server, user, password)
		}
	}
	load(t, server, records, filepath.Join(logs, "server.csv"))

	p := newProject(t, map[string]string{"OIDC_DBT_PORT": fmt.Sprint(server.Port), "OIDC_DBT_PASSWORD": server.Password})
	p.dbt(t, "build", "--target", "postgres", "--select", "package:oidc_dbt_audit", "--exclude", "package:oidc_dbt_integration", "--indirect-selection", "cautious",
		"--vars", "{oidc_dbt_users: {prod: v-jwt-acme-dbt-prod-*}, oidc_dbt_watched: [dbt_old], oidc_dbt_delay_minutes: 0, oidc_dbt_inventory: null, oidc_dbt_reviews: null}")
	got := server.SQL(t, "select count(*), count(distinct login_id), count(*) filter (where user_name = 'dbt_old') from audit.oidc_dbt__unmatched_logins")
	if want := []string{"10", "10", "5"}; !slices.Equal(got[0], want) {
		t.Errorf("unmatched logins, those among them that differ, and those of the old user: %q, want %q\n%q", got[0], want,
			server.SQL(t, "select * from audit.oidc_dbt__unmatched_logins"))
	}
	got = server.SQL(t, "select count(distinct login_id), count(distinct run_id), count(*) from audit.oidc_dbt__login_matches")
	if want := fmt.Sprint(runs); got[0][0] != want || got[0][1] != want {
		t.Errorf("logins with a record, of runs: %q, want %d of %d", got[0], runs, runs)
	}
	got = server.SQL(t, "select is_migrated, runs, key_logins, advice from audit.oidc_dbt__fleet where repository = 'acme/analytics'")
	if want := []string{"t", fmt.Sprint(runs), "5", "still used"}; !slices.Equal(got[0], want) {
		t.Errorf("the fleet: %q, want %q", got, want)
	}
}

// lend lets OpenBao create users for the issuer's tokens of production.
func lend(t *testing.T, bao *setup.OpenBaoServer, issuer *standin.Issuer, server *setup.PostgresServer) {
	t.Helper()
	bao.TrustIssuer(t, issuer)
	for _, write := range []struct {
		path string
		body map[string]any
	}{
		{"auth/jwt/role/dbt-prod", map[string]any{
			"role_type": "jwt", "user_claim": "repository", "bound_audiences": []string{audience}, "bound_claims": map[string]string{"environment": "production"},
			"token_policies": []string{"dbt-prod"}, "token_no_default_policy": true, "token_ttl": "10m",
		}},
		{"sys/mounts/database", map[string]any{"type": "database"}},
		{"database/config/warehouse", map[string]any{
			"plugin_name": "postgresql-database-plugin", "allowed_roles": "dbt-prod",
			"connection_url": server.URL("{{username}}:{{password}}"), "username": server.User, "password": server.Password,
		}},
		{"database/roles/dbt-prod", map[string]any{
			"db_name": "warehouse", "default_ttl": "5m", "max_ttl": "10m",
			"creation_statements": []string{`create role "{{name}}" with login password '{{password}}' valid until '{{expiration}}'`},
		}},
		{"sys/policies/acl/dbt-prod", map[string]any{"policy": `path "database/creds/dbt-prod" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`}},
	} {
		bao.Write(t, write.path, write.body)
	}
}

// steal gets a login from OpenBao with a token of the issuer, without the product.
func steal(t *testing.T, bao *setup.OpenBaoServer, issuer *standin.Issuer) (user, password string) {
	t.Helper()
	reply, err := bao.Request(t.Context(), "", http.MethodPost, "auth/jwt/login", map[string]string{"role": "dbt-prod", "jwt": issuer.Sign(audience, nil)})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := bao.Request(t.Context(), reply.Auth.ClientToken, http.MethodGet, "database/creds/dbt-prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Username, Password string }
	if err := json.Unmarshal(lease.Data, &made); err != nil {
		t.Fatal(err)
	}
	return made.Username, made.Password
}

// login logs in once.
func login(t *testing.T, server *setup.PostgresServer, user, password string) {
	t.Helper()
	conn, err := server.Connect(t.Context(), user, password)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// load loads the records and the server's log, by the statements of the
// package's README. PostgreSQL writes a line of its log after it has replied.
func load(t *testing.T, server *setup.PostgresServer, records, log string) {
	t.Helper()
	text, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines != 3*runs {
		t.Fatalf("%d records of %d runs, want a decision, an outcome and an end of each", lines, runs)
	}
	copied := setup.Write(t, t.TempDir(), "audit.jsonl", string(text))
	server.SQL(t, fmt.Sprintf(`copy audit.oidc_dbt_records (record) from '%s' with (format csv, quote e'\x01', delimiter e'\x02', on_error ignore);
copy audit.postgres_log from '%s' with (format csv)`, copied, log))
}
