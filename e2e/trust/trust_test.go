//go:build e2e

// Package trust holds what `oidc-dbt trust generate` writes to tools that others made.
package trust

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// checkov has an environment of its own: it pins other versions than dbt does.
var checkov = sync.OnceValues(func() (pyenv.Python, error) {
	requirements, err := os.ReadFile("requirements.txt")
	if err != nil {
		return pyenv.Python{}, err
	}
	return pyenv.Ensure(context.Background(), "checkov", requirements, "", os.Stderr)
})

// checked runs some of checkov's checks over a file of Terraform, and returns
// those that passed and those that failed.
func checked(t *testing.T, path, checks string) (passed, failed []string) {
	t.Helper()
	p, err := checkov()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(p.Program("python"), "-I", "-m", "checkov.main", "--file", path, "--framework", "terraform", "--check", checks,
		"--output", "json", "--soft-fail", "--skip-download")
	run.Env = p.Environ()
	run.Stderr = os.Stderr
	out, err := run.Output()
	if err != nil {
		t.Fatalf("checkov: %v\n%s", err, out)
	}
	type check struct {
		ID string `json:"check_id"`
	}
	var report struct {
		Results struct {
			Passed []check `json:"passed_checks"`
			Failed []check `json:"failed_checks"`
		} `json:"results"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("checkov printed %s: %v", out, err)
	}
	for _, c := range report.Results.Passed {
		passed = append(passed, c.ID)
	}
	for _, c := range report.Results.Failed {
		failed = append(failed, c.ID)
	}
	slices.Sort(passed)
	slices.Sort(failed)
	return passed, failed
}

// generated writes a policy, and returns the Terraform for its target prod.
func generated(t *testing.T, policy string) (path string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "policy.yml"), []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	run := exec.Command(setup.Binary(t), "trust", "generate", "--policy", "policy.yml", "--target", "prod", "--out", "trust")
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "trust", "prod.tf")
}

// TestGoogle: a provider of ours has a condition, and one that names the
// subject as checkov wants it.
func TestGoogle(t *testing.T) {
	const head = `
version: 1
targets:
  prod:
    exchange:
      gcp:
        workload_identity_provider: projects/123/locations/global/workloadIdentityPools/github/providers/acme
        service_account: dbt@acme-dbt.iam.gserviceaccount.com
    allow:
`
	for _, tt := range []struct{ name, rules string }{
		{"an environment", `      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}`},
		{"a ref", `      - {repository: acme/analytics, repository_id: "487920697", ref: refs/heads/main}`},
		{"several rules", `      - {repository: acme/analytics, repository_id: "101", environment: production, ref: "refs/heads/release/*"}
      - {repository: acme/finance, repository_id: "102", environment: "prod/*", ref: refs/heads/main, actor_kind: user}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			passed, failed := checked(t, generated(t, head+tt.rules+"\n"), "CKV_GCP_118,CKV_GCP_125")
			if len(failed) > 0 || !slices.Equal(passed, []string{"CKV_GCP_118", "CKV_GCP_125"}) {
				t.Errorf("passed %v, failed %v", passed, failed)
			}
		})
	}
}
