//go:build e2e

package sqlserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// life is the announced lifetime of access tokens and ID tokens.
const life = 4 * time.Second

// logins makes one process log in six times, while four tokens expire: after its
// login dbt debug queries a row, which the front does not have.
const logins = `import time
from dbt.cli.main import dbtRunner
for _ in range(6):
    dbtRunner().invoke(["--no-use-colors", "debug"])
    time.sleep(2.5)
`

// tenant starts a tenant of Entra ID whose access tokens expire soon, and a front
// that accepts them until grace after they expire, with a dbt project for an
// adapter. The front reports which tokens it accepted.
func tenant(t *testing.T, adapter string, grace time.Duration, exchange func(*standin.TokenService) string) (f *front, tokens *standin.TokenService, issuer *standin.Issuer, workspace string, used func() int) {
	t.Helper()
	issuer = setup.Issuer(t)
	issuer.SetLife(life)
	tokens, err := standin.StartEntra(standin.EntraConfig{Tenant: "acme.example", Resources: []string{resource}, Lifetime: life,
		Applications: map[string][]standin.FederatedCredential{application: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tokens.Close)
	tokens.SetGrace(grace)
	var mu sync.Mutex
	admitted := map[string]bool{}
	f = &front{admit: func(l login) error {
		if l.Database != "marts" || !tokens.Valid(l.Token, resource+"/.default") {
			return errRefused
		}
		mu.Lock()
		defer mu.Unlock()
		admitted[l.Token] = true
		return nil
	}}
	port := f.start(t)
	dbt := fmt.Sprintf(`{type: fabric, host: "127.0.0.1,%d", database: marts, schema: dbo, trust_cert: true, retries: 0}`, port)
	switch adapter {
	case "sqlserver by mssql-python":
		dbt = fmt.Sprintf(`{type: sqlserver, backend: mssql-python, host: 127.0.0.1, port: %d, database: marts, schema: dbo, trust_cert: true, retries: 0}`, port)
	case "sqlserver":
		dbt = fmt.Sprintf(`{type: sqlserver, driver: %q, host: 127.0.0.1, port: %d, database: marts, schema: dbo, trust_cert: true, retries: 0}`, driver(t), port)
	}
	workspace = setup.Project(t, issuer, dbt, exchange(tokens))
	setup.Write(t, workspace, "logins.py", logins)
	t.Setenv("LD_LIBRARY_PATH", libraries(t))
	return f, tokens, issuer, workspace, func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(admitted)
	}
}

// elsewhere makes oidc-dbt use the stand-in, as it would use a sovereign cloud.
func elsewhere(tokens *standin.TokenService) string {
	return fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s, authority: %q}}", application, tokens.URL())
}

// TestLoginsOutliveTheirTokens: azure-identity asks the broker as it would ask
// App Service.
func TestLoginsOutliveTheirTokens(t *testing.T) {
	for _, adapter := range setup.Few(2, "sqlserver", "fabric", "sqlserver by mssql-python") {
		t.Run(adapter, func(t *testing.T) {
			f, tokens, issuer, workspace, used := tenant(t, adapter, standin.Grace, elsewhere)
			audit := filepath.Join(t.TempDir(), "audit.jsonl")
			t.Setenv("IDENTITY_HEADER", "stale")
			t.Setenv("IDENTITY_SERVER_THUMBPRINT", "stale") // Service Fabric's
			out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", audit}, "python", "logins.py")
			if err != nil || f.logins < 6 || len(f.refused) > 0 || used() < 3 || strings.Count(out, "This server has no database.") < 6 {
				t.Fatalf("%v, %d logins with %d tokens, refused %q\n%s", err, f.logins, used(), f.refused, out)
			}
			log, err := os.ReadFile(audit)
			if err != nil {
				t.Fatal(err)
			}
			if issued := strings.Count(string(log), `"outcome":"issued"`); issued < used() {
				t.Errorf("the audit log has %d credentials, %d were used", issued, used())
			}
			for _, b := range tokens.Bearers() {
				if strings.Contains(out+string(log), b.Value) {
					t.Error("a token is in the output or the audit log")
				}
			}
		})
	}
}

// TestFederatedTokenURL: dbt-fabric fetches the ID token from the broker and
// exchanges it at Entra ID itself. Clients reach the stand-in by Entra ID's
// public name through a proxy.
func TestFederatedTokenURL(t *testing.T) {
	f, tokens, issuer, workspace, used := tenant(t, "fabric", standin.Grace, func(*standin.TokenService) string {
		return fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s}}", application)
	})
	l := publicAuthority(t, tokens)
	t.Setenv("HTTPS_PROXY", l.proxy)
	t.Setenv("REQUESTS_CA_BUNDLE", l.ca)
	t.Setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us") // of the job; not for this target
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", audit}, "python", "logins.py")
	if err != nil || f.logins < 6 || len(f.refused) > 0 || used() < 3 || strings.Count(out, "This server has no database.") < 6 {
		t.Fatalf("%v, %d logins with %d tokens, refused %q; Entra ID was asked for %q\n%s", err, f.logins, used(), f.refused, l.asked, out)
	}
	setup.NoSecrets(t, issuer, "dbt's output", out)
	log, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	if handed := strings.Count(string(log), `"credential_kind":"id_token"`); handed < used() {
		t.Errorf("the audit log has %d ID tokens, %d were exchanged:\n%s", handed, used(), log)
	}
}

// An authority is Entra ID at its public address: discovery and the tenant's
// token endpoint, behind a proxy that leads only there.
type authority struct {
	proxy, ca string
	mu        sync.Mutex
	asked     []string
}

func publicAuthority(t *testing.T, tokens *standin.TokenService) *authority {
	t.Helper()
	const host = "login.microsoftonline.com"
	a := &authority{}
	to, err := url.Parse(tokens.URL())
	if err != nil {
		t.Fatal(err)
	}
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /acme.example/oauth2/v2.0/token", httputil.NewSingleHostReverseProxy(to))
	mux.HandleFunc("GET /acme.example/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{
			"issuer": "https://" + host + "/acme.example/v2.0", "authorization_endpoint": "https://" + host + "/acme.example/oauth2/v2.0/authorize",
			"token_endpoint": "https://" + host + "/acme.example/oauth2/v2.0/token",
		})
	})
	mux.HandleFunc("GET /common/discovery/instance", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"tenant_discovery_endpoint": "https://" + host + "/acme.example/v2.0/.well-known/openid-configuration",
			"metadata": []any{map[string]any{"preferred_network": host, "preferred_cache": "login.windows.net", "aliases": []string{host, "login.windows.net"}}}})
	})
	behind, ca := setup.ServeTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked = append(a.asked, r.Method+" "+r.URL.Path)
		a.mu.Unlock()
		mux.ServeHTTP(w, r)
	}), host)
	a.ca = ca
	_, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != host+":443" {
			http.Error(w, "not this one", http.StatusForbidden)
			return
		}
		setup.Tunnel(w, r, behind)
	}))
	a.proxy = fmt.Sprintf("http://127.0.0.1:%d", port)
	return a
}
