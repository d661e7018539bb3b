package auditlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
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
	Conflict       = "conflicting-record"
	NoStatement    = "statement-missing"
	Backwards      = "time-backwards"
	Ahead          = "time-ahead"
	TooLong        = "lifetime-exceeded"
	ReviewOverdue  = "review-overdue"
	RuleUnused     = "rule-unused"
)

var severities = map[string]Severity{
	DamagedLine: Medium, InvalidRecord: Medium, UnknownOutcome: Medium, NoDecision: High, AfterDenial: High,
	Duplicate: Medium, Conflict: High, NoStatement: High,
	Backwards: Low, Ahead: Medium, TooLong: High, ReviewOverdue: Medium, RuleUnused: Low,
}

// skew is how far apart clocks may be.
const skew = time.Minute

// tokenLife is when an ID token ends whose record does not say: no CI system
// gives one that lives longer.
const tokenLife = time.Hour

// maxFindings bounds what a damaged log fills the memory with.
const maxFindings = 10_000

// A Verification is what was found in records. Its memory grows by about 60
// bytes for each run: what a run's records said must be known to its end.
type Verification struct {
	Records, Runs, Denied, Issued int
	Failed                        int // before a decision, or after it
	Statements                    int // records of statements, which are Records, too
	Pending                       int // allowed, without an outcome that is due yet
	First, Last                   time.Time
	Findings                      []Finding
	Omitted                       int // findings beyond those

	longest func(r *Record) time.Duration
	checker checker
	runs    map[runKey]runState
	open    map[runKey]Finding // allowed, and no outcome so far; Time is when it is due
	orphans map[runKey]orphan  // outcomes without a decision so far
	series  map[runKey]series  // of runs with statements
	seed    maphash.Seed
	file    string
	before  time.Time // the record before in this file
	latest  Finding   // about the record of Last
}

type runKey [16]byte

// An orphan is an outcome without a decision, and what is found if there is none.
type orphan struct {
	Finding
	outcome string
}

// A runState is what a run's records have said.
type runState struct {
	flags stateFlags
	said  [5]uint16 // a part of the hash of each record, and of the decision's grounds: see Verification.said
}

type stateFlags uint8

const (
	decided stateFlags = 1 << iota
	loggedOn
	loggedOff
	halted
	refused
	barren // it ended without a credential
)

// A part is a record that a run has once: the index of what it said, and the flag
// that there is one.
type part struct {
	index int
	flag  stateFlags
}

// grounds is no record, but what statements must have in common with the decision.
var grounds = part{index: 4}

// parts are those by their activity, but for the one that a run was stopped.
var parts = map[int]part{6: {0, decided}, 1: {1, loggedOn}, 2: {2, loggedOff}}

func partOf(r *Record) part {
	if r.isHalt() {
		return part{3, halted}
	}
	return parts[r.ActivityID]
}

// said is what two copies of a record have in common, in all forms in which a
// collector may have written them again. Its hash has a seed, so that no one can
// make another record of the same hash.
func (v *Verification) said(r *Record) uint16 {
	rule := -1
	if r.Unmapped.Rule != nil {
		rule = r.Unmapped.Rule.Index
	}
	return uint16(maphash.Comparable(v.seed, struct {
		time                                        int64
		decision, outcome, target, subject, service string
		status, detail, policy, token               string
		rule                                        int
		session                                     Session
	}{r.Time, r.Unmapped.Decision, r.Unmapped.Outcome, r.Unmapped.Target, r.User.Name, r.Service.Name, r.StatusCode, r.StatusDetail,
		r.Unmapped.PolicySHA256, r.Actor.Session.UID, rule, r.Session}))
}

