package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// benchSQL is about a kilobyte, as dbt sends it.
var benchSQL = "/* {\"app\": \"dbt\", \"node_id\": \"model.shop.orders\"} */\ncreate table marts.orders__dbt_tmp as (\n" +
	"    with o as (select order_id, customer, sum(amount) as total from raw.orders where status <> 'it''s void' group by 1, 2)\n" +
	"    select * from o " + strings.Repeat("left join raw.customers using (customer) -- each of them\n", 14) + ")"

// guardedPair starts a proxy without a guard, and the same one with one.
func guardedPair(b *testing.B, r route.Route, d statement.Dialect, level guard.Level, changes ...func(*broker.Config)) (without, with *broker.Broker) {
	changes = append(changes, func(c *broker.Config) { c.Dir = b.TempDir() })
	without = start(b, r, changes...)
	return without, start(b, r, append(changes, func(c *broker.Config) {
		c.Guard = guard.New(guard.Config{Dialect: d, Statements: level, Record: func(guard.Entry) error { return nil }})
	})...)
}

// BenchmarkPostgresGuard compares the proxy without and with a guard, in one run.
func BenchmarkPostgresGuard(b *testing.B) {
	server := startPostgres(b, askSCRAM("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), "127.0.0.1")
	without, with := guardedPair(b, pgRoute(server), statement.Postgres, guard.Any, pgCredential)
	way := func(p *broker.Broker) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d user=dbt password=%s database=analytics sslmode=disable", p.Address().Port, p.Address().Secret.Reveal())
	}
	compare(b, "PostgreSQL, 64 sessions of 1,000 round trips", roundTrips(b, way(without), 64), roundTrips(b, way(with), 64))
	text := bytes.Repeat(append(bytes.Repeat([]byte{'z'}, 99), '\n'), 1_000_000)
	for _, work := range []string{"rows 1000000", "copy in"} {
		do := func(p *broker.Broker) func(b *testing.B) {
			conn := pgLogIn(b, way(p))
			b.Cleanup(func() { conn.Close(context.Background()) })
			return func(b *testing.B) {
				err := error(nil)
				if work == "copy in" {
					_, err = conn.CopyFrom(context.Background(), bytes.NewReader(text), work)
				} else {
					err = readAll(conn, work)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		compare(b, "PostgreSQL, "+work, do(without), do(with))
	}
}

// BenchmarkSnowflakeGuard compares the proxy without and with a guard, in one run.
func BenchmarkSnowflakeGuard(b *testing.B) {
	_, r := startSnowflake(b)
	without, with := guardedPair(b, r, statement.Snowflake, guard.Build, idToken)
	ask := func(p *broker.Broker) func(b *testing.B) {
		session, _ := logIn(b, p)
		body, _ := json.Marshal(map[string]any{"sqlText": benchSQL, "asyncExec": false})
		return func(b *testing.B) {
			for range 200 {
				postSnowflake(b, http.DefaultClient, "http://"+address(p)+"/queries/v1/query-request?requestId=1", session, body)
			}
		}
	}
	compare(b, "Snowflake, 200 statements", ask(without), ask(with))
}

// BenchmarkHTTPGuard compares the proxies of Trino and ClickHouse without and
// with a guard, in one run, at a server that answers at once and at one that
// takes a few milliseconds, as the fastest real ones do.
func BenchmarkHTTPGuard(b *testing.B) {
	for _, takes := range []time.Duration{0, 3 * time.Millisecond} {
		benchHTTPGuard(b, takes)
	}
}

func benchHTTPGuard(b *testing.B, takes time.Duration) {
	answer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(takes)
		_, _ = io.WriteString(w, `{"id":"q"}`)
	}))
	b.Cleanup(answer.Close)
	post := func(p *broker.Broker, target string, login func(*http.Request)) func(b *testing.B) {
		scheme, client := "http://", &http.Client{Transport: &http.Transport{}}
		if p.Address().CAFile != "" {
			scheme, client = "https://", trusting(b, p)
		}
		return func(b *testing.B) {
			for range 200 {
				req, err := http.NewRequest(http.MethodPost, scheme+address(p)+target, strings.NewReader(benchSQL))
				if err != nil {
					b.Fatal(err)
				}
				login(req)
				resp, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					b.Fatal(resp.Status)
				}
			}
		}
	}
	for _, tt := range []struct {
		name, target string
		kind         route.Kind
		dialect      statement.Dialect
	}{{"Trino", "/v1/statement", route.Trino, statement.Trino}, {"ClickHouse", "/", route.ClickHouse, statement.ClickHouse}} {
		without, with := guardedPair(b, route.Route{Kind: tt.kind, Upstream: upstreamOf(b, answer)}, tt.dialect, guard.Any)
		login := func(p *broker.Broker) func(*http.Request) {
			return func(r *http.Request) {
				if r.Header.Set("Authorization", "Bearer "+p.Address().Secret.Reveal()); tt.kind == route.ClickHouse {
					r.SetBasicAuth("dbt", p.Address().Secret.Reveal())
				}
			}
		}
		compare(b, fmt.Sprintf("%s, 200 statements of %s", tt.name, takes), post(without, tt.target, login(without)), post(with, tt.target, login(with)))
	}
}
