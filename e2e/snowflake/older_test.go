//go:build e2e

package snowflake

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// TestOlderAdapter: through the broker's proxy, an adapter works that does not
// support workload identity, since the proxy logs in at Snowflake.
func TestOlderAdapter(t *testing.T) {
	t.Parallel()
	requirements, err := os.ReadFile(filepath.Join(setup.Repository(t), "e2e", "snowflake", "requirements.txt"))
	if err != nil {
		t.Fatal(err)
	}
	older, err := pyenv.Ensure(t.Context(), "snowflake", requirements, "", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	issuer := setup.Issuer(t)
	s, port := start(t, issuer, nil)
	workspace := setup.Project(t, issuer, block(port), "{oidc: {audience: snowflakecomputing.com}}")
	out, err := setup.Exec(t, issuer, workspace, nil, older.Program("dbt"), "--no-use-colors", "build")
	if err != nil || !strings.Contains(out, "snowflake=1.9.") || !strings.Contains(out, "Completed successfully") {
		t.Errorf("dbt build: %v\n%s", err, out)
	}
	if s.logins == 0 || len(s.refused) > 0 {
		t.Errorf("%d logins, refused: %q", s.logins, s.refused)
	}
}
