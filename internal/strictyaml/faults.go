package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// faults are all that is wrong with a file.
type faults struct {
	doing  string // what is done with the file
	name   string
	src    []byte
	split  []string    // src in lines, once a fault is to be shown
	hidden map[int]int // by line: the column from which it holds what is not to be shown
	list   []placed

	readers int            // of what is shared, so far
	shared  map[placed]int // by a fault of that, without its readers: its index in list
	by      map[int][]string
}

type placed struct {
	line, column int // from 1; 0 for the file as a whole
	text         string
}

// maxShown bounds what is printed: ten thousand faults have one cause.
const maxShown = 50

// maxLine cuts a shown line; flow style can put a whole file on one.
const maxLine = 160

// Error prints each fault with its place, the line and a caret.
func (e *faults) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %q: %d error", e.doing, e.name, len(e.list))
	if len(e.list) > 1 {
		out.WriteByte('s')
	}
	for i, f := range e.list {
		if i == maxShown {
			fmt.Fprintf(&out, "\n… and %d more", len(e.list)-maxShown)
			break
		}
		if f.line == 0 {
			fmt.Fprintf(&out, "\n%s: %s", e.name, f.text)
			continue
		}
		fmt.Fprintf(&out, "\n%s:%d:%d: %s", e.name, f.line, f.column, f.text)
		if lines := e.lines(); f.line <= len(lines) {
			shown, caret := e.show(lines[f.line-1], f.line, f.column)
			fmt.Fprintf(&out, "\n  %s\n  %s^", shown, strings.Repeat(" ", caret))
		}
	}
	return out.String()
}

// Places returns the faults' places in the file.
func (e *faults) Places() []fault.Place {
	list := make([]fault.Place, 0, len(e.list))
	for _, f := range e.list[:min(len(e.list), maxShown)] {
		list = append(list, fault.Place{File: e.name, Line: f.line, Column: f.column, Text: f.text})
	}
	return list
}

func (e *faults) lines() []string {
	if e.split == nil {
		e.split = splitLines(strings.TrimPrefix(string(e.src), "\ufeff"))
	}
	return e.split
}

// splitLines splits at LF and CRLF. YAML 1.1 knows more breaks, and no file
// has them.
func splitLines(text string) []string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	return lines
}

// show returns the line as it may be printed, and where the caret is in it.
func (e *faults) show(line string, number, column int) (shown string, caret int) {
	runes := []rune(line)
	end := len(runes)
	if c, ok := e.hidden[number]; ok {
		end = min(end, c-1)
	}
	if comment := strings.Index(line, "#"); comment >= 0 {
		if m := secretText.FindStringIndex(line[comment:]); m != nil {
			end = min(end, utf8.RuneCountInString(line[:comment+m[1]]))
		}
	}
	if end < len(runes) {
		runes = append(runes[:end:end], '…')
	}
	caret = min(max(column-1, 0), end)
	if start := caret - maxLine/2; start > 0 && len(runes) > maxLine {
		runes, caret = append([]rune("… "), runes[start:]...), caret-start+2
	}
	if len(runes) > maxLine {
		runes = append(runes[:maxLine:maxLine], '…')
	}
	for i, r := range runes {
		if r == '\t' {
			runes[i] = ' '
		} else if hidden(r) {
			runes[i] = utf8.RuneError
		}
	}
	return string(runes), caret
}

// add adds a fault; long texts in it are cut.
func (e *faults) add(line, column int, format string, args ...any) {
	for i, arg := range args {
		if s, ok := arg.(string); ok {
			args[i] = Cut(s)
		}
	}
	e.list = append(e.list, placed{line, column, fmt.Sprintf(format, args...)})
}

// addShared is add for a fault of what several readers read.
func (e *faults) addShared(line, column int, reader, format string, args ...any) {
	e.add(line, column, format, args...)
	last := len(e.list) - 1
	if at, known := e.shared[e.list[last]]; known {
		e.list = e.list[:last]
		if by := e.by[at]; by[len(by)-1] != reader {
			e.by[at] = append(by, reader)
		}
		return
	}
	if e.shared == nil {
		e.shared, e.by = map[placed]int{}, map[int][]string{}
	}
	e.shared[e.list[last]], e.by[last] = last, []string{reader}
}

// maxReaders bounds the readers that a fault names.
const maxReaders = 3

// nameReaders says in the faults of what is shared whose they are, where that is
// not everyone's.
func (e *faults) nameReaders() {
	for at, by := range e.by {
		if len(by) == e.readers {
			continue
		}
		text := strings.Join(by[:min(len(by), maxReaders)], ", ")
		if more := len(by) - maxReaders; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		e.list[at].text += fmt.Sprintf(" (in %s)", text)
	}
	e.by = nil
}

// maxText bounds what an error repeats of a value.
const maxText = 256

// Cut returns a text as an error repeats it: its start, where it is long.
func Cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// result returns e, or nil where there is no fault. Two nodes with nothing
// between them share a place: its faults keep their order.
func (e *faults) result() error {
	if len(e.list) == 0 {
		return nil
	}
	e.nameReaders() // before faults change their places
	slices.SortStableFunc(e.list, func(a, b placed) int {
		return cmp.Or(a.line-b.line, a.column-b.column)
	})
	if e.list[len(e.list)-1].line > 0 {
		e.lines() // now, so that Error only reads
	}
	return e
}
