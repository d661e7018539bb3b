package vault

import (
	"errors"
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// The values of `auth`. A role is of one kind: the login of the other kind does not find it.
const (
	jwtRoles = "jwt" // bound claims, each with its values: the default
	celRoles = "cel" // a program that sees all claims (OpenBao, since 2.3.0)
)

// A kind of role is where the roles and their login are, below the path of the auth method, and what the settings that
// hints name are called there.
type kind struct{ under, policies, uses, longest, period string }

var kinds = map[string]kind{
	jwtRoles: {policies: "token_policies", uses: "token_num_uses", longest: "token_max_ttl", period: "token_period"},
	celRoles: {under: "cel/", policies: "policies", uses: "num_uses", longest: "MaxTTL", period: "period"}, // of its pb.Auth
}

func isCEL(v policy.Values) bool { return v.Get("auth") == celRoles }

func kindOf(v policy.Values) kind {
	if isCEL(v) {
		return kinds[celRoles]
	}
	return kinds[jwtRoles]
}

// methodPath returns where the auth method is enabled.
func methodPath(v policy.Values) string {
	if p := v.Get("auth_path"); p != "" {
		return "auth/" + p
	}
	return "auth/jwt"
}

func loginPath(v policy.Values) string { return methodPath(v) + "/" + kindOf(v).under + "login" }

// rolePath returns where the role must be for the login to find it.
func rolePath(v policy.Values) string {
	name := v.Get("role")
	if isCEL(v) {
		name = strings.ToLower(name)
	}
	return methodPath(v) + "/" + kindOf(v).under + "role/" + name
}

var (
	references = lazy.MustCompile(`\$\{[^}]*\}`)
	claimText  = lazy.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// checkRoleCase refuses a role that the CEL login never finds: it looks for the name in lower case, and roles are stored
// as they are written. (OpenBao 2.7, path_cel_login.go; for other roles both are in lower case)
func checkRoleCase(v policy.Values) error {
	name := v.Get("role")
	if literal := references.ReplaceAllString(name, ""); !isCEL(v) || literal == strings.ToLower(literal) {
		return nil
	}
	if references.MatchString(name) {
		return errors.New("must be in lower case with auth: cel, as the server looks for it")
	}
	return fmt.Errorf("must be in lower case with auth: cel, as the server looks for it: write %q", strings.ToLower(name))
}
