package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/lint"
)

// lintText returns what lint finds in one file, except notes.
func lintText(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := lint.Env{Dir: dir, Now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Catalog: job.Catalog()}
	report, err := lint.Run(t.Context(), env, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Fails(lint.Warning) {
		return ""
	}
	return lint.Text(report, false)
}

// TestDocumentsLintClean: what users copy has no finding, except the examples
// of findings. A note is no fault: `any-runner` is one of most policies.
func TestDocumentsLintClean(t *testing.T) {
	t.Parallel()
	policies, workflows := 0, 0
	for path, text := range pages(t) {
		if strings.HasPrefix(path, "../docs/lint/") {
			text, _, _ = strings.Cut(text, "\n## Fails\n")
		}
		for _, b := range blocks(text) {
			name := ""
			switch {
			case strings.HasPrefix(b, "version: 1\n"):
				name = ".github/oidc-dbt.yml"
				policies++
			case strings.Contains(b, "\njobs:\n"):
				name = ".github/workflows/dbt.yml"
				workflows++
			default:
				continue
			}
			if found := lintText(t, name, b); found != "" {
				t.Errorf("%s has a block with findings:\n%s", path, found)
			}
		}
	}
	if policies < 30 || workflows < 5 {
		t.Errorf("found %d policies and %d workflows only", policies, workflows)
	}
}
