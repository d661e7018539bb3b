package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A kind is what is known of one system's tokens, or of people's.
type kind struct {
	// issuer and jwks are those of a system that has one issuer for all its
	// customers; an identity may leave them out.
	issuer, jwks string
	// audience is that of every token, for a system whose jobs cannot choose it.
	audience string
	// fixed is set where a job has one token, and cannot ask for a fresh one.
	fixed bool
	// bind are what a rule may bind: any of them: without one, any job at that
	// system would do.
	bind []binding
	// workflow are the claims of which a rule that binds only an owner must name one.
	workflow []string
	// ids are the claims that make a name harmless. Names can change hands: one
	// that was given up can be taken by another user.
	ids []string
	// event is what started the run, and what of it a rule admits that does not name it.
	event eventClaim
	// guards are asked of every token that a rule matches.
	guards []guard
	// claims are all that tokens of the kind have, with what is derived from
	// them; nil where that is not known. What ends in _ or : is the start of one.
	claims []string
	// numeric are the claims that are digits only.
	numeric []string
	// lists are the claims that may be a list, of which any element may match.
	lists []string
	// actor is who started the run.
	actor actorClaims
	// run are the claims that tell one run from another, the first of them its name.
	run []string
	// recorded are the claims that an audit record keeps, next to those of the run.
	recorded []string
}

// A binding is claims that a rule matches by literals, all of them.
type binding struct {
	claims []string
	owner  bool // they name only an organisation, in which any member may start a job
}

// An eventClaim says what started a run.
type eventClaim struct {
	claim    string
	admitted []string // by a rule that does not name the claim: they run what the project's own branches hold
}

// actorClaims are those of who started the run.
type actorClaims struct {
	name, id string
	kind     string // "user" or "agent" where every token of the kind has one; "" where it is told by the account
}

// A guard is a condition on every token that a rule matches, unless the rule
// names one of some claims itself.
type guard struct {
	claim  string
	unless []string
	want   string // as printed
	met    func(ClaimSet) bool
	// implies are the conditions on single claims that come to the guard, for
	// those who compare claims with texts only.
	implies func(rule) []Implied
}

// ofJob are GitLab's claims of the project that a job runs in, by those of the
// pipeline's source: for a rule of several projects they come to a little less
// than the guard, since they do not say which of them.
func ofJob(r rule) (list []Implied) {
	for _, claim := range []string{"project_id", "project_path", "namespace_id", "namespace_path"} {
		if m, ok := find(r.matchers, claim); ok {
			list = append(list, Implied{Claim: "job_" + claim, Patterns: m.texts()})
		}
	}
	return list
}

// githubClaims are those of GitHub's tokens, and of what speaks its protocol.
var githubClaims = []string{
	"actor", "actor_id", "actor_kind", "aud", "base_ref", "check_run_id", "enterprise", "enterprise_id",
	"environment", "environment_node_id", "event_name", "head_ref", "iss", "job_workflow_ref", "job_workflow_sha",
	"jti", "pull_number", "ref", "ref_protected", "ref_type", "repo_property_", "repository", "repository_id",
	"repository_owner", "repository_owner_id", "repository_visibility", "run_attempt", "run_id", "run_number",
	"runner_environment", "sha", "sub", "workflow", "workflow_ref", "workflow_sha",
}

var githubRecorded = []string{
	"repository", "repository_id", "repository_owner", "repository_owner_id", "check_run_id", "event_name", "environment", "ref",
	"sha", "workflow_ref", "workflow_sha", "job_workflow_ref", "job_workflow_sha", "runner_environment",
}

var githubBindings = []binding{
	{claims: []string{"repository_id"}}, {claims: []string{"repository_owner_id"}, owner: true},
	{claims: []string{"repository_owner"}, owner: true}, {claims: []string{"repository"}},
}

