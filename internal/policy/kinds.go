package policy

import (
	"regexp"
	"slices"
	"strings"
)

// A kind is what is known of one CI system's tokens, or of people's.
type kind struct {
	// bind are the claims of which a rule must match one by literals, or else
	// anybody's job at that system would do.
	bind []string
	// owner are those of bind that name an organisation alone: any of its
	// members may start a job, so the rule must also name one of workflow.
	owner    []string
	workflow []string
	// names are those of bind whose value can change hands: a name that was
	// given up can be taken by somebody else.
	names []string
	// ids are the claims that make a name harmless.
	ids []string
}

// kinds are the kinds of identities. Claims by each system's documentation
// (OpenID Connect pages of GitHub, GitLab, CircleCI, Buildkite, Azure
// Pipelines, Bitbucket; Kubernetes: service account tokens).
var kinds = map[string]kind{
	"github": {
		bind:     []string{"repository_id", "repository_owner_id", "repository_owner", "repository"},
		owner:    []string{"repository_owner_id", "repository_owner"},
		workflow: []string{"job_workflow_ref"},
		names:    []string{"repository", "repository_owner"},
		ids:      []string{"repository_id", "repository_owner_id"},
	},
	"gitlab": {
		bind:     []string{"project_id", "project_path", "namespace_id", "namespace_path"},
		owner:    []string{"namespace_id", "namespace_path"},
		workflow: []string{"ci_config_ref_uri"},
		names:    []string{"project_path", "namespace_path"},
		ids:      []string{"project_id", "namespace_id"},
	},
	"circleci":        {bind: []string{"oidc.circleci.com/project-id"}},
	"buildkite":       {bind: []string{"pipeline_id", "pipeline_slug"}, names: []string{"pipeline_slug"}, ids: []string{"pipeline_id", "organization_id"}},
	"azure_pipelines": {bind: []string{"sub"}},
	"bitbucket":       {bind: []string{"repositoryUuid"}},
	"kubernetes":      {bind: []string{"sub"}},
	"people":          {bind: []string{"sub", "email", "groups"}},
}

// knownIssuers tell an identity's kind from its issuer.
var knownIssuers = []struct {
	pattern *regexp.Regexp
	kind    string
}{
	{regexp.MustCompile(`^https://token\.actions\.(?:githubusercontent\.com(?:/[A-Za-z0-9-]+)?|[a-z0-9-]+\.ghe\.com)$`), "github"},
	{regexp.MustCompile(`^https://[^/]+/_services/token$`), "github"},
	{regexp.MustCompile(`^https://gitlab\.com$`), "gitlab"},
	{regexp.MustCompile(`^https://oidc\.circleci\.com/org/[0-9a-f-]+$`), "circleci"},
	{regexp.MustCompile(`^https://agent\.buildkite\.com$`), "buildkite"},
	{regexp.MustCompile(`^https://vstoken\.dev\.azure\.com/[0-9a-f-]+$`), "azure_pipelines"},
	{regexp.MustCompile(`^https://api\.bitbucket\.org/2\.0/workspaces/[^/]+/pipelines-config/identity/oidc$`), "bitbucket"},
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
	if strings.HasSuffix(actor, "[bot]") {
		return "bot"
	}
	return "user"
}
