//go:build e2e && linux && amd64 && wide

package act

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// command runs this program in the repository, and returns what it printed.
func (r *runner) command(args ...string) string {
	r.t.Helper()
	c := exec.CommandContext(r.t.Context(), setup.Binary(r.t), args...)
	c.Dir, c.Env = r.dir, r.env
	out, err := c.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// static is a workflow that builds with stored keys.
const static = `name: dbt
on: {push: {branches: [main]}}
jobs:
  build:
    runs-on: ubuntu-latest
    environment: production
    defaults: {run: {working-directory: dbt}}
    steps:
      - uses: actions/checkout@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1
        with: {persist-credentials: false}
      - run: dbt deps
      - name: Build
        run: dbt build --profiles-dir .
        env:
          S3_KEY_ID: ${{ secrets.S3_KEY_ID }}
          S3_SECRET: ${{ secrets.S3_SECRET }}
`

// TestInit is a repository that builds with a stored key, on the way of
// docs/guides/from-a-stored-key.md: what init proposes, with its placeholders
// filled in, passes lint, test-policy and explain, and the changed workflow
// builds without the key, which is then disabled and removed.
func TestInit(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	const key, secret = "AKIAIOSFODNN7EXAMPLE", "a-stored-secret"
	r.store.SetKey(key, secret)
	r.args = []string{"--secret", "S3_KEY_ID=" + key, "--secret", "S3_SECRET=" + secret} // they stay in GitHub to the end
	for _, name := range []string{".github/oidc-dbt.yml", ".github/workflows"} {
		if err := os.RemoveAll(filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	setup.Write(t, r.dir, ".github/workflows/dbt.yml", static)
	setup.Write(t, r.dir, "dbt/profiles.yml", fmt.Sprintf(`shop:
  target: prod
  outputs:
    prod:
      type: duckdb
      path: prod.duckdb
      schema: main
      threads: 2
      secrets:
        - {type: s3, endpoint: %q, url_style: path, use_ssl: false, key_id: "{{ env_var('S3_KEY_ID') }}", secret: "{{ env_var('S3_SECRET') }}"}
`, r.store.Host()))
	byKey := func(works bool) {
		t.Helper()
		used := r.store.UsedKey(key)
		setup.Write(t, r.dir, ".github/workflows/old.yml", static)
		log, err := r.run("old.yml")
		if (err == nil) != works || (r.store.UsedKey(key) > used) != works {
			t.Errorf("the old workflow: %v, want it to work: %t; %d requests with its key\n%s", err, works, r.store.UsedKey(key)-used, log)
		}
		if err := os.Remove(filepath.Join(r.dir, ".github/workflows/old.yml")); err != nil {
			t.Error(err)
		}
	}
	byKey(true)
	r.command("init", "--repository", "acme/analytics", "--repository-id", "487920697", "--project-dir", "dbt", "--write")
	apply := exec.CommandContext(t.Context(), "git", "apply", ".github/oidc-dbt.patch")
	apply.Dir = r.dir
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v\n%s", err, out)
	}

	r.replace(".github/oidc-dbt.yml",
		"arn:aws:iam::000000000000:role/dbt-prod # fill in: the role's ARN", "arn:aws:iam::123456789012:role/dbt-prod",
		"us-east-1 # fill in: the warehouse's region", fmt.Sprintf("eu-central-1\n        endpoint: %q", r.sts.URL()),
		"\ntargets:\n", fmt.Sprintf("\nidentities:\n  github: {issuer: %q, kind: github}\n\ntargets:\n", r.issuer.URL()))
	r.command("test-policy")
	r.command("lint", ".github/oidc-dbt.yml", ".github/workflows", "dbt")
	r.command("explain", "--repository", "acme/analytics", "--repository-id", "487920697", "--environment", "production",
		"--ref", "refs/heads/main", "--claim", "runner_environment=github-hosted")

	r.replace(".github/workflows/dbt.yml",
		"oidc-dbt/oidc-dbt@0000000000000000000000000000000000000000 # put the commit and version of a release here", "./")
	byToken := func() {
		t.Helper()
		used, sessions := r.store.UsedKey(key), len(r.sts.Sessions())
		log, err := r.run("dbt.yml")
		if err != nil {
			t.Fatalf("act: %v\n%s", err, log)
		}
		want(t, log, "Completed successfully", "PASS=6 WARN=0 ERROR=0", "✅  Success - Main ./", "✅  Success - Post ./", "Job succeeded")
		if r.store.UsedKey(key) > used || len(r.sts.Sessions()) == sessions {
			t.Errorf("%d requests with the stored key, %d sessions were issued", r.store.UsedKey(key)-used, len(r.sts.Sessions())-sessions)
		}
	}
	byToken() // next to the key
	if r.store.Refused() > 0 {
		t.Errorf("the store refused %d requests", r.store.Refused())
	}
	r.store.DisableKey(key)
	byKey(false)
	byToken()
	r.store.SetKey(key, secret) // back
	byKey(true)
	r.store.DisableKey(key)
	byToken()
}
