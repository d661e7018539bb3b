package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A Keeper keeps one credential fresh: it gives out the one it has, and gets
// the next ahead of its end, once for all who ask meanwhile. While the old one
// lives, a provider that is down is nobody's problem.
type Keeper struct {
	config KeeperConfig

	mu       sync.Mutex
	current  credential.Credential
	end      time.Time     // its expiry by the clock that nobody sets: see left
	due      time.Duration // what is left of its life when it is renewed
	late     time.Duration // what is left when it may expire on its way
	inFlight chan struct{}
	failed   error     // of the last renewal; nil after one that succeeded
	since    time.Time // the first failure after the last success
	failures int       // in a row
	again    time.Time // not before, after a failure
	forced   time.Time // when a refusal of the warehouse's last led to a renewal
	closed   bool

	told     string // of this outage: the last failure that was told of
	toldAt   time.Time
	toldSlow bool
}

// KeeperConfig is what a Keeper works with.
type KeeperConfig struct {
	Provider string // its name, for errors
	// Renew gets the next credential; it is called by one at a time, with a
	// context that no caller's end cancels. afresh says that the warehouse has
	// refused the current one: to have that live on is of no use.
	Renew func(ctx context.Context, afresh bool) (credential.Credential, error)
	Tell  func(error) // what the user should know: renewals that fail or hang, and refusals
	Now   func() time.Time
}

// NewKeeper returns a Keeper of first.
func NewKeeper(first credential.Credential, config KeeperConfig) *Keeper {
	k := &Keeper{config: config}
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
	now := k.config.Now()
	life := c.Expiry.Round(0).Sub(now.Round(0))
	k.due = min(life/leftPart, leftMost)
	// Jitter: many runs that started together must not renew together.
	k.due += time.Duration(rand.Float64() * 0.2 * float64(k.due))
	k.late = min(life/latePart, lateMost)
	k.current, k.end, k.failed, k.failures, k.again, k.since = c, now.Add(life), nil, 0, time.Time{}, time.Time{}
	k.told, k.toldSlow = "", false
}

// left returns what is left of the credential's life: by the wall clock, which
// goes on while the machine sleeps, or by the monotonic one, which nobody can
// set back, whichever says less.
func (k *Keeper) left(now time.Time) time.Duration {
	return min(k.current.Expiry.Round(0).Sub(now.Round(0)), k.end.Sub(now))
}

// Current returns a credential that lives. It waits for a renewal only where
// the old one has expired, or is about to, and then for as long as ctx lets it:
// a client that is told no fails, and a provider that is down for a moment would
// fail every node of a run. The error is the last renewal's, which says who gave
// what reason; an error that another try meets again is returned at once, and
// in a long outage that of the next try.
func (k *Keeper) Current(ctx context.Context) (credential.Credential, error) {
	for tried := false; ; {
		k.mu.Lock()
		now := k.config.Now()
		left := k.left(now)
		switch {
		case left > k.due, left > 0 && now.Before(k.again):
			defer k.mu.Unlock()
			return k.current, nil
		case k.closed, k.failed != nil && (fault.Lasts(k.failed) || tried && k.dead(now, left) > longOutage):
			defer k.mu.Unlock()
			switch {
			case left > 0:
				return k.current, nil
			case k.failed == nil:
				return credential.Credential{}, errors.New("the run is over")
			}
			return credential.Credential{}, k.failed
		}
		var again <-chan time.Time
		if k.inFlight == nil && now.Before(k.again) {
			again = time.After(k.again.Sub(now))
		} else {
			k.start(ctx, false)
		}
		c, done, healthy := k.current, k.inFlight, left > k.late
		k.mu.Unlock()
		if healthy {
			return c, nil
		}
		select {
		case <-done:
			tried = true
		case <-again:
		case <-ctx.Done():
			return credential.Credential{}, k.missing(ctx)
		}
	}
}

// longOutage is how long the provider may be down with no credential left
// before requests stop waiting for it: a client that tries each request again
// would take hours to end.
const longOutage = 2 * time.Minute

// dead returns for how long renewals have failed and there was no credential.
func (k *Keeper) dead(now time.Time, left time.Duration) time.Duration {
	return min(now.Sub(k.since), -left)
}

// missing says why there was no credential when ctx ended.
func (k *Keeper) missing(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		return k.failed
	}
	return fmt.Errorf("renew the credential with %q: %w", k.config.Provider, context.Cause(ctx))
}

// forcedEvery bounds what a warehouse can cause that refuses whatever it gets.
const forcedEvery = 30 * time.Second

