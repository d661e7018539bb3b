//go:build e2e

// Package variables holds the list of what a command does not get to what the installed clients read from their environment.
package variables

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestEachVariableHasAVerdict: a variable that a new version reads has none
// yet, and one that no version reads any more needs none. What the verdicts
// come to, a test of internal/process holds.
func TestEachVariableHasAVerdict(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(setup.Python(t).Program("python"), "-I", "scan.py")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var found map[string][]string
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), "internal", "process", "testdata", "variables.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var listed, read []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 2 && !strings.HasPrefix(line, "#") {
			listed = append(listed, fields[0]+" "+fields[1])
		}
	}
	for _, client := range slices.Sorted(maps.Keys(found)) {
		for _, name := range found[client] {
			read = append(read, client+" "+name)
		}
	}
	slices.Sort(listed)
	slices.Sort(read)
	if diff := cmp.Diff(listed, read); diff != "" {
		t.Errorf("internal/process/testdata/variables.txt (-listed, +read by the installed clients): give each new one a verdict\n%s", diff)
	}
}
