package lint_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/lint"
)

// today is when tests look at policies.
var today = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func env(dir string) lint.Env {
	return lint.Env{Dir: dir, Environ: os.Environ(), Now: today, Catalog: job.Catalog(), Version: "v1.2.3"}
}

// repository writes files into a folder of their own.
func repository(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// find returns the names of what is found in files, sorted, each once.
func find(t testing.TB, files map[string]string) (names []string) {
	t.Helper()
	return findIn(t, repository(t, files))
}

// findIn is find for a folder, or some paths in it.
func findIn(t testing.TB, dir string, paths ...string) (names []string) {
	t.Helper()
	report, err := lint.Run(t.Context(), env(dir), paths)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if !f.Suppressed {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var example = regexp.MustCompile("(?ms)^`([^`\n]+)`:\n\n```\\w*\n(.*?)^```$")

// examples returns the files of a section of a page.
func examples(section string) map[string]string {
	files := map[string]string{}
	for _, m := range example.FindAllStringSubmatch(section, -1) {
		files[m[1]] = m[2]
	}
	return files
}

// TestPages: each check has a page that says what it is, and in the examples
// there exactly it is found, or nothing. Notes of other checks are no fault:
// unenforceable-claim is one of most policies.
func TestPages(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/lint/*.md")
	if err != nil || len(pages) != len(lint.Checks())+1 {
		t.Errorf("docs/lint has %d pages, want one for each of %d checks and README.md (%v)", len(pages), len(lint.Checks()), err)
	}
	for _, c := range lint.Checks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("../../docs/lint/" + c.Name + ".md")
			if err != nil {
				t.Fatal(err)
			}
			page := string(text)
			if head := fmt.Sprintf("# %s\n\nSeverity: %s. %s\n\n## Why\n", c.Name, c.Severity, c.Meaning); !strings.HasPrefix(page, head) {
				t.Errorf("the page does not begin with\n%s", head)
			}
			before, passes, _ := strings.Cut(page, "\n## Passes\n")
			_, fails, ok := strings.Cut(before, "\n## Fails\n")
			bad, good := examples(fails), examples(passes)
			if !ok || len(bad) == 0 || len(good) == 0 {
				t.Fatalf("the page has %d files that fail, and %d that pass", len(bad), len(good))
			}
			if diff := cmp.Diff([]string{c.Name}, withoutNotes(c.Name, find(t, bad))); diff != "" {
				t.Errorf("where it fails (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string(nil), withoutNotes(c.Name, find(t, good))); diff != "" {
				t.Errorf("where it passes (-want +got):\n%s", diff)
			}
		})
	}
}

// withoutNotes returns the names of findings that are no notes, but for one.
func withoutNotes(but string, names []string) (list []string) {
	for _, name := range names {
		i := slices.IndexFunc(lint.Checks(), func(c lint.Check) bool { return c.Name == name })
		if name == but || lint.Checks()[i].Severity != lint.Note {
			list = append(list, name)
		}
	}
	return list
}

// TestTable holds the list of all checks to the code.
func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| finding | severity | meaning |\n| --- | --- | --- |\n")
	for _, c := range lint.Checks() {
		fmt.Fprintf(&b, "| [%s](%s.md) | %s | %s |\n", c.Name, c.Name, c.Severity, c.Meaning)
	}
	golden.Table(t, "../../docs/lint/README.md", "checks", b.String())
	if !slices.IsSortedFunc(lint.Checks(), func(a, b lint.Check) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the checks are not sorted by name")
	}
}
