package adapter

import (
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// publicAuthority is Entra ID in Azure's public cloud.
const publicAuthority = "https://login.microsoftonline.com"

// managedIdentity has Azure's SDKs ask the broker as they would ask App
// Service, for each token; what they get is exchanged by the broker.
func managedIdentity(served route.Address) []Variable {
	return []Variable{
		{"IDENTITY_ENDPOINT", secret.New(fmt.Sprintf("http://%s:%d/token", served.Host, served.Port)), false},
		{"IDENTITY_HEADER", served.Secret, true},
	}
}

// federatedTokenFile has Azure's SDKs exchange the ID token in the file by
// themselves, for any resource that they need.
func federatedTokenFile(g Facts, served route.Address) []Variable {
	exchange := g.Exchange()
	authority := exchange.Get("authority")
	if authority == "" {
		authority = publicAuthority
	}
	return []Variable{
		{"AZURE_FEDERATED_TOKEN_FILE", secret.New(served.File), false},
		{"AZURE_CLIENT_ID", secret.New(exchange.Get("client_id")), false},
		{"AZURE_TENANT_ID", secret.New(exchange.Get("tenant")), false},
		{"AZURE_AUTHORITY_HOST", secret.New(authority), false},
	}
}
