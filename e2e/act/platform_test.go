//go:build e2e && linux && amd64

package act

import (
	"crypto/sha256"
	"fmt"
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
