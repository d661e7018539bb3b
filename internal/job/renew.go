package job

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// hold has the lease of c renewed from now on. If it cannot be replaced, the
// error says what would end it during the longest possible run; it is for a
// warning, since this run may be shorter.
func (a *attempt) hold(ctx context.Context, grant policy.Grant, c credential.Credential) (credential.Credential, error) {
	kind := a.project.route.Kind
	if !a.settings.Broker || kind == route.None || c.Lease == nil || c.Static {
		return c, nil
	}
	var err error
	if kind == route.Lease {
		if c, err = provider.Outlook(ctx, a.env.provider(), grant, c); err != nil {
			err = fmt.Errorf("target %q: %w", a.target.Name(), err)
		}
	}
	a.leases.renewed(*c.Lease)
	if c.Lease.Secret.Renewable {
		a.held = &c
	}
	return c, err
}

// serve starts the broker that the pair's route asks for; nil where the
// profile needs none, or there is nothing to renew.
func (a *attempt) serve(grant policy.Grant, first credential.Credential) (_ *broker.Broker, err error) {
	if a.guarding, err = a.newGuarding(grant); err != nil {
		return nil, err
	}
	kind := a.project.route.Kind
	if !a.settings.Broker || kind == route.None || kind == route.Lease && a.held == nil {
		return nil, nil
	}
	keeper := broker.NewKeeper(first, broker.KeeperConfig{Provider: a.target.Provider(), Renew: a.renew, Tell: a.warn, Now: a.env.Now})
	r := a.project.route
	if ca := r.Upstream.CAFile; ca != "" && !filepath.IsAbs(ca) {
		r.Upstream.CAFile = filepath.Join(a.settings.CommandDir, ca) // where dbt would have found it
	}
	closed := func() {
		keeper.Close()
		if err := a.guarding.close(a); err != nil {
			a.warn(fmt.Errorf("close the records of statements: %w", err))
		}
	}
	b, err := broker.Start(broker.Config{
		Target: a.target.Name(), Route: r, Network: a.env.Transport.Network(), Dir: a.settings.Dir, StateDir: a.settings.StateDir,
		Current: keeper.Current, Renew: keeper.Renew, Ahead: a.held != nil, Refused: a.refused, Failed: a.warn,
		AllowUIDs: a.settings.AllowUIDs, Closed: closed, Guard: a.guarding.decides(), Now: a.env.Now,
	})
	if err != nil {
		return nil, errors.Join(err, a.guarding.close(a))
	}
	if b.Address().Host == "" {
		return b, nil // it does not listen
	}
	if err := a.runner.Mask(b.Address().Secret); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// renew gets the next credential in the way of the first: the new token is
// verified, its claims are authorised, and both audit records are written.
// afresh says that the warehouse has refused the current one.
func (a *attempt) renew(ctx context.Context, afresh bool) (c credential.Credential, err error) {
	next := *a
	next.claims, next.afresh, next.jitter = idtoken.Claims{}, afresh, 0 // the broker has a jitter of its own
	// What is renewed reaches no output and no variable. A mask in the middle
	// of the command's own lines could be printed as text.
	next.mask = func(secret.Value) error { return nil }
	if next.records, err = a.records.again(); err != nil {
		return c, err
	}
	defer next.records.close()
	grant, idToken, err := next.authorize(ctx)
	if err == nil {
		err = a.guarding.same(grant.Guard())
	}
	err = a.ceiling().explain(err, a.env.Now())
	defer func() { a.undelivered(next.records.unsent) }()
	if rerr := next.records.decision(ctx, next, grant, err); rerr != nil {
		return c, rerr
	}
	if err != nil {
		return c, err
	}
	c, err = next.exchange(ctx, grant, idToken)
	if rerr := next.records.outcome(ctx, c, next.project.trace(grant, c), err); rerr != nil {
		return credential.Credential{}, rerr // an unrecorded credential is not handed out
	}
	if err == nil && c.AWS != nil && a.settings.Renewed != nil {
		if werr := a.settings.Renewed(a.target.Name(), c); werr != nil {
			a.warn(werr)
		}
	}
	return c, err
}

// warn reports what the broker could not do. dbt notices only when the
// credential expires.
func (a *attempt) warn(err error) { a.settings.Say("warning: " + fault.WithHint(err)) }

// refused records callers of the broker that did not have its secret.
func (a *attempt) refused(count int) {
	run := a.records.run
	run.ID = audit.NewID()
	record := run.TurnedAway(a.records.now(), count)
	if a.records.append(record) == nil { // a caller must not end the run
		a.aside(record)
	}
}

// aside ships a record without making others wait.
func (a *attempt) aside(record audit.Record) {
	if a.records.shipping == nil {
		return
	}
	r := a.records.next()
	r.aside = true
	r.shipping.background.Go(func() {
		r.ship(context.Background(), record)
		_ = r.shipped(false)
		a.undelivered(r.unsent)
	})
}

// halted records that the run was ended, and why. Of several reasons it is the first.
func (a *attempt) halted(why error) {
	a.halt.Do(func() {
		record := a.records.run.Halted(a.records.now(), why)
		if err := a.records.append(record); err != nil {
			a.warn(err)
			return
		}
		a.aside(record)
	})
}

// undelivered warns of records of a run that goes on.
func (a *attempt) undelivered(failed []unshipped) {
	for _, err := range a.records.shipping.news(failed) {
		a.warn(err)
	}
}
