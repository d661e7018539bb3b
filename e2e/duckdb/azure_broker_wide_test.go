//go:build e2e && wide

package duckdb

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// azureLife is the announced lifetime of an access token.
const azureLife = 4 * time.Second

// azureLake starts Entra ID and Azurite behind a front, where writing a blob with
// "slow" in its name takes as long as a token is valid. Tokens are accepted until
// grace after they expire. used returns how many were sent.
func azureLake(t *testing.T, grace time.Duration) (d front, issuer *standin.Issuer, workspace string, used func() int) {
	t.Helper()
	issuer = setup.Issuer(t)
	a := startTenant(t, issuer, azureLife, grace)
	a.SetGrace(grace)
	var mu sync.Mutex
	shown := map[string]bool{}
	admits := a.admits(time.Now)
	d = newFront(t, startAzurite(t, a), func(bearer string) bool {
		ok := admits(bearer)
		mu.Lock()
		defer mu.Unlock()
		shown[bearer] = shown[bearer] || ok
		return ok
	}, func(r *http.Request) {
		slow := strings.Contains(r.URL.Path, "slow") && r.URL.Query().Get("comp") != "blocklist"
		if r.Method == http.MethodPut && slow {
			time.Sleep(azureLife) // Azurite has looked at the token
		}
	})
	t.Setenv("CURL_CA_INFO", d.ca)
	workspace = setup.Project(t, issuer, lakeBlock(d.port), a.exchange(""))
	from := "{{ ref('raw_orders') }}"
	for n := range 3 {
		setup.Write(t, workspace, fmt.Sprintf("models/slow_%d.sql", n), fmt.Sprintf("{{ config(materialized='external', location='az://lake/slow_%d.parquet') }}\nselect * from %s\n", n, from))
		from = fmt.Sprintf("{{ ref('slow_%d') }}", n)
	}
	return d, issuer, workspace, func() int {
		mu.Lock()
		defer mu.Unlock()
		good := 0
		for _, ok := range shown {
			if ok {
				good++
			}
		}
		return good
	}
}

// TestABuildOutlivesEntrasToken: DuckDB asks the broker as it would ask App
// Service, and not through the job's proxy, which does not exist here.
func TestABuildOutlivesEntrasToken(t *testing.T) {
	for _, threads := range setup.Threads() {
		t.Run(fmt.Sprintf("%d threads", threads), func(t *testing.T) {
			d, issuer, workspace, used := azureLake(t, standin.Grace)
			t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
			t.Setenv("NO_PROXY", "localhost")
			out, err := setup.Exec(t, issuer, workspace, nil, "dbt", "--no-use-colors", "build", "--threads", fmt.Sprint(threads))
			if err != nil || !strings.Contains(out, "Completed successfully") {
				t.Fatalf("dbt build: %v, %d requests, %d refused\n%s", err, d.in.Load(), d.refused.Load(), out)
			}
			if used() < 3 || d.refused.Load() > 0 {
				t.Errorf("%d tokens were used, %d requests refused, want several and none", used(), d.refused.Load())
			}
			setup.NoSecrets(t, issuer, "dbt's output", out)
		})
	}
}

// TestEntrasTokenWithoutTheBroker is the same build with a step's static token.
func TestEntrasTokenWithoutTheBroker(t *testing.T) {
	d, issuer, workspace, used := azureLake(t, 0)
	env, _ := setup.Authenticate(t, issuer, workspace)
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "build", "--threads", "1", "--fail-fast")
	if err == nil || d.refused.Load() == 0 || used() > 1 {
		t.Errorf("dbt build: %v, %d tokens used, %d requests refused\n%s", err, used(), d.refused.Load(), out)
	}
}
