//go:build e2e && linux && amd64 && wide

package act

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestTrustReviewFails: without a policy, or without the right to write
// issues, the workflow fails and opens nothing.
func TestTrustReviewFails(t *testing.T) {
	t.Parallel()
	github, err := standin.StartGitHub("acme/analytics")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(github.Close)
	r := newRunner(t, 0, 0)
	r.reviewing(github)
	r.args = []string{"--secret", "GITHUB_TOKEN=" + github.Token(false)}
	log, err := r.run("trust-review.yml")
	if err == nil {
		t.Fatalf("it passed:\n%s", log)
	}
	want(t, log, "Resource not accessible by integration", "❌  Failure - Main Open, update or close the issue")
	r.replace(".github/workflows/trust-review.yml", "trust due --format", "trust due --policy nowhere.yml --format")
	log, err = r.run("trust-review.yml")
	if err == nil {
		t.Fatalf("it passed:\n%s", log)
	}
	want(t, log, `read policy "nowhere.yml": no such file`, "❌  Failure - Main List what is due")
	if issues := github.Issues(); len(issues) > 0 {
		t.Errorf("it opened %+v", issues)
	}
}
