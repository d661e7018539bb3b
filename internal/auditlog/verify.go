package auditlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Finding is something in records that must be looked into.
type Finding struct {
	Name     string // one of Names
	Message  string
	File     string // "" where it is about no line
	Line     int
	Run      string // the correlation id
	Target   string
	Rule     int // from 1; 0 for none
	Subject  string
	Time     time.Time // of the record, or the last use of the rule; zero for none
	Severity Severity
}

// Severity is OCSF's severity_id.
type Severity int

// The severities that findings have.
const (
	Low    Severity = 2
	Medium Severity = 3
	High   Severity = 4
)

// String returns OCSF's word in lower case.
func (s Severity) String() string {
	return map[Severity]string{Low: "low", Medium: "medium", High: "high"}[s]
}

// The names of findings are stable: docs/audit.md explains each.
const (
	DamagedLine    = "damaged-line"
	InvalidRecord  = "invalid-record"
	UnknownOutcome = "unknown-outcome"
	NoDecision     = "outcome-without-decision"
	AfterDenial    = "issued-after-denial"
	Duplicate      = "duplicate-record"
	Backwards      = "time-backwards"
	TooLong        = "lifetime-exceeded"
	ReviewOverdue  = "review-overdue"
	RuleUnused     = "rule-unused"
)

var severities = map[string]Severity{
	DamagedLine: Medium, InvalidRecord: Medium, UnknownOutcome: Medium, NoDecision: High, AfterDenial: High,
	Duplicate: Medium,
	Backwards: Low, TooLong: High, ReviewOverdue: Medium, RuleUnused: Low,
}

// skew is how far apart clocks may be.
const skew = time.Minute

// tokenLife is when an ID token ends whose record does not say: no CI system
// gives one that lives longer.
const tokenLife = time.Hour

// maxFindings bounds what a damaged log fills the memory with.
const maxFindings = 10_000

// A Verification is what was found in records. Its memory grows by about 40
// bytes for each run: whether a run was decided must be known to its end.
type Verification struct {
	Records, Runs, Denied, Issued int
	Statements                    int // records of statements, which are Records, too
	Pending                       int // allowed, without an outcome that is due yet
	First, Last                   time.Time
	Findings                      []Finding
	Omitted                       int // findings beyond those

	longest func(r *Record) time.Duration
	checker checker
	runs    map[runKey]runState
	open    map[runKey]Finding // allowed, and no outcome so far; Time is when it is due
	orphans map[runKey]Finding // outcomes without a decision so far
	file    string
	before  time.Time // the record before in this file
}

type runKey [16]byte

type runState uint8

const (
	decided runState = 1 << iota
	refused
	loggedOn
	loggedOff
)

// NewVerification returns one of nothing. longest, if it is not nil, says how
// long a credential may live, 0 for no limit.
func NewVerification(longest func(r *Record) time.Duration) *Verification {
	return &Verification{longest: longest, checker: checker{recordForm(), statementForm()}, runs: map[runKey]runState{},
		open: map[runKey]Finding{}, orphans: map[runKey]Finding{}}
}

// Add takes what Read yields. The error is one that ended the reading.
func (v *Verification) Add(e Entry, err error) error {
	var f *Fault
	if errors.As(err, &f) {
		v.found(Finding{Name: DamagedLine, Message: f.Err.Error(), File: f.File, Line: f.Line})
		return nil
	}
	if err != nil {
		return err
	}
	r := &e.Record
	at := r.At()
	v.Records++
	if v.First.IsZero() || at.Before(v.First) {
		v.First = at
	}
	if at.After(v.Last) {
		v.Last = at
	}
	if err := v.checker.check(e.Text, r); err != nil {
		v.found(v.about(e, InvalidRecord, err.Error()))
		return nil // what it says of a run proves nothing
	}
	if v.file == e.File && at.Before(v.before.Add(-skew)) {
		back := v.before.Sub(at).Round(time.Second)
		v.found(v.about(e, Backwards, fmt.Sprintf("is %s older than the record before it", back)))
	}
	v.file, v.before = e.File, at
	if r.IsStatement() {
		v.statement(e)
	} else {
		v.run(e)
	}
	return nil
}

