//go:build e2e

package trino

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// A sent is a statement with the values that the driver binds.
type sent struct {
	SQL    string
	Values []any
}

// MarshalJSON makes it a pair.
func (s sent) MarshalJSON() ([]byte, error) { return json.Marshal([]any{s.SQL, s.Values}) }

// bypasses are those that there are for Trino: see e2e/postgres.
var bypasses = []sent{
	{"/* read */ drop table facts", nil},
	{"-- select\ndrop table facts", nil},
	{"((( delete from facts )))", nil},
	{"with x as (select 1 as n) select * from x; delete from facts", nil},
	{"create table made as select 1 as n", nil},
	{"insert into facts with x as (select 2 as n) select n from x", nil},
	{"explain analyze insert into facts values 2", nil},
	{"execute immediate 'insert into facts values 2'", nil},
	{"EXECUTE IMMEDIATE 'insert into facts values ?' USING 2", nil},
	{"execute immediate U&'insert into facts values 2'", nil},
	{"insert into facts values (?)", []any{2}},
	{"call system.runtime.kill_query('x', 'y')", nil},
	{"grant select on facts to user x", nil},
	{"set session authorization 'root'", nil},
	{"set role all in memory", nil},
	{"create view made as select 1 as n", nil},
	{"create schema memory.made", nil},
	{"alter table facts add column m bigint", nil},
	{"truncate table facts", nil},
	{"with function f() returns bigint return 1 select f()", nil},
	{"comment on table facts is 'made'", nil},
	{"analyze facts", nil},
	{"select 'a'' ' ; drop table facts -- '", nil},
	{"\ufeffdrop table facts", nil},
}

var reads = []sent{
	{"select 'drop table facts; --' as \"delete from\" /* insert */", nil},
	{"select n from facts where n = ?", []any{1}},
	{"with x as (select 1 as n) select * from x", nil},
	{"explain select * from facts", nil},
	{"show tables", nil},
	{"describe facts", nil},
	{"values 1, 2", nil},
	{"table facts", nil},
	{"select ?, ?", []any{"it's; drop", nil}},
}

// TestGuard has one server, which takes a quarter of a minute to start.
func TestGuard(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	server := start(t, issuer)
	query := func(t *testing.T, sql string) string {
		rows, err := server.Query(t.Context(), user, issuer.Sign(audience, nil), sql)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(rows)
	}
	query(t, "create schema if not exists memory.marts")
	query(t, "create table memory.marts.facts as select 1 as n")
	state := func(t *testing.T) string {
		return query(t, "select table_name, column_name from memory.information_schema.columns where table_schema not in ('information_schema') order by 1, 2") +
			query(t, "select n from memory.marts.facts") + query(t, "show schemas from memory") + query(t, "select comment from system.metadata.table_comments where catalog_name = 'memory' and comment is not null")
	}
	t.Run("bypasses", func(t *testing.T) {
		g := guarded(t, server, issuer, guard.Read)
		before := state(t)
		for _, legacy := range []string{"true", "false", "none"} {
			for i, end := range send(t, g, legacy, bypasses) {
				if !strings.Contains(end, `name=PERMISSION_DENIED, message="oidc-dbt: not allowed by the guard of target "prod"`) {
					t.Errorf("legacy %s, %s: %q", legacy, bypasses[i].SQL, end)
				}
			}
			for i, end := range send(t, g, legacy, reads) {
				if end != "" {
					t.Errorf("legacy %s, %s: %q", legacy, reads[i].SQL, end)
				}
			}
		}
		if after := state(t); after != before {
			t.Errorf("Trino has %s, had %s", after, before)
		}
	})
	t.Run("dbt", func(t *testing.T) {
		project := func(g *setup.Guarded) (string, map[string]string) {
			return setup.GuardedProject(t, fmt.Sprintf("{type: trino, method: jwt, jwt_token: %s, host: 127.0.0.1, port: %d, user: %q, database: memory, schema: marts, threads: 4, cert: %q}",
				g.Address().Secret.Reveal(), g.Address().Port, user, g.Address().CAFile))
		}
		g := guarded(t, server, issuer, guard.Build)
		workspace, env := project(g)
		// The memory connector has no DELETE, which a unique key needs.
		setup.Write(t, workspace, "models/growing.sql", "{{ config(materialized='incremental') }}\nselect * from {{ ref('raw_orders') }}\n")
		g.ExpectBuilt(t, workspace, env)
		before := state(t)
		g = guarded(t, server, issuer, guard.Read)
		workspace, env = project(g)
		g.ExpectRead(t, workspace, env)
		if after := state(t); after != before {
			t.Errorf("Trino has %s, had %s", after, before)
		}
	})
	t.Run("halt", func(t *testing.T) {
		query(t, "create table blackhole.default.endless (x bigint) with (split_count = 1, pages_per_split = 100000, rows_per_page = 1, page_processing_delay = '1s')")
		g := guarded(t, server, issuer, guard.Read)
		running := func() string {
			return query(t, "select count(*) from system.runtime.queries where state not in ('FINISHED', 'FAILED') and query like '%blackhole.default.endless%' and query not like '%runtime.queries%'")
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { send(t, g, "true", []sent{{"select count(*) from blackhole.default.endless", nil}}) })
		}
		for running() != "[[4]]" {
			time.Sleep(50 * time.Millisecond)
		}
		began := time.Now()
		g.Halt(errors.New("the run was ended"))
		for running() != "[[0]]" {
			if time.Since(began) > 2*time.Second {
				t.Fatalf("after %s Trino still runs %s", time.Since(began), running())
			}
		}
		all.Wait()
		if end := send(t, g, "true", []sent{{"select 1", nil}})[0]; !strings.Contains(end, "oidc-dbt: the run was ended") {
			t.Errorf("the next statement: %s", end)
		}
	})
}

func guarded(t *testing.T, server *setup.TrinoServer, issuer *standin.Issuer, level guard.Level, also ...statement.Class) *setup.Guarded {
	t.Helper()
	r := route.Route{Kind: route.Trino, Upstream: route.Upstream{Host: server.Host, Port: server.Port, CAFile: server.CA}}
	end := time.Now().Add(12 * time.Hour) // no run is that long, and nothing here is about renewals
	token := issuer.Sign(audience, map[string]any{"exp": end.Unix()})
	return setup.GuardBy(t, r, credential.Credential{Token: secret.New(token), Expiry: end},
		guard.Config{Dialect: statement.Trino, Statements: level, Also: also, Users: []string{user}})
}

// send sends statements by Trino's driver, and returns what became of them.
func send(t *testing.T, g *setup.Guarded, legacy string, statements []sent) (ends []string) {
	t.Helper()
	return setup.SendBy(t, setup.Python(t), statements, []string{"TOKEN=" + g.Address().Secret.Reveal(), "REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE="},
		fmt.Sprint(g.Address().Port), g.Address().CAFile, legacy)
}
