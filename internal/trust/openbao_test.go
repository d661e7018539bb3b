package trust

import (
	"maps"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

func TestOpenBao(t *testing.T) {
	t.Parallel()
	goldens(t, "openbao")
}

func TestOpenBaoAgrees(t *testing.T) {
	t.Parallel()
	agreement{
		exchange: `{vault: {auth: cel, address: "https://bao.acme.example", role: dbt, audience: "https://bao.acme.example", secret: secret/data/dbt}}`,
		policies: 200, tokens: 500, evaluate: evaluateVault(wall.OpenBaoCEL),
	}.run(t)
}

// evaluateVault returns what the server would make of a role and a token. Every
// token has a run and a repository; the issuer is checked by the auth method.
func evaluateVault(read func([]byte) (wall.Wall, error)) func(Demand, Wall, map[string]any) (bool, error) {
	role, admits := "", wall.Wall(nil)
	return func(d Demand, w Wall, claims map[string]any) (bool, error) {
		if text := w.Documents[0].Text; text != role {
			var err error
			if admits, err = read([]byte(text)); err != nil {
				return false, err
			}
			role = text
		}
		claims = maps.Clone(claims)
		for _, claim := range []string{"run_id", "repository_id"} {
			if claims[claim] == nil {
				claims[claim] = "1"
			}
		}
		got, err := admits(claims)
		return got && claims["iss"] == d.Rules[0].Identity.Issuer, err
	}
}

// checksOf are checks of one of Vault's languages.
func checksOf(auth string, read func([]byte) (wall.Wall, error)) checks {
	return checks{
		exchange: `{vault: {` + auth + `address: "https://bao.acme.example", role: dbt, audience: "https://bao.acme.example", secret: secret/data/dbt}}`,
		policies: 12, tokens: 100,
		export: func(_ Demand, w Wall) []File {
			return []File{{Name: "role.json", Text: []byte(`{"data": ` + w.Documents[0].Text + `}`)}}
		},
		evaluate: func(d Demand, w Wall) (func(map[string]any) (bool, error), error) {
			admits := evaluateVault(read)
			return func(claims map[string]any) (bool, error) { return admits(d, w, claims) }, nil
		},
	}
}

func TestOpenBaoChecks(t *testing.T) {
	t.Parallel()
	checksOf("auth: cel, ", wall.OpenBaoCEL).run(t)
}

func TestVaultChecks(t *testing.T) {
	t.Parallel()
	checksOf("", wall.Vault).run(t)
}
