package review

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Period is days from First to Last, both included, in UTC.
type Period struct{ First, Last time.Time }

// wantPeriod says what a period may be.
const wantPeriod = "want a quarter such as 2026Q4, a year, a month such as 2026-11, or two days such as 2026-10-01..2026-12-31"

// maxPeriod bounds what is kept of each repository: a bit for each day.
const maxPeriod = 400

// ParsePeriod reads a period.
func ParsePeriod(text string) (Period, error) {
	p, ok := parsePeriod(text)
	switch {
	case !ok:
		return Period{}, fmt.Errorf("got %q, %s", text, wantPeriod)
	case p.Last.Before(p.First):
		return Period{}, fmt.Errorf("got %q, which ends before it begins", text)
	case p.Days() > maxPeriod:
		return Period{}, fmt.Errorf("got %q, which is %d days, want at most %d", text, p.Days(), maxPeriod)
	}
	return p, nil
}

func parsePeriod(text string) (p Period, ok bool) {
	if first, last, two := strings.Cut(text, ".."); two {
		var err, lerr error
		p.First, err = time.Parse(time.DateOnly, first)
		p.Last, lerr = time.Parse(time.DateOnly, last)
		return p, err == nil && lerr == nil
	}
	if year, quarter, ok := strings.Cut(strings.ToUpper(text), "Q"); ok {
		n, err := strconv.Atoi(quarter)
		first, yerr := time.Parse("2006", year)
		if err != nil || yerr != nil || n < 1 || n > 4 {
			return p, false
		}
		first = first.AddDate(0, 3*(n-1), 0)
		return Period{first, first.AddDate(0, 3, -1)}, true
	}
	if first, err := time.Parse("2006", text); err == nil {
		return Period{first, first.AddDate(1, 0, -1)}, true
	}
	first, err := time.Parse("2006-01", text)
	return Period{first, first.AddDate(0, 1, -1)}, err == nil
}

// String returns the period as ParsePeriod reads it, in a form that no
// spreadsheet takes for a date.
func (p Period) String() string {
	return p.First.Format(time.DateOnly) + ".." + p.Last.Format(time.DateOnly)
}

// End is when the period is over.
func (p Period) End() time.Time { return p.Last.Add(day) }

// Days is how many days the period has.
func (p Period) Days() int { return int(p.End().Sub(p.First) / day) }

// Has reports whether a time is in the period.
func (p Period) Has(t time.Time) bool { return !t.Before(p.First) && t.Before(p.End()) }
