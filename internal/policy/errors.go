package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Errors are all faults of a policy, in the order of their places.
type Errors struct {
	name   string
	lines  []string
	faults []placed
}

type placed struct {
	line, column int // from 1; 0 for the file as a whole
	text         string
}

// maxShown bounds what is printed: ten thousand faults have one cause.
const maxShown = 50

// maxLine cuts a shown line; flow style can put a whole policy on one.
const maxLine = 160

// Error prints each fault with its place, the line and a caret.
func (e *Errors) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "parse policy %s: %s", e.name, plural(len(e.faults), "error"))
	for i, f := range e.faults {
		if i == maxShown {
			fmt.Fprintf(&out, "\n… and %d more", len(e.faults)-maxShown)
			break
		}
		if f.line == 0 {
			fmt.Fprintf(&out, "\n%s: %s", e.name, f.text)
			continue
		}
		fmt.Fprintf(&out, "\n%s:%d:%d: %s", e.name, f.line, f.column, f.text)
		if f.line <= len(e.lines) {
			shown, caret := show(e.lines[f.line-1], f.column)
			fmt.Fprintf(&out, "\n  %s\n  %s^", shown, strings.Repeat(" ", caret))
		}
	}
	return out.String()
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// secretText matches a key that holds a secret and what is between it and its
// value. It is wide on purpose: a line with a syntax error has no keys yet.
var secretText = regexp.MustCompile(`(?i)(?:pass(?:word|wd|phrase)?|pwd|token|secret|private_?key|keyfile\w*|access_?key|credential)\w*["']?\s*[:=]\s*`)

// show returns the line as it may be printed, and where the caret stands in it.
func show(line string, column int) (shown string, caret int) {
	if m := secretText.FindStringIndex(line); m != nil && m[1] < len(line) {
		line = line[:m[1]] + "…"
	}
	runes := []rune(strings.ReplaceAll(strings.ToValidUTF8(line, "\uFFFD"), "\t", " "))
	caret = min(max(column-1, 0), len(runes))
	if start := caret - maxLine/2; start > 0 && len(runes) > maxLine {
		runes, caret = append([]rune("… "), runes[start:]...), caret-start+2
	}
	if len(runes) > maxLine {
		runes = append(runes[:maxLine], '…')
	}
	for i, r := range runes {
		if r < ' ' || r == 0x7f {
			runes[i] = utf8.RuneError
		}
	}
	return string(runes), min(caret, len(runes))
}

func (e *Errors) at(n *yaml.Node, format string, args ...any) {
	e.add(n.Line, n.Column, format, args...)
}

func (e *Errors) add(line, column int, format string, args ...any) {
	e.faults = append(e.faults, placed{line, column, fmt.Sprintf(format, args...)})
}

// result returns e, or nil where there is no fault.
func (e *Errors) result() error {
	if len(e.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(e.faults, func(a, b placed) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.column - b.column
	})
	return e
}
