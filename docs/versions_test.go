package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/installed"
)

// A triedSet is what e2e/profiles found of one set of versions.
type triedSet struct {
	Set      string
	Versions map[string]string
	Pairs    map[string]struct{ Fails, Needs string }
}

// A tried is one version of an adapter, with a pair.
type tried struct{ version, core, fails, needs string }

// works reports whether the profile loads, maybe with a further key.
func (v tried) works() bool { return v.fails == "" || v.needs != "" }

// TestVersions holds the page to what the end-to-end tests have recorded.
func TestVersions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../e2e/profiles/versions/results.json")
	if err != nil {
		t.Fatal(err)
	}
	var sets []triedSet
	if err := json.Unmarshal(text, &sets); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, name := range adapter.Types() {
		fmt.Fprintf(&table, "\n### %s\n\n| provider | too old | oldest that works | between | newest | needs | dbt-core | Rust engine |\n"+
			"| --- | --- | --- | --- | --- | --- | --- | --- |\n", name)
		for _, provider := range adapter.Specs()[name].Providers {
			table.WriteString(versionsRow(t, sets, name, provider))
		}
	}
	golden.Table(t, "versions.md", "versions", table.String()+"\n")
}

func versionsRow(t *testing.T, sets []triedSet, name, provider string) string {
	t.Helper()
	versions, engine := triedOf(sets, name, provider)
	if len(versions) == 0 { // of an adapter that the end-to-end tests do not have yet
		return fmt.Sprintf("| `%s` | not tried | | | | | | |\n", provider)
	}
	var working, cores []string
	old, needs, rust := "none of 1.8 or later", "", "yes"
	for _, v := range versions {
		switch {
		case !v.works() && working == nil:
			old = v.version + ": " + v.fails
		case v.works():
			working, cores = append(working, v.version), append(cores, v.core)
			if v.needs == "" && strings.HasSuffix(needs, "`") {
				needs += " before " + v.version
			} else if v.needs != "" {
				needs = "`" + v.needs + "`"
			}
		}
	}
	slices.SortFunc(cores, byVersion)
	working = slices.Compact(working)
	if len(working) < 3 {
		t.Fatalf("%s × %s works with %v, want three versions", name, provider, working)
	}
	if engine != "" {
		rust = "no: " + strings.ReplaceAll(engine, "|", `\|`)
	}
	last := len(working) - 1
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s | %s to %s | %s |\n", provider, old, working[0],
		strings.Join(working[1:last], ", "), working[last], needs, cores[0], cores[len(cores)-1], rust)
}

// triedOf returns what was tried with a pair, oldest first, and why the Rust engine refuses it, "" if it does not.
func triedOf(sets []triedSet, name, provider string) (versions []tried, engine string) {
	for _, s := range sets {
		found, ok := s.Pairs[name+" "+provider]
		version := s.Versions["dbt-"+name]
		switch {
		case s.Set == "engine":
			engine = found.Fails
		case ok:
			versions = append(versions, tried{version, s.Versions["dbt-core"], found.Fails, found.Needs})
		}
	}
	slices.SortFunc(versions, func(a, b tried) int { return byVersion(a.version, b.version) })
	return versions, engine
}

func byVersion(a, b string) int {
	switch {
	case installed.Older(a, b):
		return -1
	case installed.Older(b, a):
		return 1
	}
	return 0
}
