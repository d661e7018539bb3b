package provider_test

import (
	"testing"
	"time"
)

// tokenEndpoint is the one hop at an authorization server. (RFC 6749 §5)
var tokenEndpoint = hop{
	name:    "token",
	reply:   `{"access_token": "eyJhbGci.access-token.0123456789", "token_type": "Bearer", "expires_in": 300, "scope": "openid"}`,
	secrets: []string{"access_token"},
	expiry:  "expires_in",
	kind:    "token_type",
	also:    []mutation{{"token_type", nil}, {"token_type", "DPoP"}},
	refusal: `{"error": "$CODE", "error_description": "$MESSAGE"}`,
	refusals: []refusal{
		{400, "invalid_grant", "User not found"},
		{401, "invalid_client", "Invalid client or Invalid client credentials"},
		{400, "unauthorized_client", "Client not enabled to retrieve service account"},
		{400, "unsupported_grant_type", "Unsupported grant_type"},
		{400, "invalid_target", "The target service is not known."},
		{400, "invalid_scope", "Invalid scopes: admin"},
		{400, "invalid_request", "Missing parameter"},
		{400, "temporarily_unavailable", "Try again"},
	},
}

// exchanged is a reply of RFC 8693 §2.2.1, which says what was issued.
var exchanged = hop{
	name:    "token",
	reply:   `{"access_token": "eyJhbGci.access-token.0123456789", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "bearer", "expires_in": 300}`,
	secrets: tokenEndpoint.secrets,
	expiry:  tokenEndpoint.expiry,
	kind:    "token_type",
	also: []mutation{
		{"issued_token_type", "urn:ietf:params:oauth:token-type:refresh_token"}, {"issued_token_type", "urn:ietf:params:oauth:token-type:id_token"},
		{"issued_token_type", "urn:ietf:params:oauth:token-type:saml2"},
	},
	refusal:  tokenEndpoint.refusal,
	refusals: tokenEndpoint.refusals,
}

var tokenExchange = []fixture{{
	name: "token-exchange",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      token_exchange:
        token_url: https://auth.acme.example/oauth2/token
        audience: https://auth.acme.example
        client_id: dbt
        scope: session:role:TRANSFORMER offline
        resource: https://acme-prod.snowflakecomputing.com
        target_audience: snowflake
        subject_token_type: urn:acme:github`,
	hops: []hop{exchanged},
	want: issued{kind: "access_token", id: "dbt", life: 5 * time.Minute},
}, {
	name: "token-exchange-least",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      token_exchange: {token_url: https://auth.acme.example/token, audience: acme}`,
	hops: []hop{exchanged},
	want: issued{kind: "access_token", id: "repo:acme/analytics:environment:production", life: 5 * time.Minute},
}, {
	name: "token-exchange-jwt-bearer",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      token_exchange: {token_url: https://auth.acme.example/token, audience: acme, grant: jwt_bearer, client_id: dbt-production, client_authentication: id_token, scope: trino}`,
	hops: []hop{tokenEndpoint},
	want: issued{kind: "access_token", id: "dbt-production", life: 5 * time.Minute},
}, {
	name: "token-exchange-client-assertion",
	target: `
    dbt: {from: profiles.yml}
    exchange:
      token_exchange: {token_url: https://auth.acme.example/token, audience: acme, grant: client_assertion}`,
	hops: []hop{tokenEndpoint},
	want: issued{kind: "access_token", id: "repo:acme/analytics:environment:production", life: 5 * time.Minute},
}}

func TestTokenExchangeRefusesPolicies(t *testing.T) {
	t.Parallel()
	const good = "token_url: https://auth.acme.example/token, audience: acme"
	checkPolicies(t, "token_exchange", []policyCase{
		{name: "good", block: good},
		{name: "a claim in client and scope", block: good + `, client_id: "dbt-${environment}", scope: "session:role:${environment}"`},
		{name: "nothing", block: "", err: "token_exchange has no token_url\ntoken_exchange has no audience"},
		{name: "a secret", block: good + ", client_secret: hunter2",
			err: `unknown key "client_secret" in token_exchange, valid keys are ["token_url" "audience" "grant" "client_id" "client_authentication" "scope" "resource" "target_audience" "subject_token_type"]`},
		{name: "plain http", block: "token_url: http://auth.acme.example, audience: acme", err: `token_url "http://auth.acme.example": scheme is "http", want https (http is for loopback only)`},
		{name: "a claim in the URL", block: `token_url: "https://${environment}.example", audience: acme`,
			err: "token_url: ${…} is not allowed here: a claim must not choose a host, a URL, an account, an authority or an audience"},
		{name: "a vendor's audience", block: "token_url: https://auth.acme.example, audience: sts.amazonaws.com",
			err: `token_url: host "auth.acme.example" is not one of AWS, whose audience "sts.amazonaws.com" the token has: give an audience of its own`},
		{name: "no such grant", block: good + ", grant: password", err: `grant "password": valid values are ["token_exchange" "jwt_bearer" "client_assertion"]`},
		{name: "no such authentication", block: good + ", client_authentication: secret", err: `client_authentication "secret": valid values are ["none" "id_token"]`},
		{name: "an assertion that is none", block: good + ", grant: client_assertion, client_authentication: none",
			err: "client_authentication: must be the ID token with grant client_assertion"},
		{name: "a type for nothing", block: good + ", grant: jwt_bearer, subject_token_type: urn:acme:github",
			err: "subject_token_type: requires grant token_exchange, not jwt_bearer"},
		{name: "a type that is no URI", block: good + ", subject_token_type: jwt", err: `subject_token_type "jwt": want an absolute URI without a fragment`},
		{name: "a resource that is no URI", block: good + ", resource: trino", err: `resource "trino": want an absolute URI without a fragment`},
		{name: "a resource with a fragment", block: good + `, resource: "https://trino.example#x"`, err: `resource "https://trino.example#x": want an absolute URI without a fragment`},
		{name: "a scope with two spaces", block: good + ", scope: a  b", err: `scope "a  b": want OAuth scopes separated by single spaces`},
		{name: "a client with a line break", block: good + `, client_id: "a\nb"`, err: `client_id "a\nb": want 1 to 255 visible characters`},
	})
}
