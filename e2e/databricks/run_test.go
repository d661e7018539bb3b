//go:build e2e

package databricks

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// life is the announced lifetime of a token: a slow model takes two seconds, so
// that every fourth model of a thread needs another token.
const life = 6 * time.Second

// A giver is a provider of tokens: its exchange block for a workspace at a port,
// and the scope of its tokens.
type giver struct {
	tokens   *standin.TokenService
	exchange func(port int) string
	scope    string
}

var givers = map[string]func(t *testing.T, issuer *standin.Issuer) giver{
	"databricks": func(t *testing.T, issuer *standin.Issuer) giver {
		tokens, err := standin.StartDatabricks(standin.DatabricksConfig{Account: account, Lifetime: life, Policies: []standin.FederationPolicy{
			{ServicePrincipal: principal, Issuer: issuer.URL(), Subject: setup.Subject},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return giver{tokens, atWorkspace, "all-apis"}
	},
	"entra": func(t *testing.T, issuer *standin.Issuer) giver {
		tokens, err := standin.StartEntra(standin.EntraConfig{Tenant: "acme.example", Resources: []string{resource}, Lifetime: life, Applications: map[string][]standin.FederatedCredential{
			principal: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return giver{tokens, func(int) string {
			return fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s, authority: %q}}", principal, tokens.URL())
		}, resource + "/.default"}
	},
}

// slow starts a workspace with a warehouse that accepts the giver's tokens until
// grace after they expire, and returns it with a dbt project of slow models and
// the variables of its job.
func slow(t *testing.T, provider string, models int, grace time.Duration) (w *workspace, issuer *standin.Issuer, dir string, job []string) {
	t.Helper()
	issuer = setup.Issuer(t)
	g := givers[provider](t, issuer)
	t.Cleanup(g.tokens.Close)
	g.tokens.SetGrace(grace)
	// The connector reads the expiry from the tokens.
	g.tokens.IssueJWTs(map[string]string{"databricks": g.tokens.URL(), "entra": "https://sts.windows.net/acme.example/"}[provider])
	python, engine := setup.Python(t), setup.Port(t)
	setup.Start(t, engine, python.Environ(), python.Program("python"), "warehouse.py", fmt.Sprint(engine))
	w = &workspace{tokens: g.tokens, scope: g.scope, exchange: g.tokens.URL(), next: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", engine)})}
	port, ca := start(t, w)
	dir = setup.Project(t, issuer, fmt.Sprintf(`{type: databricks, host: "127.0.0.1:%d", http_path: /sql/1.0/warehouses/a, catalog: lake, schema: marts, connection_parameters: {_connection_uri: "https://127.0.0.1:%d/sql/1.0/warehouses/a", _tls_trusted_ca_file: %q, enable_telemetry: false}}`,
		port, port, ca), g.exchange(port))
	for i := range models {
		setup.Write(t, dir, fmt.Sprintf("models/slow%d.sql", i), "{{ config(materialized='table') }}\nselect 'SLOW' as pace\n")
	}
	// The last three are a login of the job, which must not be used.
	return w, issuer, dir, append(trust(ca), "DATABRICKS_TOKEN=stale", "DATABRICKS_CLIENT_SECRET=stale", "DATABRICKS_AUTH_TYPE=pat")
}

// trust are the variables with the authority of the workspace's certificate:
// databricks-sdk queries the host's configuration, and the exchange may be there.
func trust(ca string) []string { return []string{"REQUESTS_CA_BUNDLE=" + ca, "SSL_CERT_FILE=" + ca} }

// run is setup.Exec with variables of the job.
func run(t *testing.T, issuer *standin.Issuer, dir string, job, flags []string, command ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := setup.ExecCommand(ctx, t, issuer, dir, flags, command...)
	cmd.Env = append(cmd.Env, job...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// TestBuildOutlivesItsTokens: dbt-databricks queries the metadata service for
// each session and each statement.
func TestBuildOutlivesItsTokens(t *testing.T) {
	t.Parallel()
	for _, tt := range setup.Few(1, []struct {
		provider        string
		threads, models int
	}{{"entra", 8, 64}, {"databricks", 1, 8}}...) {
		t.Run(fmt.Sprintf("%s, %d threads", tt.provider, tt.threads), func(t *testing.T) {
			t.Parallel()
			w, issuer, dir, job := slow(t, tt.provider, tt.models, standin.Grace)
			audit := filepath.Join(t.TempDir(), "audit.jsonl")
			out, err := run(t, issuer, dir, job, []string{"--audit-log", audit}, "dbt", "--no-use-colors", "build", "--threads", fmt.Sprint(tt.threads))
			if err != nil || !strings.Contains(out, "Completed successfully") || !strings.Contains(out, fmt.Sprintf("PASS=%d ", tt.models+3)) {
				t.Fatalf("dbt build: %v\n%s", err, out)
			}
			if len(w.served) < 3 || w.refused > 0 {
				t.Errorf("%d tokens were used, %d requests refused, want several and none", len(w.served), w.refused)
			}
			if !strings.Contains(out, "removed from the command's environment: ACTIONS_ID_TOKEN_REQUEST_TOKEN, ACTIONS_ID_TOKEN_REQUEST_URL, DATABRICKS_CLIENT_SECRET, DATABRICKS_TOKEN\n") {
				t.Errorf("what was taken away is not told:\n%s", out)
			}
			log, err := os.ReadFile(audit)
			if err != nil {
				t.Fatal(err)
			}
			if issued := strings.Count(string(log), `"outcome":"issued"`); issued < len(w.served) {
				t.Errorf("the audit log has %d credentials, %d were used", issued, len(w.served))
			}
			for token := range w.served {
				if strings.Contains(out+string(log), token) {
					t.Error("a token is in the output or the audit log")
				}
			}
		})
	}
}

// TestBuildWithoutTheBroker is the same build with a step's static token.
func TestBuildWithoutTheBroker(t *testing.T) {
	t.Parallel()
	w, issuer, dir, job := slow(t, "databricks", 8, 0)
	env, _ := setup.Authenticate(t, issuer, dir, job...)
	for _, v := range job {
		name, value, _ := strings.Cut(v, "=")
		if _, ok := env[name]; !ok {
			env[name] = value
		}
	}
	env["DATABRICKS_AUTH_TYPE"], env["DATABRICKS_CLIENT_SECRET"] = "", ""
	out, err := setup.DBT(t, setup.Python(t), dir, env, "build", "--threads", "1", "--fail-fast")
	if err == nil || !strings.Contains(out, "Invalid access token") || w.refused == 0 || len(w.served) > 1 {
		t.Errorf("dbt build: %v, %d tokens used, %d requests refused\n%s", err, len(w.served), w.refused, out)
	}
}

// TestSDKOutlivesItsTokens: databricks-sdk without dbt, as with a target that has no dbt block.
func TestSDKOutlivesItsTokens(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	g := givers["databricks"](t, issuer)
	t.Cleanup(g.tokens.Close)
	g.tokens.SetGrace(standin.Grace)
	w := &workspace{tokens: g.tokens, scope: g.scope, exchange: g.tokens.URL()}
	port, ca := start(t, w)
	dir := t.TempDir()
	setup.Write(t, dir, ".github/oidc-dbt.yml", strings.Replace(setup.Policy(issuer, "{}", atWorkspace(port)), "    dbt: {}\n", "", 1))
	script := setup.Write(t, dir, "me.py", "import time\nfrom databricks.sdk import WorkspaceClient\nw = WorkspaceClient()\nfor _ in range(16):\n    print(w.current_user.me().user_name)\n    time.sleep(1)\n")
	out, err := run(t, issuer, dir, trust(ca), nil, "python", script)
	if err != nil || strings.Count(out, "dbt@acme.example") != 16 {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(w.served) < 3 || w.refused > 0 {
		t.Errorf("%d tokens were used, %d requests refused, want several and none", len(w.served), w.refused)
	}
}

// me is the SCIM API's reply about the client's own user.
func me(rw http.ResponseWriter) {
	rw.Header().Set("Content-Type", "application/json")
	fmt.Fprint(rw, `{"userName": "dbt@acme.example"}`)
}
