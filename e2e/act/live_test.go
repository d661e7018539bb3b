//go:build e2e && linux && amd64

package act

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// liveCheck makes the runner a fork of this repository with the live check, for
// DuckDB and the stand-ins: its policy is a variable, and dbt is on PATH.
func liveCheck(t *testing.T) *runner {
	t.Helper()
	r := newRunner(t, 4*time.Second, standin.Grace)
	calling(t, r)
	if err := os.Remove(filepath.Join(r.dir, ".github/oidc-dbt.yml")); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(setup.Repository(t), ".github")
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, path)
		if err != nil || relErr != nil || entry.IsDir() || !strings.HasPrefix(rel, "live-check/") && rel != "workflows/live-check.yml" {
			return err
		}
		text, err := os.ReadFile(path)
		setup.Write(t, r.dir, filepath.Join(".github", rel), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(r.dir, ".github/live-check/check"), 0o700); err != nil {
		t.Fatal(err)
	}
	workflow, err := os.ReadFile(filepath.Join(r.dir, ".github/workflows/live-check.yml"))
	if err != nil {
		t.Fatal(err)
	}
	commit := regexp.MustCompile(`actions/setup-go@([0-9a-f]{40})`).FindStringSubmatch(string(workflow))[1]
	golang := t.TempDir() // Go is on PATH
	setup.Write(t, golang, "action.yml", "name: setup-go\ndescription: stand-in\ninputs: {go-version-file: {description: \"\"}, cache: {description: \"\"}}\n"+
		"runs: {using: composite, steps: [{run: go version, shell: bash}]}\n")
	policy := fmt.Sprintf(`version: 1
identities: {github: {issuer: %q, kind: github}}
defaults:
  dbt: {type: duckdb, path: live.duckdb, schema: main, secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}
  exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1, endpoint: %q}}
targets:
  live: {allow: [%s]}
  live-foreign: {allow: [{repository: acme/analytics, repository_id: "487920697", ref: refs/heads/main}]}
`, r.issuer.URL(), r.store.Host(), r.sts.URL(), setup.Rule)
	r.event = "workflow_dispatch"
	r.args = append(r.args, "--local-repository", "actions/setup-go@"+commit+"="+golang, "--var", "OIDC_DBT_LIVE_POLICY="+policy)
	for name, value := range map[string]string{
		"warehouse": "duckdb", "adapters": "six==1.17.0", "seconds": "8", "location": "s3://prod/live.parquet", "cancel": "false", "part": "all",
	} {
		r.args = append(r.args, "--input", name+"="+value)
	}
	claims := standin.GitHubClaims()
	claims["event_name"] = "workflow_dispatch"
	r.issuer.SetClaims(claims)
	return r
}

// TestLiveCheckForeign: a subject without the environment is denied by the
// policy and, where the policy admits it, by the token service.
func TestLiveCheckForeign(t *testing.T) {
	t.Parallel()
	r := liveCheck(t)
	claims := standin.GitHubClaims()
	claims["event_name"], claims["sub"] = "workflow_dispatch", "repo:acme/analytics:ref:refs/heads/main"
	delete(claims, "environment")
	r.issuer.SetClaims(claims)
	r.args = append(r.args, "--job", "foreign")
	log, err := r.run("live-check.yml")
	if err != nil {
		t.Errorf("act: %v\n%s", err, log)
	}
	want(t, log, "the policy: denied, step failure", "the warehouse: policy allowed, step failure", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	if n := len(r.sts.Sessions()); n > 0 {
		t.Errorf("%d sessions were issued", n)
	}
}

// TestLiveCheckCancels: the script starts a second run, waits for dbt in it,
// cancels it and shows what it left. A script plays GitHub's command line.
func TestLiveCheckCancels(t *testing.T) {
	t.Parallel()
	const gh = `#!/bin/sh
echo "$*" >>"$CALLS"
case "$1 $2" in
  "run list") echo 77 ;;
  "run view") case "$*" in *conclusion*) echo "$CONCLUSION" ;; *) echo "Build until it is cancelled" ;; esac ;;
  "run download") mkdir -p "$RUNNER_TEMP/cancelled"; echo '{"activity_name":"Logon"}' >"$RUNNER_TEMP/cancelled/audit.jsonl" ;;
esac
`
	for _, tt := range []struct{ conclusion, said, err string }{
		{"cancelled", "the second run ended: cancelled\nIts audit records, of which the last is when the credential ended or was last renewed:\n{\"activity_name\":\"Logon\"}\n", ""},
		{"success", "the second run ended: success\n::error::the second run was not cancelled but ended: success\n", "exit status 1"},
	} {
		bin, temp := t.TempDir(), t.TempDir()
		for name, text := range map[string]string{"gh": gh, "sleep": "#!/bin/sh\n"} {
			if err := os.Chmod(setup.Write(t, bin, name, text), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		calls := filepath.Join(temp, "calls")
		check := exec.CommandContext(t.Context(), filepath.Join(setup.Repository(t), ".github", "live-check", "check"), "cancelled")
		check.Env = []string{
			"PATH=" + bin + ":" + os.Getenv("PATH"), "CALLS=" + calls, "CONCLUSION=" + tt.conclusion, "RUNNER_TEMP=" + temp,
			"GITHUB_RUN_ID=55", "GITHUB_REF_NAME=main", "WAREHOUSE=duckdb", "ADAPTERS=dbt-duckdb==1.11.1 dbt-core==1.12.5", "LIVE_LOCATION=",
		}
		out, err := check.CombinedOutput()
		if fmt.Sprint(err) != cmp.Or(tt.err, "<nil>") || string(out) != tt.said {
			t.Errorf("%s: %v\n%s\nwant %s\n%s", tt.conclusion, err, out, tt.err, tt.said)
		}
		text, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"workflow run live-check.yml --ref main -f part=cancelled -f parent=55 ", "run list ", "run view 77 --json jobs ",
			"run cancel 77", "run view 77 --json conclusion "}
		for i, call := range strings.Split(string(text), "\n") {
			if i < len(want) && !strings.HasPrefix(call, want[i]) {
				t.Errorf("call %d is %q, want %q", i+1, call, want[i])
			}
		}
	}
}
