package lint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// A Format writes a report.
type Format func(r Report) (string, error)

// formats are by the name that a user gives.
var formats = map[string]Format{
	"text":   func(r Report) (string, error) { return Text(r, false), nil },
	"json":   JSON,
	"sarif":  SARIF,
	"github": GitHub,
}

// Formats returns the names of all formats.
func Formats() []string { return slices.Sorted(maps.Keys(formats)) }

// In returns the format of a name, nil where there is none.
func In(name string) Format { return formats[name] }

// colours are the terminal's, by severity.
var colours = map[Severity]string{Error: "31;1", Warning: "33;1", Note: "36;1"}

// Text returns the findings for people, each with its line and a caret.
func Text(r Report, colour bool) string {
	paint := func(code, text string) string {
		if !colour {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	// A file's text may be meant as a command of the runner's, or of a terminal's,
	// and its name as a line of ours.
	clean := func(text string) string { return strings.ReplaceAll(runner.Printable(text), "\n", "\uFFFD") }
	var out strings.Builder
	for _, f := range r.Findings {
		if f.Suppressed {
			continue
		}
		fmt.Fprintf(&out, "%s:%d:%d: %s: %s [%s]\n", clean(f.File), f.Line, f.Column,
			paint(colours[f.Severity], string(f.Severity)), clean(f.Message), f.Name)
		if f.shown != "" {
			fmt.Fprintf(&out, "  %s\n  %s%s\n", clean(f.shown), strings.Repeat(" ", f.caret), paint("32;1", "^"))
		}
		if len(f.Witness) > 0 {
			fmt.Fprintf(&out, "  such a token: %s\n", clean(claims(f.Witness)))
		}
		fmt.Fprintf(&out, "  fix: %s\n  see: %s\n\n", clean(f.Fix), r.page(f.Name))
	}
	fmt.Fprintf(&out, "%s\n", r.sum())
	return out.String()
}

// claims prints a token's claims in one line.
func claims(values map[string]any) string {
	list := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, fmt.Sprintf("%s=%v", name, values[name]))
	}
	return strings.Join(list, " ")
}

// sum counts the findings.
func (r Report) sum() string {
	count := map[Severity]int{}
	suppressed := 0
	for _, f := range r.Findings {
		if f.Suppressed {
			suppressed++
		} else {
			count[f.Severity]++
		}
	}
	var parts []string
	for _, s := range Severities() {
		if n := count[s]; n > 0 {
			parts = append(parts, plural(n, string(s)))
		}
	}
	text := cmp.Or(strings.Join(parts, ", "), "no findings") + " in " + plural(r.Files, "file")
	if suppressed > 0 {
		text += fmt.Sprintf(", %d suppressed", suppressed)
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// home is where this repository is.
const home = "https://github.com/oidc-dbt/oidc-dbt"

// page returns the address of a finding's page, in the version of this build.
func (r Report) page(name string) string {
	ref := "main"
	if strings.HasPrefix(r.Version, "v") {
		ref = r.Version
	}
	return fmt.Sprintf("%s/blob/%s/docs/lint/%s.md", home, ref, name)
}
