//go:build e2e && linux && amd64

package identities

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestGitLabJob runs the script of the page's job as a runner's shell executor does: with the documented variables,
// each line printed before it runs, the first that fails ends the job with its status. GitLab's own runner
// is not run.
func TestGitLabJob(t *testing.T) {
	t.Parallel()
	var r row
	for _, ci := range ciSystems {
		if ci.kind == "gitlab" {
			r = ci
		}
	}
	source := "push"
	r.system = func(m *machine) []string {
		return append(gitlab(m), "CI_PIPELINE_SOURCE="+source, "CI_JOB_ID=3434", "CI_PIPELINE_ID=1212", "CI_PROJECT_ID=20",
			"CI_COMMIT_BRANCH=main", "CI_DEFAULT_BRANCH=main", "CI_JOB_NAME=dbt", "CI_SERVER_URL=https://gitlab.com")
	}
	m := newMachine(t, r)
	file := decode[map[string]struct{ Script []string }](t, readPage(t, r.page).block(t, "id_tokens:"))
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, line := range file["dbt"].Script {
		fmt.Fprintf(&script, "echo '$ %s'\n%s\n", line, line)
	}
	m.command = script.String()

	claims := decode[map[string]any](t, r.claims)
	out, status := m.run(claims)
	first, _, _ := strings.Cut(out, "\n")
	if status != 0 || first != "$ oidc-dbt exec --target prod -- dbt build" || !strings.Contains(out, "PASS=3") {
		t.Errorf("status %d\n%s", status, out)
	}
	if !strings.Contains(out, "the credential is kept fresh until ") {
		t.Errorf("the trace does not say until when the job can run:\n%s", out)
	}
	setup.Write(t, m.workspace, "models/broken.sql", "select no_such_column from {{ ref('raw_orders') }}\n")
	if out, status := m.run(claims); status != 1 || !strings.Contains(out, "ERROR=1") {
		t.Errorf("a model fails: status %d, want dbt's 1\n%s", status, out)
	}
	source = "merge_request_event"
	shown := m.exchanges()
	const refused = "files of the checkout are not trusted: the job is for a merge request"
	if out, status := m.run(claims); status != 2 || !strings.Contains(out, refused) {
		t.Errorf("a merge request: status %d, want 2\n%s", status, out)
	}
	if m.exchanges() != shown {
		t.Error("the token service has seen the token of a merge request")
	}
}
