//go:build e2e && wide

package profiles

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestDropClosed runs the macro of docs/pull-requests.md: it drops the schemas of pull requests that are not open, and
// nothing else.
func TestDropClosed(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "pull-requests.md"))
	if err != nil {
		t.Fatal(err)
	}
	macro := regexp.MustCompile("(?ms)^```sql\n(.*?)^```$").FindStringSubmatch(string(page))
	if macro == nil {
		t.Fatal("the page has no macro")
	}
	dir, python := t.TempDir(), setup.Python(t)
	setup.Write(t, dir, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
	setup.Write(t, dir, "profiles.yml", "shop: {target: ci, outputs: {ci: {type: duckdb, path: ci.duckdb, schema: cleanup}}}\n")
	setup.Write(t, dir, "macros/drop_closed.sql", macro[1])
	setup.Write(t, dir, "macros/prepare.sql", `{% macro prepare() %}{% for name in ['pr_7', 'PR_8', 'pr_70', 'pr_7_old', 'marts'] %}
{% do run_query('create schema ' ~ name) %}{% do run_query('create table ' ~ name ~ '.orders as select 1 as id') %}{% endfor %}{% endmacro %}`)
	setup.Write(t, dir, "macros/left.sql", `{% macro left() %}{% do log('left: ' ~ run_query("select distinct schema_name from information_schema.schemata where catalog_name = 'ci' order by 1").columns[0].values() | join(' '), info=true) %}{% endmacro %}`)
	run := func(args ...string) string {
		t.Helper()
		out, err := setup.DBT(t, python, dir, map[string]string{"DBT_PROFILES_DIR": dir}, append([]string{"run-operation"}, args...)...)
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return out
	}
	run("prepare")
	dropped := run("drop_closed", "--args", "{open: [70, 9]}")
	if strings.Count(dropped, "drop ") != 2 || !strings.Contains(dropped, "drop pr_7\n") || !strings.Contains(dropped, "drop PR_8\n") {
		t.Errorf("it says\n%s", dropped)
	}
	if left := run("left"); !strings.Contains(left, "marts") || !strings.Contains(left, " pr_70 ") || !strings.Contains(left, "pr_7_old") ||
		strings.Contains(left, " pr_7 ") || strings.Contains(left, "PR_8") {
		t.Errorf("what is left: %s", left)
	}
	run("drop_closed", "--args", "{open: []}")
	if left := run("left"); strings.Contains(left, "pr_70") || !strings.Contains(left, "pr_7_old") {
		t.Errorf("what is left with none open: %s", left)
	}
}
