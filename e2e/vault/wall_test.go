//go:build e2e

package vault

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

// TestWallDecidesAsOpenBao writes roles and logs in with tokens, at OpenBao
// and at the evaluators that judge the generated trust: both accept and refuse
// the same roles, and the same tokens.
func TestWallDecidesAsOpenBao(t *testing.T) {
	t.Parallel()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	bao := setup.OpenBao(t)
	bao.TrustIssuer(t, issuer)
	admitted, refused := 0, 0
	for i, role := range wallRoles() {
		path, login, read := "role", "auth/jwt/login", wall.Vault
		if _, isCEL := role["cel_program"]; isCEL {
			path, login, read = "cel/role", "auth/jwt/cel/login", wall.OpenBaoCEL
		}
		doc, err := json.Marshal(role)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("r%d", i)
		_, baoErr := bao.Request(t.Context(), bao.Token, http.MethodPost, "auth/jwt/"+path+"/"+name, json.RawMessage(doc))
		wallOf, err := read(doc)
		if (baoErr == nil) != (err == nil) {
			t.Errorf("%s: OpenBao says %v, the evaluator %v", doc, baoErr, err)
			continue
		}
		if err != nil {
			refused++
			continue
		}
		for _, changes := range wallTokens() {
			claims := standin.GitHubClaims()
			maps.Copy(claims, map[string]any{"iss": issuer.URL(), "aud": "bao"})
			maps.Copy(claims, changes)
			maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
			_, baoErr := bao.Request(t.Context(), "", http.MethodPost, login, map[string]any{"role": name, "jwt": issuer.Sign("bao", changes)})
			got, err := wallOf(claims)
			if err != nil || got != (baoErr == nil) {
				t.Errorf("%s with %v: OpenBao says %v, the evaluator %v, %v", doc, changes, baoErr, got, err)
			}
			if got {
				admitted++
			}
		}
	}
	if admitted < 50 || refused < 5 {
		t.Errorf("%d logins and %d refused roles, want at least 50 and 5", admitted, refused)
	}
}

// wallTokens are changes to a token; nil removes a claim.
func wallTokens() []map[string]any {
	return []map[string]any{
		nil,
		{"ref": "refs/heads/dev"},
		{"ref": "refs/heads/a/b"},
		{"ref": "refs/heads/a,b"},
		{"environment": "production"},
		{"environment": nil, "sub": "repo:acme/analytics:ref:refs/heads/main"},
		{"repository": "acme/analytics-2", "sub": "repo:acme/analytics-2:ref:refs/heads/main"},
		{"event_name": "pull_request_target"},
		{"groups": []any{"a", "b"}},
		{"number": 7, "yes": true, "deep": map[string]any{"a/b": []any{"x"}}},
		{"actor": nil},
		{"aud": "vault"},
		{"aud": []any{"vault", "bao"}},
	}
}

