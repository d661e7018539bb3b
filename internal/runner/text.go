package runner

import (
	"strings"
	"unicode"
)

// Printable returns s so that no line of it is a command of GitHub's runner or
// of Azure Pipelines' agent: it breaks a leading `::` and every `##[` and
// `##vso[` with a zero-width space, and replaces control characters, without
// which there are no sections of GitLab's and no links of Buildkite's either. It
// does not change `::` within a line.
func Printable(s string) string {
	var out strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		line = strings.Map(func(c rune) rune {
			if unicode.IsControl(c) && c != '\t' || unicode.Is(unicode.Bidi_Control, c) || c == '\u2028' || c == '\u2029' {
				return '\uFFFD' // a \r starts a line on some consoles; ESC and U+009B move the cursor; U+202E turns the text round
			}
			return c
		}, line)
		if trimmed := strings.TrimLeftFunc(line, blank); strings.HasPrefix(trimmed, "::") {
			line = line[:len(line)-len(trimmed)] + ":\u200b" + trimmed[1:]
		}
		out.WriteString(withoutAzure(strings.ReplaceAll(line, "##[", "##\u200b[")))
	}
	return out.String()
}

// OneLine is Printable for a text of others that is one line of several: with
// line breaks of its own it could pass for the lines that follow.
func OneLine(s string) string { return Printable(strings.ReplaceAll(s, "\n", "\uFFFD")) }

// withoutAzure breaks what Azure Pipelines' agent takes for a command anywhere in
// a line.
func withoutAzure(line string) string {
	const command = "##vso["
	var out strings.Builder
	for i := range len(line) {
		if out.WriteByte(line[i]); i > 0 && len(line)-i >= len(command)-1 && strings.EqualFold(line[i-1:i-1+len(command)], command) {
			out.WriteString("\u200b")
		}
	}
	return out.String()
}

// blank reports whether the runner may skip c in front of a command: it trims
// every white space of Unicode (.NET's String.TrimStart), not only ASCII's.
func blank(c rune) bool { return unicode.IsSpace(c) || unicode.Is(unicode.Cf, c) }
