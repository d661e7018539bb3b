package trust

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

func TestEntra(t *testing.T) {
	t.Parallel()
	goldens(t, "entra")
}

const entraExchange = `{entra: {tenant: acme.onmicrosoft.com, client_id: 11111111-2222-3333-4444-555555555555, scope: "https://database.windows.net/.default"}}`

// TestEntraAgrees: an implementation of Entra ID's credentials that is not ours
// decides as the generator says, over random policies and tokens.
func TestEntraAgrees(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{
		"standard": {Values: map[string]string{"flexible": "never"}},
		"managed":  {Values: map[string]string{"identity": "managed"}, OwnerIDs: map[string]string{"acme": "7"}},
		"auto":     {}, "always": {Values: map[string]string{"flexible": "always"}},
		"a template": {SubTemplate: []string{"repo", "context", "ref", "event_name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agreement{exchange: entraExchange, policies: 8, tokens: 2500, options: options, evaluate: evaluateEntra()}.run(t)
		})
	}
}

// evaluateEntra decides by the documents, and holds them to what Graph accepts.
func evaluateEntra() func(Demand, Wall, map[string]any) (bool, error) {
	last, trust := "", wall.Wall(nil)
	return func(_ Demand, w Wall, claims map[string]any) (bool, error) {
		if text := w.Documents[0].Text; text != last {
			var err error
			if trust, err = wall.Entra([]byte(text)); err == nil {
				err = wall.EntraControl([]byte(text))
			}
			if err != nil {
				return false, err
			}
			last = text
		}
		return trust(claims)
	}
}
