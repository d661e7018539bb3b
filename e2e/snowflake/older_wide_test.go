//go:build e2e && wide

package snowflake

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestOlderAdapter: through the broker's proxy, an adapter works that does not
// support workload identity, since the proxy logs in at Snowflake.
func TestOlderAdapter(t *testing.T) {
	t.Parallel()
	older := setup.Environment(t, "snowflake", "")
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
