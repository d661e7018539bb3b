//go:build e2e

package trino

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// tokenLife is the lifetime of the ID tokens in the runs below. Trino allows no
// clock skew, so that the machine must not stall for longer than the broker
// renews ahead.
const tokenLife = 9 * time.Second

// TestBroker runs several times longer than its token is valid. It has a server
// of its own, since the issuer's tokens expire soon.
func TestBroker(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	server := start(t, issuer)
	// Reading this table takes longer than a token is valid.
	for _, sql := range []string{
		"create schema if not exists memory.marts",
		"create table blackhole.default.slow (x bigint) with (split_count = 1, pages_per_split = 10, rows_per_page = 1, page_processing_delay = '1s')",
	} {
		if _, err := server.Query(t.Context(), user, issuer.Sign(audience, nil), sql); err != nil {
			t.Fatal(err)
		}
	}
	issuer.SetLife(tokenLife)
	token := authorizationServer(t, issuer)
	t.Run("at once", func(t *testing.T) {
		for _, tt := range []struct {
			provider, exchange string
			threads            int
		}{
			{"oidc", idTokens, 1},
			{"entra", fmt.Sprintf(`{entra: {tenant: acme.example, client_id: 11111111-2222-3333-4444-555555555555, scope: "api://trino/.default", authority: %q}}`, token), 8},
			{"token_exchange", fmt.Sprintf(`{token_exchange: {token_url: %q, grant: client_assertion, audience: "https://auth.example"}}`, token+"/acme.example/oauth2/v2.0/token"), 8},
		} {
			t.Run(fmt.Sprintf("%s, threads %d", tt.provider, tt.threads), func(t *testing.T) {
				t.Parallel()
				outlive(t, server, issuer, tt.provider, tt.exchange, tt.threads)
			})
		}
		t.Run("without", func(t *testing.T) {
			t.Parallel()
			without(t, server, issuer)
		})
	})
	t.Run("an identity that is lost", func(t *testing.T) { lost(t, server, issuer) })
}

const idTokens = "{oidc: {audience: " + audience + "}}"

// authorizationServer issues tokens for the server to a client that authenticates
// with an ID token, as Entra ID and others do. (RFC 7523 §2.2) Trino trusts one
// issuer, so that they are signed with that issuer's key. It returns the URL at
// which Entra ID's path starts.
func authorizationServer(t *testing.T, issuer *standin.Issuer) (url string) {
	t.Helper()
	host, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		wanted := map[bool]string{true: "api://AzureADTokenExchange", false: "https://auth.example"}[r.PostFormValue("scope") == "api://trino/.default"]
		if err := setup.VerifyLate(r.Context(), issuer, wanted, setup.Subject, r.PostFormValue("client_assertion"), standin.Grace); err != nil || r.PostFormValue("grant_type") != "client_credentials" {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": fmt.Sprint(err)})
			return
		}
		token := issuer.Sign(audience, map[string]any{"exp": time.Now().Add(tokenLife + standin.Grace).Unix()}) // later than the reply announces
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(tokenLife / time.Second)})
	}))
	return fmt.Sprintf("http://%s:%d", host, port)
}

// slowProject has a build that outlives several tokens, and each of its slow
// statements outlives one.
func slowProject(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer, schema, exchange string, threads int) (workspace string) {
	t.Helper()
	block := strings.NewReplacer("schema: marts", "schema: "+schema, "threads: 4", fmt.Sprintf("threads: %d", threads)).Replace(output(server, user))
	workspace = setup.Project(t, issuer, block, exchange)
	const slow = "select count(*) + %d as n from blackhole.default.slow"
	setup.Write(t, workspace, "models/slow.sql", "{{ config(materialized='table') }}\n"+fmt.Sprintf(slow, 0))
	setup.Write(t, workspace, "models/slower.sql", "{{ config(materialized='table') }}\n"+fmt.Sprintf(slow, 1)+" cross join {{ ref('slow') }}")
	for i := 2; i < threads; i++ { // these run concurrently
		setup.Write(t, workspace, fmt.Sprintf("models/slow%d.sql", i), "{{ config(materialized='table') }}\n"+fmt.Sprintf(slow, i))
	}
	return workspace
}

func outlive(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer, schema, exchange string, threads int) {
	workspace := slowProject(t, server, issuer, schema, exchange, threads)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", audit}, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
	if err != nil || !strings.Contains(out, "Completed successfully") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	setup.NoSecrets(t, issuer, "the output", out)
	rows, err := server.Query(t.Context(), user, issuer.Sign(audience, nil), "select n from memory."+schema+".slower")
	if err != nil || fmt.Sprint(rows) != "[[11]]" {
		t.Errorf("what dbt built: got %v, %v", rows, err)
	}
	log, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	// Each of two consecutive slow statements outlives the token with which it began.
	if issued := strings.Count(string(log), `"outcome":"issued"`); issued < 3 {
		t.Errorf("%d tokens were issued, want three or more:\n%s", issued, log)
	}
}

// without does the same run with the token in the profile.
func without(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer) {
	workspace := slowProject(t, server, issuer, "alone", idTokens, 1)
	env, _ := setup.Authenticate(t, issuer, workspace)
	if out, err := setup.DBT(t, setup.Python(t), workspace, environ(env), "build"); err == nil || !strings.Contains(out, "JWT expired ") {
		t.Errorf("dbt build without the broker: %v\n%s", err, out)
	}
}

// lost makes the job's next tokens say staging: they are verified and authorised
// like the first one, and dbt fails with the reason soon after the last valid
// token.
func lost(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer) {
	workspace := slowProject(t, server, issuer, "lost", idTokens, 1)
	cmd := setup.ExecCommand(t.Context(), t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build", "--select", "slow", "slower")
	out := &watched{words: "START sql table model lost.slow ", seen: sync.OnceValue(func() time.Time {
		claims := standin.GitHubClaims()
		claims["environment"], claims["sub"] = "staging", "repo:acme/analytics:environment:staging"
		issuer.SetClaims(claims)
		return time.Now()
	})}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	ended := time.Now()
	const words = `error 500: b'oidc-dbt: denied by policy: no rule of target "prod" matches "repo:acme/analytics:environment:staging"`
	if took := ended.Sub(out.seen()); err == nil || !strings.Contains(out.text.String(), words) || took > tokenLife+5*time.Minute {
		t.Errorf("dbt build ended with %v, %v after the identity had gone:\n%s", err, took, out.text.String())
	}
}

// watched keeps what is written, and calls seen each time the words appear.
type watched struct {
	words string
	seen  func() time.Time
	text  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if bytes.Contains(w.text.Bytes(), []byte(w.words)) {
		w.seen()
	}
	return n, err
}
