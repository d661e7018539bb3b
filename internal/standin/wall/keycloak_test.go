package wall

import (
	"strings"
	"testing"
)

func TestKeycloak(t *testing.T) {
	t.Parallel()
	const (
		client = `{"clientId":"dbt","enabled":true,"publicClient":false,"serviceAccountsEnabled":true,"clientAuthenticatorType":"federated-jwt",
			"attributes":{"jwt.credential.issuer":"github","jwt.credential.sub":"repo:acme/analytics:environment:production"}}`
		provider = `{"alias":"github","providerId":"oidc","enabled":true,
			"config":{"issuer":"https://token.actions.githubusercontent.com","supportsClientAssertions":"true","useJwksUrl":"true"}}`
		realm = "https://sso.acme.example/realms/ci"
	)
	for _, tt := range []struct {
		name     string
		old, new string // in client and provider
		changes  map[string]any
		want     bool
		err      string
	}{
		{"good", "", "", nil, true, ""},
		{"another subject", "", "", map[string]any{"sub": "repo:acme/analytics:environment:staging"}, false, ""},
		{"no wildcards", "environment:production", "*", nil, false, ""},
		{"other claims do not matter", "", "", map[string]any{"event_name": "pull_request_target", "repository_id": "1"}, true, ""},
		{"another issuer", "", "", map[string]any{"iss": "https://gitlab.com"}, false, ""},
		{"another audience", "", "", map[string]any{"aud": "dbt"}, false, ""},
		{"several audiences", "", "", map[string]any{"aud": []any{realm, "x"}}, false, ""},
		{"another provider", `"github","jwt`, `"gitlab","jwt`, nil, false, ""},
		{"another authenticator", "federated-jwt", "client-secret", nil, false, ""},
		{"a disabled client", `"dbt","enabled":true`, `"dbt","enabled":false`, nil, false, ""},
		{"a public client", `"publicClient":false`, `"publicClient":true`, nil, false, ""},
		{"no service account", `"serviceAccountsEnabled":true`, `"serviceAccountsEnabled":false`, nil, false, ""},
		{"a provider without assertions", `"supportsClientAssertions":"true"`, `"supportsClientAssertions":"false"`, nil, false, ""},
		{"no client id", `"clientId":"dbt"`, `"clientId":""`, nil, false, `clientId is "", alias is "github": both are required`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			change := func(doc string) []byte {
				if tt.old == "" {
					return []byte(doc)
				}
				return []byte(strings.ReplaceAll(doc, tt.old, tt.new))
			}
			wall, err := Keycloak(change(client), change(provider), realm)
			if message(err) != tt.err {
				t.Fatalf("got %q, want %q", message(err), tt.err)
			}
			if err == nil {
				wantWall(t, wall, gitHubClaims(with(map[string]any{"aud": realm}, tt.changes)), tt.want, "")
			}
		})
	}
}
