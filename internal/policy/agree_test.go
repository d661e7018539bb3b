package policy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/sampling"
)

// agreements is how many pairs of policy and claims are decided in every way.
const agreements = 100_000 / sampling.Share

// TestExplainAgrees: over random policies and claims, verified ones are
// explained, chosen and authorised alike, and unverified ones that say the same
// are explained like them.
func TestExplainAgrees(t *testing.T) {
	t.Parallel()
	g := generator{rand.New(rand.NewPCG(1, 2))}
	tokens := make([]pair, 200)
	for i := range tokens {
		tokens[i] = g.token(t)
	}
	var allowed, denied, ambiguous, stale int
	for n := 0; n < agreements; {
		src := g.policy()
		if g.IntN(3) == 0 {
			src = strings.Replace(src, "targets:", g.deny()+"targets:", 1)
		}
		p, err := policy.Parse("policy.yml", []byte(src), catalog())
		if err != nil {
			continue // an unbound rule, a ${claim} that not every rule holds
		}
		for range 100 {
			n++
			c := tokens[g.IntN(len(tokens))]
			e := agree(t, p, src, c)
			switch open := len(e.Targets) - len(closed(e)); {
			case e.Allowed() != "":
				allowed++
			case open > 1:
				ambiguous++
			case e.Chosen != "":
				stale++
			default:
				denied++
			}
		}
	}
	for what, count := range map[string]int{"allowed": allowed, "denied": denied, "ambiguous": ambiguous, "overdue": stale} {
		if count < agreements/100 {
			t.Errorf("only %d of %d decisions are %s: the generator shows too little", count, agreements, what)
		}
	}
}

func closed(e policy.Explanation) []policy.TargetExplanation {
	return slices.DeleteFunc(slices.Clone(e.Targets), policy.TargetExplanation.Allowed)
}

// agree holds the ways of deciding to each other.
func agree(t *testing.T, p *policy.Policy, src string, c pair) policy.Explanation {
	t.Helper()
	e := p.Explain(c.verified, reviewDay)
	chosen, err := p.Choose(c.verified)
	name := ""
	if err == nil {
		name = chosen.Name()
	}
	if e.Chosen != name || !reflect.DeepEqual(e.Denial, err) {
		t.Fatalf("Choose returns %q (%v), Explain %q (%v)\n%s", name, err, e.Chosen, e.Denial, src)
	}
	for _, target := range e.Targets {
		grant, err := p.Authorize(target.Target, c.verified, reviewDay)
		if target.Allowed() != (err == nil) || grant.Valid() != (err == nil) || !reflect.DeepEqual(target.Denial, err) {
			t.Fatalf("Authorize returns %v, Explain %v\n%s", err, target.Denial, src)
		}
		if rule, ok := p.Decides(target.Target, c.unverified, reviewDay); ok != (err == nil) || err == nil && rule != grant.Rule() {
			t.Fatalf("Decides returns rule %v, %t; Authorize %v, %v\n%s", rule, ok, grant.Rule(), err, src)
		}
		if err == nil && (target.Rule != grant.Rule() || target.Login.Audience != grant.Audience() ||
			target.Login.Exchange.Get("role") != grant.Exchange().Get("role")) {
			t.Fatalf("Explain returns rule %v and %v, Authorize %v and %v\n%s", target.Rule, target.Login, grant.Rule(), grant.Exchange(), src)
		}
		if names, want := explained(target), mismatches(err); !reflect.DeepEqual(names, want) {
			t.Fatalf("Explain names the claims %v, the denial %v\n%s", names, want, src)
		}
	}
	if other := p.Explain(c.unverified, reviewDay); !reflect.DeepEqual(other, e) {
		t.Fatalf("of the same claims, not verified, Explain says\n%+v\nand not\n%+v\n%s", other, e, src)
	}
	return e
}

// mismatches are the claims that a denial names for each of its rules.
func mismatches(err error) map[int][]string {
	var denial *policy.Denial
	if !errors.As(err, &denial) || len(denial.Rules) == 0 {
		return nil
	}
	list := map[int][]string{}
	for _, r := range denial.Rules {
		for _, m := range r.Mismatches {
			list[r.Index] = append(list[r.Index], m.Claim)
		}
	}
	return list
}

func explained(e policy.TargetExplanation) map[int][]string {
	if e.Allowed() || e.Rule.Line > 0 || e.Refused.Line > 0 {
		return nil
	}
	list := map[int][]string{}
	for _, r := range e.Rules {
		list[r.Index] = r.Mismatches()
	}
	return list
}

