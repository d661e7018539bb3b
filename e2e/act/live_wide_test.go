//go:build e2e && linux && amd64 && wide

package act

import (
	"regexp"
	"testing"
)

// TestLiveCheck runs the live check at the stand-ins: builds outlive two
// sessions. Its job with a foreign subject gets production's here, and must
// notice that the warehouse accepts it; the row says so.
func TestLiveCheck(t *testing.T) {
	t.Parallel()
	r := liveCheck(t)
	log, err := r.run("live-check.yml")
	if err == nil {
		t.Errorf("act passed:\n%s", log)
	}
	want(t, log, "Completed successfully", "The log of duckdb is not in SQL", "target live was not denied by the policy",
		"a foreign subject is denied by the policy and refused by the provider: **no** (failure); a cancelled run ends: **no** (skipped); six==1.17.0;")
	row := regexp.MustCompile(`\| duckdb, a live account \| [0-9-]{10}: logs in and outlives its credential \(([0-9]+) builds in ([0-9]+) s\): yes;`)
	if m := row.FindStringSubmatch(log); m == nil || m[1] == "0" || len(m[2]) == 1 && m[2] < "8" {
		t.Errorf("the row has %q\n%s", m, log)
	}
	if n := len(r.sts.Sessions()); n < 3 {
		t.Errorf("%d sessions were issued, want several", n)
	}
}
