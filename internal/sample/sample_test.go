package sample_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/sample"
)

var github = policy.Identity{Name: "github", Kind: "github", Issuer: "https://token.actions.githubusercontent.com"}

// text is one claim a line.
func text(c sample.Claims) string {
	var b strings.Builder
	for _, name := range c.Names() {
		fmt.Fprintf(&b, "%s=%v\n", name, c.Value(name))
	}
	return b.String()
}

func TestGitHub(t *testing.T) {
	t.Parallel()
	type given = map[string]any
	for _, tt := range []struct {
		name  string
		facts sample.Facts
		want  string // of the claims, without iss and those of the repository
		other string
		odd   []string
	}{
		{"branch", sample.Facts{Ref: "refs/heads/main"}, `
base_ref=
event_name=push
head_ref=
ref=refs/heads/main
ref_type=branch
sub=repo:acme/analytics:ref:refs/heads/main`, "", nil},
		{"environment", sample.Facts{Environment: "production", Ref: "refs/heads/main", Event: "workflow_dispatch"}, `
base_ref=
environment=production
event_name=workflow_dispatch
head_ref=
ref=refs/heads/main
ref_type=branch
sub=repo:acme/analytics:environment:production`, "", nil},
		{"environment with a colon", sample.Facts{Environment: "prod:eu"}, `
base_ref=
environment=prod:eu
event_name=push
head_ref=
sub=repo:acme/analytics:environment:prod%3Aeu`, "", nil},
		{"ids", sample.Facts{Environment: "production", RepositoryID: "487920697", OwnerID: "9919"}, `
base_ref=
environment=production
event_name=push
head_ref=
repository_id=487920697
repository_owner_id=9919
sub=repo:acme/analytics:environment:production`, "repo:acme@9919/analytics@487920697:environment:production", nil},
		{"tag", sample.Facts{Ref: "refs/tags/v3"}, `
base_ref=
event_name=push
head_ref=
ref=refs/tags/v3
ref_type=tag
sub=repo:acme/analytics:ref:refs/tags/v3`, "", nil},
		{"pull request", sample.Facts{Ref: "refs/pull/7/merge"}, `
event_name=pull_request
ref=refs/pull/7/merge
ref_type=branch
sub=repo:acme/analytics:pull_request`, "", nil},
		{"pull request without its number", sample.Facts{Event: "pull_request"}, `
event_name=pull_request
sub=repo:acme/analytics:pull_request`, "", nil},
		{"pull request on the base branch", sample.Facts{Event: "pull_request_target", Ref: "refs/heads/main"}, `
base_ref=main
event_name=pull_request_target
ref=refs/heads/main
ref_type=branch`, "", nil},
		{"merge queue", sample.Facts{Ref: "refs/heads/gh-readonly-queue/main/pr-7-7f93c5e6"}, `
base_ref=
event_name=merge_group
head_ref=
ref=refs/heads/gh-readonly-queue/main/pr-7-7f93c5e6
ref_type=branch
sub=repo:acme/analytics:ref:refs/heads/gh-readonly-queue/main/pr-7-7f93c5e6`, "", nil},
		{"release", sample.Facts{Event: "release"}, `
base_ref=
event_name=release
head_ref=
ref_type=tag`, "", nil},
		{"direct job", sample.Facts{Environment: "x", Claims: given{"workflow_ref": "acme/analytics/.github/workflows/dbt.yml@refs/heads/main"}}, `
base_ref=
environment=x
event_name=push
head_ref=
job_workflow_ref=acme/analytics/.github/workflows/dbt.yml@refs/heads/main
sub=repo:acme/analytics:environment:x
workflow_ref=acme/analytics/.github/workflows/dbt.yml@refs/heads/main`, "", nil},
		{"reusable workflow", sample.Facts{Environment: "x", Claims: given{"job_workflow_ref": "acme/platform/.github/workflows/dbt.yml@refs/tags/v3"}}, `
base_ref=
environment=x
event_name=push
head_ref=
job_workflow_ref=acme/platform/.github/workflows/dbt.yml@refs/tags/v3
sub=repo:acme/analytics:environment:x`, "", nil},
		{"left out", sample.Facts{Environment: "x", Claims: given{"sub": nil, "head_ref": nil, "base_ref": nil}}, `
environment=x
event_name=push`, "", nil},
		{"customised subject", sample.Facts{Environment: "x", Claims: given{"sub": "repository_id:7"}}, `
base_ref=
environment=x
event_name=push
head_ref=
sub=repository_id:7`, "", nil},
		{"no token has these", sample.Facts{Ref: "refs/heads/main", Event: "pull_request", Claims: given{"ref_type": "tag", "sub": "repo:acme/other:pull_request"}}, `
event_name=pull_request
ref=refs/heads/main
ref_type=tag
sub=repo:acme/other:pull_request`, "", []string{
			`ref_type is "tag", and with the other claims it would be "branch"`,
			`event_name is "pull_request", and ref "refs/heads/main": its ref has the form refs/pull/N/merge`,
			`sub is "repo:acme/other:pull_request", and with the other claims it would be "repo:acme/analytics:pull_request", unless it is customised`,
		}},
		{"a push of a pull request", sample.Facts{Ref: "refs/pull/7/merge", Event: "push", Environment: "x"}, `
base_ref=
environment=x
event_name=push
head_ref=
ref=refs/pull/7/merge
ref_type=branch
sub=repo:acme/analytics:environment:x`, "", []string{`ref is "refs/pull/7/merge", and event_name "push": such a ref comes with pull_request`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.facts.Repository = "acme/analytics"
			c, err := sample.Make(github, tt.facts)
			if err != nil {
				t.Fatal(err)
			}
			got := text(sample.Claims{Unverified: c.Without("iss").Without("repository").Without("repository_owner")})
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n")+"\n", got); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.odd, c.Odd); diff != "" || c.OtherSubject != tt.other {
				t.Errorf("odd (-want +got):\n%s\nother subject is %q, want %q", diff, c.OtherSubject, tt.other)
			}
			if owner, _ := c.String("repository_owner"); owner != "acme" || c.Issuer() != github.Issuer {
				t.Errorf("owner is %q, issuer %q", owner, c.Issuer())
			}
		})
	}
}