// wallRoles are roles of both kinds, also such that OpenBao refuses.
func wallRoles() []map[string]any {
	var roles []map[string]any
	role := func(changes map[string]any) {
		r := map[string]any{"role_type": "jwt", "user_claim": "actor", "bound_audiences": []string{"bao"}}
		maps.Copy(r, changes)
		maps.DeleteFunc(r, func(_ string, v any) bool { return v == nil })
		roles = append(roles, r)
	}
	bound := func(kind string, claims map[string]any) {
		role(map[string]any{"bound_claims_type": kind, "bound_claims": claims})
	}
	type claims = map[string]any
	role(nil)
	role(claims{"bound_audiences": "bao, vault"})
	role(claims{"bound_audiences": nil, "bound_claims": claims{"repository": "acme/analytics"}})
	role(claims{"bound_audiences": nil})
	role(claims{"user_claim": nil})
	role(claims{"role_type": nil})
	role(claims{"role_type": "cel"})
	role(claims{"groups_claim": "groups"})
	role(claims{"claim_mappings": claims{"number": "n", "ref": "r"}})
	role(claims{"bound_subject": "repo:acme/analytics:ref:refs/heads/main"})
	role(claims{"bound_subject": "repo:acme/*", "bound_claims_type": "glob"})
	role(claims{"bound_claims_type": "regex"})
	bound("string", claims{"ref": "refs/heads/*"})
	bound("string", claims{"ref": "refs/heads/a,b"})
	bound("string", claims{"ref": []string{"refs/heads/main", "refs/heads/dev"}, "repository": []string{"acme/analytics", "x"}})
	bound("string", claims{"groups": "b"})
	bound("string", claims{"number": 7})
	bound("string", claims{"number": "7"})
	bound("string", claims{"yes": true})
	bound("string", claims{"deep": "x"})
	bound("string", claims{"/deep/a~1b/0": "x"})
	bound("glob", claims{"ref": "refs/heads/*"})
	bound("glob", claims{"ref": "refs/heads/main*"})
	bound("glob", claims{"ref": "heads/main"})
	bound("glob", claims{"repository": "acme/analytic?"})
	bound("glob", claims{"environment": "*"})
	bound("glob", claims{"sub": "repo:*:refs/heads/main"})
	bound("glob", claims{"number": 7})
	for _, expression := range []string{
		"true", "false", "'no'", "", "claims.sub = 'x'", "claims.repository == 'acme/analytics'", "other.sub == 'x'", "pb.Auth{policy: 'x'}",
		"claims.sub + 1 == 2", "1 + 'a' == 'b'", "'x'.startsWith(1)", "now == 'x'", "operation == 1", "claims.a.b.c == 'x'", "claims == 1",
		"claims.sub ? pb.Auth{} : 1", "claims.sub.startsWith(1)", "claims.unknown(1)", "cel.bind(a, 1, a == 1)", "math.greatest(1, 2) == 2",
		"claims[1] == 'x'", "size(claims) > 1 ? pb.Auth{display_name: claims.sub} : 1", "pb.Auth{policies: 'x'}", "pb.Auth{policies: claims.sub}",
		"pb.Auth{alias: logical.Alias{name: claims.sub}}", "pb.Auth{alias: pb.Alias{name: claims.sub}}", "base64.encode(b'x') == ''",
		"pb.Auth{display_name: claims.sub, alias: {'name': claims.sub}}", "[claims.sub].exists(s, s == 'x')", "claims.sub == 1", "1 == 'a'",
		"claims.sub == 'x' && claims.repository == 'x' ? pb.Auth{display_name: claims.sub} : false",
		"has(claims.environment) && claims.environment == 'production' ? pb.Auth{display_name: claims.sub, policies: ['x']} : false",
		"has(claims.ref) && claims.ref.matches('^refs/heads/[^/]*$') ? pb.Auth{display_name: claims.sub} : 'another ref'",
		"has(claims.ref) && claims.ref.matches('refs/heads/main') || has(claims.groups) && 'b' in claims.groups ? pb.Auth{display_name: claims.sub} : false",
		"has(claims.event_name) && sets.contains(['push', 'schedule'], [claims.event_name]) ? pb.Auth{display_name: claims.sub} : false",
		"!has(claims.number) || claims.number == 7.0 ? pb.Auth{display_name: claims.sub, metadata: {'a': 'b'}} : false",
		"claims.sub.split(':').size() > 2 && claims.sub.split(':')[1].lowerAscii() == 'acme/analytics' ? pb.Auth{display_name: claims.sub} : false",
		"claims.?environment.orValue('production') == 'production' ? pb.Auth{display_name: claims.sub} : false",
		"regex.replace(claims.sub, '^repo:', '').startsWith('acme/') && [1].distinct().size() == 1 ? pb.Auth{display_name: claims.sub} : false",
		"claims.sub != 'email@example.com' && claims.environment == 'production' ? pb.Auth{display_name: claims.sub} : false",
		"operation == 'update' && now > timestamp('2020-01-01T00:00:00Z') ? pb.Auth{display_name: claims.sub} : false",
	} {
		roles = append(roles, claims{"bound_audiences": []string{"bao"}, "cel_program": claims{"expression": expression}})
	}
	roles = append(roles,
		claims{"cel_program": claims{"expression": "pb.Auth{display_name: claims.sub}"}},
		claims{"bound_audiences": "bao", "cel_program": claims{"expression": "main ? pb.Auth{display_name: claims.sub} : false",
			"variables": []claims{{"name": "ref", "expression": "claims.?ref.orValue('')"}, {"name": "main", "expression": "ref == 'refs/heads/main'"}}}})
	return roles
}
