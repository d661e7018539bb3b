//go:build e2e && linux && amd64

package identities

import (
	"net/http"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// simple is a policy for an identity without a page of its own.
func simple(identity, rule string) string {
	return "version: 1\nidentities:\n  " + identity + "\ntargets:\n  prod:\n    dbt: {}\n" +
		"    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt-prod\", region: eu-central-1}}\n" +
		"    allow:\n      - " + rule + "\n"
}

// outside is the command where a policy of the checkout is not taken.
const outside = "oidc-dbt exec --target prod --policy /etc/oidc-dbt/policy.yml -- dbt build"

var ciSystems = []row{
	{
		name: "GitHub Actions", kind: "github", identity: "github",
		policy: simple("github: {issuer: https://token.actions.githubusercontent.com}", setup.Rule),
		claims: `{sub: "repo:acme/analytics:environment:production", repository: acme/analytics, repository_id: "487920697",
			repository_owner: acme, environment: production, ref: refs/heads/main, event_name: push, actor: octocat,
			actor_id: "583231", run_id: "16055869479", run_attempt: "1", check_run_id: "31337"}`,
		stranger: `{repository: mallory/analytics, repository_id: "666"}`,
		system:   likeGitHub,
		actor:    "user by name octocat 583231",
		run:      `{run_id: "16055869479", run_attempt: "1", check_run_id: "31337"}`,
		session:  "acme-analytics@16055869479-1",
		withheld: []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"},
	}, {
		name: "Forgejo Actions", kind: "forgejo", page: "forgejo.md", identity: "forge",
		claims: `{sub: "repo:7-acme/12-analytics:ref:refs/heads/main", repository: acme/analytics, repository_id: "12",
			repository_owner: acme, ref: refs/heads/main, event_name: push, actor: ann, actor_id: "42", run_id: "1212",
			run_attempt: "1"}`,
		stranger: `{repository_id: "666"}`,
		system:   forgejo,
		actor:    "user by name ann 42",
		run:      `{run_id: "1212", run_attempt: "1"}`,
		session:  "acme-analytics@1212-1",
		withheld: []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"},
	}, {
		name: "GitLab", kind: "gitlab", page: "gitlab.md", identity: "gitlab",
		claims: `{sub: "project_path:acme/analytics:ref_type:branch:ref:main", project_id: "20", project_path: acme/analytics,
			namespace_id: "3", namespace_path: acme, job_project_id: "20", job_project_path: acme/analytics,
			pipeline_id: "1212", job_id: "3434", pipeline_source: push, ref: main, ref_type: branch, ref_path: refs/heads/main,
			ref_protected: "true", environment: production, user_login: ann, user_id: "42", runner_id: 7}`,
		stranger: `{project_id: "666", project_path: mallory/analytics, job_project_id: "666"}`,
		system:   gitlab,
		actor:    "user by name ann 42",
		run:      `{pipeline_id: "1212", job_id: "3434"}`,
		session:  "acme-analytics@1212-3434",
		withheld: []string{"OIDC_DBT_ID_TOKEN"},
	}, {
		name: "CircleCI", kind: "circleci", page: "circleci.md", identity: "circleci",
		claims: `{sub: org/5c10c8f4/project/7d1e/user/42, oidc.circleci.com/project-id: 7d1e0000-0000-4000-8000-000000000000,
			oidc.circleci.com/org-id: 5c10c8f4-0000-4000-8000-000000000000, oidc.circleci.com/job-id: job-9,
			oidc.circleci.com/ssh-rerun: false, oidc.circleci.com/vcs-ref: refs/heads/main,
			oidc.circleci.com/context-ids: [c-1]}`,
		stranger: `{oidc.circleci.com/project-id: 66600000-0000-4000-8000-000000000000}`,
		system:   circleCI,
		run:      `{oidc.circleci.com/job-id: job-9}`,
		session:  "org-5c10c8f4-project-7d1e-user-42@job-9",
		withheld: []string{"CIRCLE_OIDC_TOKEN_V2"},
	}, {
		name: "Buildkite", kind: "buildkite", page: "buildkite.md", identity: "buildkite",
		claims: `{sub: "organization:acme:pipeline:dbt:ref:refs/heads/main:commit:9f3:step:dbt", organization_slug: acme,
			organization_id: o-1, pipeline_slug: dbt, pipeline_id: 0190a000-0000-4000-8000-000000000000, build_id: b-12,
			job_id: job-9, build_branch: main, build_source: webhook, build_number: 12, step_key: null}`,
		stranger: `{organization_slug: mallory, organization_id: o-666, pipeline_id: 0190a666-0000-4000-8000-000000000000}`,
		system:   buildkite,
		run:      `{build_id: b-12, job_id: job-9}`,
		session:  "dbt@b-12-job-9",
		withheld: []string{"BUILDKITE_AGENT_ACCESS_TOKEN"},
	}, {
		name: "Azure Pipelines", kind: "azure_pipelines", page: "azure-pipelines.md", identity: "azure",
		claims: `{sub: "p://acme/data/dbt", org_id: 0f3a0000-0000-4000-8000-000000000000,
			prj_id: 5a1b0000-0000-4000-8000-000000000000, def_id: "12", rpo_ref: refs/heads/main, run_id: "99"}`,
		stranger: `{sub: "p://acme/mallory/dbt", prj_id: 66600000-0000-4000-8000-000000000000}`,
		system:   azurePipelines,
		run:      `{run_id: "99"}`,
		session:  "p---acme-data-dbt@99",
		withheld: []string{"SYSTEM_ACCESSTOKEN", "SYSTEM_OIDCREQUESTURI"},
	}, {
		name: "Bitbucket Pipelines", kind: "bitbucket", page: "bitbucket.md", identity: "bitbucket",
		claims: `{sub: "{6f1a0000-0000-4000-8000-000000000000}:{5e9d}", workspaceUuid: "{w-1}",
			repositoryUuid: "{6f1a0000-0000-4000-8000-000000000000}",
			 deploymentEnvironmentUuid: "{9c2b0000-0000-4000-8000-000000000000}", branchName: main,
			pipelineUuid: "{p-1}", stepUuid: "{5e9d}"}`,
		stranger: `{repositoryUuid: "{66600000-0000-4000-8000-000000000000}"}`,
		system:   bitbucket,
		run:      `{pipelineUuid: "{p-1}", stepUuid: "{5e9d}"}`,
		session:  "_6f1a0000-0000-4000-8000-000000000000_-_5e9d_@_p-1_-_5e9d_",
		withheld: []string{"BITBUCKET_STEP_OIDC_TOKEN"},
	},
}

var workloads = []row{
	{
		name: "Kubernetes", kind: "kubernetes", page: "kubernetes.md", identity: "cluster",
		claims: `{sub: "system:serviceaccount:dbt:runner", kubernetes.io: {namespace: dbt, pod: {name: dbt, uid: p-1},
			serviceaccount: {name: runner, uid: 3f0e0000-0000-4000-8000-000000000000}}}`,
		stranger: `{kubernetes.io: {namespace: dbt,
			serviceaccount: {name: runner, uid: 66600000-0000-4000-8000-000000000000}}}`,
		system:  kubernetes,
		life:    3 * time.Second,
		run:     `{kubernetes.io>pod>uid: p-1}`,
		session: "system-serviceaccount-dbt-runner@p-1",
	}, {
		name: "Google", kind: "google", page: "google.md", identity: "machine",
		claims: `{sub: "104000000000000000000", email: dbt@acme.iam.gserviceaccount.com, email_verified: true,
			google: {compute_engine: {project_id: acme, instance_id: "77"}}}`,
		stranger: `{sub: "666000000000000000000"}`,
		system:   metadataServer,
		run:      `{google>compute_engine>instance_id: "77"}`,
		session:  "dbt@acme.iam.gserviceaccount.com",
	}, {
		name: "a variable (Jenkins)", kind: "workload", page: "workload.md", identity: "jenkins", command: outside,
		claims:   `{sub: "https://jenkins.acme.example/job/dbt/"}`,
		stranger: `{sub: "https://jenkins.acme.example/job/other/"}`,
		system:   inVariable("DBT_ID_TOKEN", ""),
		run:      `{sub: "https://jenkins.acme.example/job/dbt/"}`,
		session:  "https---jenkins.acme.example-job-dbt-",
		withheld: []string{"DBT_ID_TOKEN"},
	}, {
		name: "a variable of one audience (Spacelift)", kind: "workload", page: "workload.md", identity: "spacelift",
		command: outside,
		claims: `{sub: "space:analytics-01:stack:dbt:run_type:TRACKED:scope:write", spaceId: analytics-01, callerType: stack,
			callerId: dbt, runType: TRACKED, runId: 01JZ, scope: write}`,
		stranger: `{spaceId: mallory-02}`,
		system:   inVariable("SPACELIFT_OIDC_TOKEN", ""),
		run:      `{spaceId: analytics-01, callerId: dbt}`,
		session:  "space-analytics-01-stack-dbt-run_type-TRACKED-scope-write",
		withheld: []string{"SPACELIFT_OIDC_TOKEN"},
	}, {
		name: "a file (spiffe-helper)", kind: "workload", identity: "spiffe", command: outside,
		policy: simple(`spiffe: {kind: workload, issuer: "https://spiffe.acme.example", `+
			`source: {file: /run/spiffe/dbt.token}, bind: [sub]}`,
			`{identity: spiffe, sub: "spiffe://acme.example/dbt"}`),
		claims:   `{sub: "spiffe://acme.example/dbt"}`,
		stranger: `{sub: "spiffe://acme.example/other"}`,
		system:   inFile("/run/spiffe", "dbt.token"),
		run:      `{sub: "spiffe://acme.example/dbt"}`,
		session:  "spiffe---acme.example-dbt",
	}, {
		name: "a socket (Fly)", kind: "workload", page: "workload.md", identity: "fly", command: outside,
		claims:   `{sub: "acme:dbt:7d89", org_id: "9", app_id: "123", machine_id: 7d89}`,
		stranger: `{app_id: "666"}`,
		system:   flySocket,
		run:      `{app_id: "123"}`,
		session:  "acme-dbt-7d89",
	},
}

var peopleAndAgents = []row{
	{
		name: "a person", kind: "people", page: "people.md", identity: "engineers",
		command: "oidc-dbt exec --target dev -- dbt build",
		claims: `{sub: 00u-ann, preferred_username: ann, email: ann@acme.example, email_verified: true,
			groups: [analysts]}`,
		stranger: `{sub: 00u-eve, preferred_username: eve, email: eve@acme.example, groups: [visitors]}`,
		system:   signedIn,
		issuer:   company,
		run:      `{preferred_username: ann}`,
		session:  "ann@acme.example",
	}, {
		name: "Cursor", kind: "cursor", page: "agents.md", identity: "cursor",
		command: "oidc-dbt exec --target agent --policy /etc/oidc-dbt/policy.yml -- dbt build",
		claims: `{sub: "service_account:7b1e0c5a", team_id: "42", owner_user_id: "7", owner_email: ann@acme.example,
			cloud_agent_id: bc-9, agent_runtime: managed, repo_url: "https://github.com/acme/analytics",
			repo_urls: ["https://github.com/acme/analytics"], turn_id: t-3}`,
		stranger: `{team_id: "666"}`,
		system:   cursorSocket,
		actor:    "agent by token bc-9 bc-9",
		run:      `{turn_id: t-3}`,
		session:  "service_account-7b1e0c5a@t-3",
	}, {
		name: "Warp", kind: "warp", page: "agents.md", identity: "warp", command: outside,
		claims:   `{sub: "team:42:environment:dbt", jti: run-9}`,
		stranger: `{sub: "team:666:environment:dbt"}`,
		system:   warp,
		actor:    "agent by token team:42:environment:dbt team:42:environment:dbt",
		run:      `{jti: run-9}`,
		session:  "team-42-environment-dbt@run-9",
	},
}

// byOpenBao are those that AWS does not take: it is no relying party of its own tokens, and an issuer that is no
// address cannot be an OIDC provider. OpenBao takes them, and lends a user of a PostgreSQL server.
var byOpenBao = []row{
	{
		name: "AWS", kind: "aws", page: "aws.md", identity: "account",
		claims: `{sub: "arn:aws:iam::123456789012:role/dbt-runner", jti: j-1,
			"https://sts.amazonaws.com/": {aws_account: "123456789012", org_id: o-1}}`,
		stranger: `{sub: "arn:aws:iam::666666666666:role/dbt-runner"}`,
		system:   container,
		served:   map[string]func(*machine) http.Handler{"sts.eu-central-1.amazonaws.com": webIdentityTokens},
		settle:   settleOpenBao,
		run:      `{jti: j-1, "https://sts.amazonaws.com/>aws_account": "123456789012"}`,
	}, {
		name: "Claude Code", kind: "claude_code", page: "agents.md", identity: "claude", command: outside,
		claims:   `{sub: session-3, role: session_worker, jti: j-2, act: {sub: "agent:9"}}`,
		stranger: `{act: {sub: "agent:666"}}`,
		system:   inVariable("CLAUDE_CODE_SESSION_ACCESS_TOKEN", "sk-ant-cc-"),
		served:   map[string]func(*machine) http.Handler{"keys.acme.example": (*machine).keys},
		settle:   settleOpenBao,
		actor:    "agent by token agent:9 agent:9",
		run:      `{jti: j-2, role: session_worker}`,
		withheld: []string{"CLAUDE_CODE_SESSION_ACCESS_TOKEN"},
	},
}
