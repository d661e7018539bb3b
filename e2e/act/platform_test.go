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

// TestPlatform is a repository that calls the workflow of the page about many
// repositories: init reads the platform's checkout, and with what it says is
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
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "many-repositories.md"))
	if err != nil {
		t.Fatal(err)
	}
	workflow := fenced.FindAllStringSubmatch(string(page), -1)[2][1]
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

	// As the page says for a private platform: the policy inside the workflow.
	inside := regexp.MustCompile(`(?m)^      - uses: actions/checkout@.*\n        with: \{repository: .*\n`)
	if !inside.MatchString(workflow) {
		t.Fatalf("the workflow has no second checkout:\n%s", workflow)
	}
	workflow = strings.NewReplacer(
		"policy: .platform/.github/oidc-dbt.yml", "policy: |\n            "+strings.ReplaceAll(policy, "\n", "\n            "),
		"python3 -m pip install --require-hashes --requirement requirements.txt", "dbt --version", // it is installed
	).Replace(inside.ReplaceAllString(workflow, ""))
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
