package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/ship"
)

// How long shipping a record may take: one that is not required must not hold
// up a run.
const (
	shipTime     = 5 * time.Second
	requiredTime = 30 * time.Second
)

// shipping is where the policy has records sent, for all requests of a run.
type shipping struct {
	places   []ship.Place
	required []string
}

// sending is one record on its way to one place.
type sending struct {
	place string
	done  chan error
}

// newShipping returns nil where records stay in the job's own file. A dry run
// exchanges nothing, and ships nothing.
func newShipping(a *attempt) (*shipping, error) {
	to := a.policy.Audit()
	if a.settings.DryRun || to.OTLP == "" && to.Bucket.Target == "" {
		return nil, nil
	}
	s := &shipping{required: to.Required}
	env := ship.Env{HTTP: a.env.Client(), Now: a.env.Now, Version: a.env.Version}
	if to.OTLP != "" {
		place, err := ship.OTLP(env, a.env.Transport.Network(), a.env.Getenv, to.OTLP)
		if err != nil {
			return nil, err
		}
		s.places = append(s.places, place)
	}
	if to.Bucket.Target != "" {
		target, err := a.policy.Target(to.Bucket.Target)
		if err != nil {
			return nil, err
		}
		w := &bucketWriter{attempt: *a, target: target}
		s.places = append(s.places, ship.Bucket(env, to.Bucket, w.credential))
	}
	return s, nil
}

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
		Part: record.Part(), Failure: record.Failure(), Target: record.Unmapped.Target, Subject: record.User.Name,
	}
	for _, place := range r.shipping.places {
		if place.Name() == "bucket" && r.run.Claims.IsZero() {
			continue // whose credential would write it?
		}
		limit := shipTime
		if slices.Contains(r.shipping.required, place.Name()) {
			limit = requiredTime
		}
		s := sending{place.Name(), make(chan error, 1)}
		r.sent = append(r.sent, s)
		go func() { s.done <- ship.Send(ctx, place, limit, out) }()
	}
}

// settle waits for all that is on its way, and returns what did not arrive.
func (r *records) settle() (failed []error) {
	for _, s := range r.sent {
		if err := <-s.done; err != nil {
			failed = append(failed, unshipped{s.place, err})
		}
	}
	r.sent = nil
	return failed
}

type unshipped struct {
	place string
	error
}

func (u unshipped) Unwrap() error { return u.error }

// shipped waits for all that is on its way. What the policy requires and did
// not arrive is an error; the rest is left for a warning.
func (r *records) shipped() error {
	var missing []error
	for _, err := range r.settle() {
		u := new(unshipped)
		if errors.As(err, u) && slices.Contains(r.shipping.required, u.place) {
			missing = append(missing, err)
		} else {
			r.unsent = append(r.unsent, err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.New(fault.Internal, errors.Join(missing...),
		"the policy requires it (audit.require), so that no credential is handed on without its record")
}

// A bucketWriter gets the credential of the policy's other target, which may
// write the bucket. Its own requests are recorded in the job's file only.
type bucketWriter struct {
	attempt attempt
	target  *policy.Target

	mu   sync.Mutex
	held credential.Credential
}

// credential returns the one that it has until shortly before its expiry.
func (w *bucketWriter) credential(ctx context.Context) (c credential.Credential, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held.Expiry.After(w.attempt.env.Now().Add(time.Minute)) {
		return w.held, nil
	}
	next := w.attempt
	next.target, next.claims, next.held, next.afresh = w.target, idtoken.Claims{}, nil, false
	if next.records, err = w.attempt.records.again(); err != nil {
		return c, err
	}
	next.records.shipping = nil
	defer next.records.close()
	if next.project, err = readProject(ctx, next.env, next.settings, w.target); err != nil {
		return c, err
	}
	next.settings.Broker = false
	if !w.held.Expiry.IsZero() { // a renewal's: see renew
		next.mask = func(secret.Value) error { return nil }
	}
	grant, idToken, err := next.authorize(ctx)
	if rerr := next.records.decision(ctx, next, grant, err); rerr != nil || err != nil {
		return c, errors.Join(rerr, named(w.target, err))
	}
	c, err = next.exchange(ctx, grant, idToken)
	for _, v := range c.Secrets() {
		err = errors.Join(err, next.mask(v))
	}
	if rerr := next.records.outcome(ctx, c, next.project.trace(grant, c), err); rerr != nil || err != nil {
		return credential.Credential{}, errors.Join(rerr, named(w.target, err))
	}
	w.held = c
	return c, nil
}

func named(t *policy.Target, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("target %q: %w", t.Name(), err)
}
