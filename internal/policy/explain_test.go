package policy_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// unverified returns GitHub's claims with changes; those set to nil are left out.
func unverified(t testing.TB, changes map[string]any) idtoken.Unverified {
	t.Helper()
	c := claims(t, changes)
	values := map[string]any{}
	for _, name := range c.Names() {
		values[name] = c.Value(name)
	}
	u, err := idtoken.NewUnverified(values)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestExplainRules(t *testing.T) {
	t.Parallel()
	type claim = policy.ClaimExplanation
	events := []string{"push", "schedule", "workflow_dispatch", "merge_group", "release"}
	id := claim{Claim: "repository_id", Matched: true, Got: "487920697", Want: []string{"487920697"}}
	event := claim{Claim: "event_name", Matched: true, Implied: true, Got: "push", Want: events}
	for _, tt := range []struct {
		name, rule string
		claims     policy.ClaimSet
		want       []claim
	}{
		{"matched", `{repository_id: "487920697", ref: [refs/heads/dev, "refs/heads/ma*"]}`, unverified(t, nil),
			[]claim{id, {Claim: "ref", Matched: true, Got: "refs/heads/main", Want: []string{"refs/heads/dev", "refs/heads/ma*"}}, event}},
		{"absent", `{repository_id: "487920697", environment: production}`, unverified(t, map[string]any{"environment": nil}).Without("environment"),
			[]claim{id, {Claim: "environment", Absent: true, Want: []string{"production"}}, event}},
		{"not a string", `{repository_id: "487920697", environment: "7"}`, unverified(t, map[string]any{"environment": 7}),
			[]claim{id, {Claim: "environment", Got: json.Number("7"), Want: []string{"7"}}, event}},
		{"event that is not admitted", `{repository_id: "487920697"}`, unverified(t, map[string]any{"event_name": "issues"}),
			[]claim{id, {Claim: "event_name", Implied: true, Got: "issues", Want: events}}},
		{"derived", `{repository_id: "487920697", actor_kind: bot, pull_number: "7", event_name: pull_request}`,
			unverified(t, map[string]any{"ref": "refs/pull/7/merge", "event_name": "pull_request"}),
			[]claim{id, {Claim: "actor_kind", Got: "user", Want: []string{"bot"}}, {Claim: "pull_number", Matched: true, Got: "7", Want: []string{"7"}},
				{Claim: "event_name", Matched: true, Got: "pull_request", Want: []string{"pull_request"}}}},
		{"no pull request", `{repository_id: "487920697", pull_number: "7", event_name: push}`, unverified(t, nil),
			[]claim{id, {Claim: "pull_number", Absent: true, Want: []string{"7"}}, {Claim: "event_name", Matched: true, Got: "push", Want: []string{"push"}}}},
		{"another issuer", `{repository_id: "487920697"}`, unverified(t, nil).With("iss", "https://gitlab.com"),
			[]claim{{Claim: "iss", Implied: true, Got: "https://gitlab.com", Want: []string{issuer.URL()}}}},
		{"no claims", `{repository_id: "487920697"}`, idtoken.Unverified{},
			[]claim{{Claim: "iss", Implied: true, Absent: true, Want: []string{issuer.URL()}}}},
		{"part of a token", `{repository_id: "487920697", ref_type: branch, environment: production, actor_kind: user, pull_number: "7"}`,
			unverified(t, nil).Without("environment").Without("ref_type").Without("actor").Without("ref").Without("event_name").Partial("environment"),
			[]claim{id, {Claim: "ref_type", Unknown: true, Want: []string{"branch"}}, {Claim: "environment", Absent: true, Want: []string{"production"}},
				{Claim: "actor_kind", Unknown: true, Want: []string{"user"}}, {Claim: "pull_number", Unknown: true, Want: []string{"7"}},
				{Claim: "event_name", Unknown: true, Implied: true, Want: events}}},
	} {
		e, _ := parse(t, policyOf(tt.rule)).Explain(tt.claims, reviewDay).Target("prod")
		if diff := cmp.Diff(tt.want, e.Rules[0].Claims); diff != "" {
			t.Errorf("%s: claims (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestExplainUnknown: what is not known never lets in, and is told from what is wrong.
func TestExplainUnknown(t *testing.T) {
	t.Parallel()
	part := unverified(t, nil).Without("ref_type").Partial()
	for _, tt := range []struct {
		rule             string
		allowed, unknown bool
	}{
		{`{repository_id: "487920697"}`, true, false},
		{`{repository_id: "487920697", ref_type: branch}`, false, true},
		{`{repository_id: "487920697", ref_type: branch, environment: staging}`, false, false},
	} {
		e, _ := parse(t, policyOf(tt.rule)).Explain(part, reviewDay).Target("prod")
		if e.Allowed() != tt.allowed || e.Unknown != tt.unknown {
			t.Errorf("%s: allowed %t, unknown %t", tt.rule, e.Allowed(), e.Unknown)
		}
	}
}

func TestExplainOrder(t *testing.T) {
	t.Parallel()
	p := parse(t, policyOf(`{repository_id: "1", ref: refs/heads/x, environment: y}`, `{repository_id: "2"}`, `{repository_id: "487920697", ref: refs/tags/v1}`))
	e, _ := p.Explain(unverified(t, nil), reviewDay).Target("prod")
	var lines []int
	for _, r := range e.Nearest() {
		lines = append(lines, r.Index)
	}
	if diff := cmp.Diff([]int{1, 2, 0}, lines); diff != "" {
		t.Errorf("the nearest rules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"repository_id", "ref", "environment"}, e.Rules[0].Mismatches()); diff != "" {
		t.Errorf("mismatches (-want +got):\n%s", diff)
	}
	if want := `no rule of target "prod" matches "repo:acme/analytics:environment:production"`; e.Reason() != want {
		t.Errorf("reason is %q, want %q", e.Reason(), want)
	}
}

// TestExplainLogin: an allowed target shows its settings with the claims filled in.
func TestExplainLogin(t *testing.T) {
	t.Parallel()
	p := parse(t, `version: 1
identities:
  github: {issuer: `+issuer.URL()+`, kind: github}
targets:
  prod:
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-${environment}", region: x}}
    allow: [{repository_id: "487920697", environment: [staging, production]}]
`)
	e := p.Explain(unverified(t, nil), reviewDay)
	if got := e.Targets[0].Login; e.Allowed() != "prod" || got.Provider != "aws" || got.Audience != "sts.amazonaws.com" ||
		got.Exchange.Get("role") != "arn:aws:iam::123456789012:role/dbt-production" {
		t.Errorf("login is %+v, %s", got, e.Targets[0].Reason())
	}
	if diff := cmp.Diff(p.Warnings(), e.Targets[0].Warnings); diff != "" {
		t.Errorf("warnings (-policy +explanation):\n%s", diff)
	}
	denied := p.Explain(unverified(t, map[string]any{"environment": "dev"}), reviewDay)
	if got := denied.Targets[0].Login; got.Provider != "" || denied.Allowed() != "" || denied.Reason() == "" {
		t.Errorf("login of a denial is %+v", got)
	}
}
