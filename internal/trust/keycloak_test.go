package trust

import (
	"encoding/json"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

func TestKeycloak(t *testing.T) {
	t.Parallel()
	goldens(t, "keycloak")
}

const keycloakExchange = `{token_exchange: {token_url: "https://sso.acme.example/realms/ci/protocol/openid-connect/token", ` +
	`audience: "https://sso.acme.example/realms/ci", grant: client_assertion}}`

// TestKeycloakAgrees: an implementation of Keycloak's clients that is not ours
// decides as the generator says, over random policies and tokens.
func TestKeycloakAgrees(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{
		"names": {}, "ids": {OwnerIDs: map[string]string{"acme": "7"}},
		"a template": {SubTemplate: []string{"repo", "context", "ref", "event_name"}, Repositories: map[string]string{"101": "acme/analytics"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agreement{exchange: keycloakExchange, policies: 10, tokens: 3400, options: options, evaluate: evaluateKeycloak()}.run(t)
		})
	}
}

// keycloakWall has the evaluator read each client of a document.
func keycloakWall(text string) (wall.Wall, error) {
	var doc struct{ IdentityProviders, Clients []json.RawMessage }
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, err
	}
	var clients []wall.Wall
	for _, c := range doc.Clients {
		for _, p := range doc.IdentityProviders {
			one, err := wall.Keycloak(c, p, "https://sso.acme.example/realms/ci")
			if err != nil {
				return nil, err
			}
			clients = append(clients, one)
		}
	}
	return func(claims map[string]any) (bool, error) {
		for _, one := range clients {
			if ok, err := one(claims); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	}, nil
}

func evaluateKeycloak() func(Demand, Wall, map[string]any) (bool, error) {
	last, trust := "", wall.Wall(nil)
	return func(_ Demand, w Wall, claims map[string]any) (bool, error) {
		if text := w.Documents[0].Text; text != last {
			var err error
			if trust, err = keycloakWall(text); err != nil {
				return false, err
			}
			last = text
		}
		return trust(claims)
	}
}
