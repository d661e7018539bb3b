package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Renew renews the lease that c was issued under, and the login above it, both
// for what the server gives when it is not asked for a time. It returns c with
// its new expiry: user and password stay. g is the grant of now, for the target
// that c is for. Where another renewal would meet the same error, it Lasts.
// (Vault API: auth/token/renew-self, sys/leases/renew)
func Renew(ctx context.Context, env exchange.Env, g policy.Grant, c credential.Credential) (credential.Credential, error) {
	next, err := renew(ctx, env, g, c, 0)
	if err == nil && next.Expiry.Sub(c.Expiry) < time.Second { // durations are whole seconds
		err = fault.Lasting(outlook(g, *next.Lease, next.Expiry, env.Now()))
	}
	if err != nil {
		return credential.Credential{}, err
	}
	return next, nil
}

// longestRun is how long a run is kept going: the runner's request token lives
// about as long.
const longestRun = 6 * time.Hour

// outlookBudget keeps what is for a warning from using up the time that is for
// the credential.
const outlookBudget = 10 * time.Second

// Outlook finds out how long the lease of c can be renewed, and returns c as
// Renew does. The error says what will end the lease within a run of the
// longest kind; c is good in that case, too.
//
// No reply tells of a maximum before it is reached. So the longest run is asked
// for, which the server cuts to what is left, and then the usual time again,
// lest the lease of a run that is killed outlive it by hours.
func Outlook(ctx context.Context, env exchange.Env, g policy.Grant, c credential.Credential) (credential.Credential, error) {
	ctx, _ = web.WithBudget(ctx, outlookBudget)
	if c.Lease.Secret.Renewable {
		longest, err := renew(ctx, env, g, c, longestRun)
		if err == nil {
			c, err = renew(ctx, env, g, longest, 0)
		}
		if err != nil {
			return c, err
		}
	}
	now, last := env.Now(), c.Lease.Last()
	if last.IsZero() || last.Sub(now) >= longestRun {
		return c, nil
	}
	return c, outlook(g, *c.Lease, last, now)
}

// outlook says when a lease ends for good, and what decides that.
func outlook(g policy.Grant, l credential.Lease, last, now time.Time) error {
	v := g.Exchange()
	kind, role := kindOf(v), rolePath(v)
	hint := fmt.Sprintf("raise max_ttl of the role behind %s", v.Get("secret"))
	switch login := l.Login.Last(); {
	case !login.IsZero() && !login.After(last) && l.Login.Renewable:
		hint = fmt.Sprintf("raise %s of %s, or give it a %s", kind.longest, role, kind.period)
	case !login.IsZero() && !login.After(last) && isCEL(v):
		hint = fmt.Sprintf("the cel_program of %s must set lease_options with renewable: true, issue_time: now and MaxTTL", role)
	case !login.IsZero() && !login.After(last):
		hint = fmt.Sprintf("set token_type=service on %s (a batch token cannot be renewed), or raise its token_ttl", role)
	case !l.Secret.Renewable:
		hint = fmt.Sprintf("raise the time to live of %s: its engine issues leases that cannot be renewed", v.Get("secret"))
	}
	return fault.New(fault.Refused, fmt.Errorf("the lease cannot be renewed beyond %s, in %s: logins fail after that",
		last.UTC().Format(time.RFC3339), last.Sub(now).Round(time.Second)), hint)
}

// renew asks for a life of the login and the lease; 0 leaves it to the server.
func renew(ctx context.Context, env exchange.Env, g policy.Grant, c credential.Credential,
	life time.Duration) (credential.Credential, error) {
	if !g.Valid() {
		return c, errors.New("renew the lease: not authorised") // a bug: only Authorize makes grants
	}
	lease := *c.Lease
	at, err := newServer(env, lease)
	if err != nil {
		return c, fmt.Errorf("renew the lease: %w", err)
	}
	at.secrets = c.Secrets() // of which its words may echo each
	if lease.Login.Renewable {
		lease.Login, err = at.renew(ctx, env, lease.Login, life, "auth/token/renew-self", nil)
		if err != nil {
			return c, fmt.Errorf("renew the Vault token: %w", err)
		}
	}
	if lease.Secret.Renewable {
		lease.Secret, err = at.renew(ctx, env, lease.Secret, life, "sys/leases/renew", map[string]any{"lease_id": lease.ID})
		if err != nil {
			return c, fmt.Errorf("renew the lease: %w", err)
		}
	}
	c.Lease, c.Expiry = &lease, lease.Expiry()
	return c, nil
}

