package provider

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

var (
	visible   = lazy.MustCompile(`^[!-~]+$`)
	scopeList = lazy.MustCompile(`^[!#-\[\]-~]+(?: [!#-\[\]-~]+)*$`) // RFC 6749 §3.3
)

// grants are the ways to ask, by the value of `grant`.
var grants = []string{"token_exchange", "jwt_bearer", "client_assertion"}

// tokenExchangeProvider asks the company's own authorization server for an
// access token that the warehouse accepts. The ID token is the only proof:
// there is no client secret. (RFC 8693; RFC 7523 §2.1 and §2.2)
var tokenExchangeProvider = provider{
	spec: policy.Provider{
		Doc: "An authorization server of your own (RFC 8693, RFC 7523).",
		Keys: []policy.Key{
			{Name: "token_url", Required: true, Example: "https://auth.acme.example/oauth2/token", Check: exchange.CheckURL,
				Doc: "The authorization server's token endpoint, https or http on loopback."},
			{Name: "audience", Required: true, Example: "https://auth.acme.example",
				Doc: "The ID token's audience, as the server expects it: its issuer or token " +
					"endpoint, for example."},
			{Name: "grant", Choices: grants,
				Doc: "How to ask: token_exchange (RFC 8693, the default), jwt_bearer (RFC 7523 §2.1: the ID token is the grant) or " +
					"client_assertion (RFC 7523 §2.2: it authenticates the client, whose own token this is)."},
			{Name: "client_id", Example: "dbt", Claims: true,
				Check: exchange.Matching(visible, 1, 255, "1 to 255 visible characters"),
				Doc:   "The client's id (default: none is sent)."},
			{Name: "client_authentication", Choices: []string{"none", "id_token"},
				Doc: "How the client authenticates: none (the default) or id_token, with the ID token as its assertion too " +
					"(RFC 7523 §2.2)."},
			{Name: "scope", Claims: true, Example: "session:role:TRANSFORMER",
				Check: exchange.Matching(scopeList, 1, 1000, "OAuth scopes separated by single spaces"),
				Doc:   "The scopes to request, such as session:role:TRANSFORMER (default: the server's)."},
			{Name: "resource", Example: "https://trino.acme.example",
				Check: checkURI, Doc: "Where the token is used, as an absolute URI (RFC 8707)."},
			{Name: "target_audience", Example: "trino",
				Check: exchange.Matching(visible, 1, 500, "1 to 500 visible characters"),
				Doc:   "Where the token is used, by the server's name for it: the `audience` of the request (RFC 8693 §2.1)."},
			{Name: "subject_token_type", Example: "urn:ietf:params:oauth:token-type:jwt", Check: checkURI,
				Doc: "The type of the ID token with grant token_exchange (default: urn:ietf:params:oauth:token-type:jwt)."},
		},
		Audience: func(v policy.Values) string { return v.Get("audience") },
		Check: func(v policy.Values, _ time.Duration) []policy.KeyError {
			faults := exchange.CheckAudience(v, v.Get("audience"), "token_url")
			if grant := grantOf(v); grant != "token_exchange" && v.Get("subject_token_type") != "" {
				faults = append(faults, policy.KeyError{Key: "subject_token_type", Err: fmt.Errorf("requires grant "+
					"token_exchange, not %s", grant)})
			}
			if grantOf(v) == "client_assertion" && v.Get("client_authentication") == "none" {
				faults = append(faults, policy.KeyError{Key: "client_authentication",
					Err: errors.New("must be the ID token with grant client_assertion")})
			}
			return faults
		},
	},
	exchange: exchangeToken,
	endpoints: func(v policy.Values, _ credential.Warehouse) []string {
		return []string{v.Get("token_url")}
	},
}

func grantOf(v policy.Values) string {
	if g := v.Get("grant"); g != "" {
		return g
	}
	return grants[0]
}

func exchangeToken(ctx context.Context, env exchange.Env, r exchange.Request) (credential.Credential, error) {
	v, claims := r.Grant.Exchange(), r.Grant.Claims()
	t := tokenRequest{
		service: "the authorization server", url: v.Get("token_url"), form: url.Values{},
		hint: func(code, _ string) string { return tokenHint(code, r) },
	}
	switch grantOf(v) {
	case "token_exchange":
		t.form.Set("grant_type", tokenExchange)
		t.form.Set("subject_token_type", jwtToken)
		if kind := v.Get("subject_token_type"); kind != "" {
			t.form.Set("subject_token_type", kind)
		}
		t.form.Set("requested_token_type", accessToken) // else the server may give what it likes
		t.idToken = append(t.idToken, "subject_token")
	case "jwt_bearer":
		t.form.Set("grant_type", jwtBearer)
		t.idToken = append(t.idToken, "assertion")
	case "client_assertion":
		t.form.Set("grant_type", "client_credentials")
	}
	if grantOf(v) == "client_assertion" || v.Get("client_authentication") == "id_token" {
		t.form.Set("client_assertion_type", clientAssertion)
		t.idToken = append(t.idToken, "client_assertion")
	}
	for parameter, key := range map[string]string{"client_id": "client_id", "scope": "scope", "resource": "resource",
		"audience": "target_audience"} {
		if value := v.Get(key); value != "" {
			t.form.Set(parameter, value)
		}
	}
	c, err := t.send(ctx, env, r.IDToken)
	c.ID = v.Get("client_id")
	if c.ID == "" {
		c.ID = claims.Subject()
	}
	return c, err
}

// tokenHint knows the codes of RFC 6749 §5.2, RFC 8693 §2.2.2 and RFC 8707 §2.
func tokenHint(code string, r exchange.Request) string {
	v, claims := r.Grant.Exchange(), r.Grant.Claims()
	switch code {
	case "invalid_client", "invalid_grant":
		return fmt.Sprintf("the authorization server must trust issuer %s with audience %q, and know subject %q",
			claims.Issuer(), r.Grant.Audience(), claims.Subject())
	case "unauthorized_client", "unsupported_grant_type":
		return fmt.Sprintf("grant %s must be enabled at the authorization server, and for the client", grantOf(v))
	case "invalid_target":
		return "the authorization server does not know resource or target_audience, or does not issue this client a token for it"
	case "invalid_scope":
		if v.Get("scope") == "" {
			return "set scope to one that the client may request"
		}
		return fmt.Sprintf("the client may not request scope %q", v.Get("scope"))
	}
	return ""
}

// checkURI wants an absolute URI. (RFC 3986 §4.3)
func checkURI(value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" || !visible.MatchString(value) || strings.Contains(value, "#") {
		return errors.New("want an absolute URI without a fragment")
	}
	return nil
}
