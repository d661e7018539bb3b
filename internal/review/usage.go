package review

import (
	"errors"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
)

// A Use is what the records of the period say of a rule.
type Use struct {
	Decisions int       // for it
	Denials   int       // to which it came nearest of its target's rules; of a deny rule: that it made
	Uses      int       // credentials that were issued or renewed
	Last      time.Time // the last decision for it, or of a deny rule the last denial
	// Denied and Observed are statements of its runs that a guard has denied, or
	// would have denied and only observed.
	Denied, Observed int
}

// A Summary is about all records of the period.
type Summary struct {
	Count       int
	First, Last time.Time
	Unreadable  int
	Faults      []string // the first of them, with their places
	// Elsewhere are decisions by a policy that is no version of this one,
	// Former those by rules that are no longer in it.
	Elsewhere, Former int
	Denials           int // that no rule came near to
	// Statements are records of statements, which are not among Count. Refused
	// are those of them that a guard has denied or observed, and that belong to no rule of today.
	Statements, Refused int
	Unmatched           int // credentials whose decision was not close enough to be found
	Repositories        []Repository
	Omitted             int // records of repositories after the first 100,000
}

// A Repository is one that records are of.
type Repository struct {
	Name        string
	Records     int
	First, Last time.Time
	DaysWith    int       // days of the period with records
	Gap         int       // the longest time without records between the first and the last, in days
	GapFirst    time.Time // its first day
}

const (
	// maxFaults bounds the lines that are named: all are counted.
	maxFaults = 10
	// maxRepositories bounds the memory: one takes about 200 bytes.
	maxRepositories = 100_000
	// maxPending is how many decisions wait for their outcome. They are next to
	// each other, but for jobs that write to one file at once.
	maxPending = 1 << 16
)

// place is where a rule is in some version of the policy.
type place struct {
	sha256, target string
	rule           int // from 1
}

// A counter adds records up, in memory that does not grow with their number.
type counter struct {
	access       *Access
	lines        map[place]*Line // nil for a rule that is no longer there
	known        map[string]bool // versions of the policy, by hash
	pending      map[string]*Line
	order        []string // of pending, a ring
	next         int
	found        Summary
	repositories map[string]*days
}

// days are those of the period on which a repository has records.
type days struct {
	records     int
	first, last time.Time
	with        [maxPeriod/64 + 1]uint64
}

func newCounter(a *Access, now rules, versions []rules) *counter {
	c := &counter{
		access: a, lines: map[place]*Line{}, known: map[string]bool{}, pending: map[string]*Line{}, order: make([]string, maxPending),
		repositories: map[string]*days{},
	}
	type own struct {
		target string
		sum    sum
	}
	today := map[own]*Line{}
	for i := range a.Lines {
		l := &a.Lines[i]
		if list := now.single[l.Target]; l.Rule > 0 && l.Rule <= len(list) {
			today[own{l.Target, list[l.Rule-1].sum}] = l
		}
	}
	for _, v := range versions {
		c.known[v.sha256] = true
		for target, list := range v.single {
			for i, r := range list {
				c.lines[place{v.sha256, target, i + 1}] = today[own{target, r.sum}]
			}
		}
	}
	return c
}

// all reads the records. Lines that are none are counted.
func (c *counter) all(records iter.Seq2[auditlog.Entry, error]) error {
	for e, err := range records {
		var fault *auditlog.Fault
		switch {
		case errors.As(err, &fault):
			c.found.Unreadable++
			if len(c.found.Faults) < maxFaults {
				c.found.Faults = append(c.found.Faults, printableWhole(fault.Error()))
			}
		case err != nil:
			return err
		case !c.access.Period.Has(e.Record.At()):
			if e.Record.Unmapped.Decision == "allowed" {
				c.remember(nil, e.Record.Metadata.CorrelationUID) // its credential may be of the period
			}
		case e.Record.IsStatement():
			c.statement(&e.Record)
		default:
			c.add(&e.Record)
		}
	}
	return nil
}

func (c *counter) add(r *auditlog.Record) {
	at := r.At()
	c.found.Count++
	if c.found.First.IsZero() || at.Before(c.found.First) {
		c.found.First = at
	}
	if at.After(c.found.Last) {
		c.found.Last = at
	}
	c.addRepository(r.Repository(), at)
	u := &r.Unmapped
	switch {
	case u.Decision != "" && !c.known[u.PolicySHA256]:
		c.found.Elsewhere++
		if u.Decision == "allowed" {
			c.remember(nil, r.Metadata.CorrelationUID)
		}
	case u.Decision == "allowed" && u.Rule != nil:
		c.allowed(c.line(r, u.Target, u.Rule.Number), r.Metadata.CorrelationUID, at)
	case u.Decision == "denied":
		c.denied(r, at)
	case u.Outcome == "issued" || u.Outcome == "renewed":
		l, ok := c.pending[r.Metadata.CorrelationUID]
		switch delete(c.pending, r.Metadata.CorrelationUID); {
		case ok && l != nil:
			l.Use.Uses++
		case !ok:
			c.found.Unmatched++
		}
	}
}

