//go:build e2e && linux && amd64

package redshift

import (
	"fmt"
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

// bypasses are those that there are for Redshift: see e2e/postgres.
var bypasses = []string{
	"/* read */ drop table facts",
	"-- select 1\ndrop table facts",
	"(((delete from facts)))",
	"commit; drop table facts",
	"select 1; drop table facts",
	"select * into made from facts",
	"create table made as select 1 as n",
	"insert into facts select 2",
	"rows",
	"truncate facts",
	"explain analyze delete from facts",
	"prepare p as delete from facts",
	"unload ('select * from facts') to 's3://b/x' iam_role default",
	"copy facts from 's3://b/x' iam_role default",
	"call made()",
	"create external schema s from data catalog database 'd' iam_role default",
	"create or replace procedure made() as $$ begin drop table facts; end $$ language plpgsql",
	"create datashare made",
	"select set_config('search_path', 'x', false)",
	"set session authorization postgres",
	"grant all on facts to public",
	"alter user dbt password disable",
	"cancel 1",
	"vacuum facts",
	"\ufeffdrop table facts",
	`select 'a\'; drop table facts; --'; drop table facts`,
}

var reads = []string{
	"select 'drop table facts; --' as \"delete from\" /* insert */", "select n from facts", "with x as (select 1 as n) select * from x", "explain select n from facts",
}

// TestGuard has Redshift's driver send what is not a read: none of it changes
// anything, and the driver shows why. Under build it defines and writes.
func TestGuard(t *testing.T) {
	t.Parallel()
	server := setup.Postgres(t, false)
	server.SQL(t, fmt.Sprintf("create role dbt login password '%s'; grant create on schema public to dbt; set role dbt; create table facts as select 1 as n", server.Password))
	f := startFront(t, server, func(login) (string, string, error) { return "dbt", server.Password, nil })
	guarded := func(level guard.Level) func(statements ...string) []string {
		r := route.Route{Kind: route.Postgres, Upstream: route.Upstream{Host: "127.0.0.1", Port: f.Port, Database: "postgres", CAFile: f.CA}}
		c := credential.Credential{User: "dbt", Password: secret.New("p"), Expiry: time.Now().Add(time.Hour)}
		g := setup.Guard(t, r, c, statement.Redshift, level)
		return func(statements ...string) []string {
			return setup.SendBy(t, setup.Python(t), statements, []string{"PASSWORD=" + g.Address().Secret.Reveal()}, fmt.Sprint(g.Address().Port))
		}
	}
	state := func() string {
		return fmt.Sprint(server.SQL(t, "select (select string_agg(n::text, ',') from facts), string_agg(relname || coalesce(relacl::text, ''), ',' order by relname) from pg_class where relnamespace = 'public'::regnamespace"))
	}
	before, read := state(), guarded(guard.Read)
	for i, end := range read(bypasses...) {
		if !strings.Contains(end, `oidc-dbt: not allowed by the guard of target "prod"`) {
			t.Errorf("%s: %q", bypasses[i], end)
		}
	}
	if after := state(); after != before {
		t.Errorf("the server has %s, had %s", after, before)
	}
	for i, end := range read(reads...) {
		if end != "" {
			t.Errorf("%s: %q", reads[i], end)
		}
	}
	for i, end := range guarded(guard.Build)("create table made as select 1 as n", "rows", "drop table made", "grant all on facts to public") {
		if want := []string{"", "", "", "GRANT at byte 0 is of class grant, and `statements: build` admits read, session, write and define"}[i]; !strings.Contains(end, want) || want == "" && end != "" {
			t.Errorf("statement %d: %q, want %q", i, end, want)
		}
	}
	if got := fmt.Sprint(server.SQL(t, "select n from facts order by n")); got != "[[1] [2] [3]]" {
		t.Errorf("the table has %s", got)
	}
}
