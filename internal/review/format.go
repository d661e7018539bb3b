package review

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
)

// A format writes a report.
type format struct {
	name  string
	write func(Report) (string, error)
}

// formats are all, the default first.
var formats = []format{{"text", text}, {"markdown", markdown}, {"json", object}, {"csv", table}}

// Formats returns their names, the default first.
func Formats() (names []string) {
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// In returns what writes a report in a format, nil where there is none of that name.
func In(name string) func(Report) (string, error) {
	for _, f := range formats {
		if f.name == name {
			return f.write
		}
	}
	return nil
}

// unenforced is the heading of that column.
const unenforced = "Only the policy enforces"

// none is a cell without a value.
const none = "-"

// headline says in one line how many reviews are due.
func (r Report) headline() string {
	when := " today"
	if days := int(r.Within / day); days > 0 {
		when = " within " + count(days, "day")
	}
	switch due := r.Due(); {
	case due == 0:
		return "No review is due" + when
	case due == 1:
		return fmt.Sprintf("1 of %s must be reviewed", count(len(r.Targets), "target")) + when
	default:
		return fmt.Sprintf("%d of %s must be reviewed", due, count(len(r.Targets), "target")) + when
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// state says how urgent a review is.
func (t Target) state() string {
	switch {
	case t.State == Never:
		return "never reviewed"
	case t.State == Overdue && t.Days == 0:
		return "overdue since today"
	case t.State == Overdue:
		return "overdue by " + count(-t.Days, "day")
	case t.State == Due:
		return "due in " + count(t.Days, "day")
	}
	return "in " + count(t.Days, "day")
}

func date(t time.Time) string {
	if t.IsZero() {
		return none
	}
	return t.Format(time.DateOnly)
}

// text is for people.
func text(r Report) (string, error) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.StripEscape)
	headings := []string{"TARGET", "LAST REVIEW", "DUE", "", "RULES CHANGED"}
	if r.WithUnenforced {
		headings = append(headings, strings.ToUpper(unenforced))
	}
	fmt.Fprintln(w, strings.Join(headings, "\t"))
	for _, t := range r.Targets {
		changed := t.changed(t.Changed.Author, short(t.Changed.Commit))
		cells := []string{t.Name, date(t.Reviewed), date(t.Due), t.state(), changed}
		if r.WithUnenforced {
			cells = append(cells, orNone(strings.Join(t.Unenforced, ", ")))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "\n%s.\n", r.headline())
	return b.String(), nil
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// short is as much of a commit's hash as people need to find it.
func short(commit string) string { return commit[:min(len(commit), 12)] }

// changed says when the rules changed, with the author and the commit as they
// are shown.
func (t Target) changed(author, commit string) string {
	if t.Changed.Unknown != "" {
		return "unknown: " + t.Changed.Unknown
	}
	line := fmt.Sprintf("%s by %s in %s", date(t.Changed.Time), author, commit)
	if t.AfterReview() {
		line += ", after the review"
	}
	return line
}

// maxMarkdown bounds the table: an issue of GitHub's has at most 65,536 characters.
const maxMarkdown = 50_000

// page says what a review is.
const page = "https://github.com/oidc-dbt/oidc-dbt/blob/main/docs/rotation.md"

// markdown is for an issue or a step summary. Nothing from outside has a
// meaning in it, except that GitHub links a commit's hash.
func markdown(r Report) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s.** (%s)\n\n", r.headline(), date(r.Now))
	headings := []string{"Target", "Last review", "Due", "", "Rules changed"}
	if r.WithUnenforced {
		headings = append(headings, unenforced)
	}
	b.WriteString(row(headings) + row(strings.Split(strings.Repeat("---,", len(headings)-1)+"---", ",")))
	for i, t := range r.Targets {
		if b.Len() > maxMarkdown {
			fmt.Fprintf(&b, "\n%d more targets are not shown: `oidc-dbt trust due` shows all.\n", len(r.Targets)-i)
			break
		}
		state, changed := t.state(), t.changed(audit.Cell(t.Changed.Author), t.Changed.Commit)
		if t.State != Current {
			state = "**" + state + "**"
		}
		if t.Changed.Unknown != "" {
			changed = "unknown: " + audit.Cell(t.Changed.Unknown)
		}
		cells := []string{audit.Cell(t.Name), date(t.Reviewed), date(t.Due), state, changed}
		if r.WithUnenforced {
			var claims []string
			for _, claim := range t.Unenforced {
				claims = append(claims, audit.Cell(claim))
			}
			cells = append(cells, orNone(strings.Join(claims, ", ")))
		}
		b.WriteString(row(cells))
	}
	if r.Due() > 0 {
		fmt.Fprintf(&b, "\n[Review](%s) who may use each of these targets, "+
			"then set `trust_reviewed` to the day of the review.\n", page)
	}
	return b.String(), nil
}

func row(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// object is JSON: docs/trust-due.schema.json is its schema.
func object(r Report) (string, error) {
	type changeObject struct {
		Commit      string `json:"commit,omitempty"`
		Author      string `json:"author,omitempty"`
		Time        string `json:"time,omitempty"`
		AfterReview bool   `json:"after_review"`
		Unknown     string `json:"unknown,omitempty"`
	}
	type targetObject struct {
		Target     string       `json:"target"`
		Provider   string       `json:"provider"`
		Reviewed   string       `json:"reviewed,omitempty"`
		Due        string       `json:"due,omitempty"`
		State      State        `json:"state"`
		Days       *int         `json:"days,omitempty"`
		Changed    changeObject `json:"rules_changed"`
		Unenforced *[]string    `json:"unenforced,omitempty"`
	}
	all := struct {
		Version int            `json:"version"`
		Date    string         `json:"date"`
		Within  int            `json:"within_days"`
		Due     int            `json:"due"`
		Targets []targetObject `json:"targets"`
	}{Version: 1, Date: date(r.Now), Within: int(r.Within / day), Due: r.Due()}
	for _, t := range r.Targets {
		o := targetObject{Target: t.Name, Provider: t.Provider, State: t.State, Changed: changeObject{
			Commit: t.Changed.Commit, Author: t.Changed.Author, AfterReview: t.AfterReview(), Unknown: t.Changed.Unknown,
		}}
		if t.State != Never {
			o.Reviewed, o.Due, o.Days = date(t.Reviewed), date(t.Due), &t.Days
		}
		if t.Changed.Unknown == "" {
			o.Changed.Time = t.Changed.Time.Format(time.RFC3339)
		}
		if r.WithUnenforced {
			claims := append([]string{}, t.Unenforced...)
			o.Unenforced = &claims
		}
		all.Targets = append(all.Targets, o)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	return string(text) + "\n", err
}

// table is CSV, for a spreadsheet.
func table(r Report) (string, error) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	headings := []string{
		"target", "provider", "reviewed", "due", "state", "days", "commit", "author", "changed", "after_review", "unknown",
	}
	if r.WithUnenforced {
		headings = append(headings, "unenforced")
	}
	rows := [][]string{headings}
	for _, t := range r.Targets {
		var reviewed, due, days, changed string
		if t.State != Never {
			reviewed, due, days = date(t.Reviewed), date(t.Due), strconv.Itoa(t.Days)
		}
		if t.Changed.Unknown == "" {
			changed = t.Changed.Time.Format(time.RFC3339)
		}
		cells := []string{
			t.Name, t.Provider, reviewed, due, string(t.State), days, t.Changed.Commit, inert(t.Changed.Author), changed,
			strconv.FormatBool(t.AfterReview()), inert(t.Changed.Unknown),
		}
		if r.WithUnenforced {
			cells = append(cells, inert(strings.Join(t.Unenforced, " ")))
		}
		rows = append(rows, cells)
	}
	err := w.WriteAll(rows)
	return b.String(), err
}
