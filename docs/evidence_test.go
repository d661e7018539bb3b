package docs

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// first are the pairs that there were when docs/evidence.md began to count: providers by type.
var first = map[string]string{
	"athena": "aws identity_center", "bigquery": "gcp", "clickhouse": "token_exchange vault", "databricks": "databricks entra",
	"duckdb": "aws entra gcp", "fabric": "entra vault", "postgres": "aws databricks entra gcp vault", "redshift": "aws identity_center vault",
	"snowflake": "aws entra oidc token_exchange vault", "spark": "vault", "sqlserver": "entra vault", "trino": "entra oidc token_exchange",
}

// TestLevels: each row of the pairs says how strong its proof is, and the page's
// first words how many pairs are proven on real servers.
func TestLevels(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/evidence.md"]
	_, table, _ := strings.Cut(page, "\n| pair | level | proof | where |\n| --- | --- | --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	pair := regexp.MustCompile("^([a-z]+) × `([a-z_]+)`$")
	var pairs, real [2]int // those that were added later, and the first ones
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | ")
		if len(cells) != 4 {
			t.Errorf("%d cells, want 4: %s", len(cells), line)
			continue
		}
		name, level := cells[0], cells[1]
		switch level {
		case "real server", "real client", "recorded request":
		default:
			t.Errorf("%s has the level %q", name, level)
		}
		if m := pair.FindStringSubmatch(name); m != nil {
			when := 0
			if slices.Contains(strings.Fields(first[m[1]]), m[2]) {
				when = 1
			}
			pairs[when]++
			if level == "real server" {
				real[when]++
			}
		}
	}
	if pairs[1] != 31 {
		t.Errorf("%d of the first 31 pairs have a row", pairs[1])
	}
	golden.Table(t, "evidence.md", "count", fmt.Sprintf("Of the pairs of warehouse and provider, **%d of %d on real servers**, and %d of the %d that were added later.\n",
		real[1], pairs[1], real[0], pairs[0]))
}

// TestNightlyTests: the page names the tests that only the nightly rounds run.
func TestNightlyTests(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../e2e/*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	nightly := regexp.MustCompile(`^//go:build .*\b(wide|hours|spark|spire)\b`)
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	tests := map[string][]string{}
	for _, file := range files {
		file = strings.TrimPrefix(file, "../")
		text, folder := repositoryFile(t, file), path.Dir(file)
		if !nightly.MatchString(text) {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			tests[folder] = append(tests[folder], m[1])
		}
	}
	list := "| where | only nightly |\n| --- | --- |\n"
	for _, folder := range slices.Sorted(maps.Keys(tests)) {
		slices.Sort(tests[folder])
		list += fmt.Sprintf("| `%s` | %s |\n", folder, strings.Join(tests[folder], " "))
	}
	golden.Table(t, "evidence.md", "only-nightly", list)
}
