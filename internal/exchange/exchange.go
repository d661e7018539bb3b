// Package exchange is what all exchanges have in common: what they work from, what a
// credential must be, and the words of a provider's replies.
package exchange

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
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
	Login   Login // the people's who are signed in; nil where there can be none
}

// A Request is what an exchange works from.
type Request struct {
	Grant     policy.Grant
	Warehouse credential.Warehouse
	IDToken   secret.Value
}

// LongestLife is longer than any credential is valid: a later expiry is a mistake.
const LongestLife = 366 * 24 * time.Hour

// Usable returns an error of class Unreachable unless c is what a credential
// looks like, and of now. It is for the last hop's, and for one that a next hop
// takes.
func Usable(c credential.Credential, now time.Time) error {
	if slices.ContainsFunc(c.Secrets(), IsGarbled) {
		return Unreachable("the credential in the reply contains invalid characters")
	}
	expiry, clock := c.Expiry.UTC().Format(time.RFC3339), "compare the runner's clock with the provider's"
	switch life := c.Expiry.Sub(now); {
	case c.Static && c.Expiry.Equal(credential.Never()):
	case life <= 0:
		return fault.New(fault.Unreachable,
			fmt.Errorf("the credential expired at %s, and it is %s now", expiry, now.UTC().Format(time.RFC3339)), clock)
	case life > LongestLife:
		return fault.New(fault.Unreachable, fmt.Errorf("the credential expires at %s, which is more than a year away", expiry), clock)
	}
	return nil
}

// IsGarbled reports whether v has characters that no token or password has.
func IsGarbled(v secret.Value) bool {
	return strings.ContainsFunc(v.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' })
}

// Lifetime returns what to ask the provider for, 0 for its default.
func Lifetime(g policy.Grant, byDefault time.Duration) time.Duration {
	if g.Lifetime() == 0 && g.MaxLifetime() > 0 && g.MaxLifetime() < byDefault {
		return g.MaxLifetime()
	}
	return g.Lifetime()
}
