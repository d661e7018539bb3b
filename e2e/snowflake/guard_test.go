//go:build e2e

package snowflake

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
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

// A sent is a statement, and how the connector sends it: as so many, or in
// another way.
type sent struct {
	SQL string
	How any
}

// MarshalJSON makes it a pair.
func (s sent) MarshalJSON() ([]byte, error) { return json.Marshal([]any{s.SQL, s.How}) }

// bypasses are those that there are for Snowflake: see e2e/postgres.
var bypasses = []sent{
	{"/* read */ drop table facts", 1},
	{"// select\ndrop table facts", 1},
	{"-- select\ndrop table facts", 1},
	{"(((delete from facts)))", 1},
	{"select 1; drop table facts", 0},
	{"select 1; drop table facts", 2},
	{"select 1; drop table facts", 1},
	{"commit; drop table facts", 0},
	{"select 1 ->> delete from facts", 1},
	{"show tables ->> select 1 from $1 ->> drop table facts", 1},
	{"execute immediate 'drop table facts'", 1},
	{"execute immediate $$drop table facts$$", 1},
	{"begin drop table facts; end", 1},
	{"declare x int; begin delete from facts; end", 1},
	{"call system$wait(1)", 1},
	{"with p as procedure () returns int language sql as 'begin return 1; end' call p()", 1},
	{"create table made as select 1 as n", 1},
	{"create or replace view made as select 1 as n", 1},
	{"insert all into facts select 1", 1},
	{"merge into facts using facts f on false when not matched then insert values (1)", 1},
	{"put file:///etc/passwd @~", 1},
	{"get @~/x file:///tmp", 1},
	{"list @~", 1},
	{"copy into @~/x from facts", 1},
	{"select system$cancel_all_queries(1)", 1},
	{"use role accountadmin", 1},
	{"grant select on facts to role public", 1},
	{"alter session set multi_statement_count = 0", 1},
	{"alter account set timezone = 'UTC'", 1},
	{"create network policy p allowed_ip_list = ('0.0.0.0/0')", 1},
	{`select 'a\'; drop table facts; --'; drop table facts`, 0},
	{"select $$ $$; drop table facts; select $$ $$", 0},
	{"\ufeffdrop table facts", 1},
	{"drop table facts", "async"},
	{"drop table facts", "describe"},
	{"select 1", "ast"},
}

var reads = []sent{
	{"select 'drop table facts; --' as \"delete from\" /* insert */", 1},
	{"with x as (select 1 as n) select * from x", 1},
	{"select n from facts", 1},
	{"select $$ drop table facts; $$ as n", 1},
	{"describe table facts", 1},
}

func guarded(t *testing.T, issuer *standin.Issuer, port int, level guard.Level, also ...statement.Class) *setup.Guarded {
	t.Helper()
	r := route.Route{Kind: route.Snowflake, Upstream: route.Upstream{Host: "127.0.0.1", Port: port, Plain: true, Account: "acme-prod"}}
	end := time.Now().Add(12 * time.Hour) // no run is that long, and nothing here is about renewals
	token := issuer.Sign("snowflakecomputing.com", map[string]any{"exp": end.Unix()})
	c := credential.Credential{Kind: credential.IDToken, Token: secret.New(token), Expiry: end}
	config := guard.Config{Dialect: statement.Snowflake, Statements: level, Also: also, Roles: []string{"TRANSFORMER"}}
	return setup.GuardBy(t, r, c, config)
}

// TestGuard has the connector send what is not a read, in each of its ways: none
// of it arrives. dbt builds under build, and reads under read.
func TestGuard(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	s, port := start(t, issuer, nil)
	profile := func(g *setup.Guarded) (string, map[string]string) {
		return setup.GuardedProject(t, strings.Replace(block(g.Address().Port), "user: DBT_PROD", "user: DBT_PROD, authenticator: jwt, token: "+g.Address().Secret.Reveal(), 1))
	}
	builder := guarded(t, issuer, port, guard.Build)
	workspace, env := profile(builder)
	// fakesnow does not answer for temporary views, which the second build of an incremental model has.
	setup.Write(t, workspace, "models/growing.sql", "{{ config(materialized='table') }}\nselect * from {{ ref('raw_orders') }}\n")
	builder.ExpectBuilt(t, workspace, env)
	for i, end := range send(t, builder, []sent{{"create table facts as select 1 as n", 1}}) {
		if end != "" {
			t.Fatal(i, end)
		}
	}

	var arrived []string
	next := s.next
	s.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/queries/v1/query-request" {
			arrived = append(arrived, r.URL.RawQuery)
		}
		next.ServeHTTP(w, r)
	})
	reader := guarded(t, issuer, port, guard.Read)
	for i, end := range send(t, reader, bypasses) {
		if !strings.HasPrefix(end, "ProgrammingError 42501: 003001") || !strings.Contains(end, `oidc-dbt: not allowed by the guard of target "prod"`) {
			t.Errorf("%s (%v): %q", bypasses[i].SQL, bypasses[i].How, end)
		}
	}
	if len(arrived) > 0 {
		t.Errorf("%d statements arrived", len(arrived))
	}
	for i, end := range send(t, reader, reads) {
		if end != "" {
			t.Errorf("%s: %q", reads[i].SQL, end)
		}
	}
	reader.Denied()
	workspace, env = profile(reader)
	reader.ExpectRead(t, workspace, env)

	reader.Halt(errors.New("the run was ended"))
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1")
	if err == nil || !strings.Contains(out, "oidc-dbt: the run was ended") {
		t.Errorf("after Halt: %v\n%s", err, out)
	}
}

// send sends statements by Snowflake's connector, and returns what became of them.
func send(t *testing.T, g *setup.Guarded, statements []sent) (ends []string) {
	t.Helper()
	return setup.SendBy(t, setup.Python(t), statements, []string{"TOKEN=" + g.Address().Secret.Reveal()}, fmt.Sprint(g.Address().Port))
}
