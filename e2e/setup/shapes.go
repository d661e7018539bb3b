package setup

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// varying is what differs between statements of the same shape.
var varying = regexp.MustCompile(`^/\* \{.*?\} \*/|--[^\n]*|'[^']*'|\b(stg|int|mart|unique|not_null)_\w*|__dbt_\w+|marts_\w+|` +
	`[0-9a-f]{8,}|[0-9]+|\s+`)

// blank is the white space that templates leave.
var blank = regexp.MustCompile(`\s*\n\s*|[ \t]+`)

// KeepShapes writes one statement of each shape of those that were sent into the
// seeds of the classifier's oracle, where tests run with -update.
func KeepShapes(t testing.TB, d statement.Dialect, sent []guard.Entry) {
	t.Helper()
	if !golden.Update() {
		return
	}
	shapes := map[string]string{}
	for _, e := range sent {
		text := blank.ReplaceAllStringFunc(e.Text, func(space string) string {
			if strings.Contains(space, "\n") {
				return "\n"
			}
			return " "
		})
		shape := varying.ReplaceAllString(text, "0")
		if known, ok := shapes[shape]; text != "" && (!ok || text < known) {
			shapes[shape] = text
		}
	}
	lines := make([]string, 0, len(shapes))
	for _, text := range shapes {
		line := &strings.Builder{}
		encoder := json.NewEncoder(line)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(text); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line.String())
	}
	slices.Sort(lines)
	Write(t, filepath.Join(Repository(t), "internal", "statement", "oracle", "testdata"), string(d)+".jsonl", strings.Join(lines, ""))
}

// Shapes returns the seeds of the classifier's oracle.
func Shapes(t testing.TB, d statement.Dialect) (statements []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Repository(t), "internal", "statement", "oracle", "testdata", string(d)+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var s string
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		statements = append(statements, s)
	}
	return statements
}
