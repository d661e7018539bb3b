package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/source"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// roleKeys are those of the role that the person has by IAM Identity Center.
type roleKeys struct {
	id            string
	secret, token secret.Value
	expiry        time.Time
	handed        bool // by RoleCredentials
}

// enough is how long keys must live to be used again for an ID token.
const enough = 5 * time.Minute

// tokenOfAWS returns a new ID token, which STS signs for the role's session.
func (a *Account) tokenOfAWS(ctx context.Context) (secret.Value, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.role.expiry.Sub(a.env.Now()) < enough {
		if err := a.renewRole(ctx); err != nil {
			return secret.Value{}, err
		}
	}
	return a.caller(a.role).WebIdentityToken(ctx, a.id.Audience)
}

// RoleCredentials returns the AWS session of the role that `aws_sso` names: each
// call another one. Errors are of class NoIdentity where the person must sign in
// again, Refused where the person does not have the role, Unreachable where AWS
// does not answer as it should.
func (a *Account) RoleCredentials(ctx context.Context) (credential.Credential, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.id.AWSSSO == nil {
		return credential.Credential{}, fault.New(fault.Usage,
			fmt.Errorf("request role credentials: identity %q does not sign in through IAM Identity Center (aws_sso)", a.id.Name), "")
	}
	if a.role.handed || a.role.expiry.Sub(a.env.Now()) < enough {
		if err := a.renewRole(ctx); err != nil {
			return credential.Credential{}, err
		}
	}
	arn, err := a.caller(a.role).ARN(ctx)
	if err != nil {
		return credential.Credential{}, err
	}
	a.role.handed = true
	return credential.Credential{
		Kind: credential.AWSSession, ID: arn, Serial: a.role.id, Expiry: a.role.expiry,
		AWS: &credential.AWS{
			AccessKeyID: secret.New(a.role.id), SecretAccessKey: a.role.secret, SessionToken: a.role.token, Region: a.id.AWSSSO.Region,
		},
	}, nil
}

// caller asks STS for the owner of keys.
func (a *Account) caller(k roleKeys) source.AWSCaller {
	return source.AWSCaller{
		HTTP: a.env.HTTP, Region: a.id.AWSSSO.Region, Endpoint: a.id.AWSSSO.Endpoint,
		Keys: aws.Credentials{AccessKeyID: k.id, SecretAccessKey: k.secret.Reveal(), SessionToken: k.token.Reveal()},
	}
}

// renewRole sets a.role.
func (a *Account) renewRole(ctx context.Context) error {
	s, err := a.currentSession(ctx)
	if err != nil {
		return err
	}
	k, err := a.roleOf(ctx, s)
	if err == nil {
		a.role = k
	}
	return err
}

// roleOf has IAM Identity Center give the keys of the role for a session.
// (IAM Identity Center Portal API, GetRoleCredentials)
func (a *Account) roleOf(ctx context.Context, s session) (k roleKeys, err error) {
	sso := a.id.AWSSSO
	q := url.Values{"account_id": {sso.Account}, "role_name": {sso.Role}}
	body, err := a.portal(ctx, http.MethodGet, "/federation/credentials?"+q.Encode(), s)
	var refused refusal
	switch {
	case errors.As(err, &refused) && refused.code == unauthorized:
		return k, a.signedOut(fmt.Errorf("request role credentials: the session of identity %q has ended: %w", a.id.Name, refused))
	case errors.As(err, &refused):
		return k, fault.New(fault.Refused,
			fmt.Errorf("request role credentials: role %q of account %s: refused: %w", sso.Role, sso.Account, refused),
			"let the administrator of IAM Identity Center assign you or a group of yours the permission set for the account")
	case err != nil:
		return k, err
	}
	var reply struct {
		Keys struct {
			ID         string `json:"accessKeyId"`
			Secret     string `json:"secretAccessKey"`
			Token      string `json:"sessionToken"`
			Expiration int64  `json:"expiration"` // milliseconds
		} `json:"roleCredentials"`
	}
	if json.Unmarshal(body, &reply) != nil || reply.Keys.ID == "" || reply.Keys.Secret == "" || reply.Keys.Token == "" ||
		reply.Keys.Expiration <= 0 {
		return k, fault.New(fault.Unreachable, errors.New("request role credentials: the reply has none"), "")
	}
	k = roleKeys{
		id: reply.Keys.ID, secret: secret.New(reply.Keys.Secret), token: secret.New(reply.Keys.Token),
		expiry: time.UnixMilli(reply.Keys.Expiration),
	}
	err = exchange.Usable(credential.Credential{
		Expiry: k.expiry, AWS: &credential.AWS{AccessKeyID: secret.New(k.id), SecretAccessKey: k.secret, SessionToken: k.token},
	}, a.env.Now())
	return k, err
}

// unauthorized is AWS's code for a session that has ended.
const unauthorized = "UnauthorizedException"

// portal asks AWS's portal for a session. The error of a refusal is one.
func (a *Account) portal(ctx context.Context, method, path string, s session) ([]byte, error) {
	body, err := web.Retry(ctx, func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, a.awsURL("portal.sso")+path, nil)
		if err != nil {
			return nil, errors.New("not a URL")
		}
		req.Header.Set("X-Amz-Sso_bearer_token", s.access.Reveal())
		return a.do(req, []secret.Value{s.access})
	})
	if err != nil && fault.ClassOf(err) == fault.Internal && !errors.As(err, new(refusal)) {
		err = fault.New(fault.Unreachable, fmt.Errorf("ask IAM Identity Center: %w", err), web.Hint(err))
	}
	return body, err
}
