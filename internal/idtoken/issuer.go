package idtoken

import "github.com/oidc-dbt/oidc-dbt/internal/lazy"

// An Issuer is who signs, as the policy names it.
type Issuer struct {
	URL  string
	JWKS string // the address of its keys; "" for the known one of GitHub's issuers, else by discovery
}

// keys returns the address of the issuer's keys, "" where only discovery says it.
func (i Issuer) keys() string {
	if i.JWKS == "" && IsGitHub(i.URL) {
		return i.URL + "/.well-known/jwks"
	}
	return i.JWKS
}

// githubIssuer matches GitHub's issuers: the public one, with an enterprise's
// slug, and of data residency. Their keys have a well-known address, so that
// discovery's round trip is saved. (GitHub Docs, OpenID Connect reference)
var githubIssuer = lazy.MustCompile(`^https://token\.actions\.(?:githubusercontent\.com(?:/[A-Za-z0-9-]+)?|[a-z0-9-]+\.ghe\.com)$`)

// serverIssuer matches those of GitHub Enterprise Server.
var serverIssuer = lazy.MustCompile(`^https://[^/?#@]+/_services/token$`)

// IsGitHub reports whether an issuer is one of GitHub's, by its form.
func IsGitHub(issuer string) bool {
	return githubIssuer.MatchString(issuer) || serverIssuer.MatchString(issuer)
}
