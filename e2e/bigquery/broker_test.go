//go:build e2e

package bigquery

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// exchange returns the policy's block on Google for a principal.
func exchange(google *standin.Google, principal string) string {
	account := ""
	if principal != setup.Subject {
		account = fmt.Sprintf(", service_account: %s, iam_endpoint: %q", principal, google.URL())
	}
	return fmt.Sprintf("{gcp: {workload_identity_provider: %s, sts_endpoint: %q%s}}", setup.Pool, google.URL(), account)
}

// slowProject has a chain of four slow models, and four independent ones.
func slowProject(t *testing.T, w *warehouse, issuer *standin.Issuer, endpoint string, threads int) (workspace string) {
	t.Helper()
	workspace = setup.Project(t, issuer,
		fmt.Sprintf("{type: bigquery, project: acme-dbt, dataset: marts, location: EU, threads: %d, api_endpoint: %q}", threads, endpoint), exchange(w.google, w.principal))
	from := "{{ ref('customers') }}"
	for n := range 4 {
		setup.Write(t, workspace, fmt.Sprintf("models/slow_%d.sql", n), "select * from "+from+"\n")
		setup.Write(t, workspace, fmt.Sprintf("models/wide_%d.sql", n), "select * from {{ ref('customers') }}\n")
		from = fmt.Sprintf("{{ ref('slow_%d') }}", n)
	}
	return workspace
}

// TestABuildOutlivesItsToken: each of the four slow models takes as long as the
// announced lifetime of a token.
func TestABuildOutlivesItsToken(t *testing.T) {
	for _, tt := range setup.Few(1, []struct {
		principal string
		threads   int
	}{{setup.ServiceAccount, 8}, {setup.Subject, 8}, {setup.ServiceAccount, 1}, {setup.Subject, 1}}...) {
		t.Run(fmt.Sprintf("%s, %d threads", tt.principal, tt.threads), func(t *testing.T) {
			t.Parallel()
			const life = 2 * time.Second
			w, issuer, endpoint := start(t, tt.principal, func(c *standin.GoogleConfig) { c.Life = life })
			w.google.SetGrace(standin.Grace)
			w.slow = func() { time.Sleep(life) }
			workspace := slowProject(t, w, issuer, endpoint, tt.threads)
			audit := filepath.Join(t.TempDir(), "audit.jsonl")
			out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", audit}, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
			if err != nil || !strings.Contains(out, "Completed successfully") {
				t.Fatalf("dbt build: %v\n%s", err, out)
			}
			if len(w.served) < 4 || w.refused > 0 {
				t.Errorf("%d tokens were used, %d requests were refused; want four at least, and none", len(w.served), w.refused)
			}
			setup.NoSecrets(t, issuer, "dbt's output", out)
			for token := range w.served {
				if strings.Contains(out, token) {
					t.Error("an access token is in the output")
				}
			}
			log, err := os.ReadFile(audit)
			if err != nil {
				t.Fatal(err)
			}
			if issued := strings.Count(string(log), `"outcome":"issued"`); issued < len(w.served) {
				t.Errorf("the audit log has %d credentials, %d were used", issued, len(w.served))
			}
		})
	}
}

// TestWithoutTheBroker: the same build with the step's static token fails when
// that has expired.
func TestWithoutTheBroker(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	w, issuer, endpoint := start(t, setup.ServiceAccount, func(c *standin.GoogleConfig) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	w.slow = func() { ahead.Store(int64(61 * time.Minute)) }
	workspace := slowProject(t, w, issuer, endpoint, 1)
	env, _ := setup.Authenticate(t, issuer, workspace)
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "build")
	if err == nil || len(w.queries) == 0 || w.refused == 0 || !strings.Contains(out, "PASS=") || strings.Contains(out, "ERROR=0") {
		t.Errorf("dbt build with a token that expires after %d queries: %v\n%s", len(w.queries), err, out)
	}
}

// TestExchangesOfShortTokens: for each request google-auth fetches a new token
// if the lifetime is 225 s or less.
func TestExchangesOfShortTokens(t *testing.T) {
	t.Parallel()
	const calls = 50
	life := func(c *standin.GoogleConfig) { c.Life = 200 * time.Second }
	python := setup.Python(t).Program("python")
	script := filepath.Join(setup.Repository(t), "e2e", "bigquery", "calls.py")

	t.Run("by the broker, without dbt", func(t *testing.T) {
		t.Parallel()
		w, issuer, endpoint := start(t, setup.Subject, life)
		workspace := t.TempDir()
		setup.Write(t, workspace, ".github/oidc-dbt.yml", fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    exchange: %s\n    allow:\n      - %s\n",
			issuer.URL(), exchange(w.google, w.principal), setup.Rule))
		// Otherwise the resource manager would be asked for the project.
		out, err := setup.Exec(t, issuer, workspace, nil, "env", "GOOGLE_CLOUD_PROJECT=acme-dbt", python, script, endpoint, fmt.Sprint(calls))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if n := w.google.Exchanges(); n != 1 {
			t.Errorf("%d calls took %d exchanges, want one", calls, n)
		}
	})

	t.Run("by the runner and Google's service", func(t *testing.T) {
		t.Parallel()
		w, issuer, endpoint := start(t, setup.Subject, life)
		file, err := json.Marshal(map[string]any{
			"type": "external_account", "audience": "//iam.googleapis.com/" + setup.Pool,
			"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": w.google.URL() + "/v1/token",
			"credential_source": map[string]any{
				"url":     issuer.RequestURL() + "&audience=https://iam.googleapis.com/" + setup.Pool,
				"headers": map[string]string{"Authorization": "Bearer " + issuer.RequestToken()},
				"format":  map[string]string{"type": "json", "subject_token_field_name": "value"},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), python, script, endpoint, fmt.Sprint(calls))
		cmd.Env = append(setup.Python(t).Environ(), "GOOGLE_CLOUD_PROJECT=acme-dbt", "GOOGLE_APPLICATION_CREDENTIALS="+setup.Write(t, t.TempDir(), "adc.json", string(file)))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if n := w.google.Exchanges(); n != calls {
			t.Errorf("%d calls took %d exchanges, want as many", calls, n)
		}
	})
}
