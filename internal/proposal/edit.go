package proposal

import (
	"fmt"
	"slices"
	"strings"
)

// An edit changes a text line by line, and remembers how, so that the
// difference is exactly what was done.
type edit struct {
	lines   []string // each with its end
	eol     string
	removed map[int]bool // by number, from 1
	changed map[int]string
	before  map[int][]string // new lines, without an end
}

func newEdit(text string) *edit {
	e := &edit{eol: "\n", removed: map[int]bool{}, changed: map[int]string{}, before: map[int][]string{}}
	for line := range strings.Lines(text) {
		e.lines = append(e.lines, line)
	}
	if strings.Contains(text, "\r\n") {
		e.eol = "\r\n"
	}
	return e
}

// line returns a line without its end.
func (e *edit) line(n int) string {
	if n < 1 || n > len(e.lines) {
		return ""
	}
	if s, ok := e.changed[n]; ok {
		return s
	}
	return strings.TrimRight(e.lines[n-1], "\r\n")
}

func (e *edit) remove(from, to int) {
	for n := from; n <= to; n++ {
		e.removed[n] = true
	}
}

func (e *edit) change(n int, text string) {
	if text != e.line(n) {
		e.changed[n] = text
	}
}

// insert adds lines before the line n.
func (e *edit) insert(n int, lines ...string) { e.before[n] = append(e.before[n], lines...) }

// context is how many lines around a change a difference shows.
const context = 3

// A change is a line of a difference.
type change struct {
	sign byte // ' ', '-' or '+'
	text string
}

// changes returns the whole file as a difference.
func (e *edit) changes() (list []change) {
	for n := 1; n <= len(e.lines)+1; n++ {
		for _, s := range e.before[n] {
			list = append(list, change{'+', s + e.eol})
		}
		if n > len(e.lines) {
			break
		}
		old := e.lines[n-1]
		switch text, ok := e.changed[n]; {
		case e.removed[n]:
			list = append(list, change{'-', old})
		case ok:
			end := old[len(strings.TrimRight(old, "\r\n")):]
			list = append(list, change{'-', old}, change{'+', text + end})
		default:
			list = append(list, change{' ', old})
		}
	}
	for from := 0; from < len(list); from++ { // what is removed comes before what is new
		to := from
		for to < len(list) && list[to].sign != ' ' {
			to++
		}
		slices.SortStableFunc(list[from:to], func(a, b change) int { return int(b.sign) - int(a.sign) })
		from = to
	}
	return list
}

// diff returns the difference in the unified format, "" for none.
func (e *edit) diff(path string) string {
	list := e.changes()
	near := make([]bool, len(list))
	any := false
	for i, c := range list {
		if c.sign == ' ' {
			continue
		}
		any = true
		for k := max(0, i-context); k <= min(len(list)-1, i+context); k++ {
			near[k] = true
		}
	}
	if !any {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- a/%s\n+++ b/%s\n", path, path)
	oldLine, newLine := 1, 1
	for i := 0; i < len(list); {
		if !near[i] {
			oldLine, newLine = oldLine+1, newLine+1
			i++
			continue
		}
		end := i
		olds, news := 0, 0
		for ; end < len(list) && near[end]; end++ {
			olds += btoi(list[end].sign != '+')
			news += btoi(list[end].sign != '-')
		}
		fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(oldLine, olds), span(newLine, news))
		for ; i < end; i++ {
			out.WriteByte(list[i].sign)
			out.WriteString(list[i].text)
			if !strings.HasSuffix(list[i].text, "\n") {
				out.WriteString("\n\\ No newline at end of file\n")
			}
		}
		oldLine, newLine = oldLine+olds, newLine+news
	}
	return out.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func span(line, count int) string {
	if count == 0 {
		line--
	}
	return fmt.Sprintf("%d,%d", line, count)
}
