//go:build e2e && wide

package profiles

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// TestElementary has dbt parse the project in which elementary's command line
// runs dbt, with the profile elementary of a step. Its models and packages.yml
// are left out: they need a package from dbt's hub.
func TestElementary(t *testing.T) {
	t.Parallel()
	requirements, err := os.ReadFile("elementary.txt")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pyenv.Ensure(t.Context(), "elementary", requirements, "", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	packages, err := exec.Command(p.Program("python"), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs := t.TempDir()
	if err := os.CopyFS(theirs, os.DirFS(filepath.Join(strings.TrimSpace(string(packages)), "elementary", "monitor", "dbt_project"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"models", "packages.yml", "package-lock.yml"} {
		if err := os.RemoveAll(filepath.Join(theirs, name)); err != nil {
			t.Fatal(err)
		}
	}
	setup.Write(t, theirs, "models/one.sql", "select 1 as one\n")

	issuer := setup.Issuer(t)
	ours := setup.Project(t, issuer, `{type: duckdb, path: shop.duckdb, schema: marts, threads: 8}`,
		fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}\n    profiles: {elementary: {schema: marts_elementary, threads: 2}}", setup.Role, setup.STS(t, issuer).URL()))
	env, _ := setup.Authenticate(t, issuer, ours)
	for _, tt := range []struct{ dir, node, schema string }{
		{ours, "model.shop.customers", "marts"},
		{theirs, "model.elementary_cli.one", "marts_elementary"},
	} {
		out, err := setup.DBT(t, setup.Python(t), tt.dir, env, "parse")
		if err != nil {
			t.Errorf("dbt parse for schema %q: %v\n%s", tt.schema, err, out)
			continue
		}
		text, err := os.ReadFile(filepath.Join(tt.dir, "target", "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		var manifest struct {
			Nodes map[string]struct{ Schema string }
		}
		if err := json.Unmarshal(text, &manifest); err != nil || manifest.Nodes[tt.node].Schema != tt.schema {
			t.Errorf("schema of %s is %q, want %q: %v\n%s", tt.node, manifest.Nodes[tt.node].Schema, tt.schema, err, out)
		}
	}
}
