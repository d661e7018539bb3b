// Package credential is what an exchange gives: a short-lived secret, when it dies, and how an audit record names it.
package credential

import (
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A Credential is what a provider gave for an ID token. Which of the secrets
// are set depends on Kind.
type Credential struct {
	Kind   string    // "id_token", "aws_session", "google_access_token"
	ID     string    // not secret: the assumed role's ARN, the service account, the subject
	Expiry time.Time // when a new login with it fails; never zero

	Token      secret.Value // a bearer: ID token, access token
	User       secret.Value
	Password   secret.Value
	PrivateKey secret.Value // PKCS#8 DER in base64, one line
	AWS        *AWS
}

// AWS is a temporary session of the AWS security token service.
type AWS struct {
	AccessKeyID     secret.Value
	SecretAccessKey secret.Value
	SessionToken    secret.Value
	Region          string
}

// Secrets returns every secret that c holds, for masking.
func (c Credential) Secrets() []secret.Value {
	all := []secret.Value{c.Token, c.User, c.Password, c.PrivateKey}
	if c.AWS != nil {
		all = append(all, c.AWS.AccessKeyID, c.AWS.SecretAccessKey, c.AWS.SessionToken)
	}
	held := all[:0]
	for _, v := range all {
		if !v.IsZero() {
			held = append(held, v)
		}
	}
	return held
}
