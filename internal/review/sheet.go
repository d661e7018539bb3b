package review

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A column is one of the review's file.
type column struct {
	name string
	of   func(Line) string
}

// sheetColumns are all, in the order of the file. Those of a Decision are filled
// in by people.
var sheetColumns = []column{
	{"line", func(l Line) string { return l.Kind }},
	{"target", func(l Line) string { return l.Target }},
	{"rule", func(l Line) string { return number(l.Rule) }},
	{"policy_line", func(l Line) string { return number(l.At) }},
	{"identity", func(l Line) string { return l.Identity }},
	{"kind", func(l Line) string { return l.IdentityKind }},
	{"matches", Line.matches},
	{"binds_by", func(l Line) string { return l.Binds }},
	{"events", func(l Line) string { return strings.Join(l.Events, " ") }},
	{"environment", func(l Line) string { return strings.Join(l.Environment, " ") }},
	{"provider", func(l Line) string { return l.Provider }},
	{"principal", func(l Line) string { return l.Principal }},
	{"warehouse_user", func(l Line) string { return l.User }},
	{"warehouse_role", func(l Line) string { return l.Role }},
	{"schema", func(l Line) string { return l.Schema }},
	{"lifetime", func(l Line) string { return l.Lifetime }},
	{"guard", func(l Line) string { return l.Guard }},
	{"ships_records", func(l Line) string { return yes(l.Ships) }},
	{"in_warehouse", func(l Line) string { return l.InWarehouse }},
	{"added_commit", func(l Line) string { return l.Added.Commit }},
	{"added_author", func(l Line) string { return l.Added.who() }},
	{"added_on", func(l Line) string { return dateOrNothing(l.Added.Time) }},
	{"changed_commit", func(l Line) string { return l.Changed.Commit }},
	{"changed_author", func(l Line) string { return l.Changed.who() }},
	{"changed_on", func(l Line) string { return dateOrNothing(l.Changed.Time) }},
	{"changed_pull_request", func(l Line) string { return l.Changed.Merge.PullRequest }},
	{"changed_merged_by", func(l Line) string { return l.Changed.Merge.By }},
	{"changed_reviewed_by", func(l Line) string { return strings.Join(l.Changed.Merge.Reviewers, "; ") }},
	{"decisions", func(l Line) string { return l.counted(l.Use.Decisions) }},
	{"denials", func(l Line) string { return l.counted(l.Use.Denials) }},
	{"credentials", func(l Line) string { return l.counted(l.Use.Uses) }},
	{"statements_denied", func(l Line) string { return l.guarded(l.Use.Denied) }},
	{"statements_observed", func(l Line) string { return l.guarded(l.Use.Observed) }},
	{"last_use", func(l Line) string { return instant(l.Use.Last) }},
	{"unused", func(l Line) string { return yes(l.Unused()) }},
	{"wide", func(l Line) string { return yes(l.Wide) }},
	{"trust_reviewed", func(l Line) string { return dateOrNothing(l.Reviewed) }},
	{"fingerprint", func(l Line) string { return l.Fingerprint }},
	{"reviewer", func(l Line) string { return l.Decision.Reviewer }},
	{"decision", func(l Line) string { return l.Decision.Decision }},
	{"decided_on", func(l Line) string { return l.Decision.On }},
	{"comment", func(l Line) string { return l.Decision.Comment }},
}

// neededColumns are those that a review cannot be checked without.
var neededColumns = []string{"line", "target", "rule", "matches", "fingerprint", "reviewer", "decision", "decided_on"}

// decidedColumns are what a reviewer has decided upon: by the fingerprint, and by
// what the row says. A spreadsheet that has sorted one column tears the two apart.
var decidedColumns = []string{"target", "identity", "kind", "matches", "binds_by", "events", "environment", "provider", "principal",
	"warehouse_user", "warehouse_role", "schema", "lifetime", "guard", "ships_records", "wide"}

