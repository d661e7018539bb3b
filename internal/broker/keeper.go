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

// A Keeper keeps one credential fresh: it hands out the current one, and gets the
// next ahead of its expiry, once for all concurrent callers. While the old one is
// valid, an outage of the provider has no effect.
type Keeper struct {
	config KeeperConfig

	mu       sync.Mutex
	current  credential.Credential
	end      time.Time     // its expiry by the monotonic clock: see left
	due      time.Duration // it is renewed when this much of its life is left
	late     time.Duration // with less than this left it may expire in transit
	inFlight chan struct{}
	failed   error     // of the last renewal; nil after one that succeeded
	since    time.Time // the first failure after the last success
	failures int       // in a row
	again    time.Time // the earliest next try after a failure
	forced   time.Time // when a refusal by the warehouse last caused a renewal
	closed   bool

	told     string // the last failure reported in this outage
	toldAt   time.Time
	toldSlow bool
}

// KeeperConfig configures a Keeper.
type KeeperConfig struct {
	Provider string // its name, for errors
	// Renew gets the next credential. It is not called concurrently, and its
	// context does not end with a caller's. afresh says that the warehouse has
	// refused the current one, so that extending it is of no use.
	Renew func(ctx context.Context, afresh bool) (credential.Credential, error)
	Tell  func(error) // reports renewals that fail or hang, and refusals, to the user
	Now   func() time.Time
}

// NewKeeper returns a Keeper of first.
func NewKeeper(first credential.Credential, config KeeperConfig) *Keeper {
	k := &Keeper{config: config}
	k.set(first)
	return k
}

// The part of a credential's life that is left when it is renewed, and its
// maximum: a session of twelve hours need not be renewed after eight. Likewise
// for when callers wait for the next one.
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

// left returns what is left of the credential's life: the lesser of that by the
// wall clock, which goes on while the machine sleeps, and by the monotonic clock,
// which cannot be set back.
func (k *Keeper) left(now time.Time) time.Duration {
	return min(k.current.Expiry.Round(0).Sub(now.Round(0)), k.end.Sub(now))
}

// Current returns a valid credential. It waits for a renewal only if the old one
// has expired or is about to, and then until ctx ends: an error would fail the
// client, and a brief outage of the provider every node of a run. The error is
// the last renewal's, with its reason. A permanent error is returned at once, and
// in a long outage the error of the next try.
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

// longOutage is how long the provider may be down without a valid credential
// before requests stop waiting: a client that retries each request would take
// hours to end.
const longOutage = 2 * time.Minute

// dead returns how long renewals have failed without a valid credential.
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

// forcedEvery bounds renewals if a warehouse refuses every credential.
const forcedEvery = 30 * time.Second

// errRefused tells a caller to pass the warehouse's refusal on.
var errRefused = errors.New("the warehouse refused the credential, and a new one as well")

// Renew replaces c, which should be valid but which the warehouse has refused: it
// was revoked, or the server's clock is ahead. It gets a new credential unless
// there is one already, waits for it until ctx ends, and does so at most every 30
// seconds.
func (k *Keeper) Renew(ctx context.Context, c credential.Credential) (credential.Credential, error) {
	for {
		k.mu.Lock()
		if !sameSecrets(k.current, c) {
			k.mu.Unlock()
			return k.Current(ctx)
		}
		var refusal error // to report
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
			refusal = fmt.Errorf("the warehouse refused the credential, which should be valid until %s: requesting a new one; "+
				"if that is refused as well, compare the warehouse's trust with the subject in the step's summary",
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

// sameSecrets reports whether a and b come from one exchange. An extended lease
// is the same login.
func sameSecrets(a, b credential.Credential) bool {
	return a.Token == b.Token && a.Password == b.Password && a.PrivateKey == b.PrivateKey && a.AWS == b.AWS
}

// closeWait bounds what the end of a run waits for; most renewals take less
// than a second.
const closeWait = 3 * time.Second

// Close stops renewals, and waits for one that is in progress: its credential
// must be recorded, and may be a lease to revoke.
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

// renewTries bounds the retries of each hop within one renewal: the Keeper retries
// by itself, and waiting callers should get the reason.
const renewTries = 2 * time.Second

// longestAsked bounds how long a provider can keep the Keeper from trying again.
const longestAsked = time.Hour

// The pause after a failure doubles each time, but is shorter the less is left, so
// that the end of an outage is noticed while the old credential is valid. After
// its expiry there is one try a second.
const (
	longestWait = 30 * time.Second
	waitPart    = 4
)

// start starts a renewal, unless one is in progress.
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

// settle records the result of a renewal, and reports whether to tell the user:
// in an outage, each reason once a minute. asked is how long the provider asked
// to wait.
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

// slowAfter is when a renewal is reported as hanging: most take less than a
// second, and the log should say why a run does not proceed.
const slowAfter = 5 * time.Second

// slow reports a renewal that hangs, once per outage.
func (k *Keeper) slow() {
	k.mu.Lock()
	tell := k.inFlight != nil && !k.toldSlow
	k.toldSlow = k.toldSlow || tell
	expiry := k.current.Expiry
	k.mu.Unlock()
	if tell {
		k.config.Tell(fmt.Errorf("renew the credential with %q: not finished after %s (the current one expires at %s)",
			k.config.Provider, slowAfter, expiry.UTC().Format(time.RFC3339)))
	}
}
