package policy

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A kind is what is known of one CI system's tokens, or of people's.
type kind struct {
	// bind are what a rule may bind: any of them, or else anybody's job at
	// that system would do.
	bind []binding
	// workflow are the claims of which a rule that binds an owner alone must name one.
	workflow []string
	// ids are the claims that make a name harmless. Names can change hands: one
	// that was given up can be taken by somebody else.
	ids []string
}

// A binding is claims that a rule matches by literals, all of them.
type binding struct {
	claims []string
	owner  bool // they name an organisation alone, in which any member may start a job
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
	},
	"gitlab": {
		bind: []binding{
			{claims: []string{"project_id"}}, {claims: []string{"namespace_id"}, owner: true},
			{claims: []string{"namespace_path"}, owner: true}, {claims: []string{"project_path"}},
		},
		workflow: []string{"ci_config_ref_uri"},
		ids:      []string{"project_id", "namespace_id"},
	},
	"circleci": {bind: []binding{{claims: []string{"oidc.circleci.com/project-id"}}}},
	"buildkite": { // one issuer for all its customers: a pipeline's slug says nothing without the organisation
		bind: []binding{
			{claims: []string{"pipeline_id"}}, {claims: []string{"organization_id", "pipeline_slug"}},
			{claims: []string{"organization_slug", "pipeline_slug"}},
		},
		ids: []string{"pipeline_id", "organization_id"},
	},
	"azure_pipelines": {bind: []binding{{claims: []string{"sub"}}}},
	"bitbucket":       {bind: []binding{{claims: []string{"repositoryUuid"}}}},
	"kubernetes":      {bind: []binding{{claims: []string{"sub"}}}},
	"people":          {bind: []binding{{claims: []string{"sub"}}, {claims: []string{"email"}}, {claims: []string{"groups"}}}},
}

// knownIssuers tell an identity's kind from its issuer.
var knownIssuers = []struct {
	pattern *lazy.Regexp
	kind    string
}{
	{lazy.MustCompile(`^https://token\.actions\.(?:githubusercontent\.com(?:/[A-Za-z0-9-]+)?|[a-z0-9-]+\.ghe\.com)$`), "github"},
	{lazy.MustCompile(`^https://[^/]+/_services/token$`), "github"},
	{lazy.MustCompile(`^https://gitlab\.com$`), "gitlab"},
	{lazy.MustCompile(`^https://oidc\.circleci\.com/org/[0-9a-f-]+$`), "circleci"},
	{lazy.MustCompile(`^https://agent\.buildkite\.com$`), "buildkite"},
	{lazy.MustCompile(`^https://vstoken\.dev\.azure\.com/[0-9a-f-]+$`), "azure_pipelines"},
	{lazy.MustCompile(`^https://api\.bitbucket\.org/2\.0/workspaces/[^/]+/pipelines-config/identity/oidc$`), "bitbucket"},
}

func knownKind(issuer string) string {
	for _, k := range knownIssuers {
		if k.pattern.MatchString(issuer) {
			return k.kind
		}
	}
	return ""
}

// ownEvents are the events that a rule without event_name admits: they run
// what the repository's own branches hold.
var ownEvents = []string{"push", "schedule", "workflow_dispatch", "merge_group", "release"}

// knownAgents are accounts that AI agents act through. A person's token in an
// agent looks like the person.
var knownAgents = []string{
	"Copilot", "copilot-swe-agent", "copilot-swe-agent[bot]", "claude[bot]", "claude-code[bot]", "cursor[bot]", "cursoragent",
	"devin-ai-integration[bot]", "google-labs-jules[bot]", "gemini-code-assist[bot]", "chatgpt-codex-connector[bot]", "openai-codex[bot]",
	"openhands-agent", "sweep-ai[bot]", "amazon-q-developer[bot]",
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
var gitlabBot = lazy.MustCompile(`^(?:project|group)_[0-9]+_bot(?:_|$)`)
