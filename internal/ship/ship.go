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
	Part    string // "decision", "outcome", "statement-7"
	Class   int    // OCSF's class_uid
	Failure bool
	Target  string
	Subject string
}

// A Batch is records of one run that arrive together.
type Batch struct {
	Object  string // its name in a bucket, after the run's: "decision", "statements-000001"
	Records []Record
}

// Alone returns the batch of one record.
func (r Record) Alone() Batch { return Batch{r.Part, []Record{r}} }

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
	// Send returns nil once the records are there, for good. It is not tried
	// again after it has returned.
	Send(ctx context.Context, b Batch) error
}

// Failed names the place in an error, and keeps its hint.
func Failed(p Place, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Internal, fmt.Errorf("ship the audit record to %s: %w", p.Name(), err), web.Hint(err))
}

// Send sends records to a place within a time.
func Send(ctx context.Context, p Place, limit time.Duration, b Batch) error {
	return Failed(p, within(ctx, limit, func(ctx context.Context) error { return p.Send(ctx, b) }))
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

// Key is the object that a batch becomes in a bucket. Its name cannot be
// guessed, or it could be made before the records are.
func Key(b policy.Bucket, batch Batch) string {
	first := batch.Records[0]
	return b.Prefix + bucket.DayPrefix + day(first) + "/" + first.ID + "-" + batch.Object + ".json"
}

func day(r Record) string { return r.Time.UTC().Format(time.DateOnly) }

// store is a bucket, in which each batch is an object that must not be there yet.
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
func (s *store) Send(ctx context.Context, b Batch) error {
	var lines bytes.Buffer
	for _, r := range b.Records {
		lines.Write(r.Line)
		lines.WriteByte('\n')
	}
	return s.to.Put(ctx, Key(s.place, b), lines.Bytes())
}
