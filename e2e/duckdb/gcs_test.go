//go:build e2e

// Package duckdb runs a real `dbt build` through dbt-duckdb against stores that demand the exchanged access token.
package duckdb

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A clock is a stand-in's: the machine's, which tests can advance.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// forward advances it by more than tokens live.
func (c *clock) forward() { c.ahead.Add(int64(61 * time.Minute)) }

// A gateway counts requests, and passes those to a store that have a valid token
// for it.
type gateway struct {
	next        http.Handler
	let         func(bearer string) bool
	in, refused atomic.Int32
}

func (d *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !d.let(bearer) {
		d.refused.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	d.in.Add(1)
	d.next.ServeHTTP(w, r)
}

// unsigned passes requests on without their login, to a store that would expect a
// signature.
func unsigned(store http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Authorization")
		store.ServeHTTP(w, r)
	})
}

// lake adds models that write an object and read it back.
func lake(t *testing.T, workspace, location string) {
	t.Helper()
	setup.Write(t, workspace, "models/orders.sql", fmt.Sprintf("{{ config(materialized='external', location='%s') }}\nselect * from {{ ref('raw_orders') }}\n", location))
	setup.Write(t, workspace, "models/read_back.sql", fmt.Sprintf("-- depends_on: {{ ref('orders') }}\nselect count(*) as orders from read_parquet('%s')\n", location))
}

// TestGoogleCloudStorage: the gateway is Cloud Storage's XML API, which accepts
// tokens of the service account with its scope.
func TestGoogleCloudStorage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, principal, account, scope string }{
		{"direct", setup.Subject, "", "https://www.googleapis.com/auth/cloud-platform"},
		{"through a service account", setup.ServiceAccount, ", service_account: " + setup.ServiceAccount + ", iam_endpoint: $GOOGLE", "https://www.googleapis.com/auth/devstorage.read_write"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuer, clock := setup.Issuer(t), &clock{}
			google, err := standin.StartGoogle(standin.GoogleConfig{
				IssuerURL: issuer.URL(), Provider: setup.Pool, ServiceAccounts: map[string][]string{setup.ServiceAccount: {setup.Subject}}, Now: clock.now,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(google.Close)
			objects := s3mem.New()
			if err := objects.CreateBucket(context.Background(), "lake"); err != nil {
				t.Fatal(err)
			}
			d := &gateway{next: unsigned(gofakes3.New(objects).Server()), let: func(bearer string) bool {
				token, live := google.Token(bearer)
				return live && token.Principal == tt.principal && strings.Join(token.Scopes, " ") == tt.scope
			}}
			host, port := setup.Serve(t, d)
			workspace := setup.Project(t, issuer,
				fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, secrets: [{type: gcs, endpoint: "%s:%d", url_style: path, use_ssl: false}]}`, host, port),
				strings.ReplaceAll("{gcp: {workload_identity_provider: "+setup.Pool+", sts_endpoint: $GOOGLE"+tt.account+"}}", "$GOOGLE", fmt.Sprintf("%q", google.URL())))
			lake(t, workspace, "gs://lake/orders.parquet")
			env, _ := setup.Authenticate(t, issuer, workspace)
			setup.Build(t, setup.Python(t), issuer, workspace, env)
			if _, err := objects.HeadObject(context.Background(), "lake", "orders.parquet"); err != nil {
				t.Errorf("the object is not there: %v", err)
			}
			if in, refused := d.in.Load(), d.refused.Load(); in == 0 || refused > 0 {
				t.Errorf("%d requests, %d refusals; want some and none", in, refused)
			}
			expectRefused(t, workspace, env, "ya29.made-up", d)
			clock.forward()
			expectRefused(t, workspace, env, env["DBT_ENV_SECRET_OIDC_TOKEN"], d)
		})
	}
}

// expectRefused reads the object with a token that the store must refuse.
func expectRefused(t *testing.T, workspace string, env map[string]string, token string, d *gateway) {
	t.Helper()
	before, in := d.refused.Load(), d.in.Load()
	env["DBT_ENV_SECRET_OIDC_TOKEN"] = token
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "build", "--select", "read_back")
	if err == nil || d.refused.Load() == before || d.in.Load() > in {
		t.Errorf("dbt with a token that must be refused: %v\n%s", err, out)
	}
}
