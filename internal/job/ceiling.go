package job

import (
	"errors"
	"fmt"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// guessedLife is assumed for a request token without an expiry: those of hosted
// runners expire about six hours after the job's start.
const guessedLife = 6 * time.Hour

// A Ceiling is when no ID token can be obtained any more: nothing is kept fresh
// for longer. A lease may expire earlier.
type Ceiling struct {
	end   time.Time
	known bool // the token says so
	lease bool // of the lease
	fixed bool // of the job's only ID token
	open  bool // there is none that is known: the source gives fresh tokens for as long as the job runs
}

// ceiling returns when the source of the run's ID tokens ends.
func (a *attempt) ceiling() Ceiling {
	id := a.source.Identity()
	if end, ok := a.source.Ceiling(a.claims); ok {
		return Ceiling{end: end, known: true, fixed: true}
	}
	if id.Name != "" && !policy.LikeGitHub(id.Kind) || !id.Source.IsZero() {
		return Ceiling{end: a.env.Now().Add(longestJob), open: true}
	}
	return ceilingOf(a.runner, a.env.Now())
}

// longestJob is after when a broker ends that nothing else has ended.
const longestJob = 7 * 24 * time.Hour

func ceilingOf(r *runner.Runner, now time.Time) Ceiling {
	if end, ok := r.Ceiling(); ok {
		return Ceiling{end: end, known: true}
	}
	return Ceiling{end: now.Add(guessedLife)}
}

// under returns the ceiling of the lease that held is under, if that is the
// earlier one: the last renewal's expiry, or its own.
func (c Ceiling) under(held credential.Credential) Ceiling {
	end := held.Lease.Last()
	if end.IsZero() {
		end = held.Expiry
	}
	if c.end.Before(end) {
		return c
	}
	return Ceiling{end: end, known: true, lease: true}
}

// Announce says how long the run may take.
func (c Ceiling) Announce(now time.Time) string {
	if c.open {
		return "the credential is kept fresh for as long as this program runs"
	}
	if !c.known {
		return "the credential is kept fresh for about 6 hours, until the runner's request token expires"
	}
	left := max(c.end.Sub(now), 0).Round(time.Minute)
	return fmt.Sprintf("the credential is kept fresh until %s UTC (in %dh%02dm), when the %s expires",
		c.end.UTC().Format("15:04"), left/time.Hour, left%time.Hour/time.Minute, c.what())
}

// End is when nothing is kept fresh any more; a guess where the token does not say.
func (c Ceiling) End() time.Time { return c.end }

func (c Ceiling) what() string {
	switch {
	case c.lease:
		return "lease"
	case c.fixed:
		return "job's only ID token"
	}
	return "runner's request token"
}

// Over is the error of a broker that ended at the ceiling.
func (c Ceiling) Over(now time.Time) error {
	err := fmt.Errorf("keep the credential fresh: the %s has expired", c.what())
	if c.lease {
		return fault.New(fault.Refused, err, "raise the secret's max_ttl and the role's token_max_ttl")
	}
	return c.explain(fault.New(fault.NoIdentity, err, ""), now)
}

// explain gives the reason why a renewal gets no ID token: unlike at a first
// request, the job had the permission.
func (c Ceiling) explain(err error, now time.Time) error {
	if err == nil || fault.ClassOf(err) != fault.NoIdentity || c.open {
		return err
	}
	hint, end := "", c.end.UTC().Format("15:04")
	switch {
	case c.fixed:
		hint = fmt.Sprintf("the job's only ID token expired at %s UTC: split a job that needs longer, "+
			"or raise the job's timeout, which is its life", end)
	case c.known && !now.Before(c.end):
		hint = fmt.Sprintf("the runner's request token expired at %s UTC: split a job that needs longer", end)
	default:
		hint = "the job has ended, or its request token has expired, which is valid for about 6 hours: split a job that needs longer"
	}
	return fault.New(fault.NoIdentity, errors.New(err.Error()), hint)
}
