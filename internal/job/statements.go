package job

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/ship"
)

// A statementShipping has the records of a run's statements shipped in the order
// of the file.
type statementShipping struct {
	run ship.Record // what all have in common
	to  []*outbox
	mu  sync.Mutex // from a line's place in the file to its place in the queues
}

// An outbox is the records of statements on their way to one place.
type outbox struct {
	*ship.Queue
	place  string
	limit  time.Duration // of one batch
	cancel context.CancelCauseFunc
	warn   func(error)
	once   sync.Once
}

// shipStatements has what the guard records shipped; nil where records stay in
// the file. Where a required place does not take records, the run is ended: it
// can no longer be recorded.
func (a *attempt) shipStatements() *statementShipping {
	s := a.records.shipping
	if s == nil {
		return nil
	}
	first := a.records.first
	out := &statementShipping{run: ship.Record{
		ID: first.Metadata.CorrelationUID, Class: audit.StatementClass,
		Target: first.Unmapped.Target, Subject: first.User.Name,
	}}
	for _, place := range s.places {
		ctx, cancel := context.WithCancelCause(context.Background())
		o := &outbox{place: place.Name(), limit: s.limit(place), cancel: cancel, warn: a.warn}
		required := slices.Contains(s.required, o.place)
		o.Queue = ship.NewQueue(ship.QueueConfig{
			Required: required,
			Send: func(b ship.Batch) error {
				err := ship.Send(ctx, place, o.limit, b)
				if err != nil && ctx.Err() != nil {
					return ship.Failed(place, context.Cause(ctx))
				}
				return err
			},
			Failed: func(err error) {
				if required && ctx.Err() == nil {
					a.unrecorded(err)
					return
				}
				a.undelivered([]unshipped{{o.place, err}})
			},
		})
		out.to = append(out.to, o)
	}
	s.statements = out.to
	return out
}

// unrecorded ends the run since its statements can no longer be recorded.
func (a *attempt) unrecorded(err error) {
	why := fmt.Errorf("the guard of target %q can no longer record statements, and the run is ended: %w",
		a.target.Name(), err)
	a.settings.Halt(fault.New(fault.Internal, why,
		"the policy requires it (audit.require): no statement goes on without its record"))
}

// append appends the record of a statement, and has it shipped. An error says
// that the statement must not go on.
func (s *statementShipping) append(log *audit.StatementLog, of audit.Statement) error {
	if s == nil {
		_, err := log.Append(of)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := log.Append(of)
	if err != nil {
		return err
	}
	r := s.run
	r.Line, r.Part, r.Time, r.Failure = bytes.TrimSuffix(line.Line, []byte("\n")), line.Part, line.Time, line.Failure
	for _, o := range s.to {
		if err := o.Add(r); err != nil {
			return err
		}
	}
	return nil
}

// end closes the file. What was appended to it is in the queues.
func (s *statementShipping) end(log *audit.StatementLog) error {
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	return log.Close()
}

// leftTime is for what is still on its way to a required place at the run's end:
// post waits half a minute for the process that has it.
const leftTime = 20 * time.Second

// ending bounds what is still on its way at the run's end, from now until the
// returned function is called. An interrupted run has shipTime for it.
func (s *shipping) ending(ctx context.Context) (done func()) {
	if s == nil {
		return func() {}
	}
	var stops []func() bool
	after := func(limit time.Duration, o *outbox) *time.Timer {
		return time.AfterFunc(limit, func() { o.cancel(late(limit)) })
	}
	for _, o := range s.statements {
		stops = append(stops, after(min(o.limit, leftTime), o).Stop, context.AfterFunc(ctx, func() { after(shipTime, o) }))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// close waits for what is on its way to the place, and says what was lost.
func (o *outbox) close() {
	o.once.Do(func() {
		if lost := o.Close(); lost > 0 {
			o.warn(fmt.Errorf("records of statements that did not arrive at %s: %d; the job's audit log has them",
				o.place, lost))
		}
		o.cancel(nil)
	})
}
