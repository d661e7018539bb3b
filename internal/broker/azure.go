package broker

import (
	"net/http"
	"strconv"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// managedIdentity is Azure App Service's endpoint for managed identities, which
// Azure's SDKs use if IDENTITY_ENDPOINT and IDENTITY_HEADER are set. It answers
// with the credential, for any requested resource or identity. (Azure App
// Service: How to use managed
// identities, REST endpoint reference, api-version 2019-08-01)
func managedIdentity(b *Broker) (service, error) {
	return service{handler: b.answer(dialect{
		shown:   func(r *http.Request) string { return r.Header.Get("X-Identity-Header") },
		unknown: "the identity header does not belong to this run",
		reply: func(r *http.Request, c credential.Credential) any {
			return map[string]any{
				"access_token": c.Token.Reveal(), "token_type": "Bearer", "resource": r.URL.Query().Get("resource"),
				"expires_on": strconv.FormatInt(c.Expiry.Unix(), 10), // a string, as there
			}
		},
		refuse:   func(status int, words string) any { return map[string]any{"statusCode": status, "message": words} },
		patience: azurePatience,
	})}, nil
}

// federatedTokenURL answers as GitHub's own token endpoint does, with the ID
// token, which dbt-fabric exchanges at Entra ID by itself.
func federatedTokenURL(b *Broker) (service, error) {
	return service{handler: b.answer(dialect{
		shown:    bearerOf,
		unknown:  "the bearer token does not belong to this run",
		reply:    func(_ *http.Request, c credential.Credential) any { return map[string]any{"value": c.Token.Reveal()} },
		refuse:   func(_ int, words string) any { return map[string]any{"message": words} },
		patience: fabricPatience,
	})}, nil
}

// azureTokenFile is the file with the ID token that Azure's SDKs read for a
// workload identity, and exchange at Entra ID by themselves. (Microsoft Entra
// Workload ID: service account token volume projection)
func azureTokenFile(*Broker) (service, error) {
	return service{file: &file{name: "azure-federated-token", content: func(c credential.Credential) ([]byte, error) {
		return []byte(c.Token.Reveal()), nil
	}}}, nil
}
