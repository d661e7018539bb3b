//go:build e2e && linux && amd64 && wide

package dbtpackage

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// hostile ends a string of SQL, is an expression of Jinja, and a formula.
const hostile = `=1+1'; drop table oidc_dbt__decisions; --" \'; {{ 1 / 0 }} {% endraw %} $$ <script>x</script>`

// TestHostileRecords: what a token says is a value in every model, and no part of its SQL.
func TestHostileRecords(t *testing.T) {
	t.Parallel()
	t.Run("duckdb", func(t *testing.T) {
		t.Parallel()
		newProject(t, nil).takeHostile(t, "duckdb", allLogs)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		server := setup.Postgres(t, false)
		newProject(t, map[string]string{"OIDC_DBT_PORT": fmt.Sprint(server.Port), "OIDC_DBT_PASSWORD": server.Password}).takeHostile(t, "postgres", flatLogs)
	})
}

func (p project) takeHostile(t *testing.T, target, logs string) {
	t.Helper()
	r := request{id: "HOSTILE", run: hostile, repository: hostile, target: hostile, provider: hostile, kind: hostile, session: hostile, at: noon, life: 1}
	rows := [][]string{{"record"}}
	for _, line := range append(records(t), r.allowed(t), r.issued(t)) {
		rows = append(rows, []string{line})
	}
	if err := os.WriteFile(filepath.Join(p.folder, "seeds", "seed_records.csv"), []byte(table(t, rows)), 0o600); err != nil {
		t.Fatal(err)
	}
	options := []string{"--target", target, "--vars", "{oidc_dbt_logs: " + logs + "}"}
	p.dbt(t, append([]string{"build", "--select", "package:oidc_dbt_integration", "--exclude", "resource_type:test"}, options...)...)
	p.dbt(t, append([]string{"run", "--select", "package:oidc_dbt_audit"}, options...)...)
	for _, model := range []string{"oidc_dbt__decisions", "oidc_dbt__credentials"} {
		out := p.dbt(t, append([]string{"show", "--quiet", "--output", "json", "--inline",
			"select repository, target from {{ ref('" + model + "') }} where correlation_uid = 'HOSTILE'"}, options...)...)
		var got struct {
			Show []struct{ Repository, Target string } `json:"show"`
		}
		if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{")):]), &got); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if len(got.Show) != 1 || got.Show[0].Repository != hostile || got.Show[0].Target != hostile {
			t.Errorf("%s has %q, want one row of what the token says", model, got.Show)
		}
	}
}
