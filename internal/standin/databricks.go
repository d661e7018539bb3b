package standin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// DatabricksConfig is a Databricks account with one workspace.
type DatabricksConfig struct {
	Account   string
	Policies  []FederationPolicy
	Instances []string         // of Lakebase Provisioned
	Endpoints []string         // of Lakebase Autoscaling: projects/…/branches/…/endpoints/…
	Lifetime  time.Duration    // of an access token at most; where 0, the federated token's
	Now       func() time.Time // time.Now where nil
}

// A FederationPolicy is the trust in the tokens of an issuer.
type FederationPolicy struct {
	ServicePrincipal string // its application id; "" for an account-wide policy
	Issuer           string
	Audiences        []string // the account's id where nil
	Subject          string   // of a service principal's policy, to the letter
	Users            []string // of an account-wide policy: the subjects that are users
}

// StartDatabricks starts the workspace, with the account's token endpoint next
// to it, on loopback. Lakebase's passwords have the scope "database" and the
// name of what they are for.
func StartDatabricks(config DatabricksConfig) (*TokenService, error) {
	return startTokenService(config.Now, func(s *TokenService, mux *http.ServeMux) {
		exchange := func(w http.ResponseWriter, r *http.Request) { config.token(s, w, r) }
		mux.HandleFunc("POST /oidc/v1/token", exchange)
		mux.HandleFunc("POST /oidc/accounts/"+config.Account+"/v1/token", exchange)
		mux.HandleFunc("POST /api/2.0/database/credentials", func(w http.ResponseWriter, r *http.Request) {
			config.password(s, w, r, config.Instances, "expiration_time")
		})
		mux.HandleFunc("POST /api/2.0/postgres/credentials", func(w http.ResponseWriter, r *http.Request) {
			config.password(s, w, r, config.Endpoints, "expire_time")
		})
	})
}

// token is the exchange of RFC 8693. The words of its refusals are not
// Databricks' own, which are not documented.
func (c DatabricksConfig) token(s *TokenService, w http.ResponseWriter, r *http.Request) {
	fail := func(code, description string) { oauthError(w, http.StatusBadRequest, code, description, nil) }
	form, ok := parameters(r)
	switch {
	case !ok:
		fail("invalid_request", "The request is not a form.")
		return
	case form("grant_type") != tokenExchangeGrant:
		fail("unsupported_grant_type", "The grant type is not supported.")
		return
	case form("subject_token_type") != jwtType:
		fail("invalid_request", "The subject token's type is not supported.")
		return
	case form("scope") != "all-apis":
		fail("invalid_scope", "The scope is not known.")
		return
	}
	raw := form("subject_token")
	claims, err := unverified(raw)
	if err != nil {
		fail("invalid_grant", "The subject token is not a JWT.")
		return
	}
	i := slices.IndexFunc(c.Policies, func(p FederationPolicy) bool {
		audiences := p.Audiences
		if audiences == nil {
			audiences = []string{c.Account}
		}
		subject := claim(claims, "sub")
		return p.ServicePrincipal == form("client_id") && p.Issuer == claim(claims, "iss") && audienceIs(claims, audiences...) &&
			(p.ServicePrincipal != "" && p.Subject == subject || p.ServicePrincipal == "" && slices.Contains(p.Users, subject))
	})
	if i < 0 {
		fail("invalid_grant", "No federation policy matches the token.")
		return
	}
	if err := s.verify(r.Context(), raw, c.Policies[i].Issuer); err != nil {
		fail("invalid_grant", "The token is not verified: "+err.Error()+".")
		return
	}
	who := c.Policies[i].ServicePrincipal
	if who == "" {
		who = claim(claims, "sub")
	}
	expiry, err := claims.GetExpirationTime()
	if err != nil {
		fail("invalid_grant", "The token has no expiry.")
		return
	}
	// The access token expires with the federated token.
	life := expiry.Sub(s.now()).Truncate(time.Second)
	if c.Lifetime > 0 {
		life = min(life, c.Lifetime)
	}
	b := s.issue(who, []string{"all-apis"}, life)
	reply(w, map[string]any{"access_token": b.Value, "scope": "all-apis", "token_type": "Bearer", "expires_in": int(life.Seconds())})
}

// password is Lakebase's API for database credentials.
func (c DatabricksConfig) password(s *TokenService, w http.ResponseWriter, r *http.Request, known []string, expiry string) {
	fail := func(status int, code, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error_code": code, "message": message, "details": []any{}})
	}
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	caller, live := s.Bearer(bearer)
	if !live || !slices.Contains(caller.Scopes, "all-apis") {
		fail(http.StatusUnauthorized, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type for this API.")
		return
	}
	var in struct {
		Endpoint      string   `json:"endpoint"`
		InstanceNames []string `json:"instance_names"`
		RequestID     string   `json:"request_id"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(http.StatusBadRequest, "MALFORMED_REQUEST", "The request is not JSON.")
		return
	}
	names := in.InstanceNames
	if expiry == "expire_time" {
		names = []string{in.Endpoint}
	} else if in.RequestID == "" {
		fail(http.StatusBadRequest, "INVALID_PARAMETER_VALUE", "request_id is missing.")
		return
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			fail(http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "Database '"+name+"' does not exist.")
			return
		}
	}
	b := s.issue(caller.Client, append([]string{"database"}, names...), time.Hour)
	reply(w, map[string]string{"token": b.Value, expiry: b.Expiry.UTC().Format(time.RFC3339)})
}
