package oracle

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// building are the classes that a project of dbt's needs.
var building = []statement.Class{statement.Read, statement.Session, statement.Write, statement.Define, statement.Grant}

// sent reads the statements that dbt sent for the large project of the
// end-to-end tests, one of each shape. Their -update writes them.
func sent(t *testing.T, d statement.Dialect) (statements []string) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", string(d)+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := json.NewDecoder(bufio.NewReader(file))
	for lines.More() {
		var text string
		if err := lines.Decode(&text); err != nil {
			t.Fatal(err)
		}
		statements = append(statements, text)
	}
	return statements
}

// clickhouseTruthOfEmpty is clickhouseTruth of CREATE … EMPTY AS without a word
// that the parser does not know: it says not to fill the table.
func clickhouseTruthOfEmpty(text string) (truth, bool) {
	return clickhouseTruth(strings.Replace(text, "\nempty\n", "\n", 1))
}

// TestWhatDbtSent: of what dbt sends for a real project, nothing is of a class
// that it does not need, and none is more permissive than a parser has it.
func TestWhatDbtSent(t *testing.T) {
	for d, at := range map[statement.Dialect]struct {
		truth func(string) (truth, bool)
		least int // of statements that are parsed
	}{
		statement.Postgres:   {postgresTruth, 110},
		statement.ClickHouse: {clickhouseTruthOfEmpty, 140},
	} {
		t.Run(string(d), func(t *testing.T) {
			c := &count{reasons: map[string]int{}}
			statements := sent(t, d)
			for _, text := range statements {
				got := statement.Classify(d, text)
				if !slices.Contains(building, got.Class) {
					t.Errorf("%q is %+v", text, got)
				}
				if want, ok := at.truth(text); ok {
					c.compare(t, d, text, want)
				} else {
					c.unparsed++
					t.Logf("not parsed: %q", text)
				}
			}
			c.report(t)
			if parsed := c.equal + c.stricter; parsed < at.least {
				t.Errorf("%d of %d statements were parsed, want at least %d", parsed, len(statements), at.least)
			}
		})
	}
}
