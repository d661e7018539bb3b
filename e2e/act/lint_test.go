//go:build e2e && linux && amd64

package act

import "testing"

// TestLint: a step after `profile-only` checks the policy, and its findings
// are annotations. Nothing is requested.
func TestLint(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	log, err := r.run("lint.yml")
	if err == nil {
		t.Fatalf("it passed, though two targets have one rule:\n%s", log)
	}
	want(t, log, "file=.github/oidc-dbt.yml,line=32,col=9,title=oidc-dbt%3A overlapping-targets", "exit status 8")
	log, err = r.run("lint.yml", "OIDC_DBT_FAIL_ON=error")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "overlapping-targets", "Job succeeded")
	if n := len(r.issuer.Issued()); n > 0 {
		t.Errorf("%d tokens were requested", n)
	}
}