// differs says where a row of the file says something else of a line than the
// policy does, "" for nowhere. A column may have been deleted.
func (l sheetLine) differs(from Line) string {
	for _, c := range sheetColumns {
		want := strings.TrimSpace(printableWhole(c.of(from)))
		if got, ok := l.cells[c.name]; ok && got != want && slices.Contains(decidedColumns, c.name) {
			return fmt.Sprintf("column %q is %q, and %q by the policy: make the file again with --decisions, and decide again", c.name, got, want)
		}
	}
	return ""
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// counted is a count of the records, "" for a line that cannot have any, or where they were not read.
func (l Line) counted(n int) string {
	if l.Recorded && (l.Kind == lineAllow || l.Kind == lineDeny) {
		return strconv.Itoa(n)
	}
	return ""
}

// guarded is a count of statements, which only runs that a target's rule admits can send.
func (l Line) guarded(n int) string {
	if l.Kind == lineAllow {
		return l.counted(n)
	}
	return ""
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

func dateOrNothing(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// exact is instant to the millisecond, as records have it.
func exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// who is the change's author, or why that is not known.
func (c Change) who() string {
	if c.Unknown != "" {
		return "unknown: " + c.Unknown
	}
	return c.Author
}

// bom is what spreadsheets write and want before UTF-8.
var bom = []byte("\xEF\xBB\xBF")

// sheet is the file that reviewers fill in: CSV in UTF-8 with a byte order mark,
// without which Excel takes it for another encoding. What is below the lines
// begins with #.
func sheet(a Access) (string, error) {
	var b bytes.Buffer
	b.Write(bom)
	w := csv.NewWriter(&b)
	rows := [][]string{make([]string, len(sheetColumns))}
	for i, c := range sheetColumns {
		rows[0][i] = c.name
	}
	for _, l := range a.Lines {
		row := make([]string, len(sheetColumns))
		for i, c := range sheetColumns {
			text := c.of(l)
			if l.Kind == lineGone && c.name != "line" {
				text = l.rest[c.name]
			}
			row[i] = inert(printableWhole(text))
		}
		rows = append(rows, row)
	}
	for _, f := range a.footer() {
		row := make([]string, len(sheetColumns))
		row[0], row[1] = "# "+f[0], inert(printableWhole(f[1]))
		rows = append(rows, row)
	}
	err := w.WriteAll(rows)
	return b.String(), err
}

// footer says what the review is of: name and value.
func (a Access) footer() (list [][2]string) {
	add := func(name, value string) { list = append(list, [2]string{name, value}) }
	add("period", a.Period.String())
	add("made", instant(a.Now))
	add("policy", a.Policy)
	add("policy_sha256", "sha256:"+a.PolicySHA256)
	add("population", count(len(a.Lines), "line"))
	if !a.WithUsers {
		add("warehouse_users", "not compared")
	}
	if !a.WithRecords {
		add("records", "not read")
		return list
	}
	s := a.Records
	add("records", strconv.Itoa(s.Count))
	add("first_record", instant(s.First))
	add("last_record", exact(s.Last))
	add("unreadable_lines", strconv.Itoa(s.Unreadable))
	for _, f := range s.Faults {
		add("unreadable_line", f)
	}
	add("decisions_by_other_policies", strconv.Itoa(s.Elsewhere))
	add("decisions_by_former_rules", strconv.Itoa(s.Former))
	add("denials_near_no_rule", strconv.Itoa(s.Denials))
	if s.Statements > 0 {
		add("statements", strconv.Itoa(s.Statements))
	}
	if s.Refused > 0 {
		add("statements_denied_or_observed_by_former_rules", strconv.Itoa(s.Refused))
	}
	if s.Unmatched > 0 {
		add("credentials_without_decision", strconv.Itoa(s.Unmatched))
	}
	for _, r := range s.Repositories {
		add("repository", r.Name+": "+r.text())
	}
	if s.Omitted > 0 {
		add("records_of_further_repositories", strconv.Itoa(s.Omitted))
	}
	return list
}

// text says when a repository had records.
func (r Repository) text() string {
	text := fmt.Sprintf("%s on %s, %s to %s", count(r.Records, "record"), count(r.DaysWith, "day"), date(r.First), date(r.Last))
	if r.Gap > 0 {
		text += fmt.Sprintf(", longest gap %s from %s", count(r.Gap, "day"), date(r.GapFirst))
	}
	return text
}

// formulas begin what Excel and others evaluate, also in full width.
const formulas = "=+-@\t\r＝＋－＠"

// inert returns a text that no spreadsheet takes for a formula. undone reverses it.
func inert(s string) string {
	if strings.IndexAny(strings.TrimLeft(s, " "), formulas) == 0 || strings.HasPrefix(s, "'") {
		return "'" + s
	}
	return s
}

func undone(s string) string {
	after, ok := strings.CutPrefix(s, "'")
	if ok && inert(after) != after {
		return after
	}
	return s
}

// A Sheet is a review's file that people have filled in.
type Sheet struct {
	Period     Period
	Records    int       // that it was made of, -1 where they were not read
	LastRecord time.Time // the last of them
	lines      []sheetLine
	population int      // how many lines it was made with, 0 where it does not say
	notes      []string // names of the footer that were read
}

// A sheetLine is one line of the file.
type sheetLine struct {
	at    int // the file's line
	cells map[string]string
}

func (l sheetLine) decision() Decision {
	return Decision{l.cells["reviewer"], l.cells["decision"], l.cells["decided_on"], l.cells["comment"]}
}

// name is how messages call the line.
func (l sheetLine) name() string {
	switch l.cells["line"] {
	case lineUser:
		return fmt.Sprintf("user %q of the warehouse", l.cells["warehouse_user"])
	case lineDeny:
		return "deny rule " + l.cells["rule"]
	}
	return fmt.Sprintf("rule %s of target %q", l.cells["rule"], l.cells["target"])
}

// MaxSheet bounds a review's file: 10,000 lines are 6 MB.
const MaxSheet = 64 << 20

// ParseSheet reads a file that sheet wrote. A spreadsheet may have changed its
// quotes, line ends and the order of its columns.
func ParseSheet(src []byte) (Sheet, error) {
	s := Sheet{Records: -1}
	if i := invalid(src); i >= 0 {
		return s, fmt.Errorf("line %d is not UTF-8: save it again as CSV UTF-8", 1+bytes.Count(src[:i], []byte("\n")))
	}
	rows, err := rowsOf(src)
	if err != nil {
		return s, err
	}
	names, err := sheetHeader(rows[0].cells)
	if err != nil {
		return s, err
	}
	for _, row := range rows[1:] {
		if name, ok := strings.CutPrefix(row.cells[0], "#"); ok {
			if err := s.note(row, strings.TrimSpace(name)); err != nil {
				return s, err
			}
			continue
		}
		l := sheetLine{row.line, map[string]string{}}
		for i, cell := range row.cells {
			if i < len(names) {
				l.cells[names[i]] = strings.TrimSpace(undone(cell))
			}
		}
		if !slices.Contains([]string{lineAllow, lineDeny, lineUser, lineGone}, l.cells["line"]) {
			return s, fmt.Errorf("line %d: column \"line\" is %q, want allow, deny, user or gone", row.line, l.cells["line"])
		}
		s.lines = append(s.lines, l)
	}
	if s.Period.First.IsZero() {
		return s, errors.New("has no row \"# period\": the rows at the end belong to the review")
	}
	return s, nil
}

// invalid returns where a text is not UTF-8, -1 for nowhere.
func invalid(src []byte) int {
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func sheetHeader(cells []string) (names []string, err error) {
	for _, cell := range cells {
		name := strings.ToLower(strings.TrimSpace(cell))
		if name != "" && slices.Contains(names, name) {
			return nil, fmt.Errorf("has the column %q twice", name)
		}
		names = append(names, name)
	}
	var missing []string
	for _, name := range neededColumns {
		if !slices.Contains(names, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("is no review: it has no column %q", missing)
	}
	return names, nil
}

// note reads a row of the footer.
func (s *Sheet) note(row csvRow, name string) (err error) {
	value := ""
	if len(row.cells) > 1 {
		value = strings.TrimSpace(undone(row.cells[1]))
	}
	if slices.Contains([]string{"period", "population", "records", "last_record"}, name) {
		if slices.Contains(s.notes, name) {
			return fmt.Errorf("line %d: has the row %q twice", row.line, "# "+name)
		}
		s.notes = append(s.notes, name)
	}
	switch name {
	case "period":
		if s.Period, err = ParsePeriod(value); err != nil {
			return fmt.Errorf("line %d: period: %w", row.line, err)
		}
	case "population":
		n, _, _ := strings.Cut(value, " ")
		s.population, _ = strconv.Atoi(n)
	case "records":
		if n, err := strconv.Atoi(value); err == nil {
			s.Records = n
		}
	case "last_record":
		s.LastRecord, _ = time.Parse(time.RFC3339, value) // a review of no records has none
	}
	return nil
}

// Carry takes the decisions of an earlier file over to the lines that have not
// changed since. What was decided upon and is no longer there is kept, as the
// evidence of it.
func (a *Access) Carry(s Sheet) {
	left := slices.Clone(s.lines)
	for i := range a.Lines {
		j := slices.IndexFunc(left, func(l sheetLine) bool {
			return l.cells["fingerprint"] == a.Lines[i].Fingerprint && (l.cells["line"] == lineGone || l.differs(a.Lines[i]) == "")
		})
		if j >= 0 {
			a.Lines[i].Decision = left[j].decision()
			left = slices.Delete(left, j, j+1)
		}
	}
	for _, l := range left {
		if d := l.cells["decision"]; l.cells["line"] == lineGone || isDecision(d, "change") || isDecision(d, "remove") {
			a.Lines = append(a.Lines, Line{
				Kind: lineGone, Target: l.cells["target"], Fingerprint: l.cells["fingerprint"], Decision: l.decision(), rest: l.cells,
			})
		}
	}
}
