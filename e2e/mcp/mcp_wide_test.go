//go:build e2e && linux && wide

package mcp

import (
	"strings"
	"testing"
	"time"
)

// TestTimeout: as the page says, dbt-mcp gives up waiting for dbt, which goes on with a fresh credential.
func TestTimeout(t *testing.T) {
	t.Parallel()
	d := sit(t, page, "dbt-dev")
	d.slow("enabled=true")
	d.installed()
	s := d.start("DBT_CLI_TIMEOUT=8")
	s.initialize()
	if got := s.call("build", nil); !strings.HasPrefix(got, "Timeout: dbt command took too long to complete.") {
		t.Errorf("build: %s", got)
	}
	for deadline := time.Now().Add(time.Minute); d.store.Served("PUT") < 4; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 4 objects are built, %d requests refused\n%s", d.store.Served("PUT"), d.store.Refused(), s.stderr)
		}
	}
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	s.end(30 * time.Second)
	d.nothingLeft()
}
