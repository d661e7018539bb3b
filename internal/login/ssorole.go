package login

import (
	"context"
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// RoleCredentials returns the AWS session of the role that `aws_sso` names.
func (a *Account) RoleCredentials(context.Context) (credential.Credential, error) {
	return credential.Credential{}, fault.New(fault.NoIdentity,
		fmt.Errorf("request role credentials: identity %q is not signed in through IAM Identity Center", a.id.Name),
		"sign in: oidc-dbt login "+a.id.Name)
}
