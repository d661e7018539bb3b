//go:build e2e && linux && amd64

package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// grantsPolicy has a builder, two readers of the same schema, a builder that has
// it as a source, and a builder of schemas that pull requests choose.
const grantsPolicy = `version: 1
targets:
  prod:
    dbt: {type: postgres, host: dw.cabcdefghijk.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt_prod, dbname: postgres, schema: marts}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}
    guard: {statements: build}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
  agent:
    dbt: {type: postgres, host: dw.cabcdefghijk.eu-central-1.rds.amazonaws.com, port: 5432, user: "dbt-\"agent", dbname: postgres, schema: marts}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-agent", region: eu-central-1}
    guard: {statements: read}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
  report:
    dbt: {type: postgres, host: dw.cabcdefghijk.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt_report, dbname: postgres, schema: marts}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-report", region: eu-central-1}
    guard: {statements: read}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
  sandbox:
    dbt: {type: postgres, host: dw.cabcdefghijk.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt_sandbox, dbname: postgres, schema: sandbox}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-sandbox", region: eu-central-1}
    guard: {statements: build}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: sandbox, ref: refs/heads/main}]
  review:
    dbt: {type: postgres, host: dw.cabcdefghijk.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt_review, dbname: postgres, schema: "pr_${pull_number}"}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-review", region: eu-central-1}
    allow: [{repository: acme/analytics, repository_id: "487920697", event_name: pull_request, ref: "refs/pull/*/merge"}]
`

// grants returns what the command prints for a target.
func grants(t *testing.T, target string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	setup.Write(t, dir, ".github/oidc-dbt.yml", grantsPolicy)
	cmd := exec.CommandContext(t.Context(), setup.Binary(t), append([]string{"trust", "generate", "--format", "grants",
		"--policy", filepath.Join(".github", "oidc-dbt.yml"), "--target", target}, more...)...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestGrants has an owner, who is no superuser, run what the command prints.
// Then the server itself holds each user to it, whatever a guard would do.
func TestGrants(t *testing.T) {
	t.Parallel()
	server := setup.Postgres(t, false)
	server.SQL(t, fmt.Sprintf(`create role owner login createrole password 'p-%s'; alter database postgres owner to owner`, server.Password))
	run := func(user, sql string) error {
		conn, err := server.Connect(t.Context(), user, "p-"+server.Password)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
		return err
	}
	const agent = `dbt-"agent`
	steps := []string{
		fmt.Sprintf(`create role dbt_prod login password 'p-%[1]s'; create role "dbt-""agent" login password 'p-%[1]s';
			create role dbt_review login password 'p-%[1]s'; create role dbt_report login password 'p-%[1]s';
			create role dbt_sandbox login password 'p-%[1]s'; grant dbt_prod to owner;
			create schema raw; create table raw.orders as select 1 as n; create schema hidden; create table hidden.facts as select 1 as n`, server.Password),
		grants(t, "prod", "--set", "sources=raw"), grants(t, "agent"), grants(t, "report"),
		grants(t, "sandbox", "--set", "sources=marts"), grants(t, "review", "--set", "sources=raw"),
		grants(t, "prod", "--set", "sources=raw"), // it may be run again
	}
	for _, sql := range steps {
		if err := run("owner", sql); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
	through := func(user string, level guard.Level) (g *setup.Guarded, workspace string, env map[string]string) {
		r := route.Route{Kind: route.Postgres, Upstream: route.Upstream{Host: server.Host, Port: server.Port, Database: "postgres", Plain: true}}
		c := credential.Credential{User: user, Password: secret.New("p-" + server.Password), Expiry: time.Now().Add(time.Hour)}
		g = setup.Guard(t, r, c, statement.Postgres, level)
		workspace, env = setup.GuardedProject(t, fmt.Sprintf("{type: postgres, host: 127.0.0.1, port: %d, user: %q, password: %s, dbname: postgres, "+
			"schema: marts, threads: 4, sslmode: disable}", g.Address().Port, user, g.Address().Secret.Reveal()))
		return g, workspace, env
	}
	g, workspace, env := through("dbt_prod", guard.Build)
	setup.Write(t, workspace, "models/from_source.sql", "{{ config(materialized='table') }}\nselect * from raw.orders\n")
	g.ExpectBuilt(t, workspace, env)
	g, workspace, env = through(agent, guard.Read)
	g.ExpectRead(t, workspace, env)

	const denied = "42501"
	for _, tt := range []struct{ user, sql, code string }{
		{"dbt_prod", "create table marts.more as select * from raw.orders; drop table marts.more", ""},
		{"dbt_prod", "create temporary table mine as select 1 as n", ""},
		{"dbt_prod", "create table hidden.made as select 1 as n", denied},
		{"dbt_prod", "create table raw.made as select 1 as n", denied},
		{"dbt_prod", "create table public.made as select 1 as n", denied},
		{"dbt_prod", "create schema made", denied},
		{"dbt_prod", "select * from hidden.facts", denied},
		{"dbt_prod", "insert into raw.orders values (2)", denied},
		{"dbt_prod", "drop table raw.orders", denied},
		{"dbt_prod", "create role made", denied},
		{"dbt_prod", "create table marts.later as select 1 as n", ""},
		{agent, "select * from marts.later", ""},
		{"dbt_report", "select * from marts.later; select * from marts.orders", ""},
		{"dbt_report", "create table marts.made as select 1 as n", denied},
		{"dbt_sandbox", "create table sandbox.mine as select * from marts.later", ""},
		{"dbt_sandbox", "create table marts.made as select 1 as n", denied},
		{"dbt_sandbox", "insert into marts.later values (2)", denied},
		{"dbt_sandbox", "select * from raw.orders", denied},
		{agent, "select * from marts.orders; select * from marts.customers; select * from marts.from_source", ""},
		{agent, "insert into marts.orders select * from marts.orders", denied},
		{agent, "delete from marts.growing", denied},
		{agent, "drop view marts.customers", denied},
		{agent, "create table marts.made as select 1 as n", denied},
		{agent, "create table public.made as select 1 as n", denied},
		{agent, "create schema made", denied},
		{agent, "select * from raw.orders", denied},
		{agent, "select * from hidden.facts", denied},
		{"dbt_review", "create schema pr_1; create table pr_1.orders as select * from raw.orders; drop schema pr_1 cascade", ""},
		{"dbt_review", "create table marts.made as select 1 as n", denied},
		{"dbt_review", "select * from marts.orders", denied},
		{"dbt_review", "drop schema marts cascade", denied},
	} {
		err := run(tt.user, tt.sql)
		code := ""
		if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
			code = refusal.Code
		}
		if (err != nil) != (tt.code != "") || code != tt.code {
			t.Errorf("%s: %s: got %v, want code %q", tt.user, tt.sql, err, tt.code)
		}
	}
}
