package auditlog

import (
	"slices"
	"time"
)

// A Run is what the records of one request say: the decision and what came of it.
type Run struct {
	ID       string
	Time     time.Time // of its first record
	Records  []Entry   // without their Text, the decision first where there is one
	Decision string    // "allowed", "denied", "" where no record says
	Outcomes []string
}

// maxOpenRuns bounds how many runs wait for further records. A file has the
// records of a run close to each other, but for the end of a lease.
const maxOpenRuns = 1000

// A Grouping puts the records of each run together, in the order of their
// first records. A run whose records are more than 1,000 runs apart is there twice.
type Grouping struct {
	runs  map[string]*Run
	order []*Run
}

// Add takes a record, and returns a run that is complete, nil for none.
func (g *Grouping) Add(e Entry) (done *Run) {
	e.Text = nil
	id := e.Record.Metadata.CorrelationUID
	run, ok := g.runs[id]
	if !ok {
		if g.runs == nil {
			g.runs = map[string]*Run{}
		}
		if len(g.order) == maxOpenRuns {
			done, g.order = g.order[0], g.order[1:]
			delete(g.runs, done.ID)
		}
		run = &Run{ID: id, Time: e.Record.At()}
		g.runs[id], g.order = run, append(g.order, run)
	}
	run.add(e)
	return done
}

// maxRunRecords bounds what one run keeps: it has three records, and one a
// minute while the broker is asked without the run's secret.
const maxRunRecords = 2000

func (r *Run) add(e Entry) {
	if len(r.Records) == maxRunRecords {
		return
	}
	if u := e.Record.Unmapped; u.Decision != "" {
		r.Decision = u.Decision
		r.Records = slices.Insert(r.Records, 0, e)
	} else {
		r.Records = append(r.Records, e)
		if len(r.Outcomes) == 0 || r.Outcomes[len(r.Outcomes)-1] != u.Outcome {
			r.Outcomes = append(r.Outcomes, u.Outcome)
		}
	}
	if at := e.Record.At(); at.Before(r.Time) {
		r.Time = at
	}
}

// Rest returns the runs that Add has not returned.
func (g *Grouping) Rest() []*Run {
	rest := g.order
	g.runs, g.order = nil, nil
	return rest
}

// Unknown reports whether a credential may have been issued without a record
// of it: the run was allowed, and its ID token has expired since.
func (r *Run) Unknown(now time.Time) bool {
	of := func(e Entry) bool {
		o := e.Record.Unmapped.Outcome
		return o != "" && o != "turned_away" && !e.Record.isHalt()
	}
	if r.Decision != "allowed" || slices.ContainsFunc(r.Records, of) {
		return false
	}
	return due(&r.Records[0].Record).Before(now)
}