// kinds are the kinds of identities. Claims by each system's documentation
// (OpenID Connect pages of GitHub, Forgejo, GitLab, CircleCI, Buildkite, Azure
// Pipelines, Bitbucket, Cursor, Claude Code; Kubernetes: service account tokens;
// AWS: GetWebIdentityToken; Google: identity tokens of the metadata server).
var kinds = map[string]kind{
	"github": {
		bind: githubBindings, workflow: []string{"job_workflow_ref"}, ids: []string{"repository_id", "repository_owner_id"},
		event:  eventClaim{"event_name", defaultEvents},
		claims: githubClaims,
		numeric: []string{"repository_id", "repository_owner_id", "actor_id", "enterprise_id", "run_id", "run_number",
			"run_attempt", "check_run_id"},
		actor: actorClaims{name: "actor", id: "actor_id"}, run: []string{"run_id", "run_attempt"}, recorded: githubRecorded,
	},
	"forgejo": { // has GitHub's claims, without reusable workflows of others; the ids since Forgejo 16
		bind: []binding{
			{claims: []string{"repository_id"}}, {claims: []string{"repository"}},
		},
		ids:     []string{"repository_id", "repository_owner_id"},
		event:   eventClaim{"event_name", defaultEvents},
		claims:  githubClaims,
		numeric: []string{"repository_id", "repository_owner_id", "actor_id", "run_id", "run_number", "run_attempt"},
		actor:   actorClaims{name: "actor", id: "actor_id"}, run: []string{"run_id", "run_attempt"}, recorded: githubRecorded,
	},
	"gitlab": {
		fixed: true,
		bind: []binding{
			{claims: []string{"project_id"}}, {claims: []string{"namespace_id"}, owner: true},
			{claims: []string{"namespace_path"}, owner: true}, {claims: []string{"project_path"}},
		},
		workflow: []string{"ci_config_ref_uri"},
		ids:      []string{"project_id", "namespace_id"},
		event:    eventClaim{"pipeline_source", []string{"push", "schedule", "web", "api", "trigger", "pipeline", "parent_pipeline"}},
		// In a pipeline of a merge request the project_ claims are of its source,
		// and the job and its environment may be of another project.
		guards: []guard{{
			claim: "job_project_id", unless: []string{"job_project_id", "job_project_path"}, want: "the same as project_id",
			met: func(c ClaimSet) bool {
				project, _ := c.String("project_id")
				job, ok := c.String("job_project_id")
				return job == project || !ok && !c.Has("job_project_id")
			},
			implies: ofJob,
		}},
		numeric: []string{"project_id", "namespace_id", "user_id", "pipeline_id", "job_id", "job_project_id", "job_namespace_id", "runner_id"},
		lists:   []string{"groups_direct", "user_identities"},
		claims: []string{
			"actor_kind", "aud", "ci_config_ref_uri", "ci_config_sha", "deployment_tier", "environment", "environment_action",
			"environment_protected", "groups_direct", "iss", "job_config", "job_id", "job_namespace_id", "job_namespace_path",
			"job_project_id", "job_project_path", "job_source", "jti", "namespace_id", "namespace_path", "pipeline_id",
			"pipeline_source", "project_id", "project_path", "project_visibility", "ref", "ref_path", "ref_protected",
			"ref_type", "runner_environment", "runner_id", "sha", "sub", "user_access_level", "user_email", "user_id",
			"user_identities", "user_login",
		},
		actor: actorClaims{name: "user_login", id: "user_id"}, run: []string{"pipeline_id", "job_id"},
		recorded: []string{"project_id", "project_path", "namespace_id", "namespace_path", "job_project_id", "job_project_path",
			"pipeline_source", "environment", "ref_path", "sha", "ci_config_ref_uri", "ci_config_sha", "job_source", "runner_id",
			"runner_environment"},
	},
	"circleci": {
		bind: []binding{{claims: []string{circleci + "project-id"}}}, // with the issuer of all organisations: see bindings
		ids:  []string{circleci + "project-id"},
		guards: []guard{{ // a person has a shell in a job that was run again with SSH
			claim: circleci + "ssh-rerun", unless: []string{circleci + "ssh-rerun"}, want: "false",
			met: func(c ClaimSet) bool { return c.Value(circleci+"ssh-rerun") == false },
			implies: func(rule) []Implied {
				return []Implied{{Claim: circleci + "ssh-rerun", Patterns: []string{"false"}, Boolean: true}}
			},
		}},
		lists: []string{circleci + "context-ids"},
		claims: []string{
			"actor_kind", "aud", "iss", "jti", circleci + "context-ids", circleci + "job-id",
			circleci + "org-id", circleci + "pipeline-definition-id", circleci + "pipeline-id",
			circleci + "project-id", circleci + "ssh-rerun", circleci + "vcs-origin",
			circleci + "vcs-ref", circleci + "workflow-id", "sub",
		},
		run: []string{circleci + "job-id"},
		recorded: []string{circleci + "project-id", circleci + "org-id", circleci + "pipeline-id", circleci + "pipeline-definition-id",
			circleci + "workflow-id", circleci + "vcs-origin", circleci + "vcs-ref"},
	},
	"buildkite": { // one issuer for all its customers: a pipeline's slug says nothing without the organisation
		issuer: "https://agent.buildkite.com",
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
		run: []string{"build_id", "job_id"},
		recorded: []string{"organization_slug", "organization_id", "pipeline_slug", "pipeline_id", "build_branch", "build_tag",
			"build_commit", "build_source", "step_key", "agent_id", "cluster_id", "queue_id", "runner_environment"},
	},
	"azure_pipelines": { // a pipeline's token; that of a service connection has only a subject
		audience: "api://AzureADTokenExchange",
		bind:     []binding{{claims: []string{"prj_id", "def_id"}}, {claims: []string{"sub"}}}, // the issuer is one organisation's
		ids:      []string{"def_id", "prj_id"},
		run:      []string{"run_id"},
		recorded: []string{"org_id", "prj_id", "def_id", "rpo_id", "rpo_uri", "rpo_ref", "rpo_ver"},
	},
	"bitbucket": {
		fixed: true,
		bind:  []binding{{claims: []string{"repositoryUuid"}}},
		ids:   []string{"repositoryUuid"},
		lists: []string{"aud"},
		claims: []string{"actor_kind", "aud", "branchName", "deploymentEnvironmentUuid", "iss", "jti", "pipelineUuid",
			"repositoryUuid", "stepUuid", "sub", "workspaceUuid"},
		run:      []string{"pipelineUuid", "stepUuid"},
		recorded: []string{"repositoryUuid", "workspaceUuid", "deploymentEnvironmentUuid", "branchName"},
	},
	"kubernetes": {
		bind:  []binding{{claims: []string{serviceAccountUID}}, {claims: []string{"sub"}}},
		ids:   []string{serviceAccountUID},
		lists: []string{"aud"},
		run:   []string{"kubernetes.io>pod>uid"},
		recorded: []string{"kubernetes.io>namespace", "kubernetes.io>serviceaccount>name", serviceAccountUID,
			"kubernetes.io>pod>name", "kubernetes.io>node>name"},
	},
	"aws": {
		bind: []binding{{claims: []string{"sub"}}, {claims: []string{awsClaims + "identity_store_user_id"}}},
		run:  []string{"jti"},
		recorded: []string{awsClaims + "aws_account", awsClaims + "org_id", awsClaims + "source_region",
			awsClaims + "identity_store_user_id", awsClaims + "source_identity"},
	},
	"google": {
		issuer:   "https://accounts.google.com",
		bind:     []binding{{claims: []string{"sub"}}},
		recorded: []string{"email", "google>compute_engine>project_id", "google>compute_engine>instance_id"},
	},
	"workload": {lists: []string{anyClaim}}, // each identity says what binds
	"people": {
		bind:  []binding{{claims: []string{"sub"}}, {claims: []string{"oid"}}, {claims: []string{"roles"}}, {claims: []string{"groups"}}},
		lists: []string{anyClaim}, actor: actorClaims{kind: "user"},
		recorded: []string{"oid", "preferred_username", "email"},
	},
	"cursor": { // one issuer for all its customers
		issuer: "https://api.cursor.com", jwks: "https://api.cursor.com/keys",
		bind:  []binding{{claims: []string{"team_id"}}},
		ids:   []string{"team_id"},
		lists: []string{"repo_urls"},
		claims: []string{"actor_kind", "agent_runtime", "aud", "branch_name", "cloud_agent_id", "iss", "jti", "owner_email",
			"owner_user_id", "repo_count", "repo_url", "repo_urls", "sub", "team_id", "turn_id"},
		actor: actorClaims{name: "cloud_agent_id", id: "cloud_agent_id", kind: "agent"}, run: []string{"turn_id"},
		recorded: []string{"team_id", "owner_user_id", "agent_runtime", "repo_url", "branch_name"},
	},
	"claude_code": {
		fixed: true,
		bind:  []binding{{claims: []string{"act>sub"}}, {claims: []string{"sub"}}},
		ids:   nil,
		actor: actorClaims{name: "act>sub", id: "act>sub", kind: "agent"}, run: []string{"jti"},
		recorded: []string{"role", "act>sub"},
	},
	"warp": {
		bind:  []binding{{claims: []string{"sub"}}},
		actor: actorClaims{name: "sub", id: "sub", kind: "agent"}, run: []string{"jti"},
	},
}

