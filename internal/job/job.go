// Package job runs the steps in their order: policy, ID token, verification, decision, audit
// record, exchange, profile, audit record. Nothing is handed on before all of it is done.
package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/profile"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Env is the world as a run sees it.
type Env struct {
	Getenv     func(string) string
	Environ    []string
	Now        func() time.Time
	Transport  *web.Transport
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	Masks      func() io.Writer // where masks reach only the runner, nil for nowhere; not for the action, which uses Stdout
	Dir        string           // the working directory
	TempDir    string           // for what exec writes
	Executable string           // the path of this binary
	Version    string
	Commit     string // that this binary was built from, "" where the build does not say
}

// Client returns what sends every request.
func (e Env) Client() *http.Client { return web.NewClient(e.Transport) }

func (e Env) provider() exchange.Env {
	return exchange.Env{HTTP: e.Client(), Network: e.Transport.Network(), Now: e.Now}
}

// Catalog is what a policy may name in this build.
func Catalog() policy.Catalog {
	return policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()}
}

// Authenticate runs the steps, and returns when ctx has ended, even if a
// call does not. Its errors carry the class that is the exit status. Secrets are
// masked as soon as they are known; nothing else is printed.
func Authenticate(ctx context.Context, env Env, s Settings, r *runner.Runner) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, timeoutError(s.Timeout))
	defer cancel()
	type end struct {
		Result
		err error
	}
	e, ok := process.Bounded(ctx, process.Grace, func(ctx context.Context) (e end) {
		if s.ProfileOnly {
			e.Result, e.err = profileOnly(ctx, env, s)
		} else {
			e.Result, e.err = steps(ctx, env, s, r)
		}
		e.err = interrupted(ctx, e.err)
		return e
	})
	if !ok {
		return Result{}, interrupted(ctx, errors.New("get the credential: a file or stream does not respond"))
	}
	return e.Result, e.err
}

// steps prepares, decides, issues the credential and hands it over to the
// caller. Where the credential cannot be handed over, nothing of it is left.
func steps(ctx context.Context, env Env, s Settings, r *runner.Runner) (res Result, err error) {
	a, err := prepare(ctx, env, s, r, &res)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, a.records.close()) }()

	grant, idToken, err := a.decide(ctx, &res)
	if err != nil || s.DryRun {
		return res, err
	}
	c, err := a.issue(ctx, grant, idToken, &res)
	if err == nil {
		err = a.handOver(grant, c, &res)
	}
	rerr := a.records.outcome(ctx, c, a.project.trace(grant, c), err)
	switch {
	case rerr != nil && err == nil:
		err = errors.Join(rerr, withheld(c))
	case rerr != nil:
		err = errors.Join(err, rerr)
	default:
		res.Summary = a.records.summary()
		err = errors.Join(err, signalled(ctx))
	}
	a.unsent(&res)
	if err != nil {
		if rerr == nil && stopped(ctx) {
			a.halted(context.Cause(ctx))
		}
		res.Broker.Close()
		res.shipping.wait()
		return res, errors.Join(err, res.leases.end(ctx, env))
	}
	a.records.shipping.running()
	a.remark(grant, c, &res)
	res.Credential = c
	return res, nil
}

// withheld says what remains of a credential that is not handed on: only a
// lease can be ended before its expiry.
func withheld(c credential.Credential) error {
	switch {
	case c.Static:
		return errors.New("the secret was read, and has no lease: it stays valid")
	case c.Lease != nil:
		return nil
	}
	return fmt.Errorf("the credential was issued, and cannot be revoked: it is valid until %s",
		c.Expiry.UTC().Format(time.RFC3339))
}

// prepare checks everything that needs no network, and opens the audit log.
func prepare(ctx context.Context, env Env, s Settings, r *runner.Runner, res *Result) (*attempt, error) {
	if err := env.Transport.Network().CheckRootFiles(env.Getenv); err != nil {
		return nil, err
	}
	s, pol, text, origin, err := settle(ctx, env, s)
	if err != nil {
		return nil, err
	}
	res.PolicyText, res.Warnings = text, fault.Warnings(pol.Warnings()...)
	a := &attempt{
		env: env, settings: s, runner: r, mask: r.Mask, policy: pol, leases: &leases{dir: Folder{path: s.Dir}},
		people: newPeople(env, s), halt: new(sync.Once),
	}
	if !s.DryRun {
		a.jitter = pol.StartJitter()
	}
	res.leases, res.Refused, res.Halted, res.Ceiling = a.leases, a.refused, a.halted, ceilingOf(r, env.Now())
	if s.Target != "" {
		if a.target, err = pol.Target(s.Target); err != nil {
			return nil, err
		}
		if err = a.readProject(ctx); err != nil {
			return nil, err // before the network: a typing error must not cost a request
		}
	}
	if err := env.Transport.Network().Check(); err != nil {
		return nil, err // no request may bypass a proxy that the user meant
	}
	if s.Program != "" {
		if _, err := process.Find(s.Program); err != nil {
			return nil, err
		}
	}
	if a.records, err = openRecords(env, s, pol, origin); err != nil {
		return nil, err
	}
	if a.records.shipping, err = newShipping(ctx, a); err != nil {
		return nil, errors.Join(err, a.records.close())
	}
	res.shipping = a.records.shipping
	return a, nil
}

