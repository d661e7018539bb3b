package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

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

// TestPreCommitHook: the hook for other repositories runs a command that there
// is, for the files that it looks at.
func TestPreCommitHook(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../.pre-commit-hooks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var hooks []struct{ ID, Entry, Language, Files string }
	if err := yaml.Load(text, &hooks); err != nil {
		t.Fatal(err)
	}
	if len(hooks) != 1 || hooks[0].ID != "oidc-dbt-lint" || hooks[0].Entry != "oidc-dbt lint" || hooks[0].Language != "golang" {
		t.Fatalf("the hooks are %+v", hooks)
	}
	files := regexp.MustCompile(hooks[0].Files)
	for name, want := range map[string]bool{
		".github/oidc-dbt.yml": true, ".github/workflows/dbt.yaml": true, "profiles.yml": true, "dbt/dbt_project.yml": true,
		"dbt/packages.yml": true, "dbt/package-lock.yml": true, ".env": true, "dbt/.env.prod": true, "prod.env": true,
		"README.md": false, "models/schema.yml": false, ".github/dependabot.yml": false,
	} {
		if files.MatchString(name) != want {
			t.Errorf("the hook runs for %s: %t, want %t", name, !want, want)
		}
	}
}
