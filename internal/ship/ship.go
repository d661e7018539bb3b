// Package ship sends audit records to where the job cannot change them: an OpenTelemetry collector, and a bucket whose
// objects are written once.
package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/bucket"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A Record is one line of the audit log, and what names it elsewhere.
type Record struct {
	Line    []byte // without its newline
	Time    time.Time
	ID      string // the correlation uid
	Part    string // "decision", "outcome", "end"
	Failure bool
	Target  string
	Subject string
}

// Env is the world as a shipper sees it.
type Env struct {
	HTTP    *http.Client // from web.NewClient
	Now     func() time.Time
	Version string // of this product
	Dir     string // where relative paths start
	// Trusted returns why a file must not say which authorities are trusted.
	Trusted func(path string) error
}

// A Place is where records are shipped to.
type Place interface {
	// Name is what the policy and errors call it: "otlp", "bucket".
	Name() string
	// Send returns nil once the record is there, for good. It is not tried
	// again after it has returned.
	Send(ctx context.Context, r Record) error
}

// Failed names the place in an error, and keeps its hint.
func Failed(p Place, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Internal, fmt.Errorf("ship the audit record to %s: %w", p.Name(), err), web.Hint(err))
}

// Send sends a record to a place within a time.
func Send(ctx context.Context, p Place, limit time.Duration, r Record) error {
	return Failed(p, within(ctx, limit, func(ctx context.Context) error { return p.Send(ctx, r) }))
}

func within(ctx context.Context, limit time.Duration, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := send(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("not done within %s: %w", limit, err)
	}
	return err
}

// Key is the object that a record becomes in a bucket. Its name cannot be
// guessed, or it could be made before the record is.
func Key(b policy.Bucket, r Record) string {
	return b.Prefix + bucket.DayPrefix + r.Time.UTC().Format(time.DateOnly) + "/" + r.ID + "-" + r.Part + ".json"
}

// store is a bucket, in which each record is an object that must not be there yet.
type store struct {
	place policy.Bucket
	to    *bucket.Bucket
}

// Bucket returns the bucket of a policy, which writer's credential may write.
func Bucket(env Env, b policy.Bucket, writer bucket.Credential) Place {
	return &store{b, bucket.New(bucket.Env{HTTP: env.HTTP, Now: env.Now}, b, writer)}
}

// Name implements Place.
func (*store) Name() string { return "bucket" }

// Send implements Place.
func (s *store) Send(ctx context.Context, r Record) error {
	return s.to.Put(ctx, Key(s.place, r), append(bytes.Clone(r.Line), '\n'))
}
