package trust

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

func TestTrino(t *testing.T) {
	t.Parallel()
	goldens(t, "trino")
}

// evaluateTrino returns what a coordinator would make of the files: whether a
// token becomes the target's user.
func evaluateTrino(d Demand, w Wall) (func(map[string]any) (bool, error), error) {
	m, err := wall.Trino([]byte(w.Documents[0].Text), []byte(w.Documents[1].Text))
	if err != nil {
		return nil, err
	}
	return m.Wall(d.trinoUser()), nil
}

const exchangeTrino = "{oidc: {audience: trino.acme.example}}\n    dbt: {type: trino, host: trino.acme.example, port: 443, user: 'd$1bt', database: lake, schema: marts}"

func TestTrinoAgrees(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{
		"plain": {}, "owner": {OwnerIDs: map[string]string{"acme": "7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			last, admits := "", (func(map[string]any) (bool, error))(nil)
			agreement{
				exchange: exchangeTrino, options: options, policies: 4, tokens: 3000,
				evaluate: func(d Demand, w Wall, claims map[string]any) (bool, error) {
					if text := documents(w); text != last {
						var err error
						if admits, err = evaluateTrino(d, w); err != nil {
							return false, err
						}
						last = text
					}
					return admits(claims)
				},
			}.run(t)
		})
	}
}

func TestTrinoChecks(t *testing.T) {
	t.Parallel()
	checks{
		exchange: exchangeTrino, policies: 12, tokens: 100,
		export: func(_ Demand, w Wall) []File {
			return []File{{Name: "config.properties", Text: []byte(w.Documents[0].Text)}, {Name: "users.json", Text: []byte(w.Documents[1].Text)}}
		},
		evaluate: evaluateTrino,
	}.run(t)
}
