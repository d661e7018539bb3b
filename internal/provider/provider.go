// Package provider exchanges a verified and authorised ID token for a short-lived credential.
package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/vault"
)

// provider is one file of this package.
type provider struct {
	spec policy.Provider
	// check returns what keeps the provider from giving a credential for the
	// warehouse; nil where it gives one for any.
	check func(v policy.Values, w credential.Warehouse) error
	// exchange returns the credential, or an error of class Refused (the
	// provider refused) or Unreachable (it gave no usable reply). A Lease that
	// began is in the credential in both cases.
	exchange func(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error)
	// endpoints returns the URLs that exchange will contact, first hop first,
	// for connecting early; none where the token is not sent by us.
	endpoints func(v policy.Values, w credential.Warehouse) []string
	// files returns the paths of files that exchange reads, by the keys that
	// name them; nil for none. Who can write them decides whom the server sees.
	files func(v policy.Values) map[string]string
	// lender is set where what is issued is lent.
	lender *lender
}

// A lender's credentials live under a lease, which ends with the run and can be
// renewed where they are: an ability that most providers lack.
type lender struct {
	renew, outlook func(ctx context.Context, env exchange.Env, g policy.Grant, c credential.Credential) (credential.Credential, error)
	revoke         func(ctx context.Context, env exchange.Env, l credential.Lease) error
}

var providers = map[string]provider{
	"aws":             awsProvider,
	"databricks":      databricksProvider,
	"entra":           entraProvider,
	"gcp":             gcpProvider,
	"identity_center": identityCenterProvider,
	"login":           loginProvider,
	"oidc":            oidcProvider,
	"token_exchange":  tokenExchangeProvider,
	"vault": {
		spec: vault.Spec(), exchange: vault.Exchange, endpoints: vault.Endpoints, files: vault.Files,
		lender: &lender{renew: vault.Renew, outlook: vault.Outlook, revoke: vault.Revoke},
	},
}

// Specs returns what a policy may say of each provider.
func Specs() map[string]policy.Provider {
	specs := make(map[string]policy.Provider, len(providers))
	for name, p := range providers {
		specs[name] = p.spec
	}
	return specs
}

// Names returns the providers' names, sorted.
func Names() []string { return slices.Sorted(maps.Keys(providers)) }

// Check returns an error of class Usage where the provider cannot give a
// credential for the warehouse as the dbt block describes it.
func Check(name string, v policy.Values, w credential.Warehouse) error {
	check := providers[name].check
	if check == nil {
		return nil
	}
	if err := check(v, w); err != nil {
		return fault.New(fault.Usage, fmt.Errorf("provider %q: %w", name, err), "")
	}
	return nil
}

// hostFault is a fault of the host that the dbt output names.
func hostFault(format string, args ...any) error {
	return &policy.BlockError{Path: []string{"host"}, Text: fmt.Sprintf(format, args...)}
}

// Endpoints returns the URLs that an exchange will contact.
func Endpoints(name string, v policy.Values, w credential.Warehouse) []string {
	return providers[name].endpoints(v, w)
}

// Files returns the paths of files that an exchange reads, by the keys that
// name them.
func Files(name string, v policy.Values) map[string]string {
	if files := providers[name].files; files != nil {
		return files(v)
	}
	return nil
}

// SessionName returns the name that the run's session has at the provider, in
// whose log it is found, with the claims filled in; "" if the provider names
// no session, or some of the claims that make its name are not known.
func SessionName(name string, v policy.Values, id policy.Identity, claims policy.ClaimSet) string {
	run := id.RunClaims()
	switch {
	case name != "aws":
		return ""
	case v.Get("session_name") == "" && len(run) > 0 && !claims.Has(run[0]):
		return "" // the run's number, which is not known, is part of the name
	}
	return sessionName(v, id, claims)
}

