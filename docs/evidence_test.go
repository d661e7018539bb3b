package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// later are the pairs that were added after docs/evidence.md began to count, next to those of people's own logins.
var later = map[string]bool{"spark × `aws`": true, "spark × `entra`": true}

// TestLevels: each row of the pairs says how strong its proof is, and the page's
// first words how many pairs are proven on real servers.
func TestLevels(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/evidence.md"]
	_, table, _ := strings.Cut(page, "\n| pair | level | proof | where |\n| --- | --- | --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	pair := regexp.MustCompile("^[a-z]+ × `([a-z_]+)`$")
	var pairs, real [2]int // the first ones, and those that were added later
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
			if m[1] == "login" || later[name] {
				when = 1
			}
			pairs[when]++
			if level == "real server" {
				real[when]++
			}
		}
	}
	want := fmt.Sprintf("**%d of %d on real servers**, and %d of the %d that were added later", real[0], pairs[0], real[1], pairs[1])
	if pairs[0] != 31 || !strings.Contains(page, want) {
		t.Errorf("docs/evidence.md must begin with: %s", want)
	}
}