// statement counts what a guard has decided on a statement.
func (c *counter) statement(r *auditlog.Record) {
	c.found.Statements++
	s, rule := r.Unmapped.Statement, r.Unmapped.Rule
	if s == nil || s.Decision != "denied" && s.Decision != "observed" {
		return
	}
	var l *Line
	if rule != nil {
		l = c.line(r, r.Unmapped.Target, rule.Number)
	}
	switch {
	case l == nil:
		c.found.Refused++
	case s.Decision == "denied":
		l.Use.Denied++
	default:
		l.Use.Observed++
	}
}

// line returns the rule of today that is a rule of the record's policy, nil for none.
func (c *counter) line(r *auditlog.Record, target string, rule int) *Line {
	return c.lines[place{r.Unmapped.PolicySHA256, target, rule}]
}

func (c *counter) allowed(l *Line, id string, at time.Time) {
	if l == nil {
		c.found.Former++
	} else {
		l.Use.Decisions++
		l.Use.Last = later(l.Use.Last, at)
	}
	c.remember(l, id)
}

// remember keeps a decision until its outcome: the rule, or nil for none of today.
func (c *counter) remember(l *Line, id string) {
	delete(c.pending, c.order[c.next])
	c.order[c.next], c.next = id, (c.next+1)%maxPending
	c.pending[id] = l
}

// denied counts a denial for the rule that came nearest: the one with the fewest
// claims that did not match, and of several the first.
func (c *counter) denied(r *auditlog.Record, at time.Time) {
	var l *Line
	if rule, ok := denyRule(r.StatusDetail); ok {
		if l = c.line(r, denyTarget, rule); l != nil {
			l.Use.Last = later(l.Use.Last, at)
		}
	} else if rule := nearest(r.Unmapped.Mismatches); rule > 0 {
		l = c.line(r, r.Unmapped.Target, rule)
	}
	if l == nil {
		c.found.Denials++
		return
	}
	l.Use.Denials++
}

// nearest returns the number of the rule with the fewest mismatches, 0 for none.
func nearest(mismatches []auditlog.Mismatch) (rule int) {
	best := 0
	for i := 0; i < len(mismatches); {
		number, count := mismatches[i].Number, 0
		for ; i < len(mismatches) && mismatches[i].Number == number; i++ {
			count++
		}
		if rule == 0 || count < best {
			rule, best = number, count
		}
	}
	return rule
}

// denyRule returns the number of the deny rule that a denial's reason names.
func denyRule(reason string) (number int, ok bool) {
	text, ok := strings.CutPrefix(reason, "deny rule ")
	text, _, _ = strings.Cut(text, " ")
	number, err := strconv.Atoi(text)
	return number, ok && err == nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (c *counter) addRepository(name string, at time.Time) {
	if name == "" {
		return
	}
	d := c.repositories[name]
	if d == nil {
		if len(c.repositories) == maxRepositories {
			c.found.Omitted++
			return
		}
		d = &days{first: at, last: at}
		c.repositories[name] = d
	}
	d.records++
	if at.Before(d.first) {
		d.first = at
	}
	d.last = later(d.last, at)
	n := int(at.Sub(c.access.Period.First) / day)
	d.with[n/64] |= 1 << (n % 64)
}

func (c *counter) summary() Summary {
	for _, name := range slices.Sorted(maps.Keys(c.repositories)) {
		d := c.repositories[name]
		r := Repository{Name: printable(name), Records: d.records, First: d.first, Last: d.last}
		last := -1
		for n := range c.access.Period.Days() {
			if d.with[n/64]&(1<<(n%64)) == 0 {
				continue
			}
			if gap := n - last - 1; last >= 0 && gap > r.Gap {
				r.Gap, r.GapFirst = gap, c.access.Period.First.AddDate(0, 0, last+1)
			}
			last = n
		}
		for _, word := range d.with {
			r.DaysWith += bits.OnesCount64(word)
		}
		c.found.Repositories = append(c.found.Repositories, r)
	}
	return c.found
}