// Renew renews the lease that c was issued under, and returns c with its new
// expiry; g is the grant of now, for the target that c is for. Where another
// renewal would meet the same error, it Lasts.
func Renew(ctx context.Context, env exchange.Env, g policy.Grant, c credential.Credential) (credential.Credential, error) {
	return lenderOf(g.Provider()).renew(ctx, env, g, c)
}

// Outlook finds out how long the lease of c can be renewed, and returns c as
// Renew does. The error says what will end the lease within a run of the
// longest kind; c is good in that case, too.
func Outlook(ctx context.Context, env exchange.Env, g policy.Grant, c credential.Credential) (credential.Credential, error) {
	return lenderOf(g.Provider()).outlook(ctx, env, g, c)
}

// Revoke ends a lease, and with it the credential that was issued under it. It
// does its work also where ctx has ended. A lease that has ended is no error.
func Revoke(ctx context.Context, env exchange.Env, l credential.Lease) error {
	return lenderOf(l.Provider).revoke(ctx, env, l)
}

// lenderOf returns what a provider that lends can do. One that does not has
// issued no lease; a file on the disk may say so all the same.
func lenderOf(name string) *lender {
	if l := providers[name].lender; l != nil {
		return l
	}
	none := fmt.Errorf("provider %q has no leases", name)
	keep := func(context.Context, exchange.Env, policy.Grant, credential.Credential) (credential.Credential, error) {
		return credential.Credential{}, none
	}
	return &lender{renew: keep, outlook: keep, revoke: func(context.Context, exchange.Env, credential.Lease) error { return none }}
}

// skew is how far the provider's clock may be ahead of ours before a
// credential counts as longer-lived than asked for.
const skew = 60 * time.Second

// Exchange exchanges the ID token that g was given for, for a credential at the
// warehouse. An error is of class Refused if the provider refused, or issued a
// longer life than the policy allows, Unreachable if it gave no usable reply; of
// a person's login also NoIdentity where the person must sign in again.
func Exchange(ctx context.Context, env exchange.Env, g policy.Grant, w credential.Warehouse,
	idToken secret.Value) (credential.Credential, error) {
	p, ok := providers[g.Provider()]
	if !ok || !g.Valid() {
		return credential.Credential{}, errors.New("exchange ID token: not authorised") // a bug: only Authorize makes grants
	}
	c, err := p.exchange(ctx, env, exchange.Request{Grant: g, Warehouse: w, IDToken: idToken})
	if c.Lease != nil {
		c.Lease.Provider = g.Provider()
	}
	now := env.Now()
	if err == nil {
		err = exchange.Usable(c, now)
	}
	life, limit := c.Expiry.Sub(now), g.MaxLifetime()
	if err == nil && limit > 0 && p.spec.LifetimesFor(string(w.Asks.Login)) != nil && life > limit+skew {
		err = fault.New(fault.Refused, fmt.Errorf("the credential is valid for %s, the policy's max_lifetime is %s",
			life.Round(time.Second), limit), "set `lifetime` to the lifetime to request, or raise max_lifetime")
	}
	if err == nil {
		return c, nil
	}
	err = fault.New(fault.ClassOf(err), fmt.Errorf("exchange ID token with %q: %w", g.Provider(), err), "")
	if c.Lease != nil {
		err = errors.Join(err, Revoke(ctx, env, *c.Lease)) // nothing else will know about it
	}
	return credential.Credential{}, err
}

// IDToken returns the ID token that g was given for as a credential: what the
// warehouse verifies itself, or dbt's own client exchanges.
func IDToken(g policy.Grant, idToken secret.Value) (credential.Credential, error) {
	if !g.Valid() {
		return credential.Credential{}, errors.New("hand out ID token: not authorised") // a bug: only Authorize makes grants
	}
	claims := g.Claims()
	return credential.Credential{Kind: credential.IDToken, ID: claims.Subject(), Expiry: claims.Expiry(), Token: idToken}, nil
}
