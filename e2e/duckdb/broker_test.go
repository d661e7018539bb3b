//go:build e2e

package duckdb

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A lakeOfGoogle is a bucket of Cloud Storage behind a gateway that accepts
// valid tokens of the service account. slow is called for each object that is
// written, or looked at before it is read, and has "slow" in its name.
type lakeOfGoogle struct {
	google *standin.Google
	issuer *standin.Issuer
	port   int
	slow   func()

	mu      sync.Mutex
	served  map[string]int // requests by bearer
	refused atomic.Int32
}

// startLake starts one to write to, on an object store of S3's protocol:
// fake-gcs-server can only be read by the XML API.
func startLake(t *testing.T, change func(*standin.GoogleConfig)) *lakeOfGoogle {
	t.Helper()
	objects := s3mem.New()
	if err := objects.CreateBucket(context.Background(), "lake"); err != nil {
		t.Fatal(err)
	}
	return startLakeOn(t, unsigned(gofakes3.New(objects).Server()), http.MethodPut, change)
}

// startLakeOn starts one on a store, where requests with a method may be slow.
func startLakeOn(t *testing.T, store http.Handler, method string, change func(*standin.GoogleConfig)) *lakeOfGoogle {
	t.Helper()
	l := &lakeOfGoogle{issuer: setup.Issuer(t), served: map[string]int{}}
	config := standin.GoogleConfig{IssuerURL: l.issuer.URL(), Provider: setup.Pool, ServiceAccounts: map[string][]string{setup.ServiceAccount: {setup.Subject}}}
	change(&config)
	var err error
	if l.google, err = standin.StartGoogle(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.google.Close)
	if config.Life > 0 {
		l.google.SetGrace(standin.Grace)
	}
	_, l.port = setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token, live := l.google.Token(bearer); !live || token.Principal != setup.ServiceAccount {
			l.refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		l.mu.Lock()
		l.served[bearer]++
		l.mu.Unlock()
		if r.Method == method && strings.Contains(r.URL.Path, "slow") {
			l.slow()
		}
		store.ServeHTTP(w, r)
	}))
	return l
}

// empty is a project that has the bucket in its profile.
func (l *lakeOfGoogle) empty(t *testing.T, threads int) (workspace string) {
	t.Helper()
	return setup.Project(t, l.issuer,
		fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, threads: %d, secrets: [{type: gcs, endpoint: "127.0.0.1:%d", url_style: path, use_ssl: false}]}`, threads, l.port),
		fmt.Sprintf("{gcp: {workload_identity_provider: %s, sts_endpoint: %q, service_account: %s, iam_endpoint: %q}}", setup.Pool, l.google.URL(), setup.ServiceAccount, l.google.URL()))
}

// project has a chain of four models, each of which writes a slow object.
func (l *lakeOfGoogle) project(t *testing.T, threads int) (workspace string) {
	t.Helper()
	workspace = l.empty(t, threads)
	from := "{{ ref('raw_orders') }}"
	for n := range 4 {
		setup.Write(t, workspace, fmt.Sprintf("models/slow_%d.sql", n), fmt.Sprintf("{{ config(materialized='external', location='gs://lake/slow_%d.parquet') }}\nselect * from %s\n", n, from))
		setup.Write(t, workspace, fmt.Sprintf("models/wide_%d.sql", n), fmt.Sprintf("{{ config(materialized='external', location='gs://lake/wide_%d.parquet') }}\nselect * from {{ ref('raw_orders') }}\n", n))
		from = fmt.Sprintf("{{ ref('slow_%d') }}", n)
	}
	return workspace
}

// TestABuildOutlivesGooglesToken: each of the four slow objects takes as long as
// the announced lifetime of a token.
func TestABuildOutlivesGooglesToken(t *testing.T) {
	t.Parallel()
	for _, threads := range setup.Threads() {
		t.Run(fmt.Sprint(threads, " threads"), func(t *testing.T) {
			t.Parallel()
			const life = 2 * time.Second
			l := startLake(t, func(c *standin.GoogleConfig) { c.Life = life })
			l.slow = func() { time.Sleep(life) }
			// DuckDB would use the proxy of the environment, and then not reach loopback.
			out, err := setup.Exec(t, l.issuer, l.project(t, threads), nil, "env", "HTTP_PROXY=http://127.0.0.1:9", setup.Python(t).Program("dbt"), "--no-use-colors", "build")
			if err != nil || !strings.Contains(out, "Completed successfully") {
				t.Fatalf("dbt build: %v\n%s", err, out)
			}
			if refused := l.refused.Load(); len(l.served) < 3 || refused > 0 {
				t.Errorf("%d tokens were used, %d requests refused; want three at least, and none", len(l.served), refused)
			}
			for token := range l.served {
				if strings.Contains(out, token) {
					t.Error("an access token is in the output")
				}
			}
		})
	}
}

// TestGooglesTokenWithoutTheBroker: the same build with the step's static token
// fails when that has expired.
func TestGooglesTokenWithoutTheBroker(t *testing.T) {
	t.Parallel()
	clock := &clock{}
	l := startLake(t, func(c *standin.GoogleConfig) { c.Now = clock.now })
	l.slow = clock.forward
	workspace := l.project(t, 1)
	env, _ := setup.Authenticate(t, l.issuer, workspace)
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "build")
	if err == nil || len(l.served) != 1 || l.refused.Load() == 0 || !strings.Contains(out, "HTTP") {
		t.Errorf("dbt build with a token that expires on the way: %v\n%s", err, out)
	}
}
