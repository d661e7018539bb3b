//go:build e2e && linux && amd64 && wide

package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestRoleOfAPolicy has dbt build as the role of the policy's output, which no
// hook can change.
func TestRoleOfAPolicy(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, false)
	server.SQL(t, fmt.Sprintf("create role dbt login noinherit password 'p-%s'; create role builder; create role other; "+
		"grant create on database postgres to builder; grant builder, other to dbt", server.Password))
	server.Ask(t, "dbt", "scram-sha-256")
	exchange := bao.Static(t, issuer, map[string]any{"username": "dbt", "password": "p-" + server.Password})
	block := fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: limited, role: Builder}", server.Host, server.Port)
	workspace := setup.Project(t, issuer, block, exchange)
	path := filepath.Join(workspace, ".github", "oidc-dbt.yml")
	policy, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	guarded := strings.Replace(string(policy), "    allow:\n", "    guard: {statements: build, limits: {statement_timeout: 90m}}\n    allow:\n", 1)
	if err := os.WriteFile(path, []byte(guarded), 0o600); err != nil {
		t.Fatal(err)
	}
	dbt := func(args ...string) (string, error) {
		return setup.Exec(t, issuer, workspace, []string{"--audit-log", filepath.Join(t.TempDir(), "audit.jsonl")},
			append([]string{setup.Python(t).Program("dbt")}, args...)...)
	}
	if out, err := dbt("build"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := fmt.Sprint(server.SQL(t, "select distinct tableowner from pg_tables where schemaname = 'limited'")); got != "[[builder]]" {
		t.Errorf("the tables are of %s", got)
	}
	out, err := dbt("show", "--inline", "select current_setting('statement_timeout') as longest, current_user as role")
	if err != nil || !strings.Contains(out, "| 90min") || !strings.Contains(out, "builder") {
		t.Errorf("%v\n%s", err, out)
	}
	setup.Write(t, workspace, "models/hooked.sql", "{{ config(pre_hook='set role other') }}\nselect 1 as n\n")
	out, err = dbt("run", "--select", "hooked")
	if words := strings.Join(strings.Fields(out), " "); err == nil || !strings.Contains(words, "SET ROLE at byte") {
		t.Errorf("%v\n%s", err, out)
	}
}
