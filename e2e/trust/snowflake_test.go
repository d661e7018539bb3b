//go:build e2e && linux && amd64

package trust

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestSnowflakeSQL reads the statements of all cases by sqlglot's dialect of
// Snowflake. It parses roles' grants, SET, USE, CREATE SCHEMA and SELECT; of
// users, identities, policies and integrations it knows only where a statement
// ends, so that of those its tokens are compared: each string and each quoted
// name must be one token, and written again be the same.
func TestSnowflakeSQL(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob(filepath.Join(setup.Repository(t), "internal", "trust", "testdata", "*", "*.txtar"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), setup.Python(t).Program("python3"), append([]string{"snowflake.py"}, cases...)...).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
