//go:build e2e && wide

package clickhouse

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// TestLimits: the engine has the guard's limits with each request, and ends what
// goes beyond one, whatever the request asks for.
func TestLimits(t *testing.T) {
	t.Parallel()
	engine, _ := guarded(t)
	limited := func(level guard.Level, limits guard.Limits) *setup.Guarded {
		return setup.GuardBy(t, route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{Host: "127.0.0.1", Port: engine, Plain: true}},
			credential.Credential{User: user, Password: secret.New("p"), Expiry: time.Now().Add(time.Hour)},
			guard.Config{Dialect: statement.ClickHouse, Statements: level, Limits: limits})
	}
	const settings = "select getSetting('max_execution_time'), getSetting('max_bytes_to_read')"
	for _, level := range []guard.Level{guard.Read, guard.Any} {
		g := limited(level, guard.Limits{StatementTimeout: 2 * time.Hour, Scan: 1e6})
		for _, tt := range []struct{ query, sql, want string }{
			{"", settings, "7200\t1000000\n"},
			{"max_execution_time=0&MAX_BYTES_TO_READ=0&max_bytes_to_read=9000000000", settings, "7200\t1000000\n"},
			{"", "select sum(number) from numbers(10)", "45\n"},
			{"max_bytes_to_read=0", "select sum(number) from numbers(1000000000)", "TOO_MANY_BYTES"},
			{"", settings + " settings max_execution_time = 0", "SELECT at byte 0 changes max_execution_time, and the guard's `limits` are fixed"},
			{"", "select * from (select 1 settings `MAX_BYTES_TO_READ` = 0)", "changes max_bytes_to_read"},
		} {
			if got := ask(t, g, tt.query, tt.sql); !strings.Contains(got, tt.want) {
				t.Errorf("%s, %s, %s: got %s, want %s", level, tt.query, tt.sql, got, tt.want)
			}
		}
	}
	g := limited(guard.Build, guard.Limits{StatementTimeout: time.Second})
	if got := ask(t, g, "max_execution_time=0", "select count() from numbers(10000000000000) where not ignore(sipHash64(number))"); !strings.Contains(got, "TIMEOUT_EXCEEDED") {
		t.Errorf("an endless statement: %s", got)
	}
	g = limited(guard.Build, guard.Limits{StatementTimeout: 2 * time.Hour, Scan: 1e12})
	workspace, env := setup.GuardedProject(t, fmt.Sprintf("{type: clickhouse, host: 127.0.0.1, port: %d, user: dbt, password: %s, schema: marts, threads: 4, "+
		"custom_settings: {max_execution_time: 1, max_bytes_to_read: 1}}", g.Address().Port, g.Address().Secret.Reveal()))
	g.ExpectBuilt(t, workspace, env)
}

// ask sends a statement with parameters, and returns the reply or the error.
func ask(t *testing.T, g *setup.Guarded, query, sql string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/?%s", g.Address().Port, query), strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("dbt", g.Address().Secret.Reveal())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(reply)
}
