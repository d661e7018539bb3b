package job

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
)

// discovery is the audience of a token that only chooses the target, where
// the candidates' own audiences differ.
const discovery = "oidc-dbt"

// An attempt is one run on its way to a grant: what is known so far.
type attempt struct {
	env      Env
	settings Settings
	runner   *runner.Runner
	source   source.Source // chosen by authorize
	people   *people       // of every renewal too
	hosts    []string      // that the person has approved, where the policy needs that
	mask     func(secret.Value) error
	policy   *policy.Policy
	target   *policy.Target // nil until the claims have chosen one
	project  project
	claims   idtoken.Claims // zero until a token was verified
	// tokenSHA256 is of the token that claims are of.
	tokenSHA256 string
	records     *records
	leases      *leases                // of every renewal too
	guarding    *guarding              // what decides on statements; nil for nothing
	halt        *sync.Once             // its record
	held        *credential.Credential // whose lease is renewed; nil for none
	afresh      bool                   // what is held was refused by the warehouse
	jitter      time.Duration          // the most to wait for before the first request
}

// authorize requests the ID token, verifies it and authorises its claims. Keys
// are fetched, and connections opened, during that request.
func (a *attempt) authorize(ctx context.Context) (policy.Grant, secret.Value, error) {
	none := secret.Value{}
	candidates, err := a.candidates()
	if err != nil {
		return policy.Grant{}, none, err
	}
	verifiers, err := a.choose(ctx, candidates)
	if err == nil {
		err = a.wait(ctx)
	}
	if err != nil {
		return policy.Grant{}, none, err
	}
	for _, v := range verifiers {
		v.Prefetch(ctx)
	}
	audience := a.audience(candidates...)
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
		if err = a.readProject(ctx); err != nil {
			return policy.Grant{}, none, err
		}
		if own := a.audience(a.target); own != audience {
			if idToken, err = a.verified(ctx, verifiers, own); err != nil {
				return policy.Grant{}, none, err
			}
		}
	}
	grant, err := a.policy.Authorize(a.target.Name(), a.claims, a.env.Now())
	if err == nil {
		err = grant.CheckHint(source.AgentHint(a.env.Getenv))
	}
	if err == nil {
		err = a.project.granted(grant)
	}
	if err == nil {
		err = a.approvedHosts(ctx)
	}
	return grant, idToken, err
}

