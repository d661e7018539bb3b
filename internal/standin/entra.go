package standin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// EntraConfig is a tenant of Microsoft Entra ID.
type EntraConfig struct {
	Tenant       string
	Applications map[string][]FederatedCredential // by client id
	Resources    []string                         // that the tenant knows, such as https://database.windows.net
	Lifetime     time.Duration                    // 3599 s where 0
	Now          func() time.Time                 // time.Now where nil
}

// A FederatedCredential is the trust in one workload, compared to the letter.
type FederatedCredential struct{ Issuer, Subject, Audience string }

// StartEntra starts the token endpoint of a tenant on loopback.
func StartEntra(config EntraConfig) (*TokenService, error) {
	if config.Lifetime == 0 {
		config.Lifetime = 3599 * time.Second
	}
	return startTokenService(config.Now, func(s *TokenService, mux *http.ServeMux) {
		mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) { config.token(s, w, r) })
	})
}

// An aadsts is a refusal by one of Entra's codes.
type aadsts struct {
	status      int
	oauth       string
	code        int
	description string
}

func refuse(status int, oauth string, code int, format string, args ...any) *aadsts {
	return &aadsts{status, oauth, code, fmt.Sprintf(format, args...)}
}

func refuseRequest(oauth string, code int, format string, args ...any) *aadsts {
	return refuse(http.StatusBadRequest, oauth, code, format, args...)
}

func refuseClient(code int, format string, args ...any) *aadsts {
	return refuse(http.StatusUnauthorized, "invalid_client", code, format, args...)
}

func (a *aadsts) write(w http.ResponseWriter, at time.Time) {
	now := at.UTC().Format("2006-01-02 15:04:05Z")
	const id = "00000000-0000-4000-8000-000000000000"
	description := fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", a.code, a.description, id, id, now)
	oauthError(w, a.status, a.oauth, description, map[string]any{
		"error_codes": []int{a.code}, "timestamp": now, "trace_id": id, "correlation_id": id,
		"error_uri": fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", a.code),
	})
}

// token answers as login.microsoftonline.com does, in its order and with its codes.
func (c EntraConfig) token(s *TokenService, w http.ResponseWriter, r *http.Request) {
	form, ok := parameters(r)
	refused := c.checkGrant(r.PathValue("tenant"), form, ok)
	if refused == nil {
		refused = c.checkClient(form)
	}
	if refused == nil {
		refused = c.checkAssertion(s, r, form("client_assertion"), c.Applications[form("client_id")])
	}
	resource := ""
	if refused == nil {
		if resource, _ = strings.CutSuffix(form("scope"), "/.default"); !slices.Contains(c.Resources, resource) {
			refused = refuseRequest("invalid_resource", 500011,
				"The resource principal named %s was not found in the tenant named %s.", resource, c.Tenant)
		}
	}
	if refused != nil {
		refused.write(w, s.now())
		return
	}
	b := s.issue(form("client_id"), []string{form("scope")}, c.Lifetime)
	seconds := int(c.Lifetime.Seconds())
	reply(w, map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": b.Value})
}

func (c EntraConfig) checkGrant(tenant string, form func(string) string, ok bool) *aadsts {
	switch {
	case tenant != c.Tenant:
		return refuseRequest("invalid_request", 90002,
			"Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant)
	case !ok || form("grant_type") == "":
		return refuseRequest("invalid_request", 900144, "The request body must contain the following parameter: 'grant_type'.")
	case form("grant_type") != "client_credentials":
		return refuseRequest("unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", form("grant_type"))
	}
	return nil
}

func (c EntraConfig) checkClient(form func(string) string) *aadsts {
	credentials, known := c.Applications[form("client_id")]
	switch {
	case !known:
		return refuseRequest("unauthorized_client", 700016,
			"Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not "+
				"been installed by the administrator of the tenant or consented to by any user in the tenant.", form("client_id"), c.Tenant)
	case !strings.HasSuffix(form("scope"), "/.default"):
		return refuseRequest("invalid_scope", 1002012,
			"The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default "+
				"suffixed to the resource identifier (application ID URI).", form("scope"))
	case form("client_assertion") == "" || form("client_assertion_type") != clientAssertionType:
		return refuseClient(7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	case len(credentials) == 0:
		return refuseClient(70025, "The client '%s' has no configured federated identity credentials.", form("client_id"))
	}
	return nil
}

// checkAssertion finds the federated credential by issuer, audience and
// subject, and only then verifies the signature.
func (c EntraConfig) checkAssertion(s *TokenService, r *http.Request, raw string, credentials []FederatedCredential) *aadsts {
	claims, err := unverified(raw)
	if err != nil {
		return refuseClient(50027, "JWT token is invalid or malformed.")
	}
	const check = "Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
	left := slices.Clone(credentials)
	left = slices.DeleteFunc(left, func(f FederatedCredential) bool { return f.Issuer != claim(claims, "iss") })
	if len(left) == 0 {
		return refuseClient(700211, "No matching federated identity record found for presented assertion issuer '%s'. %s",
			claim(claims, "iss"), check)
	}
	if left = slices.DeleteFunc(left, func(f FederatedCredential) bool { return !audienceIs(claims, f.Audience) }); len(left) == 0 {
		return refuseClient(700212, "No matching federated identity record found for presented assertion audience '%v'. %s",
			claims["aud"], check)
	}
	if left = slices.DeleteFunc(left, func(f FederatedCredential) bool { return f.Subject != claim(claims, "sub") }); len(left) == 0 {
		return refuseClient(700213, "No matching federated identity record found for presented assertion subject '%s'. %s",
			claim(claims, "sub"), check)
	}
	switch err := s.verify(r.Context(), raw, left[0].Issuer); {
	case errors.Is(err, errTimes):
		return refuseClient(700024, "Client assertion is not within its valid time range. Current time: %s.",
			s.now().UTC().Format(time.RFC3339Nano))
	case err != nil:
		return refuseClient(50013, "Assertion failed signature validation.")
	}
	return nil
}
