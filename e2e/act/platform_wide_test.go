//go:build e2e && linux && amd64 && wide

package act

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

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
