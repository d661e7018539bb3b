//go:build e2e && linux && amd64

package people

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// target replaces the policy by one with the target dev.
func (d *desk) target(dbt, exchange, rule string) {
	d.t.Helper()
	d.write(".github/oidc-dbt.yml", fmt.Sprintf("version: 1\nidentities:\n  engineers: {kind: people, issuer: %q, client_id: %s}\n"+
		"targets:\n  dev:\n    dbt: %s\n    exchange: %s\n    allow:\n      - %s\n", d.front.realm.URL, usual, dbt, exchange, rule))
	d.approve()
}

// warehouses take a person's ID token, and show whose it was.
func warehouses(t *testing.T, c *company) {
	for name, test := range map[string]func(*testing.T, *company){"OpenBao and PostgreSQL": openBao, "Trino": trino} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

// openBao makes a user of PostgreSQL for each person of a group, by Keycloak's ID token.
func openBao(t *testing.T, c *company) {
	bao, server, d := setup.OpenBao(t), setup.Postgres(t, true), sit(t, c, usual)
	server.SQL(t, "create role dbt; grant create on database postgres to dbt")
	bao.Write(t, "sys/auth/jwt", map[string]any{"type": "jwt"})
	bao.Write(t, "auth/jwt/config", map[string]any{"oidc_discovery_url": d.front.realm.URL, "bound_issuer": d.front.realm.URL})
	bao.Write(t, "auth/jwt/role/dbt", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "claim_mappings": map[string]string{"preferred_username": "username"},
		"bound_audiences": []string{usual}, "bound_claims": map[string]any{"groups": []string{"analysts"}},
		"token_policies": []string{"dbt"}, "token_no_default_policy": true, "token_ttl": "10m",
	})
	bao.Write(t, "sys/policies/acl/dbt", map[string]any{"policy": `path "database/creds/dbt" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`})
	bao.Write(t, "sys/mounts/database", map[string]any{"type": "database"})
	bao.Write(t, "database/config/warehouse", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "dbt", "username_template": "v-{{.DisplayName}}-{{random 8}}",
		"connection_url": server.URL("{{username}}:{{password}}"), "username": server.User, "password": server.Password,
	})
	bao.Write(t, "database/roles/dbt", map[string]any{
		"db_name": "warehouse", "default_ttl": "5m", "max_ttl": "10m", "creation_statements": []string{
			`create role "{{name}}" with login password '{{password}}' valid until '{{expiration}}' in role dbt`, `alter role "{{name}}" set role dbt`,
		},
	})
	d.target(
		fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: marts, threads: 1, sslmode: verify-full, sslrootcert: %q}", server.Host, server.Port, server.CA),
		fmt.Sprintf("{vault: {address: %q, role: dbt, audience: %s, secret: database/creds/dbt}}", bao.URL, usual),
		"{identity: engineers, groups: [analysts, interns]}")
	d.write("models/who.sql", "{{ config(materialized='table') }}\nselect session_user as who\n")

	d.signedIn("joe") // an intern, whom only OpenBao refuses
	if out, status := d.exec("true"); status != 6 || !strings.Contains(out, `claim \"groups\" does not match any associated bound claim values`) {
		t.Errorf("an intern: status %d, want 6 and OpenBao's reason\n%s", status, out)
	}
	d.signedIn("ann")
	subject, _ := d.who()
	if out, status := d.exec("dbt", "run"); status != 0 || !strings.Contains(out, "PASS=1 WARN=0 ERROR=0") {
		t.Fatalf("dbt run: status %d\n%s", status, out)
	}
	if who := server.SQL(t, "select who from marts.who")[0][0]; !strings.HasPrefix(who, "v-jwt-"+subject+"-") {
		t.Errorf("PostgreSQL's user was %q, want one of %s", who, subject)
	}
	bao.Gone(t, server)
	if names := aliases(t, bao); len(names) != 1 || names[subject] != "ann" {
		t.Errorf("OpenBao knows %v, want %s as ann", names, subject)
	}
}

// aliases returns OpenBao's entities: their names by their subjects.
func aliases(t *testing.T, bao *setup.OpenBaoServer) map[string]string {
	t.Helper()
	read := func(path string, into any) {
		reply, err := bao.Request(t.Context(), bao.Token, http.MethodGet, path, nil)
		if err == nil {
			err = json.Unmarshal(reply.Data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var list struct {
		Keys []string `json:"keys"`
	}
	read("identity/entity-alias/id?list=true", &list)
	names := map[string]string{}
	for _, id := range list.Keys {
		var alias struct {
			Name     string            `json:"name"`
			Metadata map[string]string `json:"metadata"`
		}
		read("identity/entity-alias/id/"+id, &alias)
		names[alias.Name] = alias.Metadata["username"]
	}
	return names
}

// trino takes Keycloak's ID token itself: its user is the person.
func trino(t *testing.T, c *company) {
	d := sit(t, c, usual)
	d.approve()
	d.signedIn("ann")
	server := setup.Trino(t, setup.TrinoConfig{
		Issuer: d.front.realm.URL, JWKS: d.front.realm.JWKS, Audience: usual, Claim: "preferred_username", UserPattern: "(.+)",
	}, "ann", func() string { return d.kept().ID })
	d.env = append(d.env, "REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=") // which requests prefers to the profile's `cert`
	d.target(
		fmt.Sprintf(`{type: trino, host: %q, port: %d, user: "${preferred_username}", database: memory, schema: marts, threads: 1, cert: %q}`,
			server.Host, server.Port, server.CA),
		fmt.Sprintf("{oidc: {audience: %s}}", usual), "{identity: engineers, groups: [analysts], preferred_username: [ann, max]}")
	d.write("models/who.sql", "{{ config(materialized='table') }}\nselect current_user as who\n")
	for _, person := range []string{"ann", "max"} {
		d.signedIn(person)
		if out, status := d.exec("dbt", "run"); status != 0 || !strings.Contains(out, "PASS=1 WARN=0 ERROR=0") {
			t.Fatalf("dbt run of %s: status %d\n%s", person, status, out)
		}
		token := d.kept().ID
		if rows, err := server.Query(t.Context(), person, token, "select who from memory.marts.who"); err != nil || fmt.Sprint(rows) != "[["+person+"]]" {
			t.Errorf("Trino's user was %v, %v, want %s", rows, err, person)
		}
		const other = "eve"
		if rows, err := server.Query(t.Context(), other, token, "select 1"); err == nil || !strings.Contains(err.Error(), "cannot impersonate user "+other) {
			t.Errorf("as another person: %v, %v", rows, err)
		}
	}
}
