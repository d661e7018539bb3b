package lint

import (
	"fmt"
	"strings"
)

// commands are the runner's, by severity.
var commands = map[Severity]string{Error: "error", Warning: "warning", Note: "notice"}

// Workflow commands end a value at these. (GitHub: actions/toolkit, command.ts)
var (
	escapeData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	escapeProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// GitHub returns the findings as annotations of the run's page, without the
// suppressed ones.
func GitHub(r Report) (string, error) {
	var out strings.Builder
	for _, f := range r.Findings {
		if f.Suppressed {
			continue
		}
		fmt.Fprintf(&out, "::%s file=%s,line=%d,col=%d,title=%s::%s\n",
			commands[f.Severity], escapeProperty.Replace(r.fromRoot(f.File)), f.Line, f.Column,
			escapeProperty.Replace("oidc-dbt: "+f.Name),
			escapeData.Replace(f.Message+"\nfix: "+f.Fix+"\nsee: "+r.page(f.Name)))
	}
	fmt.Fprintf(&out, "%s\n", escapeData.Replace(r.sum()))
	return out.String(), nil
}
