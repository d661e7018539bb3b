//go:build e2e && linux && amd64

// Package postgres runs a real PostgreSQL: on its own, with passwords checked as the clouds' services do, and with
// OpenBao, which creates users in it.
package postgres

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

func TestServer(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprint("tls ", tls), func(t *testing.T) {
			t.Parallel()
			server := setup.Postgres(t, tls)
			if diff := cmp.Diff([][]string{{"18.4", fmt.Sprint(tls)}}, server.SQL(t, "select current_setting('server_version'), ssl::text from pg_stat_ssl where pid = pg_backend_pid()")); diff != "" {
				t.Errorf("version and encryption (-want +got):\n%s", diff)
			}
			_, err := server.Connect(t.Context(), server.User, "wrong")
			if err == nil || !strings.Contains(err.Error(), `password authentication failed for user "postgres" (SQLSTATE 28P01)`) {
				t.Errorf("login with a wrong password: %v", err)
			}
			if !tls {
				return
			}
			_, err = pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s:%s@%s:%d/postgres?sslmode=disable", server.User, server.Password, server.Host, server.Port))
			if err == nil || !strings.Contains(err.Error(), "no encryption (SQLSTATE 28000)") {
				t.Errorf("login without TLS: %v", err)
			}
		})
	}
}
