//go:build e2e && linux && amd64

package postgres

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestStoredPassword goes the guide's way from a password to a second user, by the statements of its section on
// PostgreSQL: tables of the old user are changed by the new one, and are left when the old one is removed.
func TestStoredPassword(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "guides", "from-a-stored-key.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## PostgreSQL\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```sql\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) != 4 {
		t.Fatalf("the section has %d blocks, want the owner, who is there, disable and remove", len(blocks))
	}
	server := setup.Postgres(t, false)
	server.SQL(t, `CREATE ROLE dbt LOGIN PASSWORD 'old'; CREATE ROLE dbt_prod LOGIN PASSWORD 'new'; CREATE SCHEMA marts AUTHORIZATION dbt`)
	as := func(user, password, statement string) error {
		t.Helper()
		conn, err := server.Connect(t.Context(), user, password)
		if err != nil {
			return err
		}
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), statement)
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	owner := func(table string) string {
		t.Helper()
		return server.SQL(t, "select tableowner from pg_tables where tablename = '"+table+"'")[0][0]
	}
	must(as("dbt", "old", "CREATE TABLE marts.orders AS SELECT 1 AS id"))

	server.SQL(t, blocks[0])
	for _, user := range [][2]string{{"dbt", "old"}, {"dbt_prod", "new"}} { // each replaces what the other made, as dbt does
		must(as(user[0], user[1], `BEGIN; CREATE TABLE marts.orders__tmp AS SELECT 2 AS id; ALTER TABLE marts.orders RENAME TO orders__old;
			ALTER TABLE marts.orders__tmp RENAME TO orders; DROP TABLE marts.orders__old; COMMIT`))
		if got := owner("orders"); got != "dbt_owner" {
			t.Errorf("after a run by %s, the table belongs to %s", user[0], got)
		}
	}
	server.SQL(t, blocks[1])

	disable, enable, _ := strings.Cut(strings.TrimSpace(blocks[2]), "\n")
	server.SQL(t, disable)
	if err := as("dbt", "old", "SELECT 1"); err == nil || !strings.Contains(err.Error(), `role "dbt" is not permitted to log in`) {
		t.Errorf("the old user logs in: %v", err)
	}
	must(as("dbt_prod", "new", "SELECT id FROM marts.orders"))
	server.SQL(t, enable)
	must(as("dbt", "old", "SELECT id FROM marts.orders"))

	server.SQL(t, blocks[3])
	must(as("dbt_prod", "new", "INSERT INTO marts.orders VALUES (3)"))
	if rows := server.SQL(t, "select count(*) from pg_roles where rolname = 'dbt'"); rows[0][0] != "0" {
		t.Error("the old user is still there")
	}
}
