//go:build e2e && linux && amd64

package engine2

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestS3: a build through the broker's proxy that outlives its sessions: each
// write takes as long as their announced lifetime.
func TestS3(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second
	e, issuer := start(t), setup.Issuer(t)
	sts := setup.STSOf(t, issuer, life)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	next, err := url.Parse(store.URL())
	if err != nil {
		t.Fatal(err)
	}
	passed := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(next)
		p.Out.Host = p.In.Host // the signature covers it
	}}
	_, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed.ServeHTTP(w, r)
		if r.Method == http.MethodPut {
			time.Sleep(life)
		}
	}))
	workspace := setup.Project(t, issuer,
		fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, threads: 1, secrets: [{type: s3, endpoint: "127.0.0.1:%d", url_style: path, use_ssl: false}]}`, port),
		fmt.Sprintf(`{aws: {role: %q, region: eu-central-1, endpoint: %q}}`, setup.Role, sts.URL()))
	before := "raw_orders"
	for n := range 4 {
		setup.Write(t, workspace, fmt.Sprintf("models/orders_%d.sql", n),
			fmt.Sprintf("{{ config(materialized='table', post_hook=\"copy (select * from {{ this }}) to 's3://lake/orders_%d.parquet'\") }}\nselect * from {{ ref('%s') }}\n", n, before))
		before = fmt.Sprintf("orders_%d", n)
	}
	setup.Write(t, workspace, "models/read_back.sql", "{{ config(materialized='table') }}\n-- depends_on: {{ ref('orders_3') }}\nselect count(*) as orders from read_parquet('s3://lake/orders_*.parquet')\n")
	command := slices.Concat([]string{"env"}, e.variables(), []string{e.python.Program("dbt"), "build"})
	out, err := setup.Exec(t, issuer, workspace, nil, command...)
	if err != nil || !strings.Contains(out, "8 success") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	if puts := store.Served(http.MethodPut); puts < 4 || store.Refused() > 0 || store.Used() < 3 {
		t.Errorf("%d writes, %d requests refused, %d sessions; want four at least, none, and three at least", puts, store.Refused(), store.Used())
	}
}
