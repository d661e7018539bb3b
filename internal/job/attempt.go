package job

import (
	"context"
	"errors"
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// discovery is the audience of a token that only chooses the target, where
// the candidates' own audiences differ.
const discovery = "oidc-dbt"

// An attempt is one run on its way to a grant: what is known so far.
type attempt struct {
	env      Env
	settings Settings
	runner   *runner.Runner
	mask     func(secret.Value) error
	policy   *policy.Policy
	target   *policy.Target // nil until the claims have chosen one
	project  project
	claims   idtoken.Claims // zero until a token was verified
	records  *records
	leases   *leases                // of every renewal too
	held     *credential.Credential // whose lease is renewed; nil for none
	afresh   bool                   // what is held was refused by the warehouse
}

// authorize requests the ID token, verifies it and authorises its claims. Keys
// are fetched, and connections opened, during that request.
func (a *attempt) authorize(ctx context.Context) (policy.Grant, secret.Value, error) {
	none := secret.Value{}
	candidates, err := a.candidates()
	if err != nil {
		return policy.Grant{}, none, err
	}
	verifiers, err := a.verifiers(candidates)
	if err != nil {
		return policy.Grant{}, none, err
	}
	for _, v := range verifiers {
		v.Prefetch(ctx)
	}
	audience := audienceOf(candidates)
	if len(candidates) == 1 && !a.handsOut() {
		a.env.Transport.Preconnect(ctx, provider.Endpoints(candidates[0].Provider(), candidates[0].Exchange(), a.project.warehouse)...)
	}
	idToken, err := a.verified(ctx, verifiers, audience)
	if err != nil {
		return policy.Grant{}, none, err
	}
	if a.target == nil {
		if a.target, err = a.policy.Choose(a.claims); err != nil {
			return policy.Grant{}, none, err
		}
		if a.project, err = readProject(ctx, a.env, a.settings, a.target); err != nil {
			return policy.Grant{}, none, err
		}
		if a.target.Audience() != audience {
			if idToken, err = a.verified(ctx, verifiers, a.target.Audience()); err != nil {
				return policy.Grant{}, none, err
			}
		}
	}
	grant, err := a.policy.Authorize(a.target.Name(), a.claims, a.env.Now())
	if err == nil {
		err = a.project.granted(grant)
	}
	return grant, idToken, err
}

// audienceOf returns what the first ID token is asked for: the audience of the
// targets, or if they differ another one.
func audienceOf(targets []*policy.Target) string {
	audience := targets[0].Audience()
	for _, t := range targets {
		if t.Audience() != audience {
			return discovery
		}
	}
	return audience
}

// candidates are the targets that the claims may choose from.
func (a *attempt) candidates() (targets []*policy.Target, err error) {
	if a.target != nil {
		return []*policy.Target{a.target}, nil
	}
	for _, name := range a.policy.Targets() {
		t, err := a.policy.Target(name)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// verifiers returns one verifier for each identity of GitHub's kind that the
// targets' rules name: the issuer comes from the policy, never from the token.
func (a *attempt) verifiers(targets []*policy.Target) (verifiers []*idtoken.Verifier, err error) {
	seen := map[string]bool{}
	for _, t := range targets {
		for _, id := range t.Identities() {
			if id.Kind != "github" || seen[id.Name] {
				continue
			}
			seen[id.Name] = true
			verifiers = append(verifiers, idtoken.NewVerifier(a.env.Client(), a.env.Now, idtoken.Issuer{URL: id.Issuer, JWKS: id.JWKS}))
		}
	}
	if len(verifiers) == 0 {
		return nil, fault.New(fault.NoIdentity,
			errors.New("request ID token: no rule names an identity of kind \"github\", the only kind that can request one"),
			"only jobs of GitHub Actions can request an ID token")
	}
	return verifiers, nil
}

// verified requests an ID token, verifies it and sets a.claims.
func (a *attempt) verified(ctx context.Context, verifiers []*idtoken.Verifier, audience string) (secret.Value, error) {
	idToken, err := a.runner.IDToken(ctx, audience)
	if err != nil {
		return idToken, err
	}
	if err := a.mask(idToken); err != nil {
		return idToken, err
	}
	a.claims = idtoken.Claims{}
	var first error
	for _, v := range verifiers {
		claims, err := v.Verify(ctx, idToken, audience)
		if err == nil {
			err = sameEvent(a.env, claims)
		}
		if err == nil {
			a.claims = claims
			return idToken, nil
		}
		if first == nil {
			first = err
		}
	}
	return idToken, first
}

// sameEvent returns an error of class Rejected unless the ID token names the
// event for which the policy's file was trusted: a job can change the variable,
// but not the token.
func sameEvent(env Env, c idtoken.Claims) error {
	const variable = "GITHUB_EVENT_NAME"
	if env.Getenv("GITHUB_ACTIONS") != "true" {
		return nil // the variable, if set, is not the runner's
	}
	said, ok := c.String("event_name")
	switch is := env.Getenv(variable); {
	case !ok:
		return fault.New(fault.Rejected, fmt.Errorf("verify ID token: event_name is missing, and %s is %q", variable, is), "")
	case said != is:
		return fault.New(fault.Rejected, fmt.Errorf("verify ID token: event_name is %q, and %s is %q", said, variable, is),
			"do not change "+variable+", which the runner sets")
	}
	return nil
}

// handsOut reports whether the client does the exchange itself: it gets the ID
// token, and we send the provider no request.
func (a *attempt) handsOut() bool { return a.settings.Broker && a.project.route.IDToken }

// exchange exchanges the ID token of the grant; a client that does the exchange
// itself gets the ID token. A lease is renewed, so that its sessions continue;
// one that cannot be renewed further is replaced by a new one if a proxy logs
// dbt in.
func (a *attempt) exchange(ctx context.Context, grant policy.Grant, idToken secret.Value) (c credential.Credential, err error) {
	switch {
	case a.handsOut():
		return provider.IDToken(grant, idToken)
	case a.held != nil && a.held.Lease.Secret.Renewable && !a.afresh:
		c, err = provider.Renew(ctx, a.env.provider(), grant, *a.held)
		if err == nil {
			*a.held, a.records.renewal = c, true
			a.leases.renewed(*c.Lease)
			return c, nil
		}
		if a.project.route.Kind == route.Lease || !fault.Lasts(err) {
			return c, err
		}
	}
	if c, err = provider.Exchange(ctx, a.env.provider(), grant, a.project.warehouse, idToken); err != nil {
		return c, err
	}
	if err = a.leases.add(ctx, a.env, c, a.records); err == nil && a.held != nil {
		*a.held = c
	}
	return c, err
}
