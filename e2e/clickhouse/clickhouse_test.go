//go:build e2e

// Package clickhouse runs a real dbt build on ClickHouse's own engine, behind a
// server that accepts bearer tokens as ClickHouse Cloud does. dbt-clickhouse
// cannot send one, so the broker's proxy does.
package clickhouse

import (
	"encoding/json"
	"errors"
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

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const (
	audience = "https://clickhouse.example"
	user     = "dbt-prod"
)

// A company has an identity provider that exchanges ID tokens for access tokens
// (RFC 7523 §2.2), and a ClickHouse that accepts these.
type company struct {
	github   *standin.Issuer
	provider *standin.Issuer // signs the access tokens
	life     time.Duration   // the announced lifetime of an access token: see standin.Grace
	password string          // the user's password, "" for none
	vault    *standin.Vault  // whose leases are accepted as logins, nil for none
	next     http.Handler    // ClickHouse, which trusts all clients

	mu      sync.Mutex
	served  map[string]int // requests by bearer
	refused []string
}

func (c *company) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	refuse := func(why error) {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": why.Error()})
	}
	if r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		refuse(errors.New("not a client that proves itself by an assertion"))
		return
	}
	if err := setup.Verify(r.Context(), c.github, c.provider.URL(), setup.Subject, r.PostFormValue("client_assertion")); err != nil {
		refuse(err)
		return
	}
	token := c.provider.Sign(audience, map[string]any{"sub": user, "exp": time.Now().Add(c.life + standin.Grace).Unix()})
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(c.life / time.Second)})
}

func (c *company) clickHouse(w http.ResponseWriter, r *http.Request) {
	err := errors.New("no login")
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if ok {
		err = setup.Verify(r.Context(), c.provider, audience, user, bearer)
	} else if name, password, ok := r.BasicAuth(); ok {
		bearer = name
		static := c.password != "" && name == user && password == c.password
		if err = nil; !static && (c.vault == nil || !c.vault.Login(name, password)) {
			err = errors.New("wrong user or password")
		}
	}
	c.mu.Lock()
	if err == nil {
		c.served[bearer]++
	} else {
		c.refused = append(c.refused, err.Error())
	}
	c.mu.Unlock()
	if err != nil {
		w.Header().Set("X-ClickHouse-Exception-Code", "516")
		http.Error(w, "Code: 516. DB::Exception: "+err.Error()+". (AUTHENTICATION_FAILED)", http.StatusForbidden)
		return
	}
	c.next.ServeHTTP(w, r)
}

func start(t *testing.T, life time.Duration) (c *company, tokenURL string, port int) {
	t.Helper()
	python, engine := setup.Python(t), setup.Port(t)
	setup.Start(t, engine, python.Environ(), python.Program("python"), "server.py", fmt.Sprint(engine), filepath.Join(t.TempDir(), "data"))
	c = &company{
		github: setup.Issuer(t), provider: setup.Issuer(t), life: life, served: map[string]int{},
		next: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", engine)}),
	}
	host, tokens := setup.Serve(t, http.HandlerFunc(c.token))
	_, port = setup.Serve(t, http.HandlerFunc(c.clickHouse))
	return c, fmt.Sprintf("http://%s:%d/token", host, tokens), port
}

// life is the announced lifetime of a token or lease in the runs that outlive
// several of them.
const life = 3 * time.Second

// slowProject has models that each take as long as a login is valid.
func slowProject(t *testing.T, c *company, port, threads int, exchange string) (workspace string) {
	t.Helper()
	workspace = setup.Project(t, c.github, fmt.Sprintf(`{type: clickhouse, host: 127.0.0.1, port: %d, schema: marts, threads: %d}`, port, threads), exchange)
	setup.Write(t, workspace, "models/slow.sql", "{{ config(materialized='table') }}\nselect sleep(3) as slept\n")
	setup.Write(t, workspace, "models/slower.sql", "{{ config(materialized='table') }}\nselect sleep(3) + slept as slept from {{ ref('slow') }}\n")
	setup.Write(t, workspace, "models/slowest.sql", "{{ config(materialized='table') }}\nselect sleep(3) + slept as slept from {{ ref('slower') }}\n")
	return workspace
}