// renew returns the term that the server gives.
func (s server) renew(ctx context.Context, env exchange.Env, t credential.Term, life time.Duration, path string,
	body map[string]any) (credential.Term, error) {
	if body == nil {
		body = map[string]any{}
	}
	if life > 0 {
		body["increment"] = int(life.Seconds())
	}
	text, err := json.Marshal(body)
	if err != nil {
		return t, err
	}
	asked := env.Now() // before the request: no expiry is later than the server's own
	reply, err := s.ask(ctx, renewHint, func(ctx context.Context) (*api.Response, error) {
		return s.client.Logical().WriteRawWithContext(ctx, path, text)
	})
	if err != nil {
		if fault.ClassOf(err) == fault.Refused {
			err = fault.Lasting(err) // it has ended, or the policies of its token do not let it
		}
		return t, err
	}
	seconds, renewable := reply.LeaseDuration, reply.Renewable
	if reply.Auth != nil {
		seconds, renewable = reply.Auth.LeaseDuration, reply.Auth.Renewable
	}
	capped := slices.ContainsFunc(reply.Warnings, isCapped)
	if seconds == 0 && capped { // less than a second is left
		t.Limit = t.Expiry
		return t, nil
	}
	if seconds == 0 || nonsense(seconds) {
		return t, exchange.Unreachable("the reply has a lease_duration of %d, want seconds from now", seconds)
	}
	next := termFrom(asked, seconds, renewable)
	next.Limit = t.Limit
	if capped {
		next.Limit = next.Expiry
	}
	return next, nil
}

// isCapped recognises the server's warning that it gives less than was asked
// for: `TTL of "6h" exceeded the effective max_ttl of "15s"; TTL value is
// capped accordingly`. A token with a period gives less without one.
func isCapped(warning string) bool {
	return strings.Contains(warning, "exceeded the effective max_ttl")
}

func renewHint(words string) string {
	switch {
	case words == "permission denied", strings.Contains(words, "invalid token"), strings.Contains(words, "lease not found"):
		return "the lease has ended: it expired while the server was unreachable, or it was revoked"
	case strings.Contains(words, "permission denied"):
		return "a policy of the role must allow `update` on auth/token/renew-self and sys/leases/renew, as the policy `default` does"
	}
	return ""
}

// revokeTimeout bounds a revocation: the runner gives a cancelled job seconds.
const revokeTimeout = 10 * time.Second

// Revoke ends a lease, and with it the credential that was issued under it. It
// does its work also where ctx has ended: that is when it is needed most. A
// lease that has ended is no error.
func Revoke(ctx context.Context, env exchange.Env, l credential.Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	at, err := newServer(env, l)
	if err != nil {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	_, err = web.Retry(ctx, func(ctx context.Context) (struct{}, error) {
		err := at.client.Auth().Token().RevokeSelfWithContext(ctx, "")
		if err != nil && !ended(err) {
			return struct{}{}, at.fault(err, revokeHint)
		}
		return struct{}{}, nil
	})
	if err != nil {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	return nil
}

// ended reports whether the server does not know the token any more. Where it
// knows it, and its policies do not let it revoke itself, the words differ:
// Vault adds "invalid token" in the first case, OpenBao counts errors in the second.
func ended(err error) bool {
	var reply *api.ResponseError
	if !errors.As(err, &reply) || reply.StatusCode != http.StatusForbidden || reply.RawError {
		return false
	}
	words := strings.Join(reply.Errors, "\n")
	return words == "permission denied" || strings.Contains(words, "invalid token")
}

func revokeHint(words string) string {
	switch {
	case strings.Contains(words, "batch token"):
		return "set token_type=service on the role: a batch token cannot be revoked, its leases end with it"
	case strings.Contains(words, "permission denied"):
		return "a policy of the role must allow `update` on auth/token/revoke-self, as the policy `default` does"
	}
	return ""
}
