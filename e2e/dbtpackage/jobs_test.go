//go:build e2e && linux && amd64

package dbtpackage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const (
	// audience is Azure Pipelines' own. All runs have it, so that one token of a job is good for each of its targets.
	audience = "api://AzureADTokenExchange"
	// storePolicy is the claim by which MinIO knows what a token may do.
	storePolicy = "store_policy"
)

// A system is a CI system whose jobs run dbt, of one kind of identity.
type system struct {
	kind       string
	rule       string // of the policy
	repository string // as the package names it
	run        string // the claim that tells one run from another
	claims     map[string]any
	env        func(t *testing.T, j job) []string // of a job
}

// A job is one run of a system, in a checkout.
type job struct {
	issuer    *standin.Issuer // of the system
	workspace string
}

var systems = []system{
	{
		kind: "github", rule: strings.TrimPrefix(setup.Rule, "{"), repository: "acme/analytics", run: "run_id",
		claims: standin.GitHubClaims(), env: githubJob,
	}, {
		kind: "gitlab", rule: `project_id: "20", ref_path: refs/heads/main}`, repository: "acme/finance", run: "pipeline_id",
		claims: map[string]any{
			"sub": "project_path:acme/finance:ref_type:branch:ref:main", "project_id": "20", "project_path": "acme/finance",
			"job_project_id": "20", "namespace_id": "3", "namespace_path": "acme", "job_id": "3434", "pipeline_source": "push",
			"ref_path": "refs/heads/main", "user_login": "ann", "user_id": "42",
		},
		env: gitlabJob,
	}, {
		kind: "circleci", rule: "oidc.circleci.com/project-id: 7d1e0000-0000-4000-8000-000000000000}",
		repository: "7d1e0000-0000-4000-8000-000000000000", run: "oidc.circleci.com/job-id",
		claims: map[string]any{
			"sub": "org/5c10c8f4/project/7d1e/user/42", "oidc.circleci.com/ssh-rerun": false,
			"oidc.circleci.com/project-id": "7d1e0000-0000-4000-8000-000000000000",
			"oidc.circleci.com/org-id":     "5c10c8f4-0000-4000-8000-000000000000",
			"oidc.circleci.com/vcs-ref":    "refs/heads/main",
		},
		env: circleCIJob,
	}, {
		kind: "buildkite", rule: "pipeline_id: 0190a000-0000-4000-8000-000000000000}", repository: "dbt", run: "build_id",
		claims: map[string]any{
			"sub": "organization:acme:pipeline:dbt:ref:refs/heads/main:commit:9f3:step:dbt", "organization_slug": "acme",
			"organization_id": "o-1", "pipeline_slug": "dbt", "pipeline_id": "0190a000-0000-4000-8000-000000000000",
			"job_id": "job-9", "build_branch": "main", "build_source": "webhook", "build_number": 12,
		},
		env: buildkiteJob,
	}, {
		kind: "azure_pipelines", rule: `prj_id: 5a1b0000-0000-4000-8000-000000000000, def_id: "12"}`,
		repository: "p://acme/data/dbt", run: "run_id",
		claims: map[string]any{
			"sub": "p://acme/data/dbt", "org_id": "0f3a0000-0000-4000-8000-000000000000",
			"prj_id": "5a1b0000-0000-4000-8000-000000000000", "def_id": "12", "rpo_ref": "refs/heads/main",
		},
		env: azureJob,
	},
}

func githubJob(_ *testing.T, j job) []string {
	env := []string{"GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=push", "GITHUB_WORKSPACE=" + j.workspace}
	for name, value := range j.issuer.RunnerEnv() {
		env = append(env, name+"="+value)
	}
	return env
}

func gitlabJob(_ *testing.T, j job) []string {
	return []string{"GITLAB_CI=true", "CI_PROJECT_DIR=" + j.workspace, "CI_PIPELINE_SOURCE=push",
		"OIDC_DBT_ID_TOKEN=" + j.issuer.Sign(audience, nil)}
}

// circleCIJob has a program circleci that prints the job's token.
func circleCIJob(t *testing.T, j job) []string {
	bin := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nexec cat %q\n", setup.Write(t, bin, "token", j.issuer.Sign(audience, nil)))
	if err := os.WriteFile(filepath.Join(bin, "circleci"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"CIRCLECI=true", "CIRCLE_WORKING_DIRECTORY=" + j.workspace, "PATH=" + bin + ":" + os.Getenv("PATH")}
}

// buildkiteJob has an agent that hands out tokens.
func buildkiteJob(t *testing.T, j job) []string {
	host, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"token": j.issuer.Sign(audience, nil)})
	}))
	return []string{"BUILDKITE=true", "BUILDKITE_BUILD_CHECKOUT_PATH=" + j.workspace, "BUILDKITE_JOB_ID=job-9",
		"BUILDKITE_REPO=git@github.com:acme/analytics.git", "BUILDKITE_AGENT_ACCESS_TOKEN=access-of-the-job",
		fmt.Sprintf("BUILDKITE_AGENT_ENDPOINT=http://%s:%d/v3", host, port)}
}

// azureJob is a step that maps the job's access token.
func azureJob(t *testing.T, j job) []string {
	host, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"oidcToken": j.issuer.Sign(audience, nil)})
	}))
	return []string{"TF_BUILD=True", "BUILD_SOURCESDIRECTORY=" + j.workspace, "SYSTEM_ACCESSTOKEN=access-of-the-job",
		fmt.Sprintf("SYSTEM_OIDCREQUESTURI=http://%s:%d/acme/_apis/distributedtask/hubs/build/plans/p/jobs/j/oidctoken",
			host, port)}
}

// run runs a job that logs in to a target once.
func (c *company) run(t *testing.T, s system, target, run string) {
	t.Helper()
	claims := s.with(run)
	c.issuers[s.kind].SetClaims(claims)
	script, err := filepath.Abs("login.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), setup.Binary(t), "exec", "--target", target, "--policy", c.policy,
		"--audit-log", c.log, "--", setup.Python(t).Program("python"), script)
	cmd.Dir = c.workspace
	cmd.Env = append(setup.Python(t).Environ(), "CI=true", "REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=",
		"OTEL_EXPORTER_OTLP_CERTIFICATE="+c.collectorCA)
	cmd.Env = append(cmd.Env, s.env(t, job{issuer: c.issuers[s.kind], workspace: c.workspace})...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run %s at %s: %v\n%s", run, target, err, out)
	}
}