const (
	circleci          = "oidc.circleci.com/"
	awsClaims         = "https://sts.amazonaws.com/>"
	serviceAccountUID = "kubernetes.io>serviceaccount>uid"
	anyClaim          = "*"
)

// groupsOverflow reports whether a token of Entra ID says that it leaves out
// the person's groups. (Microsoft: ID token claims reference, groups overage claim)
func groupsOverflow(c ClaimSet) bool {
	if c.Has("groups") {
		return false
	}
	return c.Has("_claim_names>groups") || c.Value("hasgroups") == true || c.Value("hasgroups") == "true"
}

// scalars are the claims that are one value in every token, also where others may be lists.
var scalars = []string{"sub", "oid", "tid", "iss", "jti", "azp", "email", "upn", "preferred_username", "name"}

// MayBeList reports whether a claim of a kind's tokens may be a list, of which
// any element may match.
func MayBeList(kind, claim string) bool {
	lists := kinds[kind].lists
	return slices.Contains(lists, claim) || slices.Contains(lists, anyClaim) && !slices.Contains(scalars, claim)
}

// knownIssuers tell an identity's kind from its issuer, where that is not GitHub.
var knownIssuers = []struct {
	pattern *lazy.Regexp
	kind    string
}{
	{lazy.MustCompile(`^https://gitlab\.com$`), "gitlab"},
	{lazy.MustCompile(`^https://oidc\.circleci\.com(?:/org/[0-9a-f-]+)?$`), "circleci"},
	{lazy.MustCompile(`^https://agent\.buildkite\.com$`), "buildkite"},
	{lazy.MustCompile(`^https://vstoken\.dev\.azure\.com/[0-9a-f-]+$`), "azure_pipelines"},
	{lazy.MustCompile(`^https://api\.bitbucket\.org/2\.0/workspaces/[^/]+/pipelines-config/identity/oidc$`), "bitbucket"},
	{lazy.MustCompile(`^https://(?:oidc\.eks\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/id/[0-9A-F]+|` +
		`container\.googleapis\.com/v1/projects/[^/]+/locations/[^/]+/clusters/[^/]+|` +
		`[a-z0-9-]+\.oic\.prod-aks\.azure\.com/[0-9a-f-]+/[0-9a-f-]+/)$`), "kubernetes"},
	{lazy.MustCompile(`^https://[0-9a-f-]+\.tokens\.sts\.global\.api\.aws$`), "aws"},
	{lazy.MustCompile(`^https://api\.cursor\.com$`), "cursor"},
}

