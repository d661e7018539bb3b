package vault

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

func loginHint(g policy.Grant) func(string) string {
	v := g.Exchange()
	method, role := methodPath(v), rolePath(v)
	return func(words string) string {
		has := func(parts ...string) bool {
			return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(words, part) })
		}
		switch {
		case has("cel program", "proto auth"): // what follows may be words of the program's own
			return programHint(words, role, g.Claims().Subject())
		case has("namespace"):
			return fmt.Sprintf("create the namespace %q", v.Get("namespace"))
		case has("role") && has("could not be found"):
			if isCEL(v) {
				return fmt.Sprintf("create the role %s", role)
			}
			return fmt.Sprintf("create the role %s, or set `auth: cel` if it is a CEL role of OpenBao", role)
		case has("audience"):
			return fmt.Sprintf("bound_audiences of %s must contain %q", role, g.Audience())
		case has("bound claim", "bound_claims", "error validating claims", "subject"):
			return fmt.Sprintf("bound_claims of %s do not match subject %q", role, g.Claims().Subject())
		case has("validating token", "signature", "could not load configuration", "issuer"):
			return fmt.Sprintf("%s/config must have oidc_discovery_url and bound_issuer %s", method, g.Claims().Issuer())
		case has("no handler for route", "permission denied", "unsupported path") && isCEL(v):
			return fmt.Sprintf("`auth: cel` requires OpenBao 2.3 or later, with the JWT auth method enabled at %s: "+
				"check the version, or name the method's path in auth_path (and its namespace in namespace)", method)
		case has("no handler for route", "permission denied", "unsupported path"):
			return fmt.Sprintf("enable the JWT auth method at %s, or name its path in auth_path (and its namespace in namespace)", method)
		}
		return ""
	}
}

// programHint knows what OpenBao says of a CEL program. A refusal may end with a text that the program made.
func programHint(words, role, subject string) string {
	has := func(part string) bool { return strings.Contains(words, part) }
	switch {
	case has("blocked authorization"):
		return fmt.Sprintf("the cel_program of %s does not admit subject %q: compare it with the claims in the audit log", role, subject)
	case has("no such key: "): // it comes after the whole program, where it may be cut off
		claim := words[strings.LastIndex(words, " ")+1:]
		if !claimText.MatchString(claim) {
			claim = "NAME"
		}
		return fmt.Sprintf("the cel_program of %s reads the claim %q, which the token lacks: test it first, as in "+
			"has(claims.%[2]s) && claims.%[2]s == 'VALUE'", role, claim)
	case has("unexpected type"):
		return fmt.Sprintf("the cel_program of %s must return pb.Auth{policies: ['NAME']} for a token that it admits, "+
			"not true", role)
	case has("nil Timestamp"):
		return fmt.Sprintf("lease_options in the cel_program of %s requires issue_time: now", role)
	}
	return fmt.Sprintf("the cel_program of %s fails for subject %q: correct it at the server", role, subject)
}

func readHint(g policy.Grant) func(string) string {
	v := g.Exchange()
	path, kind, role := v.Get("secret"), kindOf(v), rolePath(v)
	return func(words string) string {
		switch {
		case words == "":
			return "`secret` is an API path: a KV engine of version 2 has data/ after its mount, as in secret/data/NAME"
		case strings.Contains(words, "permission denied"):
			return fmt.Sprintf("a policy of %s (%s) must allow `read` on %s", role, kind.policies, path)
		case strings.Contains(words, "no handler for route"):
			return fmt.Sprintf("no secrets engine is mounted where %s begins", path)
		case strings.Contains(words, "one use left"):
			return fmt.Sprintf("%s of %s must be 0, or at least 2: reading the secret is one use, revoking it another", kind.uses, role)
		}
		return ""
	}
}