// about returns a finding about a record.
func (v *Verification) about(e Entry, name, message string) Finding {
	r := &e.Record
	return Finding{Name: name, Message: message, File: e.File, Line: e.Line,
		Run: r.Metadata.CorrelationUID, Target: r.Unmapped.Target, Subject: r.User.Name, Time: r.At()}
}

func (v *Verification) found(f Finding) {
	if len(v.Findings) == maxFindings {
		v.Omitted++
		return
	}
	f.Severity = severities[f.Name]
	v.Findings = append(v.Findings, f)
}

// Found adds a finding that is not about a line.
func (v *Verification) Found(f Finding) { v.found(f) }

func keyOf(r *Record) runKey {
	sum := sha256.Sum256([]byte(r.Metadata.CorrelationUID))
	return runKey(sum[:16])
}

// run follows a run from its decision to its end.
func (v *Verification) run(e Entry) {
	r := &e.Record
	key := keyOf(r)
	state, known := v.runs[key]
	if !known {
		v.Runs++
	}
	if r.Unmapped.Outcome == "turned_away" { // any number of these has the run's id
		v.runs[key] = state
		return
	}
	part := map[int]runState{1: loggedOn, 2: loggedOff, 6: decided}[r.ActivityID]
	if state&part != 0 {
		v.found(v.about(e, Duplicate, fmt.Sprintf("record %q is there twice", r.Metadata.UID)))
		return
	}
	state |= part
	if part == decided {
		state = v.decision(e, key, state)
	} else {
		v.outcome(e, key, state)
	}
	v.runs[key] = state
}

func (v *Verification) decision(e Entry, key runKey, state runState) runState {
	r := &e.Record
	if r.Unmapped.Decision == "denied" {
		v.Denied++
		state |= refused
	}
	if orphan, ok := v.orphans[key]; ok {
		delete(v.orphans, key)
		if state&refused != 0 {
			orphan.Name, orphan.Message = AfterDenial, issuedAfterDenial
			v.found(orphan)
		}
		if orphan.Time.Before(r.At().Add(-skew)) {
			v.found(v.about(e, Backwards, "the decision is younger than its outcome"))
		}
	}
	if state&(refused|loggedOn) == 0 {
		f := v.about(e, UnknownOutcome, "allowed, and no record of the outcome: whether a credential was issued is unknown")
		f.Time = due(r)
		v.open[key] = f
	}
	return state
}

// due returns when a decision must have its outcome: nothing is exchanged for
// an ID token that has expired.
func due(r *Record) time.Time {
	expires := r.Actor.Session.Expires()
	if expires.IsZero() {
		expires = r.At().Add(tokenLife)
	}
	return expires.Add(skew)
}

const issuedAfterDenial = "a credential was issued, and the decision was a denial"

func (v *Verification) outcome(e Entry, key runKey, state runState) {
	r := &e.Record
	got := r.Unmapped.Outcome == "issued" || r.Unmapped.Outcome == "renewed"
	if got {
		v.Issued++
		v.lifetime(e)
	}
	delete(v.open, key)
	switch {
	case state&refused != 0 && got:
		v.found(v.about(e, AfterDenial, issuedAfterDenial))
	case state&decided == 0 && r.Unmapped.Outcome != "failed": // a run may fail before its decision
		if _, ok := v.orphans[key]; !ok {
			v.orphans[key] = v.about(e, NoDecision, fmt.Sprintf("outcome %q, and no record of a decision", r.Unmapped.Outcome))
		}
	}
}

func (v *Verification) lifetime(e Entry) {
	r := &e.Record
	expires := r.Session.Expires()
	if v.longest == nil || expires.IsZero() || r.Unmapped.Static { // a static secret has no end
		return
	}
	life := expires.Sub(r.At()).Round(time.Second)
	if most := v.longest(r); most > 0 && life > most+skew {
		v.found(v.about(e, TooLong, fmt.Sprintf("the credential lives %s, and max_lifetime is %s", life, most)))
	}
}

// End judges what is still open at now. Add nothing after it.
func (v *Verification) End(now time.Time) {
	var late []Finding
	for _, f := range v.open {
		if f.Time.Before(now) {
			late = append(late, f)
		} else {
			v.Pending++
		}
	}
	for _, f := range v.orphans {
		late = append(late, f)
	}
	slices.SortFunc(late, func(a, b Finding) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return a.Line - b.Line
	})
	for _, f := range late {
		v.found(f)
	}
}
