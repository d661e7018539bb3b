//go:build e2e && linux && amd64 && wide

package act

import (
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestTwoTargets runs other tools between and after two authentications. Each
// build uses its own session, and no secret is printed although a step tries.
func TestTwoTargets(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	log, err := r.run("two.yml")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "Successfully installed six-1.17.0", "Installed from <local @ checks>", "Catalog written to", "All Finished", "everything has run", "Job succeeded",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN=***", "DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN=***", "OIDC_DBT_TARGET=marts",
		"exec has ***") // although its standard error goes through tee
	if n := strings.Count(log, "PASS=6 WARN=0 ERROR=0"); n != 3 {
		t.Errorf("%d builds passed, want 3", n)
	}
	// Two steps, and one exec.
	if got, want := r.decisions(), "Preauth Success, Logon Success, Preauth Success, Logon Success, Preauth Success, Logon Success"; got != want {
		t.Errorf("the audit log says %s, want %s", got, want)
	}
	if n := strings.Count(log, "✅  Success - Post ./"); n != 2 {
		t.Errorf("%d post steps passed, want 2", n)
	}
	if n := len(r.sts.Sessions()); n != 3 {
		t.Errorf("%d sessions were issued, want 3", n)
	}
}

// TestWithoutKeepFresh is the same job, whose sessions have expired by the
// first build.
func TestWithoutKeepFresh(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 4*time.Second, 0)
	log, err := r.run("fresh.yml", "KEEP_FRESH=false")
	if err == nil {
		t.Fatalf("it passed:\n%s", log)
	}
	want(t, log, "❌  Failure - Main The second target's build, by what was exported", "set `keep-fresh: true`")
	if r.store.Refused() == 0 {
		t.Errorf("the store refused nothing:\n%s", log)
	}
}

// TestLongCommand is one command in the action's own step that outlives three sessions.
func TestLongCommand(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 4*time.Second, standin.Grace)
	log, err := r.run("long.yml")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "the credential is kept fresh for about 6 hours", "Job succeeded")
	if n := strings.Count(log, "PASS=6 WARN=0 ERROR=0"); n != 3 {
		t.Errorf("%d builds passed, want 3:\n%s", n, log)
	}
	if n := len(r.sts.Sessions()); n < 3 {
		t.Errorf("%d sessions were issued, want several", n)
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
