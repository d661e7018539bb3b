//go:build e2e && linux && amd64

package act

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// pin is the placeholder for a release's commit in a workflow.
const pin = "0000000000000000000000000000000000000000"

// standIns are GitHub's own actions that the reusable workflow uses, which
// cannot be downloaded here: Python is installed, and an artifact is copied.
var standIns = map[string]string{
	"actions/setup-python": `name: setup-python
description: stand-in
inputs: {python-version: {description: "", required: true}}
runs:
  using: composite
  steps:
    - run: printf 'Python %s\n' "$VERSION"
      shell: bash
      env: {VERSION: "${{ inputs.python-version }}"}
`,
	"actions/upload-artifact": `name: upload-artifact
description: stand-in
inputs: {name: {description: ""}, path: {description: ""}, if-no-files-found: {description: ""}}
runs:
  using: composite
  steps:
    - run: |
        case $NAME in *[\":\<\>\|\*\?\\/]*) printf 'the artifact name is not valid\n'; exit 1 ;; esac
        cp -R "$FROM" "$ARTIFACTS/$NAME"
      shell: bash
      env: {NAME: "${{ inputs.name }}", FROM: "${{ inputs.path }}"}
`,
}

// reusable is the text of the reusable workflow, whose `$/`, which act does not
// know, is replaced by the release's pin.
func reusable(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), ".github", "workflows", "dbt.yml"))
	if err != nil {
		t.Fatal(err)
	}
	const own = "uses: $/.github/actions/oidc-dbt # of this commit"
	if n := strings.Count(string(text), own); n != 3 {
		t.Fatalf("the workflow uses the action of its commit %d times, want 3", n)
	}
	return strings.ReplaceAll(string(text), own, "uses: oidc-dbt/oidc-dbt/.github/actions/oidc-dbt@"+pin)
}

// calling prepares the runner for the reusable workflow: its actions, AWS's
// command line for the state, and targets for slim CI. It returns the folder of artifacts.
func calling(t *testing.T, r *runner) (artifacts string) {
	t.Helper()
	action := release(t)
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), ".github", "actions", "oidc-dbt", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	setup.Write(t, action, ".github/actions/oidc-dbt/action.yml", string(text))
	artifacts = t.TempDir()
	r.args = []string{"-P", "ubuntu-24.04=-self-hosted", "--use-new-action-cache", "--env", "ARTIFACTS=" + artifacts,
		"--local-repository", "oidc-dbt/oidc-dbt@" + pin + "=" + action}
	used := regexp.MustCompile(`uses: (actions/[\w-]+)@([0-9a-f]{40}) # v`)
	for _, m := range used.FindAllStringSubmatch(reusable(t), -1) {
		if text, ok := standIns[m[1]]; ok {
			dir := t.TempDir()
			setup.Write(t, dir, "action.yml", text)
			r.args = append(r.args, "--local-repository", m[1]+"@"+m[2]+"="+dir)
		}
	}
	return artifacts
}

// slim adds the targets of slim CI to the policy, and AWS's command line to the machine.
func (r *runner) slim() {
	r.t.Helper()
	r.replace(".github/oidc-dbt.yml", "\ntargets:\n", fmt.Sprintf(`
targets:
  ci:
    dbt: {type: duckdb, path: ci.duckdb, schema: main}
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1, endpoint: %[1]q}}
    allow:
      - %[2]s
  state:
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt-marts", region: eu-central-1, endpoint: %[1]q}}
    allow:
      - %[2]s
`, r.sts.URL(), setup.Rule))
	tools := setup.Environment(r.t, "incident", "")
	bin := r.t.TempDir() // only this one: the environment has a Python of its own
	script := setup.Write(r.t, bin, "aws", fmt.Sprintf("#!/bin/sh\nexec %s --endpoint-url %s \"$@\"\n", tools.Program("aws"), r.store.URL()))
	if err := os.Chmod(script, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for i, kv := range r.env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			r.env[i] = "PATH=" + bin + ":" + path
		}
	}
}

// caller is a workflow of jobs that call the reusable workflow with inputs.
func caller(uses string, jobs ...string) string {
	var b strings.Builder
	b.WriteString("name: call\non: push\npermissions: {}\nconcurrency: {group: call, cancel-in-progress: false}\njobs:\n")
	for i, with := range jobs {
		fmt.Fprintf(&b, "  call%d:\n    uses: %s\n    permissions: {contents: read, id-token: write} # as the called job\n    with:\n      %s\n",
			i+1, uses, strings.ReplaceAll(strings.TrimSpace(with), "\n", "\n      "))
	}
	return b.String()
}

