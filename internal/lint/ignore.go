package lint

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// ignoreText matches a comment that suppresses findings: their names, the reason.
var ignoreText = lazy.MustCompile(`#[ \t]*oidc-dbt:[ \t]*ignore\[([^\]]*)\][ \t]*(.*)`)

// ignored returns the findings that a line's comment suppresses, and why; column
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

// maxComments bounds the lines of comments above a finding that are read.
const maxComments = 50

// suppressed reports whether a comment on a line, or in lines of comments right
// above it, suppresses a finding there, and why.
func (f *file) suppressed(name string, line int) (yes bool, reason string) {
	for i := line; i >= max(1, line-maxComments) && i <= len(f.lines); i-- {
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
	meaning:  "A comment suppresses a finding without a reason, so that a reviewer cannot judge it.",
	find: func(in *files, found report) {
		for _, f := range in.all {
			for i, line := range f.lines {
				if names, reason, column := ignored(line); column > 0 && reason == "" {
					found(place{f, i + 1, column}, "add the reason after the bracket",
						"the comment suppresses %s without a reason", quoted(names))
				}
			}
		}
	},
}
