// Package provider exchanges a verified and authorised ID token for a short-lived credential.
package provider

import (
	"context"
	"net/http"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Env is the world as an exchange sees it. There is no environment in it:
// variables and shared configuration files choose neither endpoint nor identity.
type Env struct {
	HTTP *http.Client // from web.NewClient: no redirects, capped replies
	Now  func() time.Time
}

// provider is one file of this package.
type provider struct {
	spec policy.Provider
	// exchange returns the credential, or an error of class Refused (the
	// provider said no) or Unreachable (it said nothing of use).
	exchange func(ctx context.Context, env Env, g policy.Grant, idToken secret.Value) (credential.Credential, error)
	// endpoints returns the URLs that exchange will contact, first hop first, for connecting early.
	endpoints func(v policy.Values) []string
}
