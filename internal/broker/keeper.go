package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// A Keeper keeps one credential fresh: it gives out the one it has, and gets
// the next ahead of its end, once for all who ask meanwhile. While the old one
// lives, a provider that is down is nobody's problem.
type Keeper struct {
	renew func(context.Context) (credential.Credential, error)
	now   func() time.Time

	mu       sync.Mutex
	current  credential.Credential
	end      time.Time     // its expiry by the clock that nobody sets: see left
	due      time.Duration // what is left of its life when it is renewed
	late     time.Duration // what is left when it may die on its way
	inFlight chan struct{}
	failed   error     // of the last renewal; nil after one that succeeded
	failures int       // in a row
	again    time.Time // not before, after a failure
	closed   bool
}

// NewKeeper returns a Keeper of first. renew gets the next credential; it is
// called by one at a time, with a context that no caller's end cancels.
func NewKeeper(first credential.Credential, renew func(context.Context) (credential.Credential, error), now func() time.Time) *Keeper {
	k := &Keeper{renew: renew, now: now}
	k.set(first)
	return k
}

// The part of a credential's life that is left when it is renewed, and the
// most of it: a session of twelve hours need not be renewed after eight. And
// the same for when callers wait for the next one.
const (
	leftPart, leftMost = 3, 20 * time.Minute
	latePart, lateMost = 10, 5 * time.Second
)

func (k *Keeper) set(c credential.Credential) {
	now := k.now()
	life := c.Expiry.Round(0).Sub(now.Round(0))
	k.due = min(life/leftPart, leftMost)
	// Jitter: many runs that started together must not renew together.
	k.due += time.Duration(rand.Float64() * 0.2 * float64(k.due))
	k.late = min(life/latePart, lateMost)
	k.current, k.end, k.failed, k.failures, k.again = c, now.Add(life), nil, 0, time.Time{}
}

// left returns what is left of the credential's life: by the wall clock, which
// goes on while the machine sleeps, or by the monotonic one, which nobody can
// set back, whichever says less.
func (k *Keeper) left(now time.Time) time.Duration {
	return min(k.current.Expiry.Round(0).Sub(now.Round(0)), k.end.Sub(now))
}

// Current returns a credential that lives. It waits for a renewal only where
// the old one has died, or is about to; an error is the renewal's.
func (k *Keeper) Current(ctx context.Context) (credential.Credential, error) {
	for {
		k.mu.Lock()
		now := k.now()
		left := k.left(now)
		switch {
		case left > k.due:
			defer k.mu.Unlock()
			return k.current, nil
		case k.closed, k.failed != nil && fault.Lasts(k.failed), now.Before(k.again):
			defer k.mu.Unlock()
			switch {
			case left > 0:
				return k.current, nil
			case k.failed == nil:
				return credential.Credential{}, errors.New("the run is over")
			}
			return credential.Credential{}, k.failed
		}
		if k.inFlight == nil {
			k.inFlight = make(chan struct{})
			go k.refresh(context.WithoutCancel(ctx))
		}
		c, done, healthy := k.current, k.inFlight, left > k.late
		k.mu.Unlock()
		if healthy {
			return c, nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return credential.Credential{}, context.Cause(ctx)
		}
	}
}

// closeWait bounds what the end of a run waits for; most renewals take less
// than a second.
const closeWait = 3 * time.Second

// Close has nothing renewed any more, and lets a renewal that is under way come
// to its end: what it gets must be recorded, and may be a lease to revoke.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	done := k.inFlight
	k.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(closeWait):
	}
}

// renewTimeout bounds one renewal: token request, keys and all hops, with their retries.
const renewTimeout = 2 * time.Minute

// How long after a failure the next try comes: twice as long each time, but
// the sooner the less is left, so that an outage which ends is noticed while
// the old credential lives. Where it is dead, once a second.
const (
	longestWait = 30 * time.Second
	waitPart    = 4
)

func (k *Keeper) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	c, err := k.renew(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.set(c)
	} else {
		k.failed = err
		k.failures++
		now := k.now()
		k.again = now.Add(max(min(time.Second<<min(k.failures-1, 5), longestWait, k.left(now)/waitPart), time.Second))
	}
	close(k.inFlight)
	k.inFlight = nil
}
