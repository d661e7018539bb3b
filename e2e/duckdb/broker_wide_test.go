//go:build e2e && wide

package duckdb

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestGooglesServiceGoesDown: dbt fails after its token has expired, and says why.
func TestGooglesServiceGoesDown(t *testing.T) {
	t.Parallel()
	l := startLake(t, func(c *standin.GoogleConfig) { c.Life = 2 * time.Second })
	var down sync.Once
	l.slow = func() {
		down.Do(l.google.Close)
		time.Sleep(2 * time.Second)
	}
	out, err := setup.Exec(t, l.issuer, l.project(t, 1), nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build", "--fail-fast")
	if want := "oidc-dbt: warning: renew the credential: exchange ID token"; err == nil || !strings.Contains(out, want) {
		t.Errorf("dbt build: %v, want the output to say %q:\n%s", err, want, out)
	}
}
