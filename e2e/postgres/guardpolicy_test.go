//go:build e2e && linux && amd64

package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
)

// TestGuardOfAPolicy runs dbt at a real server behind guards of a policy: what
// builds needs `build`, a denial is dbt's error, each statement has its record,
// an observer reports what would have been denied, and enough denials end a run.
func TestGuardOfAPolicy(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, false)
	server.SQL(t, fmt.Sprintf("create role dbt login password 'p-%s'; grant create on database postgres to dbt", server.Password))
	server.Ask(t, "dbt", "scram-sha-256")
	exchange := bao.Static(t, issuer, map[string]any{"username": "dbt", "password": "p-" + server.Password})
	for _, tt := range []struct {
		name, guard string
		args        []string
		says        string // what dbt prints of a denial; "" where the command succeeds
		decisions   string // that there must be, by name
	}{
		{"build", "{statements: build}", []string{"build"}, "", "allowed"},
		{"read only", "{statements: read}", []string{"show", "--inline", "select 1 as one"}, "", "allowed"},
		{"read builds nothing", "{statements: read}", []string{"seed"},
			"is of class define, and `statements: read` admits read and session (see docs/guardrails.md)", "allowed denied"},
		{"observed", "{statements: read, mode: observe}", []string{"build"}, "", "allowed observed"},
		{"stopped", "{statements: read, stop_after: 1}", []string{"build"}, "the guard of target \"prod\" has denied 1 statement: the run is ended",
			"allowed denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			schema := "guard_" + strings.ReplaceAll(tt.name, " ", "_")
			block := fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: %s}", server.Host, server.Port, schema)
			workspace := setup.Project(t, issuer, block, exchange)
			guardPolicy(t, workspace, tt.guard)
			log := filepath.Join(t.TempDir(), "audit.jsonl")
			command := append([]string{setup.Python(t).Program("dbt")}, tt.args...)
			out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", log}, command...)
			if (err != nil) != (tt.says != "") || !strings.Contains(out, tt.says) {
				t.Errorf("%v\n%s", err, out)
			}
			decisions := map[string]int{}
			for e, err := range auditlog.Read(t.Context(), []string{log}, auditlog.Options{Statements: true}) {
				if err != nil {
					t.Fatal(err)
				}
				if s := e.Record.Unmapped.Statement; s != nil {
					decisions[s.Decision]++
				}
			}
			for _, decision := range []string{"allowed", "denied", "observed"} {
				if found := decisions[decision] > 0; found != strings.Contains(tt.decisions, decision) {
					t.Errorf("got decisions %v, want %q\n%s", decisions, tt.decisions, out)
				}
			}
		})
	}
}

// guardPolicy gives the policy's target a guard.
func guardPolicy(t *testing.T, workspace, guard string) {
	t.Helper()
	path := filepath.Join(workspace, ".github", "oidc-dbt.yml")
	policy, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	guarded := strings.Replace(string(policy), "    allow:\n", "    guard: "+guard+"\n    allow:\n", 1)
	if err := os.WriteFile(path, []byte(guarded), 0o600); err != nil {
		t.Fatal(err)
	}
}
