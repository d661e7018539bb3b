package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/ship"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// How long shipping a record may take: one that is not required must not hold
// up a run, nor any a run that was interrupted.
const (
	shipTime     = 5 * time.Second
	requiredTime = 30 * time.Second
)

// shipping is where the policy has records sent, for all requests of a run.
type shipping struct {
	places     []ship.Place
	required   []string
	writer     *bucketWriter  // nil for no bucket
	background sync.WaitGroup // what nothing waits for before the run's end
	statements []*outbox      // of a run with a guard

	mu   sync.Mutex
	told map[string][]string // by place, the failures that were warned of
}

// limit is how long shipping to a place may take.
func (s *shipping) limit(p ship.Place) time.Duration {
	if slices.Contains(s.required, p.Name()) {
		return requiredTime
	}
	return shipTime
}

// sending is one record on its way to one place.
type sending struct {
	place string
	done  chan error
}

// newShipping returns nil where records stay in the job's own file. A dry run
// exchanges nothing, and ships nothing.
func newShipping(ctx context.Context, a *attempt) (*shipping, error) {
	to := a.policy.Audit()
	if a.settings.DryRun || to.OTLP == "" && to.Bucket.Target == "" {
		return nil, nil
	}
	s := &shipping{required: to.Required, told: map[string][]string{}}
	env := ship.Env{
		HTTP: a.env.Client(), Now: a.env.Now, Version: a.env.Version, Dir: a.env.Dir,
		Trusted: func(path string) error { return checkRoots(ctx, a.env, a.settings, path) },
	}
	if to.OTLP != "" {
		place, hidden, err := ship.OTLP(env, a.env.Transport.Network(), a.env.Getenv, to.OTLP)
		if err != nil {
			return nil, err
		}
		for _, v := range hidden {
			if err := a.mask(v); err != nil {
				return nil, err
			}
		}
		s.places = append(s.places, place)
	}
	if to.Bucket.Target != "" {
		target, err := a.policy.Target(to.Bucket.Target)
		if err != nil {
			return nil, err
		}
		s.writer = &bucketWriter{attempt: *a, target: target}
		s.places = append(s.places, ship.Bucket(env, to.Bucket, s.writer.credential))
	}
	return s, nil
}

// running is called when the run's own command may print: see renew.
func (s *shipping) running() {
	if s == nil || s.writer == nil {
		return
	}
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	s.writer.attempt.mask = func(secret.Value) error { return nil }
}

// wait waits for what is on its way in the background.
func (s *shipping) wait() {
	if s == nil {
		return
	}
	for _, o := range s.statements {
		o.close()
	}
	s.background.Wait()
}

// mostTold is how many different failures of one place are warned of: a server
// may word each of its replies differently.
const mostTold = 3

// news returns those failures that were not warned of yet: a run of hours must
// not repeat for each renewal that a collector is down.
func (s *shipping) news(failed []unshipped) (fresh []error) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range failed {
		told := s.told[u.place]
		if len(told) < mostTold && !slices.Contains(told, u.Error()) {
			s.told[u.place] = append(told, u.Error())
			fresh = append(fresh, u.error)
		}
	}
	return fresh
}

var errUnverified = errors.New("no ID token was verified, so that there is no credential to write it with")

// ship sends a record to all places at once, in the background.
func (r *records) ship(ctx context.Context, record audit.Record) {
	if r.shipping == nil {
		return
	}
	line, err := record.Line()
	if err != nil {
		return // it was appended to the log by the same function
	}
	out := ship.Record{
		Line: bytes.TrimSuffix(line, []byte("\n")), Time: time.UnixMilli(record.Time), ID: record.Metadata.CorrelationUID,
		Part: record.Part(), Class: record.ClassUID, Failure: record.Failure(), Target: record.Unmapped.Target, Subject: record.User.Name,
	}
	for _, place := range r.shipping.places {
		limit := r.shipping.limit(place)
		if r.aside {
			limit = shipTime
		}
		s := sending{place.Name(), make(chan error, 1)}
		r.sent = append(r.sent, s)
		if place.Name() == "bucket" && r.run.Claims.IsZero() {
			s.done <- ship.Failed(place, errUnverified)
			continue
		}
		go func() { s.done <- r.send(ctx, place, limit, out.Alone()) }()
	}
}

