package policy_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// issuer signs the tokens of all tests here.
var issuer *standin.Issuer

func TestMain(m *testing.M) {
	var err error
	if issuer, err = standin.StartIssuer(nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	issuer.Close()
	os.Exit(status)
}

var reviewDay = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// claims returns the verified claims of a token of GitHub's with changes.
func claims(t testing.TB, changes map[string]any) idtoken.Claims {
	t.Helper()
	c, err := issuer.Claims(t.Context(), "sts.amazonaws.com", changes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// policyOf returns a policy with one target, whose rules are in YAML's flow style.
func policyOf(rules ...string) string {
	return "version: 1\nidentities:\n  github: {issuer: " + issuer.URL() + ", kind: github}\ntargets:\n  prod:\n" +
		"    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}\n    allow:\n      - " + strings.Join(rules, "\n      - ") + "\n"
}

// allowed decides; the reason is "" where the request is allowed.
func allowed(t testing.TB, src string, c idtoken.Claims) (reason string) {
	t.Helper()
	g, err := parse(t, src).Authorize("prod", c, reviewDay)
	if err == nil {
		if !g.Valid() {
			t.Fatal("the grant is not valid")
		}
		return ""
	}
	var denial *policy.Denial
	if !errors.As(err, &denial) || fault.ClassOf(err) != fault.Denied {
		t.Fatalf("error is %v (%s), want a denial", err, fault.ClassOf(err))
	}
	if g.Valid() {
		t.Fatal("there is a valid grant with the denial")
	}
	return err.Error()
}

func TestMatching(t *testing.T) {
	t.Parallel()
	const bound = `repository_id: "487920697", `
	type changes = map[string]any
	for _, tt := range []struct {
		name    string
		rule    string
		changes changes
		allowed bool
	}{
		{"literal", `{repository: acme/analytics}`, nil, true},
		{"any of a list", `{` + bound + `environment: [staging, production]}`, nil, true},
		{"none of a list", `{` + bound + `environment: [staging, dev]}`, nil, false},
		{"all claims of a rule", `{repository: acme/analytics, environment: production, ref: refs/heads/dev}`, nil, false},
		{"acme/analytics-evil", `{repository: acme/analytics}`, changes{"repository": "acme/analytics-evil"}, false},
		{"evil-acme/analytics", `{repository: acme/analytics}`, changes{"repository": "evil-acme/analytics"}, false},
		{"letter case", `{repository: acme/analytics}`, changes{"repository": "Acme/analytics"}, false},
		{"trailing newline against a literal", `{repository: acme/analytics}`, changes{"repository": "acme/analytics\n"}, false},
		{"trailing newline against a wildcard", `{` + bound + `ref: refs/heads/*}`, changes{"ref": "refs/heads/main\n"}, false},
		{"newline in the middle against **", `{` + bound + `ref: refs/heads/**}`, changes{"ref": "refs/heads/a\nrefs/heads/main"}, false},
		{"line separator against a wildcard", `{` + bound + `ref: refs/heads/*}`, changes{"ref": "refs/heads/main\u2028"}, false},
		{"next line against a wildcard", `{` + bound + `ref: refs/heads/*}`, changes{"ref": "refs/heads/main\u0085"}, false},
		{"NUL against a wildcard", `{` + bound + `ref: refs/heads/*}`, changes{"ref": "refs/heads/main\x00"}, false},
		{"other letters than ASCII's against a wildcard", `{` + bound + `ref: refs/heads/*}`, changes{"ref": "refs/heads/größe"}, true},
		{"a number", `{repository_id: "487920697"}`, changes{"repository_id": 487920697}, false},
		{"a boolean", `{` + bound + `ref_protected: "true"}`, changes{"ref_protected": true}, false},
		{"a list", `{` + bound + `environment: production}`, changes{"environment": []string{"production"}}, false},
		{"an object", `{` + bound + `environment: production}`, changes{"environment": map[string]string{"name": "production"}}, false},
		{"absent", `{` + bound + `environment: production}`, changes{"environment": nil}, false},
		{"empty", `{` + bound + `environment: production}`, changes{"environment": ""}, false},
		{"environment ../admin", `{` + bound + `environment: production}`, changes{"environment": "../admin"}, false},
		{"* within a segment", `{` + bound + `ref: refs/heads/release-*}`, changes{"ref": "refs/heads/release-1.2"}, true},
		{"* not across segments", `{` + bound + `ref: refs/heads/*}`, changes{"ref": "refs/heads/a/b"}, false},
		{"** across segments", `{` + bound + `ref: refs/heads/**}`, changes{"ref": "refs/heads/a/b"}, true},
		{"* may be empty", `{` + bound + `ref: refs/heads/main*}`, nil, true},
		{"the whole value", `{` + bound + `ref: refs/heads/*}`, changes{"ref": "x/refs/heads/main"}, false},
		{"nothing else is special", `{` + bound + `environment: "prod.ction|x?[a](+"}`, nil, false},
		{"a question mark is one", `{` + bound + `environment: "productio?"}`, nil, false},
		{"a dot is one", `{` + bound + `environment: "pro*.*ion"}`, changes{"environment": "produ.ction"}, true},
		{"custom property", `{` + bound + `repo_property_tier: gold}`, changes{"repo_property_tier": "gold"}, true},
		{"any claim", `{` + bound + `check_run_id: "31337", runner_environment: github-hosted, ref_protected: "true"}`, nil, true},

		{"no event named: push", `{` + bound + `ref: refs/heads/main}`, nil, true},
		{"no event named: schedule", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": "schedule"}, true},
		{"no event named: workflow_dispatch", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": "workflow_dispatch"}, true},
		{"no event named: merge_group", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": "merge_group"}, true},
		{"no event named: release", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": "release"}, true},
		{"no event named: pull_request", `{` + bound + `ref: refs/**}`, changes{"event_name": "pull_request", "ref": "refs/pull/7/merge"}, false},
		{"no event named: pull_request_target", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": "pull_request_target"}, false},
		{"no event named: issue_comment", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": "issue_comment"}, false},
		{"no event named: workflow_run", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": "workflow_run"}, false},
		{"no event named, none in the token", `{` + bound + `ref: refs/heads/main}`, changes{"event_name": nil}, false},
		{"event listed", `{` + bound + `event_name: [push, pull_request]}`, changes{"event_name": "pull_request"}, true},
		{"event not listed", `{` + bound + `event_name: pull_request}`, nil, false},

		{"workflow", `{` + bound + `job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3}`, nil, true},
		{"workflow of a version", `{` + bound + `job_workflow_ref: acme/platform/.github/workflows/*.yml@refs/tags/v*}`, nil, true},
		{"workflow on a branch of that name", `{` + bound + `job_workflow_ref: acme/platform/.github/workflows/*.yml@refs/tags/v*}`, changes{"job_workflow_ref": "acme/platform/.github/workflows/dbt.yml@refs/heads/v3"}, false},
		{"workflow on a branch with an @", `{` + bound + `job_workflow_ref: acme/platform/**@refs/tags/v3}`, changes{"job_workflow_ref": "acme/platform/.github/workflows/evil.yml@refs/heads/x@refs/tags/v3"}, false},
		{"workflow whose path reaches over the @", `{` + bound + `job_workflow_ref: acme/platform/.github/workflows/**@refs/heads/main}`, changes{"job_workflow_ref": "acme/platform/.github/workflows/a.yml@refs/heads/b@refs/heads/main"}, false},
		{"workflow without a ref", `{` + bound + `workflow_ref: acme/analytics/**@refs/heads/main}`, changes{"workflow_ref": "acme/analytics/refs/heads/main"}, false},
		{"dbt.yml of another repository", `{` + bound + `job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3}`, changes{"job_workflow_ref": "evil/platform/.github/workflows/dbt.yml@refs/tags/v3"}, false},

		{"sub", `{` + bound + `sub: "repo:acme/analytics:environment:production"}`, nil, true},
		{"sub: * stops at a colon", `{` + bound + `sub: "repo:acme/*:production"}`, nil, false},
		{"sub: ** does not", `{` + bound + `sub: "repo:acme/**:production"}`, nil, true},
		{"sub: old form for a new token", `{` + bound + `sub: "repo:acme/analytics:environment:production"}`, changes{"sub": "repo:acme@9919/analytics@487920697:environment:production"}, true},
		{"sub: old form with a wildcard for a new token", `{` + bound + `sub: "repo:acme/ana*:environment:prod*"}`, changes{"sub": "repo:acme@9919/analytics@487920697:environment:production"}, true},
		{"sub: old form, another environment", `{` + bound + `sub: "repo:acme/analytics:environment:production"}`, changes{"sub": "repo:acme@9919/analytics@487920697:environment:dev"}, false},
		{"sub: old form, another owner", `{` + bound + `sub: "repo:acme/analytics:environment:production"}`, changes{"sub": "repo:evil@6/analytics@487920697:environment:production"}, false},
		{"sub: old form, another name", `{` + bound + `sub: "repo:acme/analytics:environment:production"}`, changes{"sub": "repo:acme@9919/analytics-evil@487920697:environment:production"}, false},
		{"sub: new form for an old token", `{` + bound + `sub: "repo:acme@9919/analytics@487920697:environment:production"}`, nil, true},
		{"sub: new form, another id", `{` + bound + `sub: "repo:acme@9919/analytics@1:environment:production"}`, nil, false},
		{"sub: new form, another owner's id", `{` + bound + `sub: "repo:acme@1/analytics@487920697:environment:production"}`, nil, false},
		{"sub: new form, another name", `{` + bound + `sub: "repo:acme@9919/other@487920697:environment:production"}`, nil, false},
		{"sub: new form, no ids in the token", `{repository: acme/analytics, sub: "repo:acme@9919/analytics@487920697:environment:production"}`, changes{"repository_id": nil}, false},
		{"sub: new form, an id that is a number", `{repository: acme/analytics, sub: "repo:acme@9919/analytics@487920697:environment:production"}`, changes{"repository_owner_id": 9919}, false},
		{"sub: new form for a new token", `{` + bound + `sub: "repo:acme@9919/analytics@487920697:environment:production"}`, changes{"sub": "repo:acme@9919/analytics@487920697:environment:production"}, true},
		{"sub: new form for a new token with another id", `{` + bound + `sub: "repo:acme@9919/analytics@487920697:environment:production"}`, changes{"sub": "repo:acme@9919/analytics@1:environment:production"}, false},
		{"sub: a token with half the ids", `{` + bound + `sub: "repo:acme/analytics:environment:production"}`, changes{"sub": "repo:acme@9919/analytics:environment:production"}, false},
		{"sub: customised", `{` + bound + `sub: "repo:acme/analytics:job_workflow_ref:*"}`, changes{"sub": "repo:acme@9919/analytics@487920697:job_workflow_ref:x"}, true},

		{"actor_kind user", `{` + bound + `actor_kind: user}`, nil, true},
		{"actor_kind bot", `{` + bound + `actor_kind: user}`, changes{"actor": "dependabot[bot]"}, false},
		{"actor_kind agent", `{` + bound + `actor_kind: [user, bot]}`, changes{"actor": "Copilot", "actor_id": "198982749"}, false},
		{"actor_kind is not read from the token", `{` + bound + `actor_kind: user}`, changes{"actor": "claude[bot]", "actor_kind": "user"}, false},
		{"pull_number", `{` + bound + `event_name: pull_request, pull_number: "7"}`, changes{"event_name": "pull_request", "ref": "refs/pull/7/merge"}, true},
		{"pull_number is not read from the token", `{` + bound + `event_name: pull_request, pull_number: "7"}`, changes{"event_name": "pull_request", "ref": "refs/pull/8/merge", "pull_number": "7"}, false},
		{"pull_number of a branch", `{` + bound + `event_name: pull_request, pull_number: "7"}`, changes{"event_name": "pull_request", "ref": "refs/heads/refs/pull/7/merge"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if reason := allowed(t, policyOf(tt.rule), claims(t, tt.changes)); (reason == "") != tt.allowed {
				t.Errorf("allowed is %t, want %t: %s", reason == "", tt.allowed, reason)
			}
		})
	}
}

// TestDenials holds denials claim by claim, with their hints.
func TestDenials(t *testing.T) {
	t.Parallel()
	type changes = map[string]any
	const full = `{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}`
	reusable := `{repository: acme/analytics, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3}`
	cases := []struct {
		name    string
		rules   []string
		changes changes
	}{
		{"another-environment", []string{full}, changes{"environment": "staging"}},
		{"environment-missing", []string{full}, changes{"environment": nil, "sub": "repo:acme/analytics:ref:refs/heads/main"}},
		{"environment-missing-in-sub", []string{`{repository: acme/analytics, sub: "repo:acme/analytics:environment:production"}`}, changes{"environment": nil, "sub": "repo:acme/analytics:ref:refs/heads/main"}},
		{"environment-missing-wildcard", []string{`{repository: acme/analytics, environment: prod-*}`}, changes{"environment": nil}},
		{"environment-takes-the-refs-place", []string{`{repository: acme/analytics, sub: "repo:acme/analytics:ref:refs/heads/main"}`}, nil},
		{"pull-request", []string{full}, changes{"environment": nil, "event_name": "pull_request", "ref": "refs/pull/7/merge", "sub": "repo:acme/analytics:pull_request"}},
		{"pull-request-not-listed", []string{`{repository: acme/analytics, event_name: push}`}, changes{"event_name": "pull_request"}},
		{"event-not-listed", []string{full}, changes{"event_name": "issue_comment"}},
		{"reusable-workflow", []string{reusable}, changes{"job_workflow_ref": "acme/analytics/.github/workflows/dbt.yml@refs/heads/main"}},
		{"reusable-workflow-at-another-ref", []string{reusable}, changes{"job_workflow_ref": "acme/platform/.github/workflows/dbt.yml@refs/heads/main"}},
		{"reusable-workflow-another", []string{reusable}, changes{"job_workflow_ref": "acme/other/.github/workflows/dbt.yml@refs/tags/v3"}},
		{"letter-case", []string{full}, changes{"repository": "Acme/Analytics"}},
		{"letter-case-wildcard", []string{`{repository_id: "487920697", ref: refs/heads/Release-*}`}, changes{"ref": "refs/heads/release-7"}},
		{"immutable-subject", []string{`{repository: acme/analytics, sub: "repo:acme/analytics:environment:production"}`}, changes{"sub": "repo:acme@9919/analytics2@487920697:environment:production"}},
		{"immutable-subject-in-the-policy", []string{`{repository: acme/analytics, sub: "repo:acme@9919/analytics@1:environment:production"}`}, nil},
		{"not-a-string", []string{full}, changes{"repository_id": 487920697, "environment": []string{"production"}, "ref": map[string]string{}}},
		{"commands", []string{full}, changes{"environment": "::set-output name=x::y\n##[add-mask]\u001b[31m"}},
		{"long", []string{full}, changes{"environment": strings.Repeat("x", 5000)}},
		{"nearest-first", []string{`{repository: acme/other, environment: dev, ref: refs/heads/dev}`, `{repository_id: "1", environment: [staging, dev]}`, full}, changes{"environment": nil}},
		{"another-issuer", []string{`{identity: elsewhere, repository_id: "487920697"}`, full}, changes{"environment": "staging"}},
		{"people-of-the-issuer", []string{`{identity: people, sub: ann}`}, nil},
		{"many-rules", strings.Split(strings.Repeat(`{repository_id: "1"}|`, 23)+full, "|"), changes{"environment": "staging"}},
	}
	archive := &txtar.Archive{Comment: []byte("How requests are denied. `go test -update` rewrites it.\n")}
	for _, tt := range cases {
		ids := "\n  elsewhere: {issuer: https://token.actions.githubusercontent.com}\n  people: {issuer: " + issuer.URL() + ", kind: people, client_id: app}\ntargets:"
		src := strings.Replace(policyOf(tt.rules...), "\ntargets:", ids, 1)
		_, err := parse(t, src).Authorize("prod", claims(t, tt.changes), reviewDay)
		if err == nil {
			t.Fatalf("%s: it is allowed", tt.name)
		}
		text := strings.ReplaceAll(err.Error()+"\nhint: "+fault.Hint(err)+"\n", issuer.URL(), "$ISSUER")
		archive.Files = append(archive.Files, txtar.File{Name: tt.name, Data: []byte(text)})
	}
	golden.Compare(t, "testdata/denials.txtar", string(txtar.Format(archive)))
}

func TestDenialForAudit(t *testing.T) {
	t.Parallel()
	_, err := parse(t, policyOf(`{repository_id: "1", environment: [staging, dev]}`, `{repository_id: "487920697", environment: dev}`)).Authorize("prod", claims(t, nil), reviewDay)
	var denial *policy.Denial
	if !errors.As(err, &denial) {
		t.Fatalf("error is %v, want a denial", err)
	}
	want := []policy.RuleDenial{
		{Target: "prod", Index: 1, Line: 9, Mismatches: []policy.Mismatch{{Claim: "environment", Got: `"production"`, Want: `"dev"`}}},
		{Target: "prod", Index: 0, Line: 8, Mismatches: []policy.Mismatch{{Claim: "repository_id", Got: `"487920697"`, Want: `"1"`}, {Claim: "environment", Got: `"production"`, Want: `one of ["staging" "dev"]`}}},
	}
	if diff := cmp.Diff(want, denial.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if want := `no rule of target "prod" matches "repo:acme/analytics:environment:production"`; denial.Reason() != want {
		t.Errorf("reason is %q, want %q", denial.Reason(), want)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	target := func(name, rule string) string {
		return "  " + name + ":\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}\n    allow: [" + rule + "]\n"
	}
	src := "version: 1\nidentities: {github: {issuer: " + issuer.URL() + ", kind: github}}\ntargets:\n" +
		target("prod", `{repository_id: "487920697", environment: production}`) + target("staging", `{repository_id: "487920697", environment: [staging, both]}`) +
		target("lake", `{repository_id: "487920697", environment: [lake, both]}`)
	for _, tt := range []struct{ name, environment, target, err, hint string }{
		{"one", "production", "prod", "", ""},
		{"several", "both", "", `denied by policy: the rules of several targets match "repo:acme/analytics:environment:production": ["staging" "lake"]`, "name one of them: the step's input `target`, or the flag --target"},
		{"none", "dev", "", `denied by policy: no rule of any target matches "repo:acme/analytics:environment:production", the policy has the targets ["prod" "staging" "lake"]
  target "prod", rule 1 (line 6):
    environment: got "dev", want "production"
  target "staging", rule 1 (line 9):
    environment: got "dev", want one of ["staging" "both"]
  target "lake", rule 1 (line 12):
    environment: got "dev", want one of ["lake" "both"]`, ""},
		{"letter case", "Lake", "", `denied by policy: no rule of any target matches "repo:acme/analytics:environment:production", the policy has the targets ["prod" "staging" "lake"]
  target "prod", rule 1 (line 6):
    environment: got "Lake", want "production"
  target "staging", rule 1 (line 9):
    environment: got "Lake", want one of ["staging" "both"]
  target "lake", rule 1 (line 12):
    environment: got "Lake", want one of ["lake" "both"]`, `environment differs only in letter case: write "Lake" in the policy`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(t, src).Choose(claims(t, map[string]any{"environment": tt.environment}))
			text := ""
			if err != nil {
				text = err.Error()
				if fault.ClassOf(err) != fault.Denied {
					t.Errorf("class is %s", fault.ClassOf(err))
				}
			} else if got.Name() != tt.target {
				t.Errorf("target is %q, want %q", got.Name(), tt.target)
			}
			if diff := cmp.Diff(tt.err, text); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if hint := fault.Hint(err); hint != tt.hint {
				t.Errorf("hint is %q, want %q", hint, tt.hint)
			}
		})
	}
}

// TestNothingFromNothing: claims that came from no token get nothing.
func TestNothingFromNothing(t *testing.T) {
	t.Parallel()
	p := parse(t, policyOf(`{repository: acme/analytics}`))
	if g, err := p.Authorize("prod", idtoken.Claims{}, reviewDay); err == nil || g.Valid() {
		t.Errorf("authorised: %v", err)
	}
	if target, err := p.Choose(idtoken.Claims{}); err == nil || target != nil {
		t.Errorf("chosen: %v", err)
	}
	if (policy.Grant{}).Valid() {
		t.Error("the zero grant is valid")
	}
	_, err := p.Authorize("dev", claims(t, nil), reviewDay)
	if err == nil || err.Error() != `unknown target "dev", policy.yml has ["prod"]` || fault.ClassOf(err) != fault.Usage {
		t.Errorf("error is %v (%s)", err, fault.ClassOf(err))
	}
}

func TestGrant(t *testing.T) {
	t.Parallel()
	p := parse(t, "version: 1\nidentities: {github: {issuer: "+issuer.URL()+", kind: github}}\nagents: [Octo-Agent]\n"+`targets:
  ci:
    dbt: {type: snowflake, account: acme, schema: "pr_${pull_number}", role: "R_${environment}", threads: 4, output: slim, vars: [a, "${environment}"], query_tag: "{{ env_var('X') }}"}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-${environment}", region: eu-central-1, policy_arns: ["a", "b"], then_assume: {role: "arn:aws:iam::123456789012:role/${environment}"}}
    allow:
      - {repository_id: "1", environment: ci, event_name: pull_request, ref: refs/pull/*/merge}
      - {repository_id: "487920697", environment: [ci, ci-2], event_name: pull_request, ref: refs/pull/*/merge}
    lifetime: 30m
    max_lifetime: 1h
`)
	c := claims(t, map[string]any{"environment": "ci-2", "event_name": "pull_request", "ref": "refs/pull/17/merge", "actor": "octo-agent"})
	g, err := p.Authorize("ci", c, reviewDay)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		"target": g.Target(), "provider": g.Provider(), "audience": g.Audience(), "role": g.Exchange().Get("role"), "then": g.Exchange().Get("then_assume.role"),
		"arns": strings.Join(g.Exchange().List("policy_arns"), " "), "lifetime": g.Lifetime().String(), "max": g.MaxLifetime().String(),
		"rule": fmt.Sprint(g.Rule()), "actor": g.ActorKind(), "subject": g.Claims().Subject(), "type": g.DBT().Type, "output": g.DBT().Output, "warnings": fmt.Sprint(g.Warnings()),
	}
	want := map[string]string{
		"target": "ci", "provider": "aws", "audience": "sts.amazonaws.com", "role": "arn:aws:iam::123456789012:role/dbt-ci-2", "then": "arn:aws:iam::123456789012:role/ci-2",
		"arns": "a b", "lifetime": "30m0s", "max": "1h0m0s",
		"rule": "{1 11}", "actor": "agent", "subject": "repo:acme/analytics:environment:production", "type": "snowflake", "output": "slim", "warnings": "[]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	var block []string
	for _, n := range g.DBT().Block.Content {
		block = append(block, n.Value)
		for _, e := range n.Content {
			block = append(block, e.Value)
		}
	}
	if diff := cmp.Diff([]string{"type", "snowflake", "account", "acme", "schema", "pr_17", "role", "R_ci-2", "threads", "4", "vars", "", "a", "ci-2", "query_tag", "{{ env_var('X') }}"}, block); diff != "" {
		t.Errorf("dbt block (-want +got):\n%s", diff)
	}
	target, err := p.Target("ci")
	if err != nil {
		t.Fatal(err)
	}
	if target.Exchange().Get("role") != "arn:aws:iam::123456789012:role/dbt-${environment}" || target.DBT().Block.Content[5].Value != "pr_${pull_number}" {
		t.Error("the policy itself was filled in")
	}
	long := claims(t, map[string]any{"environment": "ci", "event_name": "pull_request", "ref": "refs/pull/" + strings.Repeat("1", 200) + "/merge"})
	if g, err := p.Authorize("ci", long, reviewDay); err == nil || g.Valid() || err.Error() != "denied by policy: pull_number is \""+strings.Repeat("1", 200)+"\", which cannot stand in for ${pull_number}" {
		t.Errorf("error is %v", err)
	}
}

// TestDirect: whether dbt may connect through a proxy is the target's to say.
func TestDirect(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string]bool{"": false, "proxy: true": false, "proxy: false": true} {
		p := parse(t, policyOf(`{repository_id: "1296269", environment: production}`)+"    "+keys+"\n")
		target, err := p.Target("prod")
		if err != nil {
			t.Fatal(err)
		}
		g, err := p.Authorize("prod", claims(t, map[string]any{"repository_id": "1296269", "environment": "production"}), reviewDay)
		if err != nil {
			t.Fatal(err)
		}
		if target.Direct() != want || g.Direct() != want {
			t.Errorf("%q: it is %v of the target, %v of the grant, want %v", keys, target.Direct(), g.Direct(), want)
		}
	}
}

func TestTrustReview(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, keys, warning, err string }{
		{"none", "", "", ""},
		{"fresh", "trust_reviewed: 2026-10-01", "", ""},
		{"90 days ago", "trust_reviewed: 2026-08-04", "", ""},
		{"91 days ago", "trust_reviewed: 2026-08-02", `the trust of target "prod" was reviewed on 2026-08-02, 91 days ago: a review is due every 90 days`, ""},
		{"within trust_max_age", "trust_reviewed: 2026-10-01\n    trust_max_age: 90d", "", ""},
		{"over trust_max_age", "trust_reviewed: 2026-08-02\n    trust_max_age: 90d", "", `denied by policy: the trust of target "prod" was reviewed on 2026-08-02, 91 days ago, and trust_max_age is 90d`},
		{"tomorrow", "trust_reviewed: 2026-11-02\n    trust_max_age: 90d", "", ""},
		{"far ahead", "trust_reviewed: 2999-01-01\n    trust_max_age: 90d", "", `denied by policy: the trust of target "prod" was reviewed on 2999-01-01, which is in the future`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := policyOf(`{repository_id: "487920697"}`)
			if tt.keys != "" {
				src += "    " + tt.keys + "\n"
			}
			g, err := parse(t, src).Authorize("prod", claims(t, nil), reviewDay)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tt.err {
				t.Errorf("error is %q, want %q", text, tt.err)
			}
			if got := strings.Join(g.Warnings(), "\n"); got != tt.warning {
				t.Errorf("warning is %q, want %q", got, tt.warning)
			}
		})
	}
}

func TestActorKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind          string
		claims        map[string]any
		actor, source string
	}{
		{"github", map[string]any{"actor": "octocat"}, "user", "name"},
		{"github", map[string]any{"actor": "dependabot[bot]", "actor_id": "49699333"}, "bot", "name"},
		{"github", map[string]any{"actor": "github-actions[bot]"}, "bot", "name"},
		{"github", map[string]any{"actor": "Copilot", "actor_id": "198982749"}, "agent", "id"},
		{"github", map[string]any{"actor": "renamed", "actor_id": "198982749"}, "agent", "id"},
		{"github", map[string]any{"actor": "Copilot", "actor_id": "1"}, "user", "name"}, // the name can be another account's
		{"github", map[string]any{"actor": "claude[bot]"}, "agent", "name"},
		{"github", map[string]any{"actor": "Acme-Agent", "actor_id": "5"}, "agent", "name"},
		{"github", map[string]any{"actor": "octocat", "actor_id": "77"}, "agent", "id"},
		{"github", map[string]any{"actor": "project_7_bot_abc"}, "user", "name"}, // that is GitLab's
		{"github", map[string]any{"actor": 7}, "user", "name"},
		{"gitlab", map[string]any{"user_login": "group_3_bot"}, "bot", "name"},
		{"gitlab", map[string]any{"user_login": "Copilot", "user_id": "198982749"}, "user", "name"},
		{"gitlab", map[string]any{"user_login": "acme-agent"}, "agent", "name"},
		{"cursor, jwks_file: keys.json", map[string]any{"sub": "user:7"}, "agent", "token"},
		{"people, client_id: sts.amazonaws.com", map[string]any{"actor": "claude[bot]"}, "user", "token"},
		{"kubernetes", map[string]any{"actor": "claude[bot]"}, "user", "token"},
	} {
		p := parse(t, strings.Replace(policyOf(`{identity: github, sub: a, repository_id: "1", team_id: "1", project_id: "1"}`), "identities:\n",
			"agents: [acme-agent, \"77\"]\nidentities:\n", 1))
		p = parse(t, strings.Replace(p.Text(), "kind: github", "kind: "+tt.kind, 1))
		kind, source := p.ActorKind(claims(t, tt.claims))
		if kind != tt.actor || source != tt.source {
			t.Errorf("%s, %v: %q by %q, want %q by %q", tt.kind, tt.claims, kind, source, tt.actor, tt.source)
		}
	}
}

// TestIdentities: a rule sees only tokens of its own identity.
func TestIdentities(t *testing.T) {
	t.Parallel()
	src := func(rules ...string) string {
		return strings.Replace(policyOf(rules...), "kind: github}\n", "kind: github}\n  app: {issuer: "+issuer.URL()+", kind: people, client_id: app}\n  tool: {issuer: "+issuer.URL()+", kind: people, client_id: tool}\n  other: {issuer: https://ghes.acme.com/_services/token}\n", 1)
	}
	token := func(audience string, changes map[string]any) idtoken.Claims {
		c, err := issuer.Claims(t.Context(), audience, changes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tt := range []struct {
		name    string
		rule    string
		claims  idtoken.Claims
		allowed bool
	}{
		{"another issuer's rule", `{identity: other, repository_id: "487920697"}`, token("sts.amazonaws.com", nil), false},
		{"people by subject", `{identity: app, sub: ann}`, token("app", map[string]any{"sub": "ann"}), true},
		{"people by group", `{identity: app, groups: [data, platform]}`, token("app", map[string]any{"groups": []string{"all", "platform"}}), true},
		{"people in no such group", `{identity: app, groups: data}`, token("app", map[string]any{"groups": []string{"all", "data-evil"}}), false},
		{"groups with a number among them", `{identity: app, groups: data}`, token("app", map[string]any{"groups": []any{"data", 7}}), false},
		{"people of another client", `{identity: app, sub: ann}`, token("tool", map[string]any{"sub": "ann"}), false},
		{"a job's token for a people's rule", `{identity: app, sub: ann}`, token("sts.amazonaws.com", map[string]any{"sub": "ann"}), false},
		{"a person's token for a job's rule", `{repository_id: "487920697"}`, token("app", nil), false},
		{"several audiences", `{identity: tool, sub: ann}`, token("tool", map[string]any{"sub": "ann", "aud": []string{"x", "tool"}}), true},
		{"a list for a job", `{repository_id: "487920697", environment: production}`, token("x", map[string]any{"environment": []string{"production"}}), false},
		{"no event for people", `{identity: app, sub: ann}`, token("app", map[string]any{"sub": "ann", "event_name": "pull_request"}), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if reason := allowed(t, src(tt.rule), tt.claims); (reason == "") != tt.allowed {
				t.Errorf("allowed is %t, want %t: %s", reason == "", tt.allowed, reason)
			}
		})
	}
}

// TestTrustReviewInTheFuture: a review cannot have been made later than now.
func TestTrustReviewInTheFuture(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ reviewed, err string }{
		{"2026-11-01", ""},
		{"2026-11-02", ""}, // where the day begins earlier
		{"2026-11-03", "policy.yml:10:21: trust_reviewed 2026-11-03 is in the future: it is the day of the last review"},
		{"2027-10-01", "policy.yml:10:21: trust_reviewed 2027-10-01 is in the future: it is the day of the last review"},
	} {
		cat := catalog()
		cat.Now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
		_, err := policy.Parse("policy.yml", []byte(`version: 1
targets:
  prod:
    dbt: {type: snowflake, account: acme-prod, user: DBT, schema: marts}
    exchange:
      oidc: {audience: snowflakecomputing.com}
    allow:
      - {repository_id: "487920697"}

    trust_reviewed: `+tt.reviewed+"\n"), cat)
		got := ""
		if err != nil {
			got = strings.Split(err.Error(), "\n")[1]
		}
		if got != tt.err {
			t.Errorf("%s: error is %q, want %q", tt.reviewed, got, tt.err)
		}
	}
}
