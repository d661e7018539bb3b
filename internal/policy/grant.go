package policy

import (
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
)

// A Grant is what an allowed request gets: the target's settings with the
// claims filled in. Only Policy.Authorize returns one that is Valid.
type Grant struct {
	target      string
	provider    string
	audience    string
	exchange    Values
	dbt         DBT
	lifetime    time.Duration
	maxLifetime time.Duration
	direct      bool
	claims      idtoken.Claims
	rule        Rule
	actor       actor
	identity    Identity
	guard       *Guard
	agents      string // what the target says of AI agents
	warnings    []string
}

// A DBT is a target's `dbt:` block, or with Client its `client:` block. The
// zero DBT is a credentials-only target.
type DBT struct {
	Client bool       // for other clients of a warehouse of the type: there is no profile
	Type   string     // dbt's adapter type, "" with From
	Block  *yaml.Node // the mapping of one output, claims filled in; nil with From
	Output string     // the output's name in profiles.yml; the target's name where it was left out
	From   string     // path of a profiles.yml, relative to the project directory
	With   *yaml.Node // with From: the keys of the output that the policy gives, claims filled in; nil for none

	Profiles []Profile
}

// A Profile is a further profile that gets the output with other keys.
type Profile struct {
	Name string
	Keys *yaml.Node // that replace those of the output, or are added to it, claims filled in
}

// A Rule names the rule that allowed a request.
type Rule struct {
	Index int // from 0, in the target's `allow`
	Line  int // in the policy, from 1
}

// Valid reports whether g came from Authorize.
func (g Grant) Valid() bool { return !g.claims.IsZero() }

// Target returns the target's name.
func (g Grant) Target() string { return g.target }

// Provider returns the provider's name.
func (g Grant) Provider() string { return g.provider }

// Audience returns the ID token's audience.
func (g Grant) Audience() string { return g.audience }

// GuardedAudience is Target.GuardedAudience.
func (g Grant) GuardedAudience() string { return guarded(g.audience, g.exchange) }

// Exchange returns the provider's block.
func (g Grant) Exchange() Values { return g.exchange }

// DBT returns the dbt block.
func (g Grant) DBT() DBT { return g.dbt }

// Lifetime returns the lifetime to ask for, 0 for the provider's default.
func (g Grant) Lifetime() time.Duration { return g.lifetime }

// MaxLifetime returns the longest lifetime allowed, 0 for no limit.
func (g Grant) MaxLifetime() time.Duration { return g.maxLifetime }

// Direct reports whether dbt is to connect to the warehouse itself.
func (g Grant) Direct() bool { return g.direct }

// Claims returns the verified claims that were authorised.
func (g Grant) Claims() idtoken.Claims { return g.claims }

// Claim returns a claim that is a string, "" where the token has none.
func (g Grant) Claim(name string) string { v, _ := g.claims.String(name); return v }

// Run returns what the identity's system calls the run, "" where its tokens do not say.
func (g Grant) Run() string {
	for _, name := range kinds[g.identity.Kind].run {
		if run := g.Claim(name); run != "" {
			return run
		}
	}
	return ""
}

// Rule returns the rule that matched.
func (g Grant) Rule() Rule { return g.rule }

// Guard returns which statements may go on to the warehouse, nil for any.
func (g Grant) Guard() *Guard { return g.guard }

// ActorKind returns "user", "bot" or "agent", derived from the claims.
func (g Grant) ActorKind() string { return g.actor.kind }

// Identity returns whose tokens the claims are of.
func (g Grant) Identity() Identity { return g.identity }

// CheckHint returns a denial where a target refuses AI agents, and hint says
// that one may be at work; "" says nothing. A hint can be forged, and so never
// admits.
func (g Grant) CheckHint(hint string) error { return hintDenial(g.target, g.agents, hint) }

func hintDenial(target, agents, hint string) error {
	if hint == "" || agents != "refuse" {
		return nil
	}
	return denied("run it yourself, without an agent, or use a target for agents",
		"target %q refuses AI agents, and %s says that one is at work", target, hint)
}

// Warnings returns what is allowed but due for attention, on this day.
func (g Grant) Warnings() []string { return g.warnings }
