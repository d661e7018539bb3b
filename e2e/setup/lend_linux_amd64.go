package setup

import (
	"testing"
	"time"
)

// Lend has OpenBao create a user in a PostgreSQL server for each run, who lives
// for ttl after each renewal and at most for most, and returns an exchange block
// for it. The rule of the tests' policy may get one. Each user also gets more
// statements, with "{{name}}" for its name.
func (s *OpenBaoServer) Lend(t testing.TB, server *PostgresServer, ttl, most time.Duration, more ...string) (exchange string) {
	t.Helper()
	s.Write(t, "sys/mounts/database", map[string]any{"type": "database"})
	s.Write(t, "database/config/users", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "dbt",
		"connection_url": server.URL("{{username}}:{{password}}"), "username": server.User, "password": server.Password,
	})
	s.Write(t, "database/roles/dbt", map[string]any{
		"db_name": "users", "default_ttl": ttl.String(), "max_ttl": most.String(),
		"creation_statements": append([]string{
			`create role "{{name}}" with login password '{{password}}' valid until '{{expiration}}'`,
		}, more...),
	})
	return s.LendFrom(t, "database/creds/dbt", ttl, most)
}

// Gone waits until all users that were lent are removed: OpenBao ends a token's
// leases after its reply.
func (*OpenBaoServer) Gone(t testing.TB, server *PostgresServer) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		users := server.SQL(t, "select rolname from pg_roles where rolname like 'v-%'")
		if len(users) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("users that are left: %v", users)
			return
		}
	}
}
