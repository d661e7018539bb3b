//go:build e2e && linux && amd64

package engine2

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestGoogleCloudStorage: a build through the broker's proxy that outlives its
// tokens: each write takes as long as their announced lifetime.
func TestGoogleCloudStorage(t *testing.T) {
	t.Parallel()
	const life = 2 * time.Second
	e, issuer := start(t), setup.Issuer(t)
	google, err := standin.StartGoogle(standin.GoogleConfig{IssuerURL: issuer.URL(), Provider: setup.Pool, Life: life})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Close)
	google.SetGrace(standin.Grace)
	objects := s3mem.New()
	if err := objects.CreateBucket(context.Background(), "lake"); err != nil {
		t.Fatal(err)
	}
	store := gofakes3.New(objects).Server()
	var writes, refused atomic.Int32
	_, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, live := google.Token(bearer); !live {
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPut {
			writes.Add(1)
			time.Sleep(life)
		}
		r.Header.Del("Authorization") // the store would expect a signature
		store.ServeHTTP(w, r)
	}))
	workspace := setup.Project(t, issuer,
		fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, threads: 1, secrets: [{type: gcs, endpoint: "127.0.0.1:%d", url_style: path, use_ssl: false}]}`, port),
		fmt.Sprintf("{gcp: {workload_identity_provider: %s, sts_endpoint: %q}}", setup.Pool, google.URL()))
	before := "raw_orders" // a chain, so that the number of threads does not matter
	for n := range 4 {
		setup.Write(t, workspace, fmt.Sprintf("models/orders_%d.sql", n),
			fmt.Sprintf("{{ config(materialized='table', post_hook=\"copy (select * from {{ this }}) to 'gs://lake/orders_%d.parquet'\") }}\nselect * from {{ ref('%s') }}\n", n, before))
		before = fmt.Sprintf("orders_%d", n)
	}
	setup.Write(t, workspace, "models/read_back.sql", "{{ config(materialized='table') }}\n-- depends_on: {{ ref('orders_3') }}\nselect count(*) as orders from read_parquet('gs://lake/orders_*.parquet')\n")
	command := slices.Concat([]string{"env"}, e.variables(), []string{e.python.Program("dbt"), "build"})
	out, err := setup.Exec(t, issuer, workspace, nil, command...)
	if err != nil || !strings.Contains(out, "8 success") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	if writes.Load() < 4 || refused.Load() > 0 || google.Exchanges() < 3 {
		t.Errorf("%d writes, %d requests refused, %d exchanges; want four at least, none, and three at least", writes.Load(), refused.Load(), google.Exchanges())
	}
}
