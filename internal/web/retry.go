package web

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	maxTries = 4
	maxTotal = 45 * time.Second // of all tries; the run's own time-out may be shorter
)

type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }

// Temporary marks an error that another try may cure.
func Temporary(err error) error { return temporary{err} }

// Failed returns why a request had no usable reply: its Cause, marked by
// Temporary unless another try would meet it again.
func Failed(err error) error {
	err = Cause(err)
	if Refusal(err) != nil {
		return err
	}
	return Temporary(err)
}

// Refusal returns why a client of this package refused to send a request or to
// read its reply, nil where it did not. Another try would be refused again.
func Refusal(err error) error {
	var p permanent
	if errors.As(err, &p) {
		return p
	}
	return nil
}

// Retry calls op until it succeeds, fails with an error that is not marked by
// Temporary, or has been tried often enough, with exponential back-off and
// jitter between. Each call gets a context that ends with the try. The error
// is the last one, unmarked.
func Retry[T any](ctx context.Context, op func(context.Context) (T, error)) (T, error) {
	wait := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 5 * time.Second}
	value, err := backoff.Retry(ctx, func() (T, error) {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		defer cancel()
		value, err := op(try)
		if err != nil && (!errors.As(err, new(temporary)) || ctx.Err() != nil) {
			return value, backoff.Permanent(err)
		}
		return value, err
	}, backoff.WithBackOff(wait), backoff.WithMaxTries(maxTries), backoff.WithMaxElapsedTime(maxTotal))
	var t temporary
	if errors.As(err, &t) {
		err = t.error
	}
	return value, err
}
