//go:build e2e

package trino

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// tokenLife is the lifetime of the ID tokens in the runs below. Trino allows no
// clock skew, so that the machine must not stall for longer than the broker
// renews ahead.
const tokenLife = 9 * time.Second

// A login is a user of a server, with tokens that the server accepts.
type login struct {
	*setup.TrinoServer
	user  string
	token func() string
}

func (as login) query(t *testing.T, sql string) string {
	t.Helper()
	rows, err := as.Query(t.Context(), as.user, as.token(), sql)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(rows)
}

// slowTable makes a table whose reading takes longer than a token is valid.
func (as login) slowTable(t *testing.T) {
	t.Helper()
	as.query(t, "create schema if not exists memory.marts")
	as.query(t, "create table blackhole.default.slow (x bigint) with (split_count = 1, pages_per_split = 10, rows_per_page = 1, page_processing_delay = '1s')")
}

// slowProject has a build that outlives several tokens, and each of its slow
// statements outlives one.
func (as login) slowProject(t *testing.T, issuer *standin.Issuer, schema, exchange string, threads int) (workspace string) {
	t.Helper()
	block := strings.NewReplacer("schema: marts", "schema: "+schema, "threads: 4", fmt.Sprintf("threads: %d", threads)).Replace(output(as.TrinoServer, as.user))
	workspace = setup.Project(t, issuer, block, exchange)
	const slow = "select count(*) + %d as n from blackhole.default.slow"
	setup.Write(t, workspace, "models/slow.sql", "{{ config(materialized='table') }}\n"+fmt.Sprintf(slow, 0))
	setup.Write(t, workspace, "models/slower.sql", "{{ config(materialized='table') }}\n"+fmt.Sprintf(slow, 1)+" cross join {{ ref('slow') }}")
	for i := 2; i < threads; i++ { // these run concurrently
		setup.Write(t, workspace, fmt.Sprintf("models/slow%d.sql", i), "{{ config(materialized='table') }}\n"+fmt.Sprintf(slow, i))
	}
	return workspace
}

func (as login) outlive(t *testing.T, issuer *standin.Issuer, schema, exchange string, threads int) {
	workspace := as.slowProject(t, issuer, schema, exchange, threads)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	out, err := setup.Exec(t, issuer, workspace, []string{"--audit-log", audit}, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
	if err != nil || !strings.Contains(out, "Completed successfully") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	setup.NoSecrets(t, issuer, "the output", out)
	if rows := as.query(t, "select n from memory."+schema+".slower"); rows != "[[11]]" {
		t.Errorf("what dbt built: got %s", rows)
	}
	log, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	// Each of two consecutive slow statements outlives the token with which it began.
	if issued := strings.Count(string(log), `"outcome":"issued"`); issued < 3 {
		t.Errorf("%d tokens were issued, want three or more:\n%s", issued, log)
	}
}

// without does the same run with the token in the profile.
func (as login) without(t *testing.T, issuer *standin.Issuer, exchange string) {
	workspace := as.slowProject(t, issuer, "alone", exchange, 1)
	env, _ := setup.Authenticate(t, issuer, workspace)
	if out, err := setup.DBT(t, setup.Python(t), workspace, environ(env), "build"); err == nil || !strings.Contains(out, "JWT expired ") {
		t.Errorf("dbt build without the broker: %v\n%s", err, out)
	}
}
