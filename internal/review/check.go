package review

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// decisions are what a reviewer may decide.
var decisions = []string{"keep", "change", "remove"}

func isDecision(text, decision string) bool { return strings.EqualFold(text, decision) }

// A Problem is why a review is not done.
type Problem struct {
	Line int // of the file, 0 where the file has none
	Text string
}

// Check compares a filled-in file with the policy of today: each line of today's
// population has one decision, made in the period or soon after it by a reviewer who is not the
// last author of the rule.
func (a *Access) Check(s Sheet) (problems []Problem) {
	report := func(line int, format string, args ...any) {
		problems = append(problems, Problem{line, fmt.Sprintf(format, args...)})
	}
	left := slices.Clone(s.lines)
	for _, l := range a.Lines {
		i := slices.IndexFunc(left, func(f sheetLine) bool { return f.cells["fingerprint"] == l.Fingerprint && f.cells["line"] != lineGone })
		if i < 0 {
			line, why := a.absent(s, l)
			report(line, "%s: %s", l.name(), why)
			continue
		}
		f := left[i]
		left = slices.Delete(left, i, i+1)
		if why := f.differs(l); why != "" {
			report(f.at, "%s: %s", l.name(), why)
		}
		for _, why := range a.faults(l, f.decision(), s.Period) {
			report(f.at, "%s: %s", l.name(), why)
		}
	}
	for _, f := range left {
		switch l := a.find(f.cells["fingerprint"]); {
		case l != nil && f.cells["line"] != lineGone:
			report(f.at, "%s: the file has it twice", l.name())
		case f.cells["line"] == lineDeny && isDecision(f.cells["decision"], "keep") && !reported(problems, f.at):
			report(f.at, "%s: the decision is to keep it, and it is no longer there", f.name())
		case f.cells["line"] == lineUser || f.cells["line"] == lineGone:
			for _, why := range a.made(f.decision(), s.Period) {
				report(f.at, "%s: %s", f.name(), why)
			}
		}
	}
	if n := len(s.lines); n < s.population && !reported(problems, 0) { // of a user without a rule only the file knows
		report(0, "the file has %s, and was made with %d: put back what was removed", count(n, "line"), s.population)
	}
	slices.SortStableFunc(problems, func(x, y Problem) int { return x.Line - y.Line })
	return problems
}

func reported(problems []Problem, line int) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Line == line })
}

// absent says why the file has no line of a rule, with the line that comes nearest.
func (a *Access) absent(s Sheet, l Line) (line int, why string) {
	matches := printableWhole(l.matches())
	stale := slices.DeleteFunc(slices.Clone(s.lines), func(f sheetLine) bool {
		return f.cells["line"] == lineGone || a.find(f.cells["fingerprint"]) != nil
	})
	for _, f := range stale {
		if f.cells["target"] == l.Target && f.cells["matches"] == matches {
			return f.at, "what target " + fmt.Sprintf("%q", l.Target) + " gives, or whose tokens it takes, has changed since the file was made: " +
				"its line must be decided again"
		}
	}
	for _, f := range stale {
		if f.cells["target"] == l.Target && f.cells["rule"] == number(l.Rule) {
			return f.at, fmt.Sprintf("has changed since the file was made, where it matches %q: it must be decided again", f.cells["matches"])
		}
	}
	for _, f := range stale {
		if f.cells["matches"] == matches && f.cells["line"] == lineAllow {
			return f.at, fmt.Sprintf("the file has this rule of target %q only: a target that was renamed must be decided again",
				f.cells["target"])
		}
	}
	return 0, "the file has no line of it"
}

// faults says what is wrong with the decision upon a line that is there today.
func (a *Access) faults(l Line, d Decision, p Period) (list []string) {
	if list = a.made(d, p); d.Decision == "" {
		return list
	}
	switch {
	case isDecision(d.Decision, "remove"):
		list = append(list, "the decision is to remove it, and it is still there")
	case isDecision(d.Decision, "change"):
		list = append(list, "the decision is to change it, and it is as it was")
	}
	switch {
	case l.Kind == lineUser || d.Reviewer == "":
	case l.Changed.Unknown != "":
		list = append(list, "who changed it last is unknown: "+l.Changed.Unknown)
	case l.Changed.by(d.Reviewer):
		list = append(list, fmt.Sprintf("it is decided by %q, who changed it last (%s)", d.Reviewer, short(l.Changed.Commit)))
	}
	return list
}

// grace is for how many days after its period a review may still be decided: its
// records are complete only then.
const grace = 45

// made says what is wrong with how a decision was made.
func (a *Access) made(d Decision, p Period) (list []string) {
	known := slices.ContainsFunc(decisions, func(known string) bool { return isDecision(d.Decision, known) })
	switch {
	case d.Decision == "":
		return []string{"it has no decision"}
	case !known:
		list = append(list, fmt.Sprintf("unknown decision %q, valid decisions are %q", d.Decision, decisions))
	}
	switch why := disguise(d.Reviewer); {
	case d.Reviewer == "":
		list = append(list, "it has no reviewer")
	case why != "":
		list = append(list, fmt.Sprintf("reviewer %+q %s: write the name plainly", d.Reviewer, why))
	}
	switch on, err := time.Parse(time.DateOnly, d.On); {
	case d.On == "":
		list = append(list, "it has no date in decided_on")
	case err != nil:
		list = append(list, fmt.Sprintf("decided_on is %q, want a date such as %s: a spreadsheet may have rewritten it",
			d.On, p.First.Format(time.DateOnly)))
	case on.Before(p.First) || on.After(p.Last.AddDate(0, 0, grace)):
		list = append(list, fmt.Sprintf("decided_on is %s, want a day of the period %s, or of the %d days after it", d.On, p, grace))
	case on.After(a.Now):
		list = append(list, fmt.Sprintf("decided_on is %s, which is still to come", d.On))
	}
	return list
}

// CheckRecords compares how many records the file was made of with those of
// today until the last of them: more have come since, or some are no longer there.
func (a *Access) CheckRecords(s Sheet) (problems []Problem) {
	switch {
	case s.Records < 0:
		return []Problem{{0, "the file was made without records"}}
	case s.Records != a.Records.Count:
		return []Problem{{0, fmt.Sprintf("the file counts %s until %s, and there are %d: make it again with --decisions",
			count(s.Records, "record"), exact(s.LastRecord), a.Records.Count)}}
	}
	return nil
}

// Done says that a review is complete.
func (a *Access) Done(s Sheet) string {
	tally := map[string]int{}
	for _, l := range s.lines {
		tally[strings.ToLower(l.cells["decision"])]++
	}
	return fmt.Sprintf("every rule of the policy has a decision (%s); in the file: %d keep, %d change, %d remove",
		count(len(a.Lines), "rule"), tally["keep"], tally["change"], tally["remove"])
}
