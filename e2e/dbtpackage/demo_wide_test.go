//go:build e2e && linux && amd64 && wide

package dbtpackage

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestDemo runs the commands of docs/audit.md as they are there: they make a review of the demo's records, and find the
// login that has none. The demo prints the same commands.
func TestDemo(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Try it with the demo\n")
	_, script, _ := strings.Cut(section, "```sh\n")
	script, _, ok := strings.Cut(script, "```")
	const place = "/tmp/oidc-dbt-audit"
	if !ok || strings.Count(script, place) != 2 {
		t.Fatalf("the section has no commands for %s:\n%s", place, script)
	}
	folder := filepath.Join(t.TempDir(), "audit")
	script = strings.ReplaceAll(script, place, folder)
	out := bash(t, script)

	_, next, _ := strings.Cut(script, "\n") // what follows the demo itself
	if shown := strings.ReplaceAll(out, "\n   │ ", "\n"); !strings.Contains(shown, "\n"+next) {
		t.Errorf("the demo does not print the page's commands:\n%s\nbut:\n%s", next, shown)
	}
	for _, want := range []string{
		"no rule of target \"prod\" matches \"repo:acme/analytics:environm", // audit show
		"denied: 1, ", "not finished: 0, findings: 0\n", // audit verify
		`"factor_id": "AKIAIOSFODNN7EXAMPLE"`, `"user_name": "arn:aws:iam::123456789012:user/dbt-old"`, // dbt show
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no command prints %s:\n%s", want, out)
		}
	}
	if n := strings.Count(out, `"login_key":`); n != 1 {
		t.Errorf("%d logins without a record, want 1:\n%s", n, out)
	}
	review, err := os.ReadFile(filepath.Join(folder, "review.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"acme/analytics", "arn:aws:iam::123456789012:role/dbt-prod", "Grace", "Ada"} {
		if !strings.Contains(string(review), want) {
			t.Errorf("the review has no %q", want)
		}
	}
}

// bash runs a script in the repository, and returns what it prints.
func bash(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = setup.Repository(t)
	cmd.Env = setup.AtTerminal(os.Environ())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