// send sends a record to a place. An interrupted run has shipTime for it.
func (r *records) send(ctx context.Context, place ship.Place, limit time.Duration, out ship.Batch) error {
	ctx, cancel := lasting(ctx)
	defer cancel()
	if r.tries > 0 { // a budget of its own: that of a renewal tells when the provider wants to be asked again
		ctx, _ = web.WithBudget(ctx, r.tries)
	}
	err := ship.Send(ctx, place, limit, out)
	if err != nil && ctx.Err() != nil {
		return ship.Failed(place, late(shipTime))
	}
	return err
}

// late is the error of what has not arrived so long after the run's end.
func late(limit time.Duration) error { return fmt.Errorf("not done within %s of the run's end", limit) }

// lasting returns a context that goes on for shipTime after ctx has ended: the
// record of an interrupted run is shipped, too.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(shipTime, cancel)
		context.AfterFunc(out, func() { timer.Stop() })
	})
	return out, func() {
		stop()
		cancel()
	}
}

// An unshipped is the error of a record that did not arrive at a place.
type unshipped struct {
	place string
	error
}

func (u unshipped) Unwrap() error { return u.error }

// settle waits for all that is on its way, and returns what did not arrive.
func (r *records) settle() (failed []unshipped) {
	for _, s := range r.sent {
		if err := <-s.done; err != nil {
			failed = append(failed, unshipped{s.place, err})
		}
	}
	r.sent = nil
	return failed
}

// shipped waits for all that is on its way. What did not arrive is left for a
// warning; if issued, what the policy requires is an error.
func (r *records) shipped(issued bool) error {
	var missing []string
	for _, u := range r.settle() {
		switch text := fault.WithHint(u.error); {
		case !issued || !slices.Contains(r.shipping.required, u.place):
			r.unsent = append(r.unsent, u)
		case !slices.Contains(missing, text): // both records may have met the same
			missing = append(missing, text)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	// Of a class of its own: the run was not denied, and a renewal is tried again.
	return fault.New(fault.Internal, errors.New(strings.Join(missing, "\n")),
		"the policy requires it (audit.require): no credential is handed on without its records")
}

// A bucketWriter gets the credential of the policy's other target, which may
// write the bucket. Its own requests are recorded in the job's file only.
type bucketWriter struct {
	target *policy.Target

	mu      sync.Mutex
	attempt attempt // as it was before anything was asked for
	held    credential.Credential
	denied  error // for the whole run: each further try would be another denial in the log
}

// credential returns the one that it has until shortly before its expiry.
func (w *bucketWriter) credential(ctx context.Context) (credential.Credential, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.denied != nil:
		return credential.Credential{}, w.denied
	case w.held.Expiry.After(w.attempt.env.Now().Add(time.Minute)):
		return w.held, nil
	}
	c, err := w.get(ctx)
	if err != nil {
		err = fmt.Errorf("target %q: %w", w.target.Name(), err)
		if fault.ClassOf(err) == fault.Denied {
			w.denied = err
		}
		return credential.Credential{}, err
	}
	w.held = c
	return c, nil
}

// get goes the whole way of a run, for the writer's target.
func (w *bucketWriter) get(ctx context.Context) (c credential.Credential, err error) {
	next := w.attempt
	next.target, next.claims, next.held, next.jitter, next.settings.Broker = w.target, idtoken.Claims{}, nil, 0, false
	if next.records, err = w.attempt.records.again(); err != nil {
		return c, err
	}
	defer next.records.close()
	run := next.records.run
	next.records.shipping, next.records.run = nil, audit.Run{
		ID: run.ID, Version: run.Version, PolicyOrigin: run.PolicyOrigin, PolicySHA256: run.PolicySHA256, ExtraCA: run.ExtraCA,
	}
	if next.project, err = readProject(ctx, next.env, next.settings, w.target); err != nil {
		return c, err
	}
	grant, idToken, err := next.authorize(ctx)
	if rerr := next.records.decision(ctx, next, grant, err); rerr != nil || err != nil {
		return c, errors.Join(rerr, err)
	}
	c, err = next.exchange(ctx, grant, idToken)
	for _, v := range c.Secrets() {
		err = errors.Join(err, next.mask(v))
	}
	rerr := next.records.outcome(ctx, c, next.project.trace(grant, c), err)
	return c, errors.Join(rerr, err)
}
