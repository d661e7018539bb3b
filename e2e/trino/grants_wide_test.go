//go:build e2e && wide

package trino

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

const grantsPolicy = `version: 1
targets:
  prod:
    dbt: {type: trino, host: trino.acme.example, port: 443, user: production, database: memory, schema: marts}
    exchange: {oidc: {audience: trino}}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
  agent:
    dbt: {type: trino, host: trino.acme.example, port: 443, user: agent, database: memory, schema: marts}
    exchange: {oidc: {audience: trino}}
    guard: {statements: read}
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: agent, ref: refs/heads/main}]
  review:
    dbt: {type: trino, host: trino.acme.example, port: 443, user: review, database: memory, schema: "pr_${pull_number}"}
    exchange: {oidc: {audience: trino}}
    allow: [{repository: acme/analytics, repository_id: "487920697", event_name: pull_request, ref: "refs/pull/*/merge"}]
`

// ruleFile writes the rules of all targets one after the other, and last those
// of the owner, who has all rights.
func ruleFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	setup.Write(t, dir, "policy.yml", grantsPolicy)
	setup.Write(t, dir, "etc/config.properties", "")
	sections := map[string][]any{}
	add := func(text []byte) {
		var file map[string][]any
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		for name, rules := range file {
			sections[name] = append(sections[name], rules...)
		}
	}
	for _, target := range []string{"prod", "agent", "review"} {
		cmd := exec.CommandContext(t.Context(), setup.Binary(t), "trust", "generate", "--format", "grants", "--policy", "policy.yml",
			"--target", target, "--set", "sources=tpch.tiny")
		cmd.Dir = dir
		script, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		setup.Write(t, dir, target+".sh", string(script))
		run(t, dir, "env", "TRINO_HOME="+dir, "bash", target+".sh")
		text, err := os.ReadFile(filepath.Join(dir, "etc", "oidc-dbt-"+target+"-rules.json"))
		if err != nil {
			t.Fatal(err)
		}
		add(text)
	}
	add([]byte(`{"catalogs": [{"user": "owner", "allow": "all"}], "schemas": [{"user": "owner", "owner": true}],
		"tables": [{"user": "owner", "privileges": ["SELECT", "INSERT", "DELETE", "UPDATE", "OWNERSHIP", "GRANT_SELECT"]}],
		"system_session_properties": [{"user": "owner", "allow": true}], "catalog_session_properties": [{"user": "owner", "allow": true}],
		"queries": [{"user": "owner", "allow": ["execute", "view", "kill"]}]}`))
	text, err := json.Marshal(sections)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGrants has a server with the rules that the command prints: it refuses
// what is beyond them without any guard.
func TestGrants(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	token := func(user string) string { // as long as the builds take, however slow the machine is
		return issuer.Sign(audience, map[string]any{"sub": "repo:acme/analytics:environment:" + user, "environment": user,
			"exp": time.Now().Add(time.Hour).Unix()})
	}
	server := setup.Trino(t, setup.TrinoConfig{
		Issuer: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks", Audience: audience, Claim: "sub",
		UserPattern: `repo:acme/analytics:environment:(.*)`,
		Trust: map[string]string{
			"etc/access-control.properties": "access-control.name=file\nsecurity.config-file=etc/rules.json\n",
			"etc/rules.json":                ruleFile(t),
		},
	}, "owner", func() string { return token("owner") })
	query := func(user, sql string) error {
		_, err := server.Query(t.Context(), user, token(user), sql)
		return err
	}
	for _, sql := range []string{"create schema memory.hidden", "create table memory.hidden.facts as select 1 as n"} {
		if err := query("owner", sql); err != nil {
			t.Fatal(err)
		}
	}
	workspace, env := setup.GuardedProject(t, fmt.Sprintf("{type: trino, method: jwt, jwt_token: %s, host: 127.0.0.1, port: %d, user: production, "+
		"database: memory, schema: marts, threads: 4, cert: %q}", token("production"), server.Port, server.CA))
	// The memory connector has no DELETE, which a unique key needs.
	setup.Write(t, workspace, "models/growing.sql", "{{ config(materialized='incremental') }}\nselect * from {{ ref('raw_orders') }}\n")
	setup.Write(t, workspace, "models/from_source.sql", "{{ config(materialized='view') }}\nselect * from tpch.tiny.nation\n")
	for range 2 {
		if out, err := setup.DBT(t, setup.Python(t), workspace, env, "build"); err != nil || !strings.Contains(out, "Completed successfully") {
			t.Fatalf("dbt build: %v\n%s", err, out)
		}
	}
	for _, tt := range []struct {
		user, sql string
		denied    bool
	}{
		{"production", "create table memory.marts.more as select * from tpch.tiny.nation", false},
		{"production", "create table memory.hidden.made as select 1 as n", true},
		{"production", "create schema memory.made", true},
		{"production", "select * from memory.hidden.facts", true},
		{"production", "select * from tpch.sf1.nation", true},
		{"production", "drop table memory.hidden.facts", true},
		{"production", "set session query_max_run_time = '1d'", true},
		{"production", "show tables from blackhole.default", true},
		{"agent", "select * from memory.marts.orders", false},
		{"agent", "select * from memory.marts.customers", false},
		{"agent", "select * from memory.marts.from_source", false},
		{"agent", "select table_name from memory.information_schema.tables", false},
		{"agent", "insert into memory.marts.orders select * from memory.marts.orders", true},
		{"agent", "drop table memory.marts.orders", true},
		{"agent", "create table memory.marts.made as select 1 as n", true},
		{"agent", "create view memory.marts.made as select 1 as n", true},
		{"agent", "create schema memory.made", true},
		{"agent", "select * from memory.hidden.facts", true},
		{"agent", "grant select on memory.marts.orders to user owner", true},
		{"review", "create schema memory.pr_1", false},
		{"review", "create table memory.pr_1.made as select * from tpch.tiny.nation", false},
		{"review", "create schema memory.apr_1", true},
		{"review", "select * from memory.marts.orders", true},
		{"review", "drop table memory.marts.orders", true},
		{"stranger", "select * from memory.marts.orders", true},
	} {
		err := query(tt.user, tt.sql)
		if (err != nil) != tt.denied || tt.denied && !strings.HasPrefix(err.Error(), "PERMISSION_DENIED: Access Denied: ") {
			t.Errorf("%s: %s: got %v, denied: want %t", tt.user, tt.sql, err, tt.denied)
		}
	}
}
