package lint

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

var agentWithoutGuard = check{
	name:     "agent-without-guard",
	severity: Warning,
	meaning: "A rule admits AI agents to a warehouse whose statements could be guarded, and nothing limits what they " +
		"send but the role.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			agents := r.AdmitsOnlyAgents() || slices.Contains(r.Patterns("actor_kind"), "agent")
			if agents && r.Guard() == nil && r.Guardable() {
				found(r.claim("actor_kind"), "add `guard: {statements: read}`, or what they need",
					"%s admits AI agents, and nothing limits what they send but the warehouse's role", r)
			}
		})
	},
}

var guardsShareRole = check{
	name:     "guards-share-role",
	severity: Warning,
	meaning: "Two targets log in as the same user and role, and guard statements differently: the warehouse cannot tell " +
		"the stricter one from the other.",
	find: func(in *files, found report) {
		for _, f := range in.policies {
			first := map[string]target{} // by login
			for _, t := range f.targets() {
				login := t.login()
				if login == "" {
					continue
				}
				other, seen := first[login]
				if !seen {
					first[login] = t
					continue
				}
				if other.guards() != t.guards() {
					found(t.at(t.key), "give the stricter target a role of its own, which may do less",
						"targets %q and %q log in as the same user and role, and guard statements differently (%s; %s)",
						other.Name(), t.Name(), other.guards(), t.guards())
				}
			}
		}
	},
}

// loginKeys are the keys of a block and of an exchange that say where a target
// logs in, and as whom.
var loginKeys = []string{
	"account", "host", "port", "user", "role", "database", "dbname", "role_arn", "service_account", "client_id", "secret", "mount",
}

// login names where a target logs in and as whom, "" where only dbt will know.
func (t target) login() string {
	block := t.DBT().Block
	if block == nil {
		return ""
	}
	parts := []string{t.DBT().Type, t.Provider()}
	for _, key := range loginKeys {
		parts = append(parts, text(get(block, key)), t.Exchange().Get(key))
	}
	return strings.Join(parts, "\x00")
}

// guards describes the guards of the target's rules, each once.
func (t target) guards() string {
	var list []string
	for _, r := range t.Rules() {
		text := guardText(r.Guard())
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return strings.Join(list, " or ")
}

func guardText(g *policy.Guard) string {
	if g == nil {
		return "no guard"
	}
	return g.String()
}
