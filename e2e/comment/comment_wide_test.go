//go:build e2e && wide

// Package comment runs dbt with the query-comment that the warehouse pages show.
package comment

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// TestPagesQueryComment: the run's id reaches the queries, and a different id
// in the next run causes no full parse.
func TestPagesQueryComment(t *testing.T) {
	python := setup.Python(t)
	for _, name := range []string{"bigquery", "duckdb"} {
		t.Run(name, func(t *testing.T) {
			page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "warehouses", name+".md"))
			if err != nil {
				t.Fatal(err)
			}
			block := regexp.MustCompile("(?s)```yaml\n(query-comment:\n.*?)```").FindStringSubmatch(string(page))
			if block == nil {
				t.Fatal("the page shows no query-comment")
			}
			workspace := t.TempDir()
			setup.Write(t, workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n"+block[1])
			setup.Write(t, workspace, "models/one.sql", "select 1 as id\n")
			setup.Write(t, workspace, "profiles.yml", "shop: {target: dev, outputs: {dev: {type: duckdb, path: \":memory:\"}}}\n")
			for i, id := range []string{"16055869479", "16055869480"} {
				env := map[string]string{
					"DBT_PROFILES_DIR":                   workspace,
					"DBT_ENV_CUSTOM_ENV_OIDC_REPOSITORY": "acme/analytics",
					"DBT_ENV_CUSTOM_ENV_OIDC_RUN_ID":     id,
				}
				out, err := setup.DBT(t, python, workspace, env, "run")
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if parsed := strings.Contains(out, "Unable to do partial parsing"); parsed != (i == 0) {
					t.Errorf("run %d: full parse is %t, want %t\n%s", i+1, parsed, i == 0, out)
				}
				log, err := os.ReadFile(filepath.Join(workspace, "logs", "dbt.log"))
				if err != nil {
					t.Fatal(err)
				}
				if want := `/* {"oidc_repository": "acme/analytics", "oidc_run_id": "` + id + `"} */`; !strings.Contains(string(log), want) {
					t.Errorf("no query has the comment %s", want)
				}
			}
		})
	}
}