// has reports whether tokens of the kind have a claim, as far as that is known.
func (k kind) has(claim string) bool {
	return len(k.claims) == 0 || slices.ContainsFunc(k.claims, func(c string) bool {
		return c == claim || strings.Trim(c[len(c)-1:], "_:") == "" && strings.HasPrefix(claim, c)
	})
}

// LikeGitHub reports whether jobs of a kind have GitHub's variables, protocol
// and claims.
func LikeGitHub(kind string) bool { return kind == "github" || kind == "forgejo" }

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
	return nearest(name, kinds[kind].claims)
}

// nearest returns the claim that a name probably means, "" where none is near:
// by its whole name, or by the last part of one that a host or an object is in
// front of.
func nearest(name string, claims []string) string {
	if near := otherNames.Meant(name, claims); near != "" {
		return near
	}
	tails := make([]string, len(claims))
	for i, claim := range claims {
		tails[i] = claim[strings.LastIndexAny(claim, "/>")+1:]
	}
	if i := slices.Index(tails, otherNames.Meant(name, tails)); i >= 0 {
		return claims[i]
	}
	return ""
}

// meant is what a warning adds of the nearest claim, "" where none is near.
func meant(name string, claims []string) string {
	if near := nearest(name, claims); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// familiar are the claims of an identity's tokens that are known by name: all
// of them where the kind's are known, else those that this program reads itself.
func (id Identity) familiar() []string {
	k := kinds[id.Kind]
	if k.claims != nil {
		return k.claims
	}
	list := slices.Concat(scalars, id.stable(), k.run, k.recorded)
	for _, b := range id.bindings() {
		list = append(list, b.claims...)
	}
	return list
}

// probably returns the familiar claim that a name of a rule was meant to be, ""
// where it is one, or where none is near. Tokens of some kinds may have more.
func (id Identity) probably(name string) string {
	list := id.familiar()
	if kinds[id.Kind].claims != nil && kinds[id.Kind].has(name) || slices.Contains(list, name) {
		return ""
	}
	return nearest(name, list)
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

// KnownEvents returns the events of GitHub's that start a workflow.
func KnownEvents() []string { return slices.Clone(events) }