// TestReusable is a repository that calls the workflow, once by the same
// repository and once by a commit of another one: dbt builds, and the artifact
// has target/ and the audit log.
func TestReusable(t *testing.T) {
	t.Parallel()
	for _, tt := range setup.Few(1, []struct {
		name string
		uses func(r *runner) string
	}{
		{"by commit", func(r *runner) string {
			// act reads it from a repository of this machine, without any network.
			const commit = "1111111111111111111111111111111111111111"
			dir := t.TempDir()
			setup.Write(t, dir, ".github/workflows/dbt.yml", reusable(t))
			r.args = append(r.args, "--local-repository", "oidc-dbt/oidc-dbt@"+commit+"="+dir)
			return "oidc-dbt/oidc-dbt/.github/workflows/dbt.yml@" + commit
		}},
		{"local", func(r *runner) string {
			setup.Write(t, r.dir, ".github/workflows/dbt.yml", reusable(t))
			return "./.github/workflows/dbt.yml"
		}},
	}...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, 0, 0)
			artifacts := calling(t, r)
			setup.Write(t, r.dir, ".github/workflows/call.yml", caller(tt.uses(r), "target: prod\nproject-dir: dbt\nenvironment: production")+
				"  after:\n    needs: call1\n    runs-on: ubuntu-latest\n    permissions: {}\n    steps:\n"+
				"      - run: echo \"$DECISION by $SUBJECT, see $ARTIFACT\"\n        env:\n          DECISION: ${{ needs.call1.outputs.decision }}\n"+
				"          SUBJECT: ${{ needs.call1.outputs.subject }}\n          ARTIFACT: ${{ needs.call1.outputs.artifact }}\n")
			log, err := r.run("call.yml")
			if err != nil {
				t.Fatalf("act: %v\n%s", err, log)
			}
			want(t, log, "Python 3.13", "Successfully installed six-1.17.0", "Installed from <local @ checks>", "PASS=6 WARN=0 ERROR=0",
				"allowed by "+setup.Subject+", see dbt")
			for _, name := range []string{"dbt/target/run_results.json", "dbt/target/manifest.json", "dbt/audit.jsonl"} {
				if _, err := os.Stat(filepath.Join(artifacts, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestAttacks: text that a caller passes on from elsewhere is never run by a
// shell of another step, and the command runs only with its credential.
func TestAttacks(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	calling(t, r)
	r.slim()
	mark := filepath.Join(r.home, "executed")
	setup.Write(t, r.dir, ".github/workflows/dbt.yml", reusable(t))
	run := "touch " + mark
	var jobs []string
	for _, value := range setup.Few(1,
		"x; "+run+"; ' && "+run+" && ' \" && "+run+" && \" $("+run+") `"+run+"`\n"+run+"\n::set-output name=decision::allowed",
		"$("+run+") `"+run+"`",
		"x; "+run+"; ' && "+run+" && ' \" && "+run+" && \"",
		"x\n"+run+"\n::set-output name=decision::allowed",
	) {
		for _, input := range []string{
			"target", "project-dir", "adapters", "requirements", "python-version", "environment", "runner", "state-from", "state-to", "artifact",
		} {
			with := map[string]string{"target": "prod", "project-dir": "dbt", "command": "'true'"}
			if input == "artifact" {
				with["target"] = "nowhere" // what is collected after a failure
			}
			with[input] = fmt.Sprintf("%q", value) // a string of Go is one of YAML
			text := ""
			for name, v := range with {
				text += name + ": " + v + "\n"
			}
			jobs = append(jobs, text)
		}
	}
	setup.Write(t, r.dir, ".github/workflows/call.yml", caller("./.github/workflows/dbt.yml", jobs...))
	r.args = append(r.args, "--concurrent-jobs", "4")
	log, err := r.run("call.yml")
	if err == nil {
		t.Errorf("act passed:\n%s", log)
	}
	if _, err := os.Stat(mark); !os.IsNotExist(err) {
		t.Errorf("a shell ran what was passed: %v\n%s", err, log)
	}
	want(t, log, "input runner: got", "input adapters: got", "input state-from: got", "input state-to: got", "want exact versions such as")
}
