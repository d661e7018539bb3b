package lint

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// receiverKeys are the keys of an exchange that say who gets the ID token.
var receiverKeys = []string{"token_url", "address", "endpoint", "sts_endpoint", "authority", "host"}

var sharedAudience = check{
	name:     "shared-audience",
	severity: Warning,
	meaning: "Several services accept ID tokens with the same audience, or the audience is GitHub's default: " +
		"a recipient of such a token can use it elsewhere.",
	find: func(in *files, found report) {
		for _, f := range in.policies {
			first := map[string]target{} // by audience
			for _, t := range f.targets() {
				audience := t.Audience()
				at := t.audiencePlace()
				switch other, seen := first[audience]; {
				case strings.HasPrefix(audience, "https://github.com/"):
					found(at, "use an audience that only this service accepts",
						"target %q has the audience %q, GitHub's default: all tokens have it that were requested "+
							"without an audience", t.Name(), audience)
				case audience == "" || policy.IsVendorAudience(audience):
				case !seen:
					first[audience] = t
				case other.receiver() != t.receiver():
					found(at, "use a separate audience for each service",
						"targets %q and %q send tokens with the audience %q to different services: each can use them at the other",
						other.Name(), t.Name(), audience)
				}
			}
		}
	},
}

// audiencePlace is where the target's audience is, else its provider's block.
func (t target) audiencePlace() place {
	if key := t.find("exchange", t.Provider(), "audience"); key != nil {
		return t.at(key)
	}
	if key := t.find("exchange", t.Provider()); key != nil {
		return t.at(key)
	}
	return t.at(t.key)
}

// receiver names the service that gets the target's ID tokens.
func (t target) receiver() string {
	for _, key := range receiverKeys {
		if value := t.Exchange().Get(key); value != "" {
			return fmt.Sprintf("%s %s", t.Provider(), value)
		}
	}
	block := t.DBT().Block // the token is the login at the warehouse, or the warehouse's own host exchanges it
	for _, key := range []string{"account", "host", "server"} {
		if value := text(get(block, key)); value != "" {
			return fmt.Sprintf("%s %s", t.Provider(), value)
		}
	}
	return cmp.Or(t.Provider(), t.Name())
}
