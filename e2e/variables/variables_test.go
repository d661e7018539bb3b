//go:build e2e

// Package variables compares the list of variables that a command does not get with those that the installed clients read.
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

// TestEachVariableHasAVerdict: it fails for a variable that only a new version
// reads, and for a verdict on one that is no longer read. A test of
// internal/process checks that the verdicts are applied.
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
