// Package provider exchanges a verified and authorised ID token for a short-lived credential.
package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Env is the world as an exchange sees it. There is no environment in it:
// variables and shared configuration files choose neither endpoint nor identity.
type Env struct {
	HTTP    *http.Client // from web.NewClient: no redirects, capped replies
	Network web.Network  // HTTP's, for servers with certificate authorities of their own
	Now     func() time.Time
}

// provider is one file of this package.
type provider struct {
	spec policy.Provider
	// check returns what keeps the provider from giving a credential for the
	// warehouse; nil where it gives one for any.
	check func(v policy.Values, w credential.Warehouse) error
	// exchange returns the credential, or an error of class Refused (the
	// provider said no) or Unreachable (it said nothing of use). A Lease that
	// began is in the credential in both cases.
	exchange func(ctx context.Context, env Env, r request) (credential.Credential, error)
	// endpoints returns the URLs that exchange will contact, first hop first,
	// for connecting early; none where the token is not sent by us.
	endpoints func(v policy.Values, w credential.Warehouse) []string
}

// A request is what an exchange works from.
type request struct {
	grant     policy.Grant
	warehouse credential.Warehouse
	idToken   secret.Value
}

var providers = map[string]provider{
	"aws":             awsProvider,
	"databricks":      databricksProvider,
	"entra":           entraProvider,
	"gcp":             gcpProvider,
	"identity_center": identityCenterProvider,
	"oidc":            oidcProvider,
	"token_exchange":  tokenExchangeProvider,
	"vault":           vaultProvider,
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

// Endpoints returns the URLs that an exchange will contact.
func Endpoints(name string, v policy.Values, w credential.Warehouse) []string {
	return providers[name].endpoints(v, w)
}

// skew is how far the provider's clock may be ahead of ours before a
// credential counts as longer-lived than asked for.
const skew = 60 * time.Second

// longestLife is more than any credential lives: a later expiry is one that
// nobody meant.
const longestLife = 366 * 24 * time.Hour

// usable returns an error of class Unreachable unless c is what a credential
// looks like, and of now. It is for the last hop's, and for one that a next hop
// takes.
func usable(c credential.Credential, now time.Time) error {
	if slices.ContainsFunc(c.Secrets(), isGarbled) {
		return unreachable("the credential in the reply has characters that none has")
	}
	expiry, clock := c.Expiry.UTC().Format(time.RFC3339), "compare the runner's clock with the provider's"
	switch life := c.Expiry.Sub(now); {
	case c.Static && c.Expiry.Equal(credential.Never()):
	case life <= 0:
		return fault.New(fault.Unreachable, fmt.Errorf("the credential expired at %s, and it is %s now", expiry, now.UTC().Format(time.RFC3339)), clock)
	case life > longestLife:
		return fault.New(fault.Unreachable, fmt.Errorf("the credential expires at %s, which is later than any does", expiry), clock)
	}
	return nil
}

// isGarbled reports whether v has characters that no token or password has.
func isGarbled(v secret.Value) bool {
	return strings.ContainsFunc(v.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' })
}

// Exchange exchanges the ID token that g was given for, for a credential at
// the warehouse. An error is of class Refused when the provider said no or
// gave a longer life than the policy allows, Unreachable when it said nothing
// of use.
func Exchange(ctx context.Context, env Env, g policy.Grant, w credential.Warehouse, idToken secret.Value) (credential.Credential, error) {
	p, ok := providers[g.Provider()]
	if !ok || !g.Valid() {
		return credential.Credential{}, errors.New("exchange ID token: not authorised") // a bug: only Authorize makes grants
	}
	c, err := p.exchange(ctx, env, request{grant: g, warehouse: w, idToken: idToken})
	now := env.Now()
	if err == nil {
		err = usable(c, now)
	}
	if life, limit := c.Expiry.Sub(now), g.MaxLifetime(); err == nil && limit > 0 && p.spec.LifetimesFor(string(w.Asks.Login)) != nil && life > limit+skew {
		err = fault.New(fault.Refused, fmt.Errorf("the credential lives %s, the policy's max_lifetime is %s",
			life.Round(time.Second), limit), "set `lifetime` to what the provider should be asked for, or raise max_lifetime")
	}
	if err == nil {
		return c, nil
	}
	err = fault.New(fault.ClassOf(err), fmt.Errorf("exchange ID token with %q: %w", g.Provider(), err), "")
	if c.Lease != nil {
		err = errors.Join(err, Revoke(ctx, env, *c.Lease)) // nobody will get to know what it is for
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

// lifetime returns what to ask the provider for, 0 for its default.
func lifetime(g policy.Grant, byDefault time.Duration) time.Duration {
	if g.Lifetime() == 0 && g.MaxLifetime() > 0 && g.MaxLifetime() < byDefault {
		return g.MaxLifetime()
	}
	return g.Lifetime()
}

// refused is the provider's own no: its code and its words, which are
// foreign, quoted and cut, and without the token should it echo that.
func refused(code, message string, hint string, secrets ...secret.Value) error {
	words := make([]string, 0, 2)
	for _, s := range []string{code, message} {
		if s != "" {
			words = append(words, quoted(s, secrets))
		}
	}
	if len(words) == 0 {
		words = append(words, "no reason given")
	}
	return fault.New(fault.Refused, fmt.Errorf("it refuses: %s", strings.Join(words, ": ")), hint)
}

// maxWords cuts a provider's message. AWS's longest, with two ARNs, are under 400 characters.
const maxWords = 400

// quoted returns a provider's words for an error.
func quoted(s string, secrets []secret.Value) string {
	s = without(strings.ToValidUTF8(s, "\uFFFD"), secrets)
	if runes := []rune(s); len(runes) > maxWords {
		s = string(runes[:maxWords]) + "…"
	}
	return strconv.Quote(s)
}

// window is how much of a secret, in a row, counts as an echo of it. Half a
// token serves whoever can guess the rest: its header is the same in each.
const window = 12

// without replaces every part of s that stands in one of the secrets, too.
// Chance alone makes window characters equal once in 10^21 tries.
func without(s string, secrets []secret.Value) string {
	hidden := make([]bool, len(s))
	found := false
	for _, v := range secrets {
		text := v.Reveal()
		size := min(window, len(text))
		for i := 0; size > 0 && i+size <= len(s); i++ {
			if strings.Contains(text, s[i:i+size]) {
				found = true
				for j := i; j < i+size; j++ {
					hidden[j] = true
				}
			}
		}
	}
	if !found {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch {
		case !hidden[i]:
			b.WriteByte(s[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString("…")
		}
	}
	return b.String()
}

// unreachable is a reply of no use, or none. Where another try would meet the
// same, or a proxy is in the way, the transport knows what to do.
func unreachable(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if hint := web.Hint(err); hint != "" || web.Refusal(err) != nil {
		return fault.New(fault.Unreachable, err, hint)
	}
	return fault.New(fault.Unreachable, err, statusPage)
}

const statusPage = "run the job again; when it lasts, see the provider's status page"

// foreign is a reply that a service does not give: another server's, or that of
// a proxy on the way. It comes again.
func foreign(service, format string, args ...any) error {
	return fault.New(fault.Unreachable, fmt.Errorf(format, args...),
		fmt.Sprintf("something else than %s may answer at this address, a proxy on the way for example: check the endpoint", service))
}

// replied is a status without the service's own words; one of a moment is marked.
func replied(service string, status int) error {
	if web.Transient(status) {
		return web.Temporary(unreachable("%s replies status %d", service, status))
	}
	return foreign(service, "%s replies status %d", service, status)
}

// noReply is the error of a request that had no reply, or half of one, marked
// where another try may cure it.
func noReply(err error) error { return web.FailedAs(err, unreachable("%w", web.Cause(err))) }

// checkURL is policy.Key.Check for endpoints.
func checkURL(value string) error {
	_, err := web.CheckURL(value)
	return err
}

// matching returns a policy.Key.Check that wants a match of a pattern, of
// shortest to longest bytes. (Bounds inside a pattern are unrolled when it is
// compiled, which is at every start.)
func matching(pattern *lazy.Regexp, shortest, longest int, want string) func(string) error {
	return func(value string) error {
		if len(value) < shortest || len(value) > longest || !pattern.MatchString(value) {
			return fmt.Errorf("want %s", want)
		}
		return nil
	}
}

// aName returns a policy.Key.Check for an audience that a vendor knows as a
// name: as an address it is another one, which the vendor refuses.
func aName(want string) func(string) error {
	return func(value string) error {
		if _, rest, ok := strings.Cut(value, "://"); ok && strings.EqualFold(strings.TrimSuffix(rest, "/"), want) {
			return fmt.Errorf("is an address, and the audience is a name: write %q", want)
		}
		return nil
	}
}

// checkAudience returns the fault of sending a token of a vendor's audience
// to somebody else's host, who could use it at the vendor: endpoints are the
// keys of v that hold URLs, in their order.
func checkAudience(v policy.Values, audience string, endpoints ...string) (faults []policy.KeyError) {
	for _, key := range endpoints {
		if err := policy.CheckAudience(audience, v.Get(key)); v.Get(key) != "" && err != nil {
			faults = append(faults, policy.KeyError{Key: key, Err: err})
		}
	}
	return faults
}
