//go:build e2e && linux

package mcp

import (
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

const guide = "guides/terminal.md"

// TestPython: what the guide has for the cells of a notebook, for longer than a credential lives.
func TestPython(t *testing.T) {
	t.Parallel()
	for _, with := range []string{"dbtRunner", "subprocess"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			d := sit(t, guide, "dbt-dev")
			d.slow("enabled=true")
			setup.Write(t, d.workspace, "build.py", block(t, guide, "python", with))
			out, status := d.run("exec", "--target", "dev", "--", "python", "build.py")
			if status != 0 || !strings.Contains(out, "PASS=5 ") {
				t.Errorf("status %d\n%s", status, out)
			}
			if used, refused := d.store.Used(), d.store.Refused(); used < 3 || refused > 0 {
				t.Errorf("%d credentials were used, %d requests refused; want three at least, and none", used, refused)
			}
			d.nothingLeft()
		})
	}
}
