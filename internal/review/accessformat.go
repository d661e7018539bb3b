package review

import (
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
)

// An accessFormat writes a review of access.
type accessFormat struct {
	name  string
	write func(Access) (string, error)
}

// accessFormats are all, the default first.
var accessFormats = []accessFormat{{"csv", sheet}, {"markdown", accessMarkdown}, {"html", accessHTML}}

// AccessFormats returns their names, the default first.
func AccessFormats() (names []string) {
	for _, f := range accessFormats {
		names = append(names, f.name)
	}
	return names
}

// AccessIn returns what writes a review of access in a format, nil where there
// is none of that name.
func AccessIn(name string) func(Access) (string, error) {
	for _, f := range accessFormats {
		if f.name == name {
			return f.write
		}
	}
	return nil
}

// gets says what a line's target gives: name and value.
func (l Line) gets() (list [][2]string) {
	for _, pair := range [][2]string{
		{"provider", l.Provider}, {"principal", l.Principal}, {"user", l.User}, {"role", l.Role}, {"schema", l.Schema},
		{"lifetime", l.Lifetime}, {"guard", l.Guard}, {"in the warehouse", l.InWarehouse},
	} {
		if pair[1] != "" {
			list = append(list, pair)
		}
	}
	return list
}

// notes are what a reviewer must see first.
func (l Line) notes() (list []string) {
	for _, n := range []struct {
		is   bool
		text string
	}{
		{l.Kind == lineDeny, "denies"}, {l.Kind == lineUser, "no rule"}, {l.Kind == lineGone, "gone"}, {l.Unused(), "unused"},
		{l.Wide, "wide"}, {l.Binds == "name", "binds by name"}, {l.InWarehouse == absent, "no such user"}, {l.Ships, "writes audit records"},
	} {
		if n.is {
			list = append(list, n.text)
		}
	}
	return list
}

// stopped is how many statements a guard has denied, and those that it only observed.
func (l Line) stopped() string {
	text := l.guarded(l.Use.Denied)
	if text != "" && l.Use.Observed > 0 {
		text += fmt.Sprintf(", %d observed", l.Use.Observed)
	}
	return text
}

// title is how a line is called in a table.
func (l Line) title() string {
	switch l.Kind {
	case lineUser:
		return l.User
	case lineGone:
		return l.Target + ", rule " + l.rest["rule"]
	}
	return fmt.Sprintf("%s, rule %d", l.Target, l.Rule)
}

// conditions are what a line matches, and what it has next to its claims.
func (l Line) conditions() (list [][2]string) {
	if l.Kind == lineGone {
		return [][2]string{{"matched", l.rest["matches"]}}
	}
	if l.Identity != "" {
		list = append(list, [2]string{"identity", l.Identity + " (" + l.IdentityKind + ")"})
	}
	for _, m := range l.Matches {
		list = append(list, [2]string{m.Claim, strings.Join(m.Patterns, " | ")})
	}
	if len(l.Events) > 0 {
		list = append(list, [2]string{"events", strings.Join(l.Events, " ")})
	}
	if l.Binds != "" {
		list = append(list, [2]string{"binds by", l.Binds})
	}
	return list
}

// accessMarkdown is for a pull request's text or a page. Nothing from outside
// has a meaning in it.
func accessMarkdown(a Access) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Access review %s\n\n", a.Period)
	headings := []string{"Rule", "Matches", "Gives", "Added", "Changed", "Decisions", "Denials", "Credentials", "Statements denied",
		"Last use", "Notes", "Trust reviewed", "Reviewer", "Decision", "Decided on", "Comment"}
	b.WriteString(row(headings) + row(strings.Split(strings.Repeat("---,", len(headings)-1)+"---", ",")))
	for _, l := range a.Lines {
		d := l.Decision
		b.WriteString(row([]string{
			audit.Cell(l.title()), pairs(l.conditions()), pairs(l.gets()), l.Added.cell(), l.Changed.cell(), l.counted(l.Use.Decisions),
			l.counted(l.Use.Denials), l.counted(l.Use.Uses), l.stopped(),
			instant(l.Use.Last), strings.Join(l.notes(), ", "), dateOrNothing(l.Reviewed),
			audit.Cell(d.Reviewer), audit.Cell(d.Decision), audit.Cell(d.On), audit.Cell(d.Comment),
		}))
	}
	b.WriteString("\n| | |\n| --- | --- |\n")
	for _, f := range a.footer() {
		b.WriteString(row([]string{strings.ReplaceAll(f[0], "_", " "), audit.Cell(f[1])}))
	}
	return b.String(), nil
}

// pairs are names with their values, one a line of a cell.
func pairs(list [][2]string) string {
	lines := make([]string, len(list))
	for i, p := range list {
		lines[i] = audit.Cell(p[0]) + ": " + audit.Cell(p[1])
	}
	return strings.Join(lines, "<br>")
}

// cell is a change in a cell of Markdown.
func (c Change) cell() string {
	switch {
	case c.Unknown != "":
		return "unknown: " + audit.Cell(c.Unknown)
	case c.Commit == "":
		return ""
	}
	cell := date(c.Time) + " by " + audit.Cell(c.Author) + " in " + c.Commit
	if text := c.Merge.text(); text != "" {
		cell += "<br>" + audit.Cell(text)
	}
	return cell
}
