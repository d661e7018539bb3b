//go:build e2e && linux && amd64 && wide

package postgres

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestLoginsWaitForTheProvider: OpenBao is down when the user of three seconds
// has expired. dbt's next login waits, and succeeds when OpenBao is back.
func TestLoginsWaitForTheProvider(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	lendFor(t, bao, "3s", "3s")
	there, err := url.Parse(bao.URL)
	if err != nil {
		t.Fatal(err)
	}
	var down atomic.Bool
	var refused atomic.Int32
	passes := httputil.NewSingleHostReverseProxy(there)
	host, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			refused.Add(1)
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		passes.ServeHTTP(w, r)
	}))
	workspace := leased(t, issuer, &setup.OpenBaoServer{URL: fmt.Sprintf("http://%s:%d", host, port)}, server, "marts")
	want := sleeper(t, workspace, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	b := startBuild(ctx, t, issuer, workspace)
	b.until(t, "a statement that takes a while", func() bool { return len(server.SQL(t, sleeping)) > 0 })
	down.Store(true)
	// dbt is between two nodes, with a user that can no longer log in.
	b.until(t, "the user's end", func() bool {
		return len(server.SQL(t, "select usename from pg_stat_activity where usename like 'v-%' union all select rolname from pg_roles where rolname like 'v-%' and rolvaliduntil > now()")) == 0
	})
	met := refused.Load()
	b.until(t, "a login that waits", func() bool { return refused.Load() > met+1 })
	down.Store(false)
	err = <-b.ended
	out := b.out.String()
	if err != nil || !strings.Contains(out, want) { // whether it warns depends on which try meets the server again
		t.Fatalf("dbt build: %v, want %s\n%s", err, want, out)
	}
	bao.Gone(t, server)
}
