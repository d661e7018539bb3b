package runner

import (
	"strings"
	"unicode"
)

// Printable returns s so that no line of it is a workflow command: it breaks a
// leading `::` and every `##[` with a zero-width space, and replaces control
// characters. It does not change `::` within a line.
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
		out.WriteString(strings.ReplaceAll(line, "##[", "##\u200b["))
	}
	return out.String()
}

// blank reports whether the runner may skip c in front of a command: it trims
// every white space of Unicode (.NET's String.TrimStart), not only ASCII's.
func blank(c rune) bool { return unicode.IsSpace(c) || unicode.Is(unicode.Cf, c) }
