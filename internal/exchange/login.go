package exchange

import (
	"context"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A Login is what a person who is signed in has besides an ID token. Errors are
// of class NoIdentity where the person must sign in again, Refused where the
// identity provider does not give what is asked for, Unreachable where it gives
// no usable reply.
type Login interface {
	// AccessToken returns the person's own access token for a scope, and when it
	// expires. It is no ID token, and is never verified as one.
	AccessToken(ctx context.Context, id policy.Identity, scope string) (token secret.Value, expiry time.Time, err error)
	// RoleCredentials returns the AWS session of the role that an identity with
	// `aws_sso` names.
	RoleCredentials(ctx context.Context, id policy.Identity) (credential.Credential, error)
}
