package wall

import "fmt"

// keycloakClient is a client as Keycloak's admin API has it.
type keycloakClient struct {
	ClientID                string            `json:"clientId"`
	Enabled                 *bool             `json:"enabled"`
	PublicClient            bool              `json:"publicClient"`
	ServiceAccountsEnabled  bool              `json:"serviceAccountsEnabled"`
	ClientAuthenticatorType string            `json:"clientAuthenticatorType"`
	Attributes              map[string]string `json:"attributes"`
}

// keycloakProvider is an identity provider of the realm, likewise.
type keycloakProvider struct {
	Alias      string            `json:"alias"`
	ProviderID string            `json:"providerId"`
	Enabled    *bool             `json:"enabled"`
	Config     map[string]string `json:"config"`
}

// Keycloak reads a client that authenticates with assertions of an identity
// provider of its realm ("Signed JWT - Federated"), and says whose token gets
// client credentials. realm is the realm's URL, which must be the assertion's
// only audience.
func Keycloak(client, provider []byte, realm string) (Wall, error) {
	var c keycloakClient
	if err := read(client, &c); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	var p keycloakProvider
	if err := read(provider, &p); err != nil {
		return nil, fmt.Errorf("identity provider: %w", err)
	}
	if c.ClientID == "" || p.Alias == "" {
		return nil, fmt.Errorf("clientId is %q, alias is %q: both are required", c.ClientID, p.Alias)
	}
	on := func(enabled *bool) bool { return enabled == nil || *enabled }
	federates := on(c.Enabled) && !c.PublicClient && c.ServiceAccountsEnabled &&
		c.ClientAuthenticatorType == "federated-jwt" && c.Attributes["jwt.credential.issuer"] == p.Alias &&
		on(p.Enabled) && p.ProviderID == "oidc" && p.Config["supportsClientAssertions"] == "true"
	return func(claims map[string]any) (bool, error) {
		issuer, ok := text(claims, "iss")
		subject, ok2 := text(claims, "sub")
		audiences := values(claims["aud"])
		return federates && ok && ok2 && issuer == p.Config["issuer"] && subject == c.Attributes["jwt.credential.sub"] &&
			len(audiences) == 1 && audiences[0] == realm, nil
	}, nil
}
