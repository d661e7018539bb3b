package runner

import "strings"

// Printable returns s so that no line of it is a workflow command: a leading
// `::` and every `##[` are broken by a zero-width space, and control
// characters are shown, not obeyed. It leaves `::` within a line alone.
func Printable(s string) string {
	var out strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		line = strings.Map(func(c rune) rune {
			if c < ' ' && c != '\t' || c == 0x7f {
				return '\uFFFD' // a \r would start a line of its own on some consoles
			}
			return c
		}, line)
		if trimmed := strings.TrimLeft(line, " \t"); strings.HasPrefix(trimmed, "::") {
			line = line[:len(line)-len(trimmed)] + ":\u200b" + trimmed[1:]
		}
		out.WriteString(strings.ReplaceAll(line, "##[", "##\u200b["))
	}
	return out.String()
}
