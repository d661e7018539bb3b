package policytest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/explain"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/policytest"
	"github.com/oidc-dbt/oidc-dbt/internal/sample"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// agreements is how many pairs of policy and claims are decided in every way.
const agreements = 100_000 / sampling.Share

// TestAgrees: over random policies and claims, a test of a policy passes if and
// only if it says what the action decides of a token with these claims, and
// explain says the same of some.
func TestAgrees(t *testing.T) {
	t.Parallel()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	g := generator{rand.New(rand.NewPCG(3, 4)), issuer}
	tokens := make([]token, 200)
	for i := range tokens {
		tokens[i] = g.token(t)
	}
	allowed, several, denied := 0, 0, 0
	for n := 0; n < agreements; n += len(tokens) {
		src := g.policy()
		p, err := policy.Parse("p.yml", []byte(src), job.Catalog())
		if err != nil {
			t.Fatalf("%v\n%s", err, src)
		}
		file := &policytest.File{Policy: p}
		var wants []string
		for _, tok := range tokens {
			cases, want, open := g.decided(t, p, tok)
			file.Cases, wants = append(file.Cases, cases...), append(wants, want...)
			switch open {
			case "":
				denied++
			case "+":
				allowed++
			default:
				several++
			}
		}
		for i, r := range file.Run(day).Results {
			if passes, want := r.Message == "", wants[i] != "fails"; passes != want {
				t.Fatalf("case %+v: message %q, and the action decides otherwise\n%s", r.Case, r.Message, src)
			}
		}
	}
	if least := agreements / 100 / sampling.Share; allowed < least || several < least || denied < least {
		t.Errorf("%d allowed, %d by several targets, %d denied: the test says little", allowed, several, denied)
	}
}

// decided returns cases of a token by what the action decides of it, and of
// each whether it passes or "fails"; open has a + for each target that the token gets.
func (g generator) decided(t *testing.T, p *policy.Policy, tok token) (cases []policytest.Case, want []string, open string) {
	t.Helper()
	add := func(c policytest.Case, passes string) {
		c.Identity, c.Claims = tok.identity, tok.facts
		cases, want = append(cases, c), append(want, passes)
	}
	var allowed []string
	asked := g.pick(p.Targets()...)
	for _, name := range p.Targets() {
		_, err := p.Authorize(name, tok.verified, day)
		if err == nil {
			allowed, open = append(allowed, name), open+"+"
		}
		var denial *policy.Denial
		wrong := g.IntN(400) == 0 // these are explained in a table, which takes time
		switch {
		case err == nil && wrong:
			add(policytest.Case{Deny: []string{name}}, "fails")
		case err != nil && wrong:
			add(policytest.Case{Allow: []string{name}}, "fails")
		case name == asked && g.IntN(4) == 0 && errors.As(err, &denial) && len(denial.Rules) > 0:
			because := []string{}
			for _, m := range denial.Rules[0].Mismatches {
				because = append(because, m.Claim)
			}
			add(policytest.Case{Deny: []string{name}, Because: because}, "")
		}
	}
	if allowed != nil {
		add(policytest.Case{Allow: allowed}, "")
	} else {
		add(policytest.Case{Deny: p.Targets()}, "")
	}
	if g.IntN(10) == 0 {
		checkExplained(t, p, tok, allowed)
	}
	return cases, want, open
}

// checkExplained holds explain to what the action decides: of each target, and
// of a run that names none.
func checkExplained(t *testing.T, p *policy.Policy, tok token, allowed []string) {
	t.Helper()
	report, err := explain.New(p, tok.made, day, "", explain.Source{Kind: "case"})
	if err != nil {
		t.Fatal(err)
	}
	chosen := ""
	if target, err := p.Choose(tok.verified); err == nil && slices.Contains(allowed, target.Name()) {
		chosen = target.Name()
	}
	var explained []string
	for _, target := range report.Targets {
		if target.Decision == "allowed" {
			explained = append(explained, target.Target)
		}
	}
	if !slices.Equal(explained, allowed) || report.Chosen != chosen {
		t.Fatalf("explain allows %q and chooses %q, the action %q and %q: %v", explained, report.Chosen, allowed, chosen, tok.facts)
	}
}

// A token is claims as a case gives them, as they are made up, and of a signed token.
type token struct {
	identity string
	facts    map[string]any
	made     idtoken.Unverified
	verified idtoken.Claims
}

type generator struct {
	*rand.Rand
	issuer *standin.Issuer
}

