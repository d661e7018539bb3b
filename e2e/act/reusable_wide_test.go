//go:build e2e && linux && amd64 && wide

package act

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestPlatformsCopyOfIt: the page's two changes make the reusable workflow a
// platform's own. Its policy is in the file, and the caller's own is not read.
func TestPlatformsCopyOfIt(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	artifacts := calling(t, r)
	policy, err := os.ReadFile(filepath.Join(r.dir, ".github/oidc-dbt.yml"))
	if err != nil {
		t.Fatal(err)
	}
	setup.Write(t, r.dir, ".github/oidc-dbt.yml", "the caller's\n")
	inline := strings.ReplaceAll(strings.TrimSpace(string(policy)), "\n", "\n            ")
	const with = "        with:\n          target: "
	copied := strings.ReplaceAll(reusable(t), "oidc-dbt/oidc-dbt/.github/actions/oidc-dbt@", "oidc-dbt/oidc-dbt@")
	if n := strings.Count(copied, with); n != 3 {
		t.Fatalf("the action's steps have %d targets, want 3", n)
	}
	platform := t.TempDir()
	setup.Write(t, platform, ".github/workflows/dbt.yml", strings.ReplaceAll(copied, with,
		"        with:\n          policy: |\n            "+inline+"\n          target: "))
	r.args = append(r.args, "--local-repository", "acme/platform@v3="+platform)
	setup.Write(t, r.dir, ".github/workflows/call.yml", caller("acme/platform/.github/workflows/dbt.yml@v3",
		"target: prod\nproject-dir: dbt\nenvironment: production"))
	log, err := r.run("call.yml")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "allowed: target prod by rule 1", "PASS=6 WARN=0 ERROR=0")
	r.audit = filepath.Join(artifacts, "dbt", "audit.jsonl")
	if got, want := r.decisions(), "Preauth Success, Logon Success"; got != want {
		t.Errorf("the audit log says %s, want %s", got, want)
	}
}

// TestSlimCI: a run leaves its manifest in the store by a target that provides
// only credentials, and the next one defers to it and knows what has changed.
func TestSlimCI(t *testing.T) {
	t.Parallel()
	r := newRunner(t, 0, 0)
	artifacts := calling(t, r)
	r.slim()
	setup.Write(t, r.dir, ".github/workflows/dbt.yml", reusable(t))
	const place = "state s3://marts/acme/manifest.json"
	setup.Write(t, r.dir, ".github/workflows/call.yml", caller("./.github/workflows/dbt.yml",
		"target: prod\nproject-dir: dbt\nenvironment: production\nstate-to: "+place))
	if log, err := r.run("call.yml"); err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	if text, err := os.ReadFile(filepath.Join(r.dir, "dbt/models/customers.sql")); err != nil {
		t.Fatal(err)
	} else {
		setup.Write(t, r.dir, "dbt/models/customers.sql", string(text)+"-- changed\n")
	}
	setup.Write(t, r.dir, ".github/workflows/call.yml", caller("./.github/workflows/dbt.yml",
		"target: ci\nproject-dir: dbt\nenvironment: production\nartifact: slim\nstate-from: "+place+"\ncommand: |\n"+
			"  echo \"modified: $(dbt --quiet ls --resource-type model --select state:modified --output name | tr '\\n' ' ')\"\n"+
			"  dbt compile --select customers\n"))
	log, err := r.run("call.yml")
	if err != nil {
		t.Fatalf("act: %v\n%s", err, log)
	}
	want(t, log, "modified: customers \n", `"prod"."main"."orders"`, "Job succeeded")
	r.audit = filepath.Join(artifacts, "slim", "audit.jsonl")
	if got, want := r.decisions(), "Preauth Success, Logon Success, Preauth Success, Logon Success"; got != want { // state, ci
		t.Errorf("the audit log says %s, want %s", got, want)
	}
}