// A pair is the same claims twice.
type pair struct {
	verified   idtoken.Claims
	unverified idtoken.Unverified
}

type generator struct{ *rand.Rand }

func (g generator) pick(values ...string) string { return values[g.IntN(len(values))] }

// maybe returns one of the values, or "" in half of the cases.
func (g generator) maybe(values ...string) string {
	if g.IntN(2) == 0 {
		return ""
	}
	return g.pick(values...)
}

func (g generator) token(t *testing.T) pair {
	changes := map[string]any{}
	set := func(claim, value string) {
		if value != "" {
			changes[claim] = value
		}
	}
	repository := g.pick("acme/analytics", "acme/finance", "evil/analytics")
	owner, _, _ := strings.Cut(repository, "/")
	set("repository", repository)
	set("repository_owner", owner)
	set("repository_id", g.pick("487920697", "2"))
	set("environment", g.maybe("staging", "Production", "a/b"))
	set("ref", g.maybe("refs/heads/dev", "refs/heads/a/b", "refs/pull/7/merge", "refs/tags/v1"))
	set("event_name", g.maybe("schedule", "pull_request", "release", "issues"))
	set("actor", g.maybe("claude[bot]", "renovate[bot]"))
	set("job_workflow_ref", g.maybe("acme/analytics/.github/workflows/dbt.yml@refs/heads/main"))
	set("sub", g.maybe("repo:acme/analytics:environment:staging", "repo:acme@9919/analytics@487920697:ref:refs/heads/main"))
	if g.IntN(4) == 0 {
		changes["environment"] = g.IntN(9) // no string
	}
	audience := "sts.amazonaws.com"
	if g.IntN(5) == 0 {
		audience, changes["groups"] = "client", []string{"data", g.pick("admins", "guests")}
	}
	verified, err := issuer.Claims(t.Context(), audience, changes)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for _, name := range verified.Names() {
		values[name] = verified.Value(name)
	}
	unverified, err := idtoken.NewUnverified(values)
	if err != nil {
		t.Fatal(err)
	}
	return pair{verified, unverified}
}

func (g generator) policy() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nidentities:\n  github: {issuer: %s, kind: github}\n  team: {issuer: %s, kind: people, client_id: client}\ntargets:\n",
		issuer.URL(), issuer.URL())
	for i := range 1 + g.IntN(3) {
		role := g.pick("dbt", "dbt", "dbt-${environment}")
		fmt.Fprintf(&b, "  t%d:\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/%s\", region: x}}\n", i, role)
		if g.IntN(3) == 0 {
			reviewed := reviewDay.AddDate(0, 0, -g.IntN(200)).Format(time.DateOnly)
			fmt.Fprintf(&b, "    trust_reviewed: %s\n    trust_max_age: %dd\n", reviewed, 30+g.IntN(100))
		}
		b.WriteString("    allow:\n")
		for range 1 + g.IntN(4) {
			fmt.Fprintf(&b, "      - {%s}\n", g.rule())
		}
	}
	return b.String()
}

func (g generator) rule() string {
	if g.IntN(5) == 0 {
		return `identity: team, groups: ` + g.pick("data", "admins", "[admins, guests]", "nobody")
	}
	matchers := []string{g.pick(`repository_id: "487920697"`, `repository_id: ["2", "487920697"]`, `repository: acme/analytics`, `repository: [acme/analytics, evil/*]`)}
	add := func(text string) {
		if text != "" {
			matchers = append(matchers, text)
		}
	}
	add(g.maybe("environment: production", "environment: [staging, production]", `environment: "prod*"`, `environment: "**/b"`))
	add(g.maybe("ref: refs/heads/main", `ref: "refs/heads/*"`, `ref: "refs/**"`, `ref: "refs/pull/*/merge"`))
	add(g.maybe("event_name: push", "event_name: [pull_request, push, schedule]"))
	add(g.maybe("", "actor_kind: user", "actor_kind: [agent, bot]", `pull_number: "7"`, "colour: green"))
	add(g.maybe("", `job_workflow_ref: "acme/*/.github/workflows/dbt.yml@refs/tags/v*"`, `job_workflow_ref: "acme/*/.github/workflows/*.yml@refs/heads/*"`))
	add(g.maybe("", `sub: "repo:acme/analytics:ref:refs/heads/*"`, `sub: "repo:acme/analytics:environment:*"`, `sub: repo:acme@9919/analytics@487920697:environment:production`))
	return strings.Join(matchers, ", ")
}
