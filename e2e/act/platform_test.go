//go:build e2e && linux && amd64

package act

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

var fenced = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// release writes the action as a release has it, with its binary.
func release(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"action.yml", "main.js", "post.js"} {
		text, err := os.ReadFile(filepath.Join(setup.Repository(t), name))
		if err != nil {
			t.Fatal(err)
		}
		setup.Write(t, dir, name, string(text))
	}
	binary, err := os.ReadFile(setup.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	setup.Write(t, dir, "dist/oidc-dbt-linux-x64", string(binary))
	setup.Write(t, dir, "dist/SHA256SUMS", fmt.Sprintf("%x  oidc-dbt-linux-x64\n", sha256.Sum256(binary)))
	return dir
}

// platformsPage returns a block of the page about a platform: its workflow, and its policy's action.
func platformsPage(t *testing.T, block int) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "organisations.md"))
	if err != nil {
		t.Fatal(err)
	}
	return fenced.FindAllStringSubmatch(string(page), -1)[block][1]
}

// installed takes the requirements out of the page's workflow: dbt is on PATH.
func installed(t *testing.T, workflow string) string {
	t.Helper()
	const install = "python3 -I -m pip install --only-binary :all: --require-hashes --requirement requirements.txt"
	if !strings.Contains(workflow, install) {
		t.Fatalf("the workflow does not have %q:\n%s", install, workflow)
	}
	return strings.Replace(workflow, install, "dbt --version", 1)
}

