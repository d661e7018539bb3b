package idtoken

import "github.com/oidc-dbt/oidc-dbt/internal/lazy"

// An Issuer signs ID tokens. It comes from the policy.
type Issuer struct {
	URL  string
	JWKS string // the URL of its keys; "" for GitHub's well-known URL, or discovery for other issuers
	Keys []byte // its JWK set, which then is not fetched; nil for none
}

// keys returns the URL of the issuer's keys, "" if it takes discovery to find it.
func (i Issuer) keys() string {
	if i.JWKS == "" && IsGitHub(i.URL) {
		return i.URL + "/.well-known/jwks"
	}
	return i.JWKS
}

// githubIssuer matches GitHub's issuers: the public one, with or without an
// enterprise's slug, and those with data residency. Their keys have a
// well-known URL, which saves a round trip for discovery. (GitHub Docs, OpenID
// Connect reference)
var githubIssuer = lazy.MustCompile(`^https://token\.actions\.(?:githubusercontent\.com(?:/[A-Za-z0-9-]+)?|[a-z0-9-]+\.ghe\.com)$`)

// serverIssuer matches the issuers of GitHub Enterprise Server.
var serverIssuer = lazy.MustCompile(`^https://[^/?#@]+/_services/token$`)

// IsGitHub reports whether an issuer is one of GitHub's, by its form.
func IsGitHub(issuer string) bool {
	return githubIssuer.MatchString(issuer) || serverIssuer.MatchString(issuer)
}
