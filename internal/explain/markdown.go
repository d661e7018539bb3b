package explain

import (
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
)

// maxSummaryRules limits the rules in a step summary, which is for a look: `explain` shows more.
const maxSummaryRules = 10

// maxSummary limits the tables of many targets: GitHub shows a summary of 1 MiB
// at most, and there may be other steps' parts in it.
const maxSummary = 128 << 10

// Markdown returns the tables of r's targets for the step summary. Nothing in
// a claim can leave its cell.
func (r Report) Markdown() string {
	var b strings.Builder
	for i, t := range r.Targets {
		if b.Len() > maxSummary {
			fmt.Fprintf(&b, "%d more targets are not shown.\n\n", len(r.Targets)-i)
			break
		}
		if !r.Claims.Verified {
			b.WriteString("**The claims were not verified.**\n\n")
		}
		fmt.Fprintf(&b, "%s %s: %s\n\n| Rule | | Claim | Got | Want |\n| --- | --- | --- | --- | --- |\n",
			mark(t.Decision == "allowed"), audit.Cell(t.Target), t.summary())
		for i, at := range t.order {
			if i == maxSummaryRules {
				break
			}
			t.Rules[at].markdown(&b)
		}
		if more := len(t.order) - maxSummaryRules; more > 0 {
			fmt.Fprintf(&b, "\n%d more rules are not shown.\n", more)
		}
		if len(t.Login) > 0 {
			b.WriteString("\n| Login | |\n| --- | --- |\n")
			for _, name := range LoginNames {
				if value, ok := t.Login[name]; ok {
					fmt.Fprintf(&b, "| %s | %s |\n", name, audit.Cell(value))
				}
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (r Rule) markdown(b *strings.Builder) {
	for i, c := range r.Claims {
		name := ""
		if i == 0 {
			name = audit.Cell(fmt.Sprintf("%d, line %d", r.Rule, r.Line))
		}
		m := mark(c.Matched)
		if c.Unknown {
			m = "?"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, m, audit.Cell(c.Claim),
			audit.Cell(c.got()), audit.Cell(c.want()))
	}
}