// TestPlatform is a repository that calls the workflow of the page about
// organisations, with the policy in it: init reads the platform's checkout, and with what it says is
// missing there, the call builds by the role that a map gives.
func TestPlatform(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	for _, name := range []string{".github/oidc-dbt.yml", ".github/workflows"} {
		if err := os.RemoveAll(filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	setup.Write(t, r.dir, "dbt/profiles.yml", "shop:\n  target: prod\n  outputs:\n    prod: {type: duckdb, path: prod.duckdb, schema: main}\n")
	workflow := platformsPage(t, 0)
	policy := fmt.Sprintf(`version: 1
identities:
  github: {issuer: %q, kind: github}
maps:
  bucket:
    repository_id: {"1001": marts}
defaults:
  dbt: {type: duckdb, path: warehouse.duckdb, schema: main, secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}
  exchange:
    aws: {role: "arn:aws:iam::123456789012:role/dbt-${bucket}", region: eu-central-1, endpoint: %q}
targets:
  production:
    allow:
      - repository_owner: acme
        repository_id: ["1001"]
        environment: production
        ref: refs/heads/main
        job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3
`, r.issuer.URL(), r.store.Host(), r.sts.URL())
	platform := t.TempDir()
	setup.Write(t, platform, ".github/workflows/dbt.yml", workflow)
	setup.Write(t, platform, ".github/oidc-dbt.yml", policy)
	said := r.command("init", "--platform", "acme/platform", "--platform-dir", platform, "--repository", "acme/analytics",
		"--repository-id", "487920697", "--project-dir", "dbt", "--provider", "aws", "--write")
	for _, line := range []string{
		`      "487920697": FILL_IN # fill in: a value such as marts`,
		`      - repository_id: ["487920697"] # add it to those of rule 1 (line 15)`,
		"   - dbt's `target.name` becomes production, it was prod: change what asks for it in models and macros, " +
			"or add `output: prod` to the policy's target",
	} {
		if !strings.Contains(said, line+"\n") {
			t.Errorf("init did not print %q:\n%s", line, said)
		}
	}
	policy = strings.NewReplacer("dbt: {type: duckdb,", "dbt: {type: duckdb, output: prod,",
		`{"1001": marts}`, `{"1001": marts, "487920697": prod}`, `["1001"]`, `["1001", "487920697"]`).Replace(policy)

	const step = "      - id: policy\n        uses: $/policy # of this file's repository, at this file's commit\n"
	if !strings.Contains(workflow, step) {
		t.Fatalf("the workflow has no step for its policy:\n%s", workflow)
	}
	workflow = strings.NewReplacer(step, "", // as on GitHub Enterprise Server
		"policy: ${{ steps.policy.outputs.path }}", "policy: |\n            "+strings.ReplaceAll(policy, "\n", "\n            "),
		"runs-on: ubuntu-24.04", "runs-on: ubuntu-latest").Replace(installed(t, workflow))
	setup.Write(t, platform, ".github/workflows/dbt.yml", workflow)
	r.args = []string{"--use-new-action-cache", "--local-repository", "acme/platform@v3=" + platform,
		"--local-repository", "oidc-dbt/oidc-dbt@0000000000000000000000000000000000000000=" + release(t)}
	log, err := r.run("dbt.yml")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "allowed: target production by rule 1", "PASS=6 WARN=0 ERROR=0", "Job succeeded")
	sessions := r.sts.Sessions()
	if len(sessions) == 0 || sessions[0].RoleARN != "arn:aws:iam::123456789012:role/dbt-prod" {
		t.Errorf("the sessions are of %+v", sessions)
	}
	if r.store.Served(http.MethodPut)+r.store.Served(http.MethodPost) == 0 || r.store.Refused() > 0 {
		t.Errorf("the store served %d writes and refused %d requests", r.store.Served(http.MethodPut), r.store.Refused())
	}
}

// miniPlatform is a job of that workflow on the mini runner, with the policy of
// the platform's own commit, which the caller's files do not reach.
func miniPlatform(t *testing.T, rule string) (*runner, *mini) {
	t.Helper()
	r := newRunner(t, 0, 0)
	policy, err := os.ReadFile(filepath.Join(r.dir, ".github/oidc-dbt.yml"))
	if err != nil {
		t.Fatal(err)
	}
	const commit = "2222222222222222222222222222222222222222"
	platform := t.TempDir()
	setup.Write(t, platform, "policy/action.yml", platformsPage(t, 1))
	setup.Write(t, platform, ".github/oidc-dbt.yml", strings.ReplaceAll(string(policy), setup.Rule, rule))
	setup.Write(t, r.dir, ".github/oidc-dbt.yml", "the caller's\n")
	m := &mini{
		t: t, root: t.TempDir(), workspace: t.TempDir(), caller: r.dir, env: r.issuer.RunnerEnv(), steps: map[string]string{},
		repositories: map[string]string{"acme/platform@" + commit: platform, "oidc-dbt/oidc-dbt@" + pin: release(t)},
		job:          map[string]string{"workflow_repository": "acme/platform", "workflow_sha": commit},
		inputs:       map[string]string{"target": "prod", "environment": "production", "project-dir": "dbt"},
	}
	for _, kv := range r.env {
		if name, value, _ := strings.Cut(kv, "="); name == "PATH" || name == "HOME" {
			m.env[name] = value
		}
	}
	return r, m
}

// TestPolicyOfTheCommit: `$/policy` gives the job the policy of the platform's
// commit, each secret is hidden from its first line on, and post cleans up.
func TestPolicyOfTheCommit(t *testing.T) {
	t.Parallel()
	r, m := miniPlatform(t, `{repository: acme/analytics, environment: production, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3}`)
	workflow := installed(t, platformsPage(t, 0))
	if err := m.run(workflow); err != nil {
		t.Fatalf("%v\n%s", err, m.log.String())
	}
	want(t, m.log.String(), "allowed: target prod by rule 1", "PASS=6 WARN=0 ERROR=0")
	for what, secret := range r.secrets() {
		if strings.Contains(m.log.String(), secret) {
			t.Errorf("%s is in the log:\n%s", what, m.log.String())
		}
	}
	if len(m.masks) == 0 || len(m.posts) != 1 {
		t.Errorf("%d masks and %d posts", len(m.masks), len(m.posts))
	}
	if left, err := filepath.Glob(filepath.Join(m.root, "temp", "oidc-dbt-step-*")); err != nil || len(left) > 0 {
		t.Errorf("post left %q: %v", left, err)
	}
	if got, want := m.steps["steps.policy.outputs.path"], "/_actions/acme/platform/"+m.job["workflow_sha"]+"/.github/oidc-dbt.yml"; got != m.root+want {
		t.Errorf("the policy is %s, want one that ends in %s", got, want)
	}
}

// TestPolicyOfTheCommitRefuses: another workflow's token, and names that the
// runner does not accept.
func TestPolicyOfTheCommitRefuses(t *testing.T) {
	t.Parallel()
	r, m := miniPlatform(t, `{repository: acme/analytics, environment: production, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v2}`)
	workflow := installed(t, platformsPage(t, 0))
	if err := m.run(workflow); err == nil {
		t.Errorf("it passed:\n%s", m.log.String())
	}
	want(t, m.log.String(), `job_workflow_ref: got "acme/platform/.github/workflows/dbt.yml@refs/tags/v3", want `+
		`"acme/platform/.github/workflows/dbt.yml@refs/tags/v2"`)
	if n := r.sts.Requests("AssumeRoleWithWebIdentity"); n > 0 {
		t.Errorf("%d requests to the token service", n)
	}
	for uses, message := range map[string]string{
		"$/":          "Expected format {org}/{repo}[/path]@ref. Actual '$/'",
		"$//":         "Expected format {org}/{repo}[/path]@ref. Actual '$//'",
		"policy":      "Expected format {org}/{repo}[/path]@ref. Actual 'policy'",
		"acme/x@main": "Unable to resolve action `acme/x@main`",
	} {
		if _, err := m.place(uses); err == nil || err.Error() != message {
			t.Errorf("uses: %s: got %v, want %s", uses, err, message)
		}
	}
}