// errRefused is for a caller who is to pass the warehouse's refusal on.
var errRefused = errors.New("the warehouse refused the credential, and a new one as well")

// Renew returns a credential in the place of c, which should live and which the
// warehouse has refused: somebody has revoked it, or the server's clock is
// ahead. It gets one unless that has been done already, waits for it as long as
// ctx lets it, and does so no more often than every 30 seconds.
func (k *Keeper) Renew(ctx context.Context, c credential.Credential) (credential.Credential, error) {
	for {
		k.mu.Lock()
		if !sameSecrets(k.current, c) {
			k.mu.Unlock()
			return k.Current(ctx)
		}
		var refusal error // to tell of
		if k.inFlight == nil {
			now := k.config.Now()
			if k.closed || !k.forced.IsZero() && now.Sub(k.forced) < forcedEvery {
				defer k.mu.Unlock()
				if k.failed != nil {
					return credential.Credential{}, k.failed
				}
				return credential.Credential{}, errRefused
			}
			k.forced = now
			k.start(ctx, true)
			refusal = fmt.Errorf("the warehouse refused the credential, which should be valid until %s: requesting a new one",
				k.current.Expiry.UTC().Format(time.RFC3339))
		}
		done := k.inFlight
		k.mu.Unlock()
		if refusal != nil {
			k.config.Tell(refusal)
		}
		select {
		case <-done:
		case <-ctx.Done():
			return credential.Credential{}, k.missing(ctx)
		}
	}
}

// sameSecrets reports whether a and b are of one exchange. A lease that was
// extended is the same login.
func sameSecrets(a, b credential.Credential) bool {
	return a.Token == b.Token && a.Password == b.Password && a.PrivateKey == b.PrivateKey && a.AWS == b.AWS
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

// renewTries is how long each hop of a renewal is tried again within one: the
// Keeper tries again by itself, and callers who wait are to hear the reason.
const renewTries = 2 * time.Second

// longestAsked bounds how long a provider can keep the Keeper from trying again.
const longestAsked = time.Hour

// How long after a failure the next try comes: twice as long each time, but
// the sooner the less is left, so that an outage which ends is noticed while
// the old credential lives. Where it is dead, once a second.
const (
	longestWait = 30 * time.Second
	waitPart    = 4
)

// start has the next credential got, unless that is under way.
func (k *Keeper) start(ctx context.Context, afresh bool) {
	if k.inFlight == nil {
		k.inFlight = make(chan struct{})
		go k.refresh(context.WithoutCancel(ctx), afresh)
	}
}

func (k *Keeper) refresh(ctx context.Context, afresh bool) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	slow := time.AfterFunc(slowAfter, k.slow)
	bounded, budget := web.WithBudget(ctx, renewTries)
	c, err := k.config.Renew(bounded, afresh)
	slow.Stop()
	if k.settle(c, err, budget.Asked()) {
		k.config.Tell(fmt.Errorf("renew the credential: %w", err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.inFlight)
	k.inFlight = nil
}

// settle takes in what a renewal came to, and reports whether to tell of it:
// of an outage each reason once a minute. asked is how long the provider wants
// to be left alone.
func (k *Keeper) settle(c credential.Credential, err error, asked time.Duration) (tell bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.set(c)
	} else {
		k.failed = err
		k.failures++
		now := k.config.Now()
		if k.since.IsZero() {
			k.since = now
		}
		pause := max(min(time.Second<<min(k.failures-1, 5), longestWait, k.left(now)/waitPart), time.Second)
		k.again = now.Add(max(pause, min(asked, longestAsked)))
		if text := err.Error(); text != k.told || now.Sub(k.toldAt) >= tellEvery {
			k.told, k.toldAt, tell = text, now, true
		}
	}
	return tell
}

// slowAfter is when a renewal counts as one that hangs: most take less than a
// second, and whoever looks at a run that stands still finds the reason.
const slowAfter = 5 * time.Second

// slow tells, once an outage, of a renewal that hangs.
func (k *Keeper) slow() {
	k.mu.Lock()
	tell := k.inFlight != nil && !k.toldSlow
	k.toldSlow = k.toldSlow || tell
	expiry := k.current.Expiry
	k.mu.Unlock()
	if tell {
		k.config.Tell(fmt.Errorf("renew the credential with %q: not done after %s (the current one expires at %s)",
			k.config.Provider, slowAfter, expiry.UTC().Format(time.RFC3339)))
	}
}
