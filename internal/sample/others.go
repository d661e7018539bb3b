package sample

import (
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// gitlabKind is GitLab CI. (GitLab: OpenID Connect authentication using ID tokens)
var gitlabKind = kind{
	names: map[string]string{
		repository: "project_path", repositoryID: "project_id", ownerID: "namespace_id",
		environment: "environment", ref: "ref_path", event: "pipeline_source",
	},
	follow: followGitLab,
	always: []string{
		"ci_config_ref_uri", "ci_config_sha", "job_id", "job_project_id", "job_project_path", "job_namespace_id",
		"job_namespace_path", "namespace_id", "namespace_path", "pipeline_id", "pipeline_source", "project_id",
		"project_path", "project_visibility", "ref", "ref_path", "ref_protected", "ref_type", "runner_environment",
		"runner_id", "sha", "sub", "user_access_level", "user_email", "user_id", "user_login",
	},
}

var projectPath = lazy.MustCompile(`^[^/\s]+(?:/[^/\s]+)+$`)

func followGitLab(c *claims) {
	if c.check("project_path", projectPath, "GROUP/PROJECT") {
		path := c.get("project_path")
		c.set("namespace_path", path[:strings.LastIndex(path, "/")])
	}
	for _, id := range []string{"project_id", "namespace_id"} {
		c.check(id, digits, "a number")
	}
	for _, t := range []struct{ kind, prefix string }{{"branch", "refs/heads/"}, {"tag", "refs/tags/"}} {
		if name, ok := strings.CutPrefix(c.get("ref_path"), t.prefix); ok {
			c.set("ref", name)
			c.set("ref_type", t.kind)
		} else if !c.has("ref_path") && c.get("ref") != "" && c.get("ref_type") == t.kind {
			c.set("ref_path", t.prefix+c.get("ref"))
		}
	}
	if path := c.get("ref_path"); path != "" && !strings.HasPrefix(path, "refs/") && c.err == nil {
		c.err = notFull("ref_path", path)
	}
	c.suppose("pipeline_source", "push")
	if c.get("pipeline_source") != "merge_request_event" { // there the job may run in another project
		for _, name := range []string{"project_id", "project_path", "namespace_id", "namespace_path"} {
			if c.has(name) {
				c.suppose("job_"+name, c.get(name))
			}
		}
	}
	if path, kind, ref := c.get("project_path"), c.get("ref_type"), c.get("ref"); path != "" && kind != "" && ref != "" {
		c.set("sub", "project_path:"+path+":ref_type:"+kind+":ref:"+ref)
	}
}

// circleciKind is CircleCI. (CircleCI: Using OpenID Connect tokens in jobs)
var circleciKind = kind{
	names: map[string]string{
		repository: circle + "vcs-origin", repositoryID: circle + "project-id", ownerID: circle + "org-id",
		ref: circle + "vcs-ref",
	},
	follow: func(c *claims) {
		if org, ok := strings.CutPrefix(c.identity.Issuer, "https://oidc.circleci.com/org/"); ok {
			c.set(circle+"org-id", org)
		}
		c.suppose(circle+"ssh-rerun", false)
	},
	always: []string{
		"aud", circle + "context-ids", circle + "job-id", circle + "org-id", circle + "pipeline-definition-id",
		circle + "pipeline-id", circle + "project-id", circle + "workflow-id", "sub",
	},
}

const circle = "oidc.circleci.com/"

// buildkiteKind is Buildkite. Ids are in a token that asked for them. (Buildkite: OIDC with Buildkite)
var buildkiteKind = kind{
	names: map[string]string{
		repository: "pipeline_slug", repositoryID: "pipeline_id", ownerID: "organization_id", ref: "build_branch",
		event: "build_source",
	},
	follow: func(c *claims) {
		if organization, pipeline, ok := strings.Cut(c.get("pipeline_slug"), "/"); ok { // ORGANIZATION/PIPELINE as a fact
			c.set("organization_slug", organization)
			c.values["pipeline_slug"] = pipeline
		}
		if branch, ok := strings.CutPrefix(c.get("build_branch"), "refs/heads/"); ok {
			c.values["build_branch"] = branch
		}
		if tag, ok := strings.CutPrefix(c.get("build_branch"), "refs/tags/"); ok {
			c.values["build_branch"] = tag // the name of what was built, also of a tag
			c.set("build_tag", tag)
		}
	},
	always: []string{
		"agent_id", "build_branch", "build_commit", "build_number", "build_source", "job_id", "organization_slug",
		"pipeline_slug", "runner_environment", "step_key", "sub",
	},
}

// azureKind is Azure Pipelines: the token of a pipeline.
var azureKind = kind{
	names: map[string]string{repository: "sub", repositoryID: "def_id", ownerID: "org_id", ref: "rpo_ref"},
	follow: func(c *claims) {
		if path := c.get("sub"); path != "" && !strings.Contains(path, "://") { // ORGANIZATION/PROJECT/PIPELINE as a fact
			c.values["sub"] = "p://" + path
			c.check("sub", pipelinePath, "ORGANIZATION/PROJECT/PIPELINE")
		}
		if org, ok := strings.CutPrefix(c.identity.Issuer, "https://vstoken.dev.azure.com/"); ok {
			c.set("org_id", org)
		}
		c.suppose("aud", "api://AzureADTokenExchange") // a job cannot choose another
	},
	always: []string{"def_id", "org_id", "prj_id", "rpo_id", "rpo_ref", "rpo_uri", "rpo_ver", "run_id", "sub"},
}

var pipelinePath = lazy.MustCompile(`^p://[^/]+/[^/]+/.+$`)

// bitbucketKind is Bitbucket Pipelines. Its subject ends with the step's id
// and differs in every run. (Atlassian: Integrate Pipelines with resource servers using OIDC)
var bitbucketKind = kind{
	names: map[string]string{
		repositoryID: "repositoryUuid", ownerID: "workspaceUuid", environment: "deploymentEnvironmentUuid", ref: "branchName",
	},
	follow: func(c *claims) {
		if branch, ok := strings.CutPrefix(c.get("branchName"), "refs/heads/"); ok {
			c.values["branchName"] = branch
		}
		if workspace := c.get("workspaceUuid"); workspace != "" {
			c.suppose("aud", "ari:cloud:bitbucket::workspace/"+strings.Trim(workspace, "{}"))
		}
	},
	always: []string{"pipelineUuid", "repositoryUuid", "stepUuid", "sub", "workspaceUuid"},
}

// kubernetesKind is a pod's projected service account token.
var kubernetesKind = kind{
	names: map[string]string{repository: "sub"},
	follow: func(c *claims) {
		if path := c.get("sub"); path != "" && !strings.Contains(path, ":") { // NAMESPACE/SERVICEACCOUNT as a fact
			namespace, name, _ := strings.Cut(path, "/")
			c.values["sub"] = "system:serviceaccount:" + namespace + ":" + name
		}
		if !c.check("sub", serviceAccount, "system:serviceaccount:NAMESPACE:NAME") {
			return
		}
		parts := strings.Split(c.get("sub"), ":")
		c.suppose("kubernetes.io", map[string]any{
			"namespace": parts[2], "serviceaccount": map[string]any{"name": parts[3]},
		})
	},
	always: []string{"aud", "kubernetes.io", "sub"},
}

var serviceAccount = lazy.MustCompile(`^system:serviceaccount:[a-z0-9.-]+:[a-z0-9.-]+$`)

// peopleKind is an identity provider's: only its client is known.
var peopleKind = kind{
	follow: func(c *claims) { c.set("aud", c.identity.ClientID) },
	always: []string{"sub"},
}