// NewVerification returns one of nothing. longest, if it is not nil, says how
// long a credential may live, 0 for no limit.
func NewVerification(longest func(r *Record) time.Duration) *Verification {
	return &Verification{longest: longest, checker: checker{recordForm(), statementForm()}, runs: map[runKey]runState{},
		open: map[runKey]Finding{}, orphans: map[runKey]orphan{}, series: map[runKey]series{}, seed: maphash.MakeSeed()}
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
	if at.Equal(v.Last) {
		v.latest = v.about(e, Ahead, "")
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

// isBarren reports whether r says that a run ended without a credential.
func isBarren(r *Record) bool {
	return r.Unmapped.Outcome == "failed" || r.Unmapped.Outcome == "skipped" || r.Unmapped.Outcome == "stopped" && !r.isHalt()
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
	if r.Unmapped.Outcome == "turned_away" { // neither a decision nor the outcome of one
		v.runs[key] = state
		return
	}
	part, said := partOf(r), v.said(r)
	switch {
	case state.flags&part.flag == 0:
	case state.said[part.index] != said:
		v.found(v.about(e, Conflict, fmt.Sprintf("there is another record %q, which says something else", r.Metadata.UID)))
		return
	default:
		v.found(v.about(e, Duplicate, fmt.Sprintf("record %q is there twice", r.Metadata.UID)))
		return
	}
	state.flags |= part.flag
	state.said[part.index] = said
	if isBarren(r) {
		state.flags |= barren
	}
	if part.flag == decided {
		state.said[grounds.index] = v.grounds(r)
		state.flags = v.decision(e, key, state.flags)
	} else {
		v.outcome(e, key, state.flags)
	}
	v.runs[key] = state
}

func (v *Verification) decision(e Entry, key runKey, state stateFlags) stateFlags {
	r := &e.Record
	if r.Unmapped.Decision == "denied" {
		v.Denied++
		state |= refused
	}
	if orphan, ok := v.orphans[key]; ok {
		delete(v.orphans, key)
		if state&refused != 0 {
			orphan.Name, orphan.Message = AfterDenial, afterDenial(orphan.outcome)
			v.found(orphan.Finding)
		}
		if orphan.Time.Before(r.At().Add(-skew)) {
			v.found(v.about(e, Backwards, "the decision is younger than its outcome"))
		}
	}
	if state&(refused|loggedOn|loggedOff) == 0 {
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

// afterDenial says what came of a request that was denied.
func afterDenial(outcome string) string {
	if outcome == "issued" || outcome == "renewed" {
		return "a credential was issued, and the decision was a denial"
	}
	return fmt.Sprintf("outcome %q, and the decision was a denial", outcome)
}

func (v *Verification) outcome(e Entry, key runKey, state stateFlags) {
	r := &e.Record
	got := r.Unmapped.Outcome == "issued" || r.Unmapped.Outcome == "renewed"
	if got {
		v.Issued++
		v.lifetime(e)
	}
	failed := isBarren(r) && r.Unmapped.Outcome != "skipped"
	if failed {
		v.Failed++
	}
	if !r.isHalt() {
		delete(v.open, key)
	}
	switch {
	case failed: // a run may fail before its decision
	case state&refused != 0:
		v.found(v.about(e, AfterDenial, afterDenial(r.Unmapped.Outcome)))
	case state&decided == 0:
		if _, ok := v.orphans[key]; !ok {
			v.orphans[key] = orphan{
				v.about(e, NoDecision, fmt.Sprintf("outcome %q, and no record of a decision", r.Unmapped.Outcome)), r.Unmapped.Outcome,
			}
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
	late := v.statements()
	if f := v.latest; f.Time.After(now.Add(skew)) { // the last of them tells: a run in the future has no outcome that is due
		f.Message = fmt.Sprintf("is %s later than now", f.Time.Sub(now).Round(time.Second))
		late = append(late, f)
	}
	for _, f := range v.open {
		if f.Time.Before(now) {
			late = append(late, f)
		} else {
			v.Pending++
		}
	}
	for _, o := range v.orphans {
		late = append(late, o.Finding)
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
