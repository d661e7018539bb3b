//go:build e2e && linux && amd64

package identities

import (
	"fmt"
	"maps"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// settleOpenBao has each target of the policy build on a real PostgreSQL, by a user that a real OpenBao lends to whom
// it verifies by the issuer's keys.
func settleOpenBao(m *machine, document map[string]any) {
	m.t.Helper()
	bao, server := setup.OpenBao(m.t), setup.Postgres(m.t, true)
	bao.Write(m.t, "sys/auth/jwt", map[string]any{"type": "jwt"})
	keys := m.issuer.URL() + "/.well-known/jwks"
	bao.Write(m.t, "auth/jwt/config", map[string]any{"jwks_url": keys, "bound_issuer": m.url})
	exchange := decode[map[string]map[string]any](m.t, bao.Lend(m.t, server, 5*time.Minute, 10*time.Minute))["vault"]
	server.SQL(m.t, "create role dbt; grant create on database postgres to dbt; create table made (name text)")
	bao.Write(m.t, "database/roles/dbt", map[string]any{
		"db_name": "users", "default_ttl": "5m", "max_ttl": "10m",
		"creation_statements": []string{
			`create role "{{name}}" with login password '{{password}}' valid until '{{expiration}}' in role dbt`,
			`alter role "{{name}}" set role dbt`, `insert into made values ('{{name}}')`,
		},
	})
	for _, v := range document["targets"].(map[string]any) {
		target := v.(map[string]any)
		for _, keys := range target["exchange"].(map[string]any) {
			m.audience, _ = keys.(map[string]any)["audience"].(string)
		}
		vault := maps.Clone(exchange)
		vault["audience"] = m.audience
		target["exchange"] = map[string]any{"vault": vault}
		target["dbt"] = decode[map[string]any](m.t, fmt.Sprintf(
			"{type: postgres, host: %q, port: %d, database: postgres, schema: marts, sslmode: verify-full, sslrootcert: %q}",
			server.Host, server.Port, server.CA))
	}
	subject := decode[map[string]any](m.t, m.row.claims)["sub"]
	bao.Write(m.t, "auth/jwt/role/dbt", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{m.audience},
		"bound_claims":   map[string]any{"sub": subject},
		"token_policies": []string{"dbt"}, "token_no_default_policy": true, "token_ttl": "10m",
	})
	m.sessions = func() (names []string) {
		for _, row := range server.SQL(m.t, "select name from made") {
			names = append(names, row[0])
		}
		return names
	}
	m.exchanges = func() int { return len(m.sessions()) }
}
