package policy

import (
	"cmp"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// An actor is who started a run, as far as an account tells.
type actor struct {
	kind   string // "user", "bot" or "agent"; "" where it is not known
	source string // what it is known by: "token", "id" or "name"
}

// An agentAccount is an account that AI agents act through. A person's token
// in an agent looks like the person.
type agentAccount struct{ id, name string }

// knownAgents are those of GitHub, by their ids (from the addresses of their
// public commits), "" where it is not known. Nobody can register a name that
// ends in [bot]; other names can be given up and taken.
var knownAgents = []agentAccount{
	{"198982749", "Copilot"}, {"175728472", "copilot-pull-request-reviewer"}, {"", "copilot-swe-agent[bot]"},
	{"209825114", "claude[bot]"}, {"", "claude-code[bot]"}, {"206951365", "cursor[bot]"}, {"199161495", "cursoragent"},
	{"158243242", "devin-ai-integration[bot]"}, {"161369871", "google-labs-jules[bot]"}, {"176961590", "gemini-code-assist[bot]"},
	{"199175422", "chatgpt-codex-connector[bot]"}, {"", "openai-codex[bot]"}, {"", "openhands-agent"}, {"", "sweep-ai[bot]"},
	{"", "amazon-q-developer[bot]"}, {"136622811", "coderabbitai[bot]"}, {"", "cline[bot]"},
}

// isBot reports whether a name is one that GitHub gives to applications only.
func isBot(name string) bool { return strings.HasSuffix(name, "[bot]") }

// byName reports whether the name tells the agent: not where another account
// could take it and the id is known.
func (a agentAccount) byName() bool { return a.name != "" && (a.id == "" || isBot(a.name)) }

// matches reports whether an account is the agent's.
func (a agentAccount) matches(id, name string) (source string, ok bool) {
	switch {
	case a.id != "" && a.id == id:
		return "id", true
	case a.byName() && strings.EqualFold(a.name, name):
		return "name", true
	}
	return "", false
}

// agentsOf returns the accounts of AI agents at a kind's system: those that the
// policy adds, by id or name, and the known ones.
func (p *Policy) agentsOf(kind string) (list []agentAccount) {
	for _, text := range p.agents {
		if strings.Trim(text, "0123456789") == "" {
			list = append(list, agentAccount{id: text})
		} else {
			list = append(list, agentAccount{name: text})
		}
	}
	if kind == "github" {
		list = append(list, knownAgents...)
	}
	return list
}

// Actors are the accounts that start runs of a kind, as claims tell of them.
type Actors struct {
	NameClaim, IDClaim   string   // "" where every token's actor is of the kind Always
	Always               string   // "user" or "agent"
	AgentNames, AgentIDs []string // an agent has one of these, names in any letter case
}

// Actors returns what tells the actors of a kind of identity.
func (p *Policy) Actors(kind string) Actors {
	claims := kinds[kind].actor
	a := Actors{NameClaim: claims.name, IDClaim: claims.id}
	if claims.kind != "" || claims.name == "" {
		return Actors{Always: cmp.Or(claims.kind, "user")}
	}
	for _, agent := range p.agentsOf(kind) {
		if agent.byName() {
			a.AgentNames = append(a.AgentNames, agent.name)
		}
		if agent.id != "" {
			a.AgentIDs = append(a.AgentIDs, agent.id)
		}
	}
	return a
}

// ActorKind returns "user", "bot" or "agent" for the token's actor, and what
// that is known by: "token" where every token of the identity's kind has one
// kind of actor, else the account's "id" or "name". It is derived here and
// never read from the token; "user" only says that no bot is known.
func (p *Policy) ActorKind(claims ClaimSet) (kind, source string) {
	a := p.actorOf(claims, p.IdentityOf(claims))
	return a.kind, a.source
}

func (p *Policy) actorOf(claims ClaimSet, id Identity) actor {
	names := kinds[id.Kind].actor
	if names.kind != "" {
		return actor{names.kind, "token"}
	}
	if names.name == "" {
		return actor{"user", "token"}
	}
	name, _ := claims.String(names.name)
	account, _ := claims.String(names.id)
	if name == "" && claims.Unknown(names.name) {
		return actor{} // a rule that names a kind must not match
	}
	for _, agent := range p.agentsOf(id.Kind) {
		if source, ok := agent.matches(account, name); ok {
			return actor{"agent", source}
		}
	}
	if isBot(name) || id.Kind == "gitlab" && gitlabBot.MatchString(name) {
		return actor{"bot", "name"}
	}
	return actor{"user", "name"}
}

// gitlabBot matches the users behind GitLab's project and group access tokens.
var gitlabBot = lazy.MustCompile(`^(?:project|group)_[0-9]+_bot(?:_|$)`).Where(func(s string) bool { return strings.Contains(s, "_bot") })
