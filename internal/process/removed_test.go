package process

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of docs/long-runs.md")

// TestRemovedIsDocumented: the page names every variable that a command does
// not get.
func TestRemovedIsDocumented(t *testing.T) {
	t.Parallel()
	const path, start, end = "../../docs/long-runs.md", "<!-- removed:start -->\n", "<!-- removed:end -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), start)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no table between %q and %q", path, start, end)
	}
	want := "| credential or route | variables |\n| --- | --- |\n"
	for _, kind := range slices.Sorted(maps.Keys(sdkVariables)) {
		names := slices.Compact(slices.Sorted(slices.Values(sdkVariables[kind])))
		want += fmt.Sprintf("| `%s` | `%s` |\n", kind, strings.Join(names, "`, `"))
	}
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("the table of %s is not that of sdkVariables: run go test ./internal/process -update", path)
	}
	if err := os.WriteFile(path, []byte(before+start+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
