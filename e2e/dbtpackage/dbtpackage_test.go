//go:build e2e && linux && amd64

package dbtpackage

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// A project is the integration tests' in a copy of the folder dbt.
type project struct {
	python pyenv.Python
	folder string
	env    map[string]string
}

func newProject(t *testing.T, env map[string]string) project {
	t.Helper()
	p := project{python: setup.Python(t), env: maps.Clone(env)}
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(setup.Repository(t), "dbt"))); err != nil {
		t.Fatal(err)
	}
	p.folder = filepath.Join(folder, "integration_tests")
	if p.env == nil {
		p.env = map[string]string{}
	}
	p.env["DBT_PROFILES_DIR"] = p.folder
	if p.env["OIDC_DBT_PASSWORD"] == "" {
		p.env["OIDC_DBT_PASSWORD"] = "none"
	}
	p.dbt(t, "deps")
	return p
}

// dbt runs dbt, which must succeed, and returns what it says.
func (p project) dbt(t *testing.T, args ...string) string {
	t.Helper()
	out, err := setup.DBT(t, p.python, p.folder, p.env, args...)
	if err != nil {
		t.Fatalf("dbt %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// models is how many files of compiled SQL there are at least, with one log.
const models = 16

// TestCompiles is for the warehouses that cannot run here: without a connection,
// with the log and the locations that they have by default.
func TestCompiles(t *testing.T) {
	t.Parallel()
	dialects := map[string][]string{
		"bigquery": {
			"`acme-dbt`.`audit`.`cloudaudit_googleapis_com_data_access`", "`acme-dbt`.`region-eu`.`INFORMATION_SCHEMA.JOBS_BY_PROJECT`",
			"json_value(record, '$.\"metadata\".\"uid\"')",
		},
		"redshift":   {`"dev"."pg_catalog"."sys_connection_log"`, `cast(record."metadata"."uid" as varchar)`},
		"databricks": {"`system`.`access`.`audit`", "`system`.`query`.`history`", `get_json_object(record, '$["metadata"]["uid"]')`},
		"athena":     {`"awsdatacatalog"."audit"."cloudtrail_logs"`, `json_extract_scalar(record, '$["metadata"]["uid"]')`},
		"snowflake":  {"SNOWFLAKE.ACCOUNT_USAGE.login_history", "cast(record['metadata']['uid'] as varchar)"},
	}
	p := newProject(t, nil)
	p.defaults(t)
	names := slices.Sorted(maps.Keys(dialects))
	cmd := exec.CommandContext(t.Context(), p.python.Program("python"), append([]string{"parse.py", p.folder}, names...)...)
	cmd.Env = append(p.python.Environ(), "DBT_SEND_ANONYMOUS_USAGE_STATS=false", "OIDC_DBT_PASSWORD=none")
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, log.String())
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		target, count, _ := strings.Cut(line, " ")
		if n, _ := strconv.Atoi(count); n < models {
			t.Errorf("%s files of SQL for %q, want at least %d", count, target, models)
		}
		staging := p.read(t, filepath.Join(target, "compiled", "oidc_dbt_audit", "models", "staging", "*.sql"))
		for _, want := range dialects[target] {
			if !strings.Contains(staging, want) {
				t.Errorf("no staging model of %s has %s", target, want)
			}
		}
	}
}

// read returns the text of all files of a pattern.
func (p project) read(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.folder, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %q, %v", pattern, files, err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// locations are the variables by which the integration tests' logs are in their own schema.
var locations = regexp.MustCompile(`(?m)^  oidc_dbt_(?:snowflake|bigquery|redshift|databricks|clickhouse)_\w+: .*\n`)

// defaults leaves the locations of logs as the package has them.
func (p project) defaults(t *testing.T) {
	t.Helper()
	path := filepath.Join(p.folder, "dbt_project.yml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = append(locations.ReplaceAll(text, nil), "  oidc_dbt_bigquery_jobs_schema: region-eu\n"...)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