func TestOthers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		id    policy.Identity
		facts sample.Facts
		want  string
	}{
		{"gitlab", policy.Identity{Kind: "gitlab", Issuer: "https://gitlab.com"},
			sample.Facts{Repository: "acme/data/analytics", RepositoryID: "20", OwnerID: "7", Ref: "refs/heads/main", Environment: "production"}, `
environment=production
iss=https://gitlab.com
job_namespace_id=7
job_namespace_path=acme/data
job_project_id=20
job_project_path=acme/data/analytics
namespace_id=7
namespace_path=acme/data
pipeline_source=push
project_id=20
project_path=acme/data/analytics
ref=main
ref_path=refs/heads/main
ref_type=branch
sub=project_path:acme/data/analytics:ref_type:branch:ref:main`},
		{"gitlab, merge request", policy.Identity{Kind: "gitlab", Issuer: "https://gitlab.com"},
			sample.Facts{Repository: "acme/analytics", Event: "merge_request_event", Claims: map[string]any{"ref": "v1", "ref_type": "tag"}}, `
iss=https://gitlab.com
namespace_path=acme
pipeline_source=merge_request_event
project_path=acme/analytics
ref=v1
ref_path=refs/tags/v1
ref_type=tag
sub=project_path:acme/analytics:ref_type:tag:ref:v1`},
		{"circleci", policy.Identity{Kind: "circleci", Issuer: "https://oidc.circleci.com/org/0a1b"},
			sample.Facts{Repository: "github.com/acme/analytics", RepositoryID: "77ff", Ref: "refs/heads/main"}, `
iss=https://oidc.circleci.com/org/0a1b
oidc.circleci.com/org-id=0a1b
oidc.circleci.com/project-id=77ff
oidc.circleci.com/ssh-rerun=false
oidc.circleci.com/vcs-origin=github.com/acme/analytics
oidc.circleci.com/vcs-ref=refs/heads/main`},
		{"buildkite", policy.Identity{Kind: "buildkite", Issuer: "https://agent.buildkite.com"},
			sample.Facts{Repository: "acme/dbt", RepositoryID: "0189", Ref: "refs/tags/v1", Event: "webhook"}, `
build_branch=v1
build_source=webhook
build_tag=v1
iss=https://agent.buildkite.com
organization_slug=acme
pipeline_id=0189
pipeline_slug=dbt`},
		{"azure pipelines", policy.Identity{Kind: "azure_pipelines", Issuer: "https://vstoken.dev.azure.com/0a1b"},
			sample.Facts{Repository: "acme/data/dbt", RepositoryID: "12", Ref: "refs/heads/main"}, `
aud=api://AzureADTokenExchange
def_id=12
iss=https://vstoken.dev.azure.com/0a1b
org_id=0a1b
rpo_ref=refs/heads/main
sub=p://acme/data/dbt`},
		{"bitbucket", policy.Identity{Kind: "bitbucket", Issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc"},
			sample.Facts{RepositoryID: "{1-2}", OwnerID: "{3-4}", Environment: "{5-6}", Ref: "refs/heads/main"}, `
aud=ari:cloud:bitbucket::workspace/3-4
branchName=main
deploymentEnvironmentUuid={5-6}
iss=https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
repositoryUuid={1-2}
workspaceUuid={3-4}`},
		{"kubernetes", policy.Identity{Kind: "kubernetes", Issuer: "https://k8s.acme.example"}, sample.Facts{Repository: "data/dbt"}, `
iss=https://k8s.acme.example
kubernetes.io=map[namespace:data serviceaccount:map[name:dbt]]
sub=system:serviceaccount:data:dbt`},
		{"people", policy.Identity{Kind: "people", Issuer: "https://acme.okta.com", ClientID: "0oa1"},
			sample.Facts{Claims: map[string]any{"sub": "00u1", "groups": []string{"data"}}}, `
aud=0oa1
groups=[data]
iss=https://acme.okta.com
sub=00u1`},
	} {
		c, err := sample.Make(tt.id, tt.facts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n")+"\n", text(c)); diff != "" {
			t.Errorf("%s: claims (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	id := func(kind string) policy.Identity {
		return policy.Identity{Name: "ci", Kind: kind, Issuer: "https://ci.example"}
	}
	for _, tt := range []struct {
		kind  string
		facts sample.Facts
		err   string
	}{
		{"github", sample.Facts{Repository: "analytics"}, `repository is "analytics", want OWNER/REPOSITORY`},
		{"github", sample.Facts{Repository: "https://github.com/acme/x"}, `repository is "https://github.com/acme/x", want OWNER/REPOSITORY`},
		{"github", sample.Facts{RepositoryID: "acme"}, `repository_id is "acme", want a number`},
		{"github", sample.Facts{Event: "Pull-Request"}, `event_name is "Pull-Request", want an event of GitHub's, which has lower case and _ only`},
		{"github", sample.Facts{Ref: "main"}, `ref is "main", which is not a full ref: want "refs/heads/main", or "refs/tags/main" for a tag`},
		{"github", sample.Facts{Claims: map[string]any{"ref": ""}}, `ref is empty, want a full ref`},
		{"github", sample.Facts{Claims: map[string]any{"job_workflow_ref": "dbt.yml"}}, `job_workflow_ref is "dbt.yml", want OWNER/REPOSITORY/.github/workflows/FILE.yml@REF`},
		{"github", sample.Facts{Ref: "refs/heads/main", Claims: map[string]any{"ref": "refs/heads/x"}}, `claim "ref" is given twice`},
		{"github", sample.Facts{Environment: "a\nb"}, `claim "environment" is "a\nb", which has a control character`},
		{"gitlab", sample.Facts{Repository: "analytics"}, `project_path is "analytics", want GROUP/PROJECT`},
		{"gitlab", sample.Facts{Ref: "main"}, `ref_path is "main", which is not a full ref: want "refs/heads/main", or "refs/tags/main" for a tag`},
		{"circleci", sample.Facts{Environment: "production"}, `tokens of kind "circleci" say nothing of the environment: give a claim that they have by its name`},
		{"people", sample.Facts{OwnerID: "7"}, `tokens of kind "people" say nothing of the owner id: give a claim that they have by its name`},
		{"kubernetes", sample.Facts{Repository: "dbt"}, `sub is "system:serviceaccount:dbt:", want system:serviceaccount:NAMESPACE:NAME`},
		{"azure_pipelines", sample.Facts{Repository: "dbt"}, `sub is "p://dbt", want ORGANIZATION/PROJECT/PIPELINE`},
		{"other", sample.Facts{}, `make up claims: identity "ci" is of kind "other", whose tokens are not known: give all claims`},
	} {
		_, err := sample.Make(id(tt.kind), tt.facts)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.err {
			t.Errorf("%s, %+v: error is %q, want %q", tt.kind, tt.facts, got, tt.err)
		}
	}
}

// TestKinds: a kind that a policy may name has tokens that can be made up, and
// they have no claim that the policy does not know of the kind.
func TestKinds(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(policy.Kinds(), sample.Kinds()); diff != "" {
		t.Errorf("kinds (-policy +sample):\n%s", diff)
	}
	for _, kind := range sample.Kinds() {
		c, err := sample.Make(policy.Identity{Name: kind, Kind: kind, Issuer: "https://ci.example"}, sample.Facts{})
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range append(c.Names(), c.Missing...) {
			if !policy.HasClaim(kind, name) {
				t.Errorf("a token of kind %q is made up with the claim %q, which the policy does not know", kind, name)
			}
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	c, err := sample.Make(github, sample.Facts{Repository: "acme/analytics", Event: "pull_request", Claims: map[string]any{"actor": nil}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"actor_id", "base_ref", "check_run_id", "head_ref", "job_workflow_ref", "job_workflow_sha", "ref", "ref_protected", "ref_type",
		"repository_id", "repository_owner_id", "repository_visibility", "run_attempt", "run_id", "run_number", "runner_environment",
		"sha", "workflow", "workflow_ref", "workflow_sha",
	}
	if diff := cmp.Diff(want, c.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}
