// Package review says when the trust of each target must be reviewed again, and who changed its
// rules last.
//
// The dates are the policy's, the history is git's. It changes nothing: a
// review is a person's work, and ends with a new date in the policy.
package review

import (
	"context"
	"slices"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

const day = 24 * time.Hour

// An Input is what the reviews are judged by.
type Input struct {
	Policy  *policy.Policy
	Targets []string // none for all of the policy
	Path    string   // of the policy's file; "" for a policy that is no file
	Environ []string // for git
	Now     time.Time
	Within  time.Duration // a review that is due within it counts as due
	// Unenforced returns what the target's provider cannot enforce, so that a
	// reviewer knows where only the policy protects. nil leaves the column out.
	Unenforced func(*policy.Target) []string
}

// A State is how urgent a review is.
type State string

// The states, the most urgent first.
const (
	Never   State = "never"   // there was none
	Overdue State = "overdue" // runs warn, or are denied
	Due     State = "due"     // soon
	Current State = "current"
)

// A Report is about the targets of a policy, those first whose review is most urgent.
type Report struct {
	Now     time.Time
	Within  time.Duration
	Targets []Target
	// WithUnenforced says whether the targets' Unenforced is known.
	WithUnenforced bool
}

// A Target is one that must be reviewed.
type Target struct {
	Name       string
	Provider   string
	Reviewed   time.Time // the day of the last review; the zero time for none
	Due        time.Time // when the next one is; the zero time where there was none
	State      State
	Days       int // until Due; negative where it is past
	Changed    Change
	Unenforced []string
}

// Due returns how many targets must be reviewed now, or within the time that was asked for.
func (r Report) Due() (count int) {
	for _, t := range r.Targets {
		if t.State != Current {
			count++
		}
	}
	return count
}

// New looks at the targets of a policy. An error is of class Usage: a target
// that the policy does not have. What git cannot say is said in the report.
func New(ctx context.Context, in Input) (Report, error) {
	names := in.Targets
	if len(names) == 0 {
		names = in.Policy.Targets()
	}
	var targets []*policy.Target
	for _, name := range names {
		t, err := in.Policy.Target(name)
		if err != nil {
			return Report{}, err
		}
		if !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	r := Report{Now: in.Now.UTC(), Within: in.Within, WithUnenforced: in.Unenforced != nil}
	for i, change := range changes(ctx, in, targets) {
		t := judge(targets[i], in)
		t.Changed = change
		if in.Unenforced != nil {
			t.Unenforced = in.Unenforced(targets[i])
		}
		r.Targets = append(r.Targets, t)
	}
	slices.SortStableFunc(r.Targets, func(a, b Target) int { return a.Due.Compare(b.Due) }) // none is the zero time
	return r, nil
}

// judge compares a target's dates with today. A review is overdue when a run
// says so.
func judge(of *policy.Target, in Input) Target {
	t := Target{Name: of.Name(), Provider: of.Provider(), Reviewed: of.TrustReviewed(), State: Never}
	if t.Reviewed.IsZero() {
		return t
	}
	t.Due = t.Reviewed.Add(of.ReviewAge())
	t.Days = int(t.Due.Truncate(day).Sub(in.Now.UTC().Truncate(day)) / day)
	switch {
	case in.Now.After(t.Due):
		t.State = Overdue
	case !t.Due.After(in.Now.Add(in.Within)):
		t.State = Due
	default:
		t.State = Current
	}
	return t
}
