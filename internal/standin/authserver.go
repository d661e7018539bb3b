package standin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// AuthServerConfig is a company's authorization server that trusts the ID
// tokens of one issuer. Its words are Keycloak's.
type AuthServerConfig struct {
	IssuerURL string
	Audience  string                // of ID tokens; the token endpoint's URL where ""
	Clients   map[string]AuthClient // by client id
	Users     []string              // the subjects that are users, for a grant of one
	Lifetime  time.Duration         // 300 s where 0
	Now       func() time.Time      // time.Now where nil
}

// An AuthClient is a client of the server. It has no secret.
type AuthClient struct {
	Subject string   // whose ID token authenticates it; "" for a public client
	Scopes  []string // that it may ask for; it gets all where it asks for none
	Targets []string // the values of resource and audience that it may name
}

// StartAuthServer starts the token endpoint, /token, on loopback. It takes the
// grants client_credentials (with a client assertion), jwt-bearer (RFC 7523)
// and token-exchange (RFC 8693).
func StartAuthServer(config AuthServerConfig) (*TokenService, error) {
	if config.Lifetime == 0 {
		config.Lifetime = 300 * time.Second
	}
	return startTokenService(config.Now, func(s *TokenService, mux *http.ServeMux) {
		mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) { config.token(s, w, r) })
	})
}

// verify returns the claims of an ID token, or the server's words of refusal.
func (c AuthServerConfig) verify(s *TokenService, r *http.Request, raw string) (claims jwt.MapClaims, refusal string) {
	audience := c.Audience
	if audience == "" {
		audience = s.URL() + "/token"
	}
	claims, err := unverified(raw)
	switch {
	case err != nil:
		return nil, "The provided assertion is not a valid JWT"
	case claim(claims, "iss") != c.IssuerURL:
		return nil, "No Identity Provider for provided issuer"
	case !audienceIs(claims, audience):
		return nil, "Invalid token audience"
	}
	switch err := s.verify(r.Context(), raw, c.IssuerURL); {
	case err == nil:
		return claims, ""
	case errors.Is(err, errTimes):
		return nil, "Token is not active"
	}
	return nil, "Invalid signature"
}

// client returns who asks: by the assertion where there is one, else the
// public client that is named.
func (c AuthServerConfig) client(s *TokenService, r *http.Request,
	form func(string) string) (id string, client AuthClient, refusal string) {
	const invalid = "Invalid client or Invalid client credentials"
	raw := form("client_assertion")
	if raw == "" {
		client, ok := c.Clients[form("client_id")]
		if !ok || client.Subject != "" {
			return "", client, invalid
		}
		return form("client_id"), client, ""
	}
	if form("client_assertion_type") != clientAssertionType {
		return "", client, invalid
	}
	claims, refusal := c.verify(s, r, raw)
	if refusal != "" {
		if refusal != "Invalid token audience" && refusal != "Token is not active" {
			refusal = invalid
		}
		return "", client, refusal
	}
	for id, client := range c.Clients {
		if client.Subject != "" && client.Subject == claim(claims, "sub") && (form("client_id") == "" || form("client_id") == id) {
			return id, client, ""
		}
	}
	return "", client, invalid
}

// A refusal is an error reply in the words of RFC 6749.
type refusal struct {
	status            int
	code, description string
}

func (c AuthServerConfig) token(s *TokenService, w http.ResponseWriter, r *http.Request) {
	answer, refused := c.answer(s, r)
	if refused != nil {
		oauthError(w, refused.status, refused.code, refused.description, nil)
		return
	}
	reply(w, answer)
}

func (c AuthServerConfig) answer(s *TokenService, r *http.Request) (answer map[string]any, refused *refusal) {
	form, ok := parameters(r)
	if !ok {
		return nil, &refusal{http.StatusBadRequest, "invalid_request", "Form parameters are missing, or there twice"}
	}
	id, client, words := c.client(s, r, form)
	if words != "" {
		return nil, &refusal{http.StatusUnauthorized, "invalid_client", words}
	}
	who, refused := c.subject(s, r, form, id, client)
	if refused != nil {
		return nil, refused
	}
	scopes, refused := client.granted(form)
	if refused != nil {
		return nil, refused
	}
	answer = map[string]any{"token_type": "Bearer", "expires_in": int(c.Lifetime.Seconds()),
		"access_token": s.issue(who, scopes, c.Lifetime).Value, "scope": strings.Join(scopes, " ")}
	if form("grant_type") == tokenExchangeGrant {
		answer["issued_token_type"] = accessTokenType
	}
	return answer, nil
}

// subject returns whom the token is for: the client itself or, by the grants
// that carry an ID token, its user.
func (c AuthServerConfig) subject(s *TokenService, r *http.Request,
	form func(string) string, id string, client AuthClient) (who string, refused *refusal) {
	raw := ""
	switch form("grant_type") {
	case "client_credentials":
		if client.Subject == "" {
			return "", &refusal{http.StatusBadRequest, "unauthorized_client", "Public client not allowed to retrieve service account"}
		}
		return id, nil
	case jwtBearerGrant:
		raw = form("assertion")
	case tokenExchangeGrant:
		if form("subject_token_type") != jwtType || !slices.Contains([]string{"", accessTokenType}, form("requested_token_type")) {
			return "", &refusal{http.StatusBadRequest, "invalid_request", "The token type is not supported"}
		}
		raw = form("subject_token")
	default:
		return "", &refusal{http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant_type"}
	}
	claims, words := c.verify(s, r, raw)
	if words != "" {
		return "", &refusal{http.StatusBadRequest, "invalid_grant", words}
	}
	if who = claim(claims, "sub"); !slices.Contains(c.Users, who) {
		return "", &refusal{http.StatusBadRequest, "invalid_grant", "User not found"}
	}
	return who, nil
}

// granted returns the scopes that the client gets, where it may name what it names.
func (client AuthClient) granted(form func(string) string) (scopes []string, refused *refusal) {
	for _, target := range []string{form("resource"), form("audience")} {
		if target != "" && !slices.Contains(client.Targets, target) {
			return nil, &refusal{http.StatusBadRequest, "invalid_target", "Requested target not available: " + target}
		}
	}
	scopes = strings.Fields(form("scope"))
	for _, scope := range scopes {
		if !slices.Contains(client.Scopes, scope) {
			return nil, &refusal{http.StatusBadRequest, "invalid_scope", "Invalid scopes: " + form("scope")}
		}
	}
	if len(scopes) == 0 {
		scopes = client.Scopes
	}
	return scopes, nil
}