func (g generator) pick(values ...string) string { return values[g.IntN(len(values))] }

func (g generator) token(t *testing.T) token {
	t.Helper()
	tok := token{identity: "github", facts: map[string]any{}}
	id, audience := policy.Identity{Name: "github", Kind: "github", Issuer: g.issuer.URL()}, "sts.amazonaws.com"
	set := func(claim, value string) {
		if value != "" {
			tok.facts[claim] = value
		}
	}
	if g.IntN(5) == 0 {
		tok.identity, audience = "team", "client"
		id = policy.Identity{Name: "team", Kind: "people", Issuer: g.issuer.URL(), ClientID: audience}
		tok.facts["groups"] = []any{"data", g.pick("admins", "guests")}
		set("sub", g.pick("ann", "bob"))
	} else {
		set("repository", g.pick("acme/analytics", "acme/finance", "evil/analytics"))
		set("repository_id", g.pick("", "487920697", "2"))
		set("repository_owner_id", g.pick("", "9919"))
		set("environment", g.pick("", "production", "staging", "Production", "a/b"))
		set("ref", g.pick("refs/heads/main", "refs/heads/main", "refs/heads/a/b", "refs/pull/7/merge", "refs/tags/v1"))
		set("event_name", g.pick("", "", "schedule", "pull_request", "issues"))
		set("actor", g.pick("", "octocat", "claude[bot]", "renovate[bot]"))
		set("job_workflow_ref", g.pick("", "acme/analytics/.github/workflows/dbt.yml@refs/heads/main"))
		set("sub", g.pick("", "", "repo:acme/analytics:environment:staging", "repo:acme@9919/analytics@487920697:environment:production"))
	}
	made, err := sample.Make(id, sample.Facts{Claims: tok.facts})
	if err == nil && !made.Has("sub") {
		tok.facts["sub"] = "custom" // every token has one
		made, err = sample.Make(id, sample.Facts{Claims: tok.facts})
	}
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]any{}
	for name := range standin.GitHubClaims() {
		changes[name] = nil
	}
	for _, name := range made.Names() {
		changes[name] = made.Value(name)
	}
	tok.made = made.Unverified
	if tok.verified, err = g.issuer.Claims(t.Context(), audience, changes); err != nil {
		t.Fatal(err)
	}
	return tok
}

func (g generator) policy() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nidentities:\n  github: {issuer: %s, kind: github}\n  team: {issuer: %s, kind: people, client_id: client}\n",
		g.issuer.URL(), g.issuer.URL())
	if g.IntN(3) == 0 {
		fmt.Fprintf(&b, "deny:\n  - {%s}\n", g.pick(`actor: "renovate*"`, "actor_kind: [bot, agent]", "environment: staging",
			`ref: "refs/tags/**"`, "identity: team, groups: guests", `repository: "*/finance"`))
	}
	b.WriteString("targets:\n")
	for i := range 1 + g.IntN(3) {
		fmt.Fprintf(&b, "  t%d:\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: eu-west-1}}\n", i)
		if g.IntN(4) == 0 {
			fmt.Fprintf(&b, "    trust_reviewed: %s\n    trust_max_age: 60d\n", day.AddDate(0, 0, -g.IntN(120)).Format(time.DateOnly))
		}
		b.WriteString("    allow:\n")
		for range 1 + g.IntN(3) {
			fmt.Fprintf(&b, "      - {%s}\n", g.rule())
		}
	}
	return b.String()
}

func (g generator) rule() string {
	if g.IntN(5) == 0 {
		return "identity: team, groups: " + g.pick("data", "admins", "[admins, guests]")
	}
	rule := g.pick(`repository_id: "487920697"`, "repository: acme/analytics", "repository: [acme/analytics, acme/finance]")
	for _, more := range []string{
		g.pick("", "environment: production", "environment: [staging, production]", `environment: "**/b"`),
		g.pick("", "", "ref: refs/heads/main", `ref: "refs/heads/*"`, `ref: "refs/pull/*/merge"`),
		g.pick("", "", "event_name: [pull_request, push]", "event_name: issues"),
		g.pick("", "", "", "actor_kind: user", `pull_number: "7"`),
		g.pick("", "", "", `sub: "repo:acme/analytics:environment:*"`, "sub: repo:acme@9919/analytics@487920697:environment:production"),
		g.pick("", "", "", `job_workflow_ref: "acme/*/.github/workflows/*.yml@refs/heads/*"`),
	} {
		if more != "" {
			rule += ", " + more
		}
	}
	return rule
}
