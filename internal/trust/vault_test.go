package trust

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

func TestVault(t *testing.T) {
	t.Parallel()
	goldens(t, "vault")
}

func TestVaultAgrees(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{"plain": {}, "owner": {OwnerIDs: map[string]string{"acme": "7"}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agreement{
				exchange: `{vault: {address: "https://vault.acme.example", role: dbt, audience: "https://vault.acme.example", secret: secret/data/dbt}}`,
				options:  options, policies: 200, tokens: 250, evaluate: evaluateVault(wall.Vault),
			}.run(t)
		})
	}
}
