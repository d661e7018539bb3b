package policy

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A kind is what is known of one CI system's tokens, or of people's.
type kind struct {
	// bind are what a rule may bind: any of them, or else anybody's job at
	// that system would do.
	bind []binding
	// workflow are the claims of which a rule that binds only an owner must name one.
	workflow []string
	// ids are the claims that make a name harmless. Names can change hands: one
	// that was given up can be taken by another user.
	ids []string
	// claims are all that tokens of the kind have, with what is derived from
	// them; nil where that is not known. What ends in _ or : is the start of one.
	claims []string
	// numeric are the claims that are digits only.
	numeric []string
}

// A binding is claims that a rule matches by literals, all of them.
type binding struct {
	claims []string
	owner  bool // they name only an organisation, in which any member may start a job
}

// kinds are the kinds of identities. Claims by each system's documentation
// (OpenID Connect pages of GitHub, GitLab, CircleCI, Buildkite, Azure
// Pipelines, Bitbucket; Kubernetes: service account tokens).
var kinds = map[string]kind{
	"github": {
		bind: []binding{
			{claims: []string{"repository_id"}}, {claims: []string{"repository_owner_id"}, owner: true},
			{claims: []string{"repository_owner"}, owner: true}, {claims: []string{"repository"}},
		},
		workflow: []string{"job_workflow_ref"},
		ids:      []string{"repository_id", "repository_owner_id"},
		claims: []string{
			"actor", "actor_id", "actor_kind", "aud", "base_ref", "check_run_id", "enterprise", "enterprise_id",
			"environment", "environment_node_id", "event_name", "head_ref", "iss", "job_workflow_ref", "job_workflow_sha",
			"jti", "pull_number", "ref", "ref_protected", "ref_type", "repo_property_", "repository", "repository_id",
			"repository_owner", "repository_owner_id", "repository_visibility", "run_attempt", "run_id", "run_number",
			"runner_environment", "sha", "sub", "workflow", "workflow_ref", "workflow_sha",
		},
		numeric: []string{"repository_id", "repository_owner_id", "actor_id", "enterprise_id", "run_id", "run_number",
			"run_attempt", "check_run_id"},
	},
	"gitlab": {
		bind: []binding{
			{claims: []string{"project_id"}}, {claims: []string{"namespace_id"}, owner: true},
			{claims: []string{"namespace_path"}, owner: true}, {claims: []string{"project_path"}},
		},
		workflow: []string{"ci_config_ref_uri"},
		ids:      []string{"project_id", "namespace_id"},
		numeric:  []string{"project_id", "namespace_id", "user_id", "pipeline_id", "job_id", "job_project_id", "job_namespace_id", "runner_id"},
		claims: []string{
			"actor_kind", "aud", "ci_config_ref_uri", "ci_config_sha", "deployment_tier", "environment", "environment_action",
			"environment_protected", "groups_direct", "iss", "job_config", "job_id", "job_namespace_id", "job_namespace_path",
			"job_project_id", "job_project_path", "job_source", "jti", "namespace_id", "namespace_path", "pipeline_id",
			"pipeline_source", "project_id", "project_path", "project_visibility", "ref", "ref_path", "ref_protected",
			"ref_type", "runner_environment", "runner_id", "sha", "sub", "user_access_level", "user_email", "user_id",
			"user_identities", "user_login",
		},
	},
	"circleci": {
		bind: []binding{{claims: []string{"oidc.circleci.com/project-id"}}},
		claims: []string{
			"actor_kind", "aud", "iss", "jti", "oidc.circleci.com/context-ids", "oidc.circleci.com/job-id",
			"oidc.circleci.com/org-id", "oidc.circleci.com/pipeline-definition-id", "oidc.circleci.com/pipeline-id",
			"oidc.circleci.com/project-id", "oidc.circleci.com/ssh-rerun", "oidc.circleci.com/vcs-origin",
			"oidc.circleci.com/vcs-ref", "oidc.circleci.com/workflow-id", "sub",
		},
	},
	"buildkite": { // one issuer for all its customers: a pipeline's slug says nothing without the organisation
		bind: []binding{
			{claims: []string{"pipeline_id"}}, {claims: []string{"organization_id", "pipeline_slug"}},
			{claims: []string{"organization_slug", "pipeline_slug"}},
		},
		ids: []string{"pipeline_id", "organization_id"},
		claims: []string{
			"actor_kind", "agent_id", "agent_tag:", "aud", "build_branch", "build_commit", "build_id", "build_number",
			"build_source", "build_tag", "cluster_id", "cluster_name", "iss", "job_id", "jti", "organization_id",
			"organization_slug", "pipeline_id", "pipeline_slug", "queue_id", "queue_key", "runner_environment", "step_key",
			"sub",
		},
	},
	"azure_pipelines": {bind: []binding{{claims: []string{"sub"}}}},
	"bitbucket": {
		bind: []binding{{claims: []string{"repositoryUuid"}}},
		claims: []string{"actor_kind", "aud", "branchName", "deploymentEnvironmentUuid", "iss", "jti", "pipelineUuid",
			"repositoryUuid", "stepUuid", "sub", "workspaceUuid"},
	},
	"kubernetes": {bind: []binding{{claims: []string{"sub"}}}},
	"people":     {bind: []binding{{claims: []string{"sub"}}, {claims: []string{"email"}}, {claims: []string{"groups"}}}},
}

