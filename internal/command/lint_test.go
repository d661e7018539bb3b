package command_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const lintPolicy = `version: 1
targets:
  prod:
    exchange:
      gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/github/providers/acme, service_account: dbt@acme.iam.gserviceaccount.com}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", RULE}
`

// TestLint: the status is that of the gravest finding, and what a step left
// for exec counts for nothing.
func TestLint(t *testing.T) {
	t.Parallel()
	const clean = "environment: production, ref: refs/heads/main, runner_environment: github-hosted"
	for _, tt := range []struct {
		name, rule string
		vars       map[string]string
		args       []string
		status     int
		out        string // a part of standard output
		err        string // the end of standard error
	}{
		{name: "clean", rule: clean, out: "no findings in 1 file\n"},
		{name: "a warning", rule: "environment: production, runner_environment: github-hosted", status: 8, out: "[environment-without-ref]\n"},
		{name: "a warning that may be", rule: "environment: production, runner_environment: github-hosted", args: []string{"--fail-on", "error"}, out: "[environment-without-ref]\n"},
		{name: "a note", rule: "environment: production, ref: refs/heads/main", out: "1 note in 1 file\n"},
		{name: "a note that matters", rule: "environment: production, ref: refs/heads/main", args: []string{"--fail-on", "note"}, status: 8, out: "1 note in 1 file\n"},
		{name: "a policy with an error", rule: "ref: []", args: []string{"--fail-on", "error"}, status: 8, out: "error: ref is an empty list [policy-error]\n"},
		{name: "variables", rule: clean, vars: map[string]string{"OIDC_DBT_POLICY": "/nowhere", "OIDC_DBT_TARGET": "other"}, out: "no findings in 1 file\n"},
		{name: "format by variable", rule: clean, vars: map[string]string{"OIDC_DBT_FORMAT": "json"}, out: "\"findings\": []\n"},
		{name: "a file that is not there", rule: clean, args: []string{".github/oidc-dbt.yml", "nowhere.yml"}, status: 2, out: "no findings in 1 file\n",
			err: "oidc-dbt: read \"nowhere.yml\": no such file or directory\n"},
		{name: "an owner", rule: clean + ", job_workflow_ref: other/w/.github/workflows/dbt.yml@refs/tags/v1", args: []string{"--owner", "other"}, out: "no findings in 1 file\n"},
		{name: "no owner", rule: clean + ", job_workflow_ref: other/w/.github/workflows/dbt.yml@refs/tags/v1", status: 8, out: "[foreign-workflow]\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, ".github", "oidc-dbt.yml")
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(lintPolicy, "RULE", tt.rule)), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			status := command.Run(t.Context(), job.Env{
				Getenv: func(name string) string { return tt.vars[name] }, Environ: os.Environ(),
				Now: time.Now, Transport: web.NewTransport(), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
				Dir: dir, TempDir: dir, Version: "v1.2.3",
			}, append([]string{"lint"}, tt.args...))
			if status != tt.status || !strings.Contains(out.String(), tt.out) || !strings.HasSuffix(errs.String(), tt.err) {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, %q, %q", status, out.String(), errs.String(), tt.status, tt.out, tt.err)
			}
		})
	}
}