// decide finds out who asks, decides, and records the decision before anything
// is exchanged.
func (a *attempt) decide(ctx context.Context, res *Result) (policy.Grant, secret.Value, error) {
	grant, idToken, err := a.authorize(ctx)
	res.Subject, res.Ceiling, res.Identity = a.claims.Subject(), a.ceiling(), a.source.Identity()
	if a.target != nil {
		res.Target, res.Type = a.target.Name(), a.project.dbtType
	}
	if !a.claims.IsZero() {
		res.Decision = "allowed"
		if fault.ClassOf(err) == fault.Denied && err != nil {
			res.Decision = "denied"
		}
	}
	if err := a.records.decision(ctx, *a, grant, err); err != nil {
		return grant, idToken, err // an unrecorded credential is not issued
	}
	a.unsent(res)
	if err == nil {
		rule := grant.Rule()
		held := ""
		if g := grant.Guard(); g != nil {
			held = ", guard: " + g.String() + ","
		}
		res.Allowed = fmt.Sprintf("allowed: target %s by rule %d (line %d)%s for %s",
			res.Target, rule.Index+1, rule.Line, held, runner.OneLine(res.Subject))
		res.Warnings = append(res.Warnings, fault.Warnings(grant.Warnings()...)...)
		res.Warnings = append(append(res.Warnings, a.project.warnings...), a.project.identities(grant)...)
	}
	if err != nil || a.settings.DryRun {
		res.Summary = a.records.summary() + a.explanation()
	}
	return grant, idToken, err
}

// unsent warns of records that were not shipped, and need not be.
func (a *attempt) unsent(res *Result) {
	for _, err := range a.records.shipping.news(a.records.unsent) {
		res.warn("%s", fault.WithHint(err))
	}
	a.records.unsent = nil
}

// issue exchanges the ID token for the credential, masks it, and has it kept
// fresh where the settings ask for that.
func (a *attempt) issue(
	ctx context.Context, grant policy.Grant, idToken secret.Value, res *Result,
) (credential.Credential, error) {
	c, err := a.exchange(ctx, grant, idToken)
	for _, v := range c.Secrets() {
		err = errors.Join(err, a.runner.Mask(v))
	}
	if err != nil {
		return c, err
	}
	c, ends := a.hold(ctx, grant, c)
	if ends != nil {
		res.warn("%s", fault.WithHint(ends))
		if fault.ClassOf(ends) == fault.Refused { // else the server may be back by the first renewal
			res.Ceiling = res.Ceiling.under(c)
		}
	}
	if res.Broker, err = a.serve(grant, c); res.Broker != nil {
		res.Route = a.project.route
	}
	return c, err
}

// handOver turns the credential into what dbt reads, and masks what is secret of that.
func (a *attempt) handOver(grant policy.Grant, c credential.Credential, res *Result) error {
	if a.project.relative {
		res.PolicyDir = a.settings.policyDir
	}
	err := a.project.render(res, grant, c, res.Broker.Address())
	if a.project.dbtType != "" {
		res.Variables = append(res.Variables, profile.Environment(grant)...)
	}
	for _, v := range res.Variables {
		if v.Secret {
			err = errors.Join(err, a.runner.Mask(v.Value)) // a route's may hold more than its secret
		}
	}
	return err
}

// remark warns of a credential that lives longer than the run or the policy wants.
func (a *attempt) remark(grant policy.Grant, c credential.Credential, res *Result) {
	if c.Static {
		res.warn("the secret of target %q has no lease (`static: true`): it is not specific to this run, "+
			"and stays valid after it", res.Target)
	}
	life, limit := c.Expiry.Sub(a.env.Now()), grant.MaxLifetime()
	if !c.Expiry.Equal(credential.Never()) && limit > 0 && life > limit+time.Minute { // a minute for the clocks
		// A provider that could issue a shorter one has refused by now.
		res.warn("the credential of target %q is valid for %s, longer than max_lifetime (%s): provider %q cannot issue a shorter one",
			res.Target, life.Round(time.Second), limit, grant.Provider())
	}
}
