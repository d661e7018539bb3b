package trust

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Report is what the owner must know before the documents: per rule, what the
// provider cannot enforce.
func (w Wall) Report() string {
	var b strings.Builder
	for _, r := range w.Rules {
		fmt.Fprintf(&b, "rule %d (line %d): enforced: %s\n", r.Rule, r.Line, orNone(r.Enforced))
		for _, g := range r.WiderBy {
			writeGap(&b, "wider by", g)
		}
		for _, g := range r.Narrower {
			writeGap(&b, "narrower by", g)
		}
	}
	for _, n := range w.Notes {
		b.WriteString("note: " + oneLine(n) + "\n")
	}
	return b.String()
}

func writeGap(b *strings.Builder, how string, g Gap) {
	fmt.Fprintf(b, "  %s: %s: %s\n", how, g.Claim, oneLine(g.Why))
	if g.ClosesWith != "" {
		fmt.Fprintf(b, "    closed by: %s\n", oneLine(g.ClosesWith))
	}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// comments puts # before each line of a text.
func comments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// head is the first lines of each file that people read.
func (w Wall) head(target string) string {
	return comments(fmt.Sprintf("Trust for target %q at %s, generated from the policy by `oidc-dbt trust generate`.\n",
		oneLine(target), w.Provider) + w.Report())
}

// asJSON writes a document of ours in JSON, in the order of its fields.
func asJSON(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(err) // our own types, all of texts
	}
	return b.String()
}
