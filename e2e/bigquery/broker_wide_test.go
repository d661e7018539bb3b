//go:build e2e && wide

package bigquery

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestTheServiceGoesDown: dbt fails soon after its token has expired, and says why.
func TestTheServiceGoesDown(t *testing.T) {
	t.Parallel()
	w, issuer, endpoint := start(t, setup.Subject, func(c *standin.GoogleConfig) { c.Life = 2 * time.Second })
	w.google.SetGrace(standin.Grace)
	var down sync.Once
	var since time.Time
	w.slow = func() {
		down.Do(func() { w.google.Close(); since = time.Now() })
		time.Sleep(2 * time.Second)
	}
	workspace := slowProject(t, w, issuer, endpoint, 1)
	out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build", "--fail-fast")
	took := time.Since(since)
	if want := "temporarily_unavailable: oidc-dbt: exchange ID token"; err == nil || !strings.Contains(out, want) {
		t.Errorf("dbt build: %v, want it to say %q:\n%s", err, want, out)
	}
	if took > 8*time.Minute { // BigQuery's client retries for ten minutes after what it takes for a network error
		t.Errorf("dbt ended %s after the service", took)
	}
}
