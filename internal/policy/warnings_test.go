package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOpenRules: what a workflow's author chooses restricts nothing.
func TestOpenRules(t *testing.T) {
	t.Parallel()
	const bound = `repository: acme/analytics, repository_id: "1"`
	for _, tt := range []struct {
		rule string
		note string // of the warning; "-" for no warning
	}{
		{`{` + bound + `}`, ""},
		{`{repository_id: ["1", "2"]}`, ""},
		{`{` + bound + `, repository_owner: acme, repository_owner_id: "2", enterprise: acme, repository_visibility: private, repo_property_tier: gold}`, ""},
		{`{` + bound + `, workflow: dbt}`, " (workflow restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, actor: octocat, actor_id: "583231", actor_kind: user}`, " (actor, actor_id, actor_kind restrict nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, event_name: pull_request, head_ref: main, base_ref: main}`, " (base_ref, event_name, head_ref restrict nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, event_name: [push, schedule], run_id: "1", run_number: "2", run_attempt: "1", sha: "7f93*", runner_environment: self-hosted, ref_type: branch, check_run_id: "7"}`,
			" (check_run_id, event_name, ref_type, run_attempt, run_id, run_number, runner_environment, sha restrict nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, ref: refs/heads/**}`, " (ref restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, ref: [refs/heads/main, refs/heads/*]}`, " (ref restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, ref: refs/**}`, " (ref restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, ref: refs/tags/*}`, " (ref restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, environment: "prod-*"}`, " (environment restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, ref_protected: "false"}`, " (ref_protected restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, workflow_ref: "acme/analytics/.github/workflows/dbt.yml@refs/heads/*"}`, " (workflow_ref restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, job_workflow_ref: "acme/analytics/.github/workflows/dbt.yml@refs/heads/**"}`, " (job_workflow_ref restricts nothing: the author of a workflow chooses it)"},
		{`{repository_id: "1", sub: "repo:acme/analytics:*"}`, " (sub restricts nothing: the author of a workflow chooses it)"},
		{`{repository_id: "1", sub: "repo:acme/analytics:ref:refs/heads/*"}`, " (sub restricts nothing: the author of a workflow chooses it)"},
		{`{repository_id: "1", sub: "repo:acme/analytics:environment:prod-*"}`, " (sub restricts nothing: the author of a workflow chooses it)"},
		{`{` + bound + `, environment: prod}`, "-"},
		{`{` + bound + `, environment: [staging, prod], workflow: dbt}`, "-"},
		{`{` + bound + `, ref: refs/heads/main}`, "-"},
		{`{` + bound + `, ref: "refs/heads/release/*"}`, "-"},
		{`{` + bound + `, event_name: pull_request, ref: "refs/pull/*/merge"}`, "-"},
		{`{` + bound + `, ref_protected: "true"}`, "-"},
		{`{` + bound + `, workflow_ref: acme/analytics/.github/workflows/dbt.yml@refs/heads/main}`, "-"},
		{`{` + bound + `, job_workflow_ref: acme/analytics/.github/workflows/dbt.yml@refs/heads/main}`, "-"},
		{`{` + bound + `, job_workflow_ref: "acme/platform/.github/workflows/dbt.yml@refs/heads/**"}`, "-"},
		{`{repository_owner: acme, repository_owner_id: "2", job_workflow_ref: "acme/platform/.github/workflows/dbt.yml@refs/tags/v3"}`, "-"},
		{`{repository_id: "1", sub: "repo:acme/analytics:environment:prod"}`, "-"},
		{`{repository_id: "1", sub: "repo:acme/analytics:ref:refs/heads/main"}`, "-"},
		{`{repository_id: "1", sub: "a-customised:subject"}`, "-"},
	} {
		want := []string(nil)
		if tt.note != "-" {
			want = []string{`target "prod": rule 1 (line 8) restricts only the repository: anyone who may push a branch to it gets in` + tt.note + `: add a literal environment, a literal ref or job_workflow_ref`}
		}
		if diff := cmp.Diff(want, parse(t, policyOf(tt.rule)).Warnings()); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", tt.rule, diff)
		}
	}
}

// TestUnknownClaims: a rule that names a claim that no token has never matches.
func TestUnknownClaims(t *testing.T) {
	t.Parallel()
	const bound = `repository: acme/analytics, repository_id: "1", ref: refs/heads/main`
	warns := func(what, near string) string {
		return `target "prod": ` + what + `, a claim that no token of kind "github" has, and never matches` + near
	}
	for _, tt := range []struct {
		name  string
		rules []string
		want  []string
	}{
		{"misspelt", []string{`{` + bound + `, enviroment: prod}`}, []string{warns(`rule 1 (line 8) names "enviroment"`, `: did you mean "environment"?`)}},
		{"letter case", []string{`{` + bound + `, Environment: prod}`}, []string{warns(`rule 1 (line 8) names "Environment"`, `: did you mean "environment"?`)}},
		{"another name", []string{`{` + bound + `, branch: main}`}, []string{warns(`rule 1 (line 8) names "branch"`, `: did you mean "ref"?`)}},
		{"exchanged letters", []string{`{` + bound + `, job_worklfow_ref: acme/x}`}, []string{warns(`rule 1 (line 8) names "job_worklfow_ref"`, `: did you mean "job_workflow_ref"?`)}},
		{"nothing near", []string{`{` + bound + `, colour: green}`}, []string{warns(`rule 1 (line 8) names "colour"`, "")}},
		{"in several rules", []string{`{` + bound + `, env: a}`, `{` + bound + `}`, `{` + bound + `, env: b}`},
			[]string{`target "prod": rules 1 (line 8), 3 (line 10) name "env", a claim that no token of kind "github" has, and never match: did you mean "environment"?`}},
		{"what tokens have", []string{`{` + bound + `, repo_property_any_thing: gold, check_run_id: "7", enterprise_id: "2", job_workflow_sha: 7f93c5e6a1b20d4f8e9c3a5b7d1f2e4c6a8b0d2f, environment_node_id: x}`}, nil},
	} {
		if diff := cmp.Diff(tt.want, parse(t, policyOf(tt.rules...)).Warnings()); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestUnknownClaimsOfOthers: as far as a kind's claims are known.
func TestUnknownClaimsOfOthers(t *testing.T) {
	t.Parallel()
	p := parse(t, `version: 1
identities:
  gitlab: {issuer: https://gitlab.com}
  circleci: {issuer: https://oidc.circleci.com/org/5c10b5e1-1f2b-4a8f-8e3e-8f2d2d6f0a11}
  buildkite: {issuer: https://agent.buildkite.com}
  bitbucket: {issuer: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc}
  cluster: {issuer: https://k8s.acme.com, kind: kubernetes}
  staff: {issuer: https://acme.okta.com, kind: people, client_id: a}
targets:
  prod:
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: x}}
    allow:
      - {identity: gitlab, project_id: "1", branch: main, ref_protected: "true"}
      - {identity: circleci, oidc.circleci.com/project-id: a, oidc.circleci.com/vcs_ref: main}
      - {identity: buildkite, pipeline_id: a, build_brunch: main, "agent_tag:queue": x}
      - {identity: bitbucket, repositoryUuid: "{5c10b5e1}", branch_name: main}
      - {identity: cluster, sub: "system:serviceaccount:dbt:runner", namespace: dbt}
      - {identity: staff, sub: "00u1", department: data}
`)
	warns := func(rule, claim, kind, near string) string {
		return `target "prod": rule ` + rule + ` names "` + claim + `", a claim that no token of kind "` + kind + `" has, and never matches: did you mean "` + near + `"?`
	}
	want := []string{
		`target "prod": rule 5 (line 17) binds by name only: anyone who takes the name once it is given up gets in: ` +
			`add kubernetes.io>serviceaccount>uid`,
		warns("4 (line 16)", "branch_name", "bitbucket", "branchName"),
		warns("3 (line 15)", "build_brunch", "buildkite", "build_branch"),
		warns("2 (line 14)", "oidc.circleci.com/vcs_ref", "circleci", "oidc.circleci.com/vcs-ref"),
		warns("1 (line 13)", "branch", "gitlab", "ref"),
	}
	if diff := cmp.Diff(want, p.Warnings()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestDenyOfNoClaim: a rule of deny with a claim of another name stops no one.
func TestDenyOfNoClaim(t *testing.T) {
	t.Parallel()
	p := parse(t, `version: 1
identities:
  staff: {issuer: https://acme.okta.com, kind: people, client_id: a}
deny:
  - {identity: staff, group: contractors}
  - {identity: staff, groups: contractors, department: data}
targets:
  prod:
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: x}}
    allow:
      - {identity: staff, sub: "00u1"}
`)
	want := []string{`deny: rule 1 (line 5) names "group", which few tokens of kind "people" have: did you mean "groups"?`}
	if diff := cmp.Diff(want, p.Warnings()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestOtherForm: what matches as GitHub's other form of a subject is allowed,
// and the run says which subject an exact provider must know.
func TestOtherForm(t *testing.T) {
	t.Parallel()
	const (
		classic   = "repo:acme/analytics:environment:production"
		immutable = "repo:acme@9919/analytics@487920697:environment:production"
	)
	for _, tt := range []struct{ name, rule, subject, warns string }{
		{"a classic matcher, an immutable token", `{repository_id: "487920697", sub: "` + classic + `"}`, immutable, immutable},
		{"an immutable matcher, a classic token", `{repository_id: "487920697", sub: "` + immutable + `"}`, classic, classic},
		{"wildcards", `{repository_id: "487920697", sub: "repo:acme/*:environment:production"}`, immutable, immutable},
		{"the same form", `{repository_id: "487920697", sub: "` + classic + `"}`, classic, ""},
		{"both forms listed", `{repository_id: "487920697", sub: ["` + classic + `", "` + immutable + `"]}`, immutable, ""},
		{"no sub in the rule", `{repository_id: "487920697", environment: production}`, immutable, ""},
	} {
		g, err := parse(t, policyOf(`{repository_id: "1", environment: x}`, tt.rule)).Authorize("prod", claims(t, map[string]any{"sub": tt.subject}), reviewDay)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := ""
		if tt.warns != "" {
			want = `target "prod": rule 2 (line 9) matches the subject in GitHub's other form (with immutable ids, or without): a provider that compares subjects exactly must know "` + tt.warns + `"`
		}
		if got := strings.Join(g.Warnings(), "\n"); got != want {
			t.Errorf("%s: warnings are %q, want %q", tt.name, got, want)
		}
	}
}
