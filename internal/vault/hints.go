package vault

import (
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

func loginHint(g policy.Grant) func(string) string {
	v := g.Exchange()
	method := "auth/" + authPath(v)
	return func(words string) string {
		switch {
		case strings.Contains(words, "namespace"):
			return fmt.Sprintf("create the namespace %q", v.Get("namespace"))
		case strings.Contains(words, "role") && strings.Contains(words, "could not be found"):
			return fmt.Sprintf("create the role %s/role/%s", method, v.Get("role"))
		case strings.Contains(words, "audience"):
			return fmt.Sprintf("bound_audiences of %s/role/%s must contain %q", method, v.Get("role"), g.Audience())
		case strings.Contains(words, "bound claim"), strings.Contains(words, "bound_claims"),
			strings.Contains(words, "error validating claims"), strings.Contains(words, "subject"):
			return fmt.Sprintf("bound_claims of %s/role/%s do not match subject %q", method, v.Get("role"), g.Claims().Subject())
		case strings.Contains(words, "validating token"), strings.Contains(words, "signature"),
			strings.Contains(words, "could not load configuration"), strings.Contains(words, "issuer"):
			return fmt.Sprintf("%s/config must have oidc_discovery_url and bound_issuer %s", method, g.Claims().Issuer())
		case strings.Contains(words, "no handler for route"), strings.Contains(words, "permission denied"):
			return fmt.Sprintf("enable the JWT auth method at %s, or name its path in auth_path (and its namespace in namespace)", method)
		}
		return ""
	}
}

func readHint(g policy.Grant) func(string) string {
	v := g.Exchange()
	path := v.Get("secret")
	return func(words string) string {
		switch {
		case words == "":
			return "`secret` is an API path: a KV engine of version 2 has data/ after its mount, as in secret/data/NAME"
		case strings.Contains(words, "permission denied"):
			return fmt.Sprintf("a policy of auth/%s/role/%s (token_policies) must allow `read` on %s", authPath(v), v.Get("role"), path)
		case strings.Contains(words, "no handler for route"):
			return fmt.Sprintf("no secrets engine is mounted where %s begins", path)
		case strings.Contains(words, "one use left"):
			return fmt.Sprintf("token_num_uses of auth/%s/role/%s must be 0, or at least 2: reading the secret is one use, "+
				"revoking it another", authPath(v), v.Get("role"))
		}
		return ""
	}
}
