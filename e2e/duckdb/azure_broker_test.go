//go:build e2e

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

// azureLake starts Entra ID and an account of Azure Storage, where writing a
// blob with "slow" in its name takes as long as a token is valid. Tokens are
// accepted until grace after they expire. used returns how many were sent.
func azureLake(t *testing.T, grace time.Duration) (d *gateway, issuer *standin.Issuer, workspace string, used func() int) {
	t.Helper()
	const application, resource = "66666666-7777-8888-9999-000000000000", "https://storage.azure.com"
	issuer = setup.Issuer(t)
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant: "acme.onmicrosoft.com", Resources: []string{resource}, Lifetime: azureLife,
		Applications: map[string][]standin.FederatedCredential{application: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	entra.SetGrace(grace)
	var mu sync.Mutex
	shown := map[string]bool{}
	store := &blobStore{blobs: map[string][]byte{}, blocks: map[string][]byte{}}
	d = &gateway{
		let: func(bearer string) bool {
			ok := entra.Valid(bearer, resource+"/.default")
			mu.Lock()
			defer mu.Unlock()
			shown[bearer] = shown[bearer] || ok
			return ok
		},
		next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "slow") && r.URL.Query().Get("comp") != "blocklist" {
				time.Sleep(azureLife)
			}
			store.ServeHTTP(w, r)
		}),
	}
	ca, key := setup.Certificate(t, "acmelake.localhost")
	port := serveTLS(t, d, key)
	t.Setenv("CURL_CA_INFO", ca)
	workspace = setup.Project(t, issuer, fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, secrets: [{type: azure, account_name: acmelake, endpoint: "localhost:%d"}]}`, port),
		fmt.Sprintf("{entra: {tenant: acme.onmicrosoft.com, client_id: %s, authority: %q}}", application, entra.URL()))
	from := "{{ ref('raw_orders') }}"
	for n := range 3 {
		setup.Write(t, workspace, fmt.Sprintf("models/slow_%d.sql", n), fmt.Sprintf("{{ config(materialized='external', location='az://lake/slow_%d.parquet') }}\nselect * from %s\n", n, from))
		from = fmt.Sprintf("{{ ref('slow_%d') }}", n)
	}
	return d, issuer, workspace, func() int {
		mu.Lock()
		defer mu.Unlock()
		delete(shown, "") // requests without a token, all refused
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
	for _, threads := range []int{1, 8} {
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
