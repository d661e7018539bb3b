package lint

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// ignoreText matches a comment that silences findings: their names, the reason.
var ignoreText = lazy.MustCompile(`#[ \t]*oidc-dbt:[ \t]*ignore\[([^\]]*)\][ \t]*(.*)`)

// ignored returns the findings that a line's comment silences, and why; column
// is where the comment starts, 0 for none.
func ignored(line string) (names []string, reason string, column int) {
	if !strings.Contains(line, "oidc-dbt:") {
		return nil, "", 0
	}
	m := ignoreText.FindStringSubmatch(line)
	if m == nil {
		return nil, "", 0
	}
	for name := range strings.SplitSeq(m[1], ",") {
		names = append(names, strings.TrimSpace(name))
	}
	return names, strings.TrimSpace(m[2]), utf8.RuneCountInString(line[:strings.Index(line, m[0])]) + 1
}

// silenced reports whether a comment on a line, or one that has the lines
// above to itself, silences a finding there, and why.
func (f *file) silenced(name string, line int) (yes bool, reason string) {
	for i := line; i >= 1 && i <= len(f.lines); i-- {
		text := f.lines[i-1]
		if i < line && !strings.HasPrefix(strings.TrimSpace(text), "#") {
			break
		}
		if names, reason, _ := ignored(text); slices.Contains(names, name) {
			return true, reason
		}
	}
	return false, ""
}

var ignoreWithoutReason = check{
	name:     "ignore-without-reason",
	severity: Warning,
	meaning:  "A comment silences a finding and does not say why, so that no reviewer can judge it later.",
	find: func(in *files, found report) {
		for _, f := range in.all {
			for i, line := range f.lines {
				if names, reason, column := ignored(line); column > 0 && reason == "" {
					found(place{f, i + 1, column}, "write the reason behind the bracket",
						"the comment silences %s without a reason", quoted(names))
				}
			}
		}
	},
}