// audience returns what an ID token for the targets is asked for: the one that
// the source's tokens always have, else the audience of the targets, or if they
// differ another one.
func (a *attempt) audience(targets ...*policy.Target) string {
	if fixed := a.source.Identity().Audience; fixed != "" {
		return fixed
	}
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
	for _, name := range a.policy.Candidates() {
		t, err := a.policy.Target(name)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// choose finds the source of ID tokens among the identities that the targets'
// rules name, and returns a verifier for each of those that its tokens may be
// of: the issuer comes from the policy, never from the token.
func (a *attempt) choose(ctx context.Context, targets []*policy.Target) (verifiers []*idtoken.Verifier, err error) {
	var identities []policy.Identity
	for _, t := range targets {
		for _, id := range t.Identities() {
			if !slices.ContainsFunc(identities, func(other policy.Identity) bool { return other.Name == id.Name }) {
				identities = append(identities, id)
			}
		}
	}
	if a.source, err = source.Choose(a.sourceEnv(), identities, a.settings.TokenSource, a.people.stored); err != nil {
		return nil, err
	}
	chosen := a.source.Identity()
	if err := a.settings.checkSource(chosen); err != nil {
		return nil, err
	}
	if err := a.approved(ctx, chosen); err != nil {
		return nil, err
	}
	for _, id := range identities {
		sameSource := id.Kind == chosen.Kind && id.Source.IsZero() && chosen.Source.IsZero() && id.Audience == chosen.Audience
		if id.Name != chosen.Name && !sameSource {
			continue
		}
		v, err := verifier(ctx, a.env, a.settings, id)
		if err != nil {
			return nil, err
		}
		verifiers = append(verifiers, v)
	}
	return verifiers, nil
}

// verifier verifies the tokens of an identity, with the keys that the policy has for it.
func verifier(ctx context.Context, env Env, s Settings, id policy.Identity) (*idtoken.Verifier, error) {
	keys, err := issuerKeys(ctx, env, s, id)
	if err != nil {
		return nil, err
	}
	client := env.Client()
	if keys == nil {
		switch own, err := source.Cluster(env.Getenv, source.ClusterMount, id); {
		case err != nil:
			return nil, err
		case own != nil:
			client = own
		}
	}
	return idtoken.NewVerifier(client, env.Now, idtoken.Issuer{URL: id.Issuer, JWKS: id.JWKS, Keys: keys}), nil
}

// provider is the world as an exchange sees it, with the logins of this run.
func (a *attempt) provider() exchange.Env {
	env := a.env.provider()
	env.Login = a.people
	return env
}

func (a *attempt) sourceEnv() source.Env {
	return source.Env{
		Getenv: a.env.Getenv, Environ: a.env.Environ, HTTP: a.env.Client(), Now: a.env.Now, Dir: a.settings.policyDir,
		GitHub: a.runner.IDToken, Stderr: a.env.Stderr,
	}
}

// issuerKeys returns the keys that the policy has for an issuer, nil where they
// are fetched. Their author decides whose tokens are accepted: a file is
// trusted like the policy itself.
func issuerKeys(ctx context.Context, env Env, s Settings, id policy.Identity) ([]byte, error) {
	if id.Keys != "" {
		return []byte(id.Keys), nil
	}
	if id.JWKSFile == "" {
		return nil, nil
	}
	path := id.JWKSFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.policyDir, path)
	}
	failed := func(err error) error {
		return fault.New(fault.Usage, fmt.Errorf("identity %q: jwks_file %q: %w", id.Name, id.JWKSFile, disk.Cause(err)), fault.Hint(err))
	}
	if err := checkRoots(ctx, env, s, path); err != nil {
		return nil, failed(err)
	}
	text, err := disk.Read(path, maxKeys)
	if err == nil {
		err = idtoken.CheckKeys(text)
	}
	if err != nil {
		return nil, failed(err)
	}
	return text, nil
}

// maxKeys bounds a file of keys: an issuer has a few, of a few kilobytes each.
const maxKeys = 256 << 10

// verified obtains an ID token, verifies it and sets a.claims.
func (a *attempt) verified(ctx context.Context, verifiers []*idtoken.Verifier, audience string) (secret.Value, error) {
	idToken, err := a.source.Token(ctx, audience)
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
			err = sameEvent(a.env, a.source.Identity(), claims)
		}
		if err == nil {
			a.claims, a.tokenSHA256 = claims, idToken.SHA256()
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
func sameEvent(env Env, id policy.Identity, c idtoken.Claims) error {
	const variable = "GITHUB_EVENT_NAME"
	if env.Getenv("GITHUB_ACTIONS") != "true" || !policy.LikeGitHub(id.Kind) {
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
		c, err = provider.Renew(ctx, a.provider(), grant, *a.held)
		if err == nil {
			*a.held, a.records.renewal = c, true
			a.leases.renewed(*c.Lease)
			return c, nil
		}
		if a.project.route.Kind == route.Lease || !fault.Lasts(err) {
			return c, err
		}
	}
	if c, err = provider.Exchange(ctx, a.provider(), grant, a.project.warehouse, idToken); err != nil {
		return c, err
	}
	if err = a.leases.add(ctx, a.env, c, a.records); err == nil && a.held != nil {
		*a.held = c
	}
	return c, err
}

// readProject reads the target's project, and holds the dbt that is installed to it.
func (a *attempt) readProject(ctx context.Context) (err error) {
	if a.project, err = readProject(ctx, a.env, a.settings, a.target); err != nil {
		return err
	}
	return a.project.checkInstalled(a.env, a.settings, a.target)
}
