//go:build e2e && linux && amd64 && wide

package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestVaultBehindExec: the user exists for the command, and is removed after it.
func TestVaultBehindExec(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	python, env := setup.Python(t), issuer.RunnerEnv()
	for _, v := range python.Environ() {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	step, log := run(t, standin.StepConfig{
		Args: []string{"exec", "--target", "prod", "--", python.Program("dbt"), "build"}, Root: t.TempDir(), Workspace: leased(t, issuer, bao, server, "marts"), Env: env,
	})
	if step.Status != 0 || !strings.Contains(log, "PASS=3 WARN=0 ERROR=0") {
		t.Fatalf("exec ended with status %d:\n%s", step.Status, log)
	}
	records, err := os.ReadFile(filepath.Join(step.Temp, "oidc-dbt", "audit.jsonl"))
	if err != nil || strings.Count(string(records), "\n") != 3 || !strings.Contains(string(records), `"outcome":"revoked"`) {
		t.Errorf("the audit log is %s, %v, want decision, outcome and end", records, err)
	}
	users := func() [][]string { return server.SQL(t, "select rolname from pg_roles where rolname like 'v-%'") }
	for deadline := time.Now().Add(5 * time.Minute); len(users()) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("users that are left: %v", users())
		}
	}
}