// knownIssuers tell an identity's kind from its issuer, where that is not GitHub.
var knownIssuers = []struct {
	pattern *lazy.Regexp
	kind    string
}{
	{lazy.MustCompile(`^https://gitlab\.com$`), "gitlab"},
	{lazy.MustCompile(`^https://oidc\.circleci\.com/org/[0-9a-f-]+$`), "circleci"},
	{lazy.MustCompile(`^https://agent\.buildkite\.com$`), "buildkite"},
	{lazy.MustCompile(`^https://vstoken\.dev\.azure\.com/[0-9a-f-]+$`), "azure_pipelines"},
	{lazy.MustCompile(`^https://api\.bitbucket\.org/2\.0/workspaces/[^/]+/pipelines-config/identity/oidc$`), "bitbucket"},
}

// has reports whether tokens of the kind have a claim, as far as that is known.
func (k kind) has(claim string) bool {
	return len(k.claims) == 0 || slices.ContainsFunc(k.claims, func(c string) bool {
		return c == claim || strings.Trim(c[len(c)-1:], "_:") == "" && strings.HasPrefix(claim, c)
	})
}

// HasClaim reports whether tokens of a kind have a claim, as far as that is known.
func HasClaim(kind, claim string) bool { return kinds[kind].has(claim) }

// ClaimsOf returns the claims that tokens of a kind have, with what is derived
// from them; nil where that is not known. What ends in _ or : is the start of one.
func ClaimsOf(kind string) []string { return slices.Clone(kinds[kind].claims) }

// MeantClaim returns the claim of a kind's tokens that a name probably means
// which none of them has, "" where none is near.
func MeantClaim(kind, name string) string {
	if kinds[kind].has(name) {
		return ""
	}
	return otherNames.Meant(name, kinds[kind].claims)
}

// derivedFrom are the claims that no token has: what they are made of.
var derivedFrom = map[string]string{"actor_kind": "actor", "pull_number": "ref"}

// DerivedFrom returns the claim that a derived one is made of, "" for one that
// tokens have.
func DerivedFrom(claim string) string { return derivedFrom[claim] }

func knownKind(issuer string) string {
	if idtoken.IsGitHub(issuer) {
		return "github"
	}
	for _, k := range knownIssuers {
		if k.pattern.MatchString(issuer) {
			return k.kind
		}
	}
	return ""
}

// defaultEvents are the events that a rule without event_name admits: they run
// what the repository's own branches hold.
var defaultEvents = []string{"push", "schedule", "workflow_dispatch", "merge_group", "release"}

// events are those of GitHub that start a workflow, the frequent ones first.
// (GitHub: Events that trigger workflows; "dynamic" is that of workflows of
// GitHub's own)
var events = []string{
	"push", "pull_request", "schedule", "workflow_dispatch", "merge_group", "release", "repository_dispatch",
	"workflow_run", "pull_request_target", "branch_protection_rule", "check_run", "check_suite", "create", "delete",
	"deployment", "deployment_status", "discussion", "discussion_comment", "dynamic", "fork", "gollum", "image_version",
	"issue_comment", "issues", "label", "milestone", "page_build", "project", "project_card", "project_column",
	"public", "pull_request_comment", "pull_request_review", "pull_request_review_comment", "registry_package",
	"status", "watch",
}

// knownAgents are accounts that AI agents act through. A person's token in an
// agent looks like the person.
var knownAgents = []string{
	"Copilot", "copilot-swe-agent", "copilot-swe-agent[bot]", "claude[bot]", "claude-code[bot]", "cursor[bot]",
	"cursoragent", "devin-ai-integration[bot]", "google-labs-jules[bot]", "gemini-code-assist[bot]",
	"chatgpt-codex-connector[bot]", "openai-codex[bot]", "openhands-agent", "sweep-ai[bot]", "amazon-q-developer[bot]",
}

// actorKind returns "agent", "bot" or "user" for an account's name.
func actorKind(actor string, agents []string) string {
	for _, a := range slices.Concat(agents, knownAgents) {
		if strings.EqualFold(a, actor) {
			return "agent"
		}
	}
	if strings.HasSuffix(actor, "[bot]") || gitlabBot.MatchString(actor) {
		return "bot"
	}
	return "user"
}

// gitlabBot matches the users behind GitLab's project and group access tokens.
var gitlabBot = lazy.MustCompile(`^(?:project|group)_[0-9]+_bot(?:_|$)`).Where(func(s string) bool { return strings.Contains(s, "_bot") })

// KnownEvents returns the events of GitHub's that start a workflow.
func KnownEvents() []string { return slices.Clone(events) }