// TestDbtBuild outlives its token, or its lease, several times over.
func TestDbtBuild(t *testing.T) {
	for _, tt := range setup.Few(2, []struct {
		name    string
		threads int
		lease   bool
	}{{"a token, 8 threads", 8, false}, {"a lease, 8 threads", 8, true}, {"a token, 1 thread", 1, false}, {"a lease, 1 thread", 1, true}}...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, tokenURL, port := start(t, life)
			exchange := fmt.Sprintf(`{token_exchange: {token_url: %q, grant: client_assertion, audience: %q}}`, tokenURL, c.provider.URL())
			if tt.lease {
				exchange = c.lend(t, life)
				c.vault.SetGrace(standin.Grace)
			}
			audit := filepath.Join(t.TempDir(), "audit.jsonl")
			out, err := setup.Exec(t, c.github, slowProject(t, c, port, tt.threads, exchange), []string{"--audit-log", audit}, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
			if err != nil || !strings.Contains(out, "Completed successfully") {
				t.Fatalf("dbt build: %v\n%s", err, out)
			}
			if len(c.served) < 3 || len(c.refused) > 0 {
				t.Errorf("%d logins were used, want several; refused: %q", len(c.served), c.refused)
			}
			for login := range c.served {
				if strings.Contains(out, login) {
					t.Error("a login is in the output")
				}
			}
			log, err := os.ReadFile(audit)
			if err != nil {
				t.Fatal(err)
			}
			if issued := strings.Count(string(log), `"outcome":"issued"`); issued < len(c.served) {
				t.Errorf("the audit log has %d credentials, %d were used:\n%s", issued, len(c.served), log)
			}
			if c.vault != nil && c.vault.Tokens() > 0 {
				t.Errorf("%d leases outlive the run", c.vault.Tokens())
			}
		})
	}
}

// TestWithoutTheBroker is the same run with the lease in the profile.
func TestWithoutTheBroker(t *testing.T) {
	t.Parallel()
	c, _, port := start(t, life)
	workspace := slowProject(t, c, port, 1, c.lend(t, life))
	env, _ := setup.Authenticate(t, c.github, workspace)
	if out, err := setup.DBT(t, setup.Python(t), workspace, env, "build"); err == nil || !strings.Contains(out, "wrong user or password") {
		t.Errorf("dbt build without the broker: %v\n%s", err, out)
	}
}

// lend starts a Vault that creates a ClickHouse user for each read, and returns
// the exchange block for it.
func (c *company) lend(t *testing.T, life time.Duration) (exchange string) {
	t.Helper()
	vault, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: c.github.URL(),
		Roles: map[string]standin.VaultRole{"dbt-prod": {
			BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"sub": {setup.Subject}}, Policies: []string{"database/creds/clickhouse"},
		}},
		Secrets: map[string]standin.VaultSecret{"database/creds/clickhouse": {TTL: life, MaxTTL: life}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vault.Close)
	c.vault = vault
	return fmt.Sprintf(`{vault: {address: %q, role: dbt-prod, audience: vault, secret: database/creds/clickhouse}}`, vault.URL())
}

// TestDbtBuildWithALogin gets user and password from a real OpenBao, in the
// profile and by the broker.
func TestDbtBuildWithALogin(t *testing.T) {
	t.Parallel()
	c, _, port := start(t, time.Minute)
	c.password = "correct-horse/battery&staple"
	exchange := setup.OpenBao(t).Static(t, c.github, map[string]any{"username": user, "password": c.password})
	workspace := setup.Project(t, c.github, fmt.Sprintf(`{type: clickhouse, host: 127.0.0.1, port: %d, schema: marts, threads: 2}`, port), exchange)
	env, _ := setup.Authenticate(t, c.github, workspace)
	setup.Build(t, setup.Python(t), c.github, workspace, env)
	if len(c.served) != 1 || len(c.refused) > 0 {
		t.Errorf("%d logins were used, want one; refused: %q", len(c.served), c.refused)
	}
	if out, err := setup.Exec(t, c.github, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build"); err != nil || !strings.Contains(out, "Completed successfully") || len(c.refused) > 0 {
		t.Errorf("dbt build by the broker: %v; refused: %q\n%s", err, c.refused, out)
	}
	env["DBT_ENV_SECRET_OIDC_PASSWORD"] = "another-password"
	if out, err := setup.DBT(t, setup.Python(t), workspace, env, "debug"); err == nil || !strings.Contains(out, "wrong user or password") {
		t.Errorf("dbt with another password: %v\n%s", err, out)
	}
}

// TestTheServerRefusesEachMutation: the tests prove only as much as the stand-in refuses.
func TestTheServerRefusesEachMutation(t *testing.T) {
	t.Parallel()
	c, _, port := start(t, time.Minute)
	for _, tt := range []struct {
		name, bearer string
		status       int
	}{
		{"good", c.provider.Sign(audience, map[string]any{"sub": user}), http.StatusOK},
		{"none", "", http.StatusForbidden},
		{"an ID token", c.github.Sign(audience, map[string]any{"sub": user}), http.StatusForbidden},
		{"another audience", c.provider.Sign("other", map[string]any{"sub": user}), http.StatusForbidden},
		{"another user", c.provider.Sign(audience, nil), http.StatusForbidden},
		{"another issuer", c.provider.Sign(audience, map[string]any{"sub": user, "iss": "https://issuer.example"}), http.StatusForbidden},
		{"expired", c.provider.Sign(audience, map[string]any{"sub": user, "exp": time.Now().Add(-time.Minute).Unix()}), http.StatusForbidden},
		{"another key", setup.Forge(t, c.provider, audience), http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/?query=select+1", port), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+tt.bearer)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("status is %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
}
