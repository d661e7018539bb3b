//go:build e2e && wide

package trino

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/standin/wall"
)

// TestKeycloak has one Keycloak, and one Trino that accepts its tokens, for all its cases.
func TestKeycloak(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	realm := setup.Keycloak(t, issuer, audience)
	t.Run("verifies the token itself", func(t *testing.T) { keycloakVerifies(t, realm, issuer) })

	transformer := ask(t, realm, jwtBearer(issuer.Sign(realm.URL, nil), issuer.Sign(realm.URL, nil))).Token
	server := setup.Trino(t, setup.TrinoConfig{
		Issuer: realm.URL, JWKS: realm.JWKS, Audience: audience, Claim: "preferred_username", UserPattern: "(transformer|service-account-dbt-prod)",
	}, "transformer", func() string { return transformer })
	t.Run("Trino accepts only its tokens", func(t *testing.T) {
		idToken := issuer.Sign(audience, nil)
		if rows, err := server.Query(t.Context(), "transformer", idToken, "select 1"); err == nil || err.Error() != "401 Unauthorized: Unknown signing key ID" {
			t.Errorf("with an ID token: got %v, %v", rows, err)
		}
		token := ask(t, realm, clientAssertion(issuer.Sign(realm.URL, nil))).Token
		if rows, err := server.Query(t.Context(), "service-account-dbt-prod", token, "select current_user"); err != nil || fmt.Sprint(rows) != "[[service-account-dbt-prod]]" {
			t.Errorf("with the client's token: got %v, %v", rows, err)
		}
	})
	t.Run("dbt build", func(t *testing.T) { exchanged(t, realm, server, issuer) })
}

// exchanged builds with a token that Keycloak issued to the action.
func exchanged(t *testing.T, realm setup.Realm, server *setup.TrinoServer, issuer *standin.Issuer) {
	exchange := func(audience, more string) string {
		return fmt.Sprintf("{token_exchange: {token_url: %q, audience: %q, %s}}", realm.TokenURL, audience, more)
	}
	const assertion, bearer = "grant: client_assertion", "grant: jwt_bearer, client_authentication: id_token"
	for _, tt := range []struct{ grant, user string }{{assertion, "service-account-dbt-prod"}, {bearer, "transformer"}} {
		workspace := setup.Project(t, issuer, output(server, tt.user), exchange(realm.URL, tt.grant))
		env, step := setup.Authenticate(t, issuer, workspace)
		out := setup.Build(t, setup.Python(t), issuer, workspace, environ(env))
		if token := step.Outputs["token"]; !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") || token == "" || strings.Contains(out, token) {
			t.Errorf("%s: dbt did not build three nodes, or the token is in its output:\n%s", tt.grant, out)
		}
		byProxy, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
		if err != nil || !strings.Contains(byProxy, "PASS=3 WARN=0 ERROR=0") {
			t.Errorf("%s through the broker: %v\n%s", tt.grant, err, byProxy)
		}

		// If Keycloak refuses the exchange, the step fails with its reason.
		refused, err := standin.RunStep(t.Context(), standin.StepConfig{
			Binary: setup.Binary(t), Root: t.TempDir(), Workspace: setup.Project(t, issuer, output(server, tt.user), exchange("https://other.example", tt.grant)),
			Inputs: map[string]string{"target": "prod"}, Env: issuer.RunnerEnv(),
		})
		if err != nil {
			t.Fatal(err)
		}
		log, _, err := refused.Log()
		if err != nil || refused.Status != 6 || !strings.Contains(log, "Invalid token audience") {
			t.Errorf("%s for another audience: status %d, %v, want 6:\n%s", tt.grant, refused.Status, err, log)
		}
	}
}

// clientAssertion requests the client's own token. (RFC 7523 §2.2)
func clientAssertion(assertion string) url.Values {
	return url.Values{
		"grant_type":            {"client_credentials"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
}

// jwtBearer requests the token of an assertion's user, for a client that
// authenticates with another assertion. (RFC 7523 §2.1)
func jwtBearer(assertion, client string) url.Values {
	form := clientAssertion(client)
	form.Set("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
	form.Set("assertion", assertion)
	return form
}

// keycloakVerifies bypasses the action.
func keycloakVerifies(t *testing.T, realm setup.Realm, issuer *standin.Issuer) {
	past := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	good := issuer.Sign(realm.URL, nil)
	trust := keycloakTrust(t, realm, issuer)
	for _, tt := range []struct{ name, token, client, user string }{
		{"good", good, "", ""},
		{"another audience", issuer.Sign("other", nil), "invalid_client: Invalid token audience", "invalid_grant: Invalid token audience"},
		{
			"several audiences", issuer.Sign("", map[string]any{"aud": []string{realm.URL, "other"}}),
			"invalid_client: Multiple audiences not allowed", "invalid_grant: Multiple audiences not allowed",
		},
		{
			"expired", issuer.Sign(realm.URL, map[string]any{"iat": past(15 * time.Minute), "nbf": past(15 * time.Minute), "exp": past(10 * time.Minute)}),
			"invalid_client: Token is not active", "invalid_grant: Token is not active",
		},
		{"another key", setup.Forge(t, issuer, realm.URL), "invalid_client: Invalid client or Invalid client credentials", "invalid_grant: Invalid signature"},
		{
			"another issuer", issuer.Sign(realm.URL, map[string]any{"iss": "https://issuer.example"}),
			"invalid_client: Invalid client or Invalid client credentials", "invalid_grant: No Identity Provider for provided issuer",
		},
		{
			"another subject", issuer.Sign(realm.URL, map[string]any{"sub": "repo:acme/analytics:environment:staging"}),
			"invalid_client: Invalid client or Invalid client credentials", "invalid_grant: User not found",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claims := jwt.MapClaims{}
			if _, _, err := jwt.NewParser().ParseUnverified(tt.token, claims); err != nil {
				t.Fatal(err)
			}
			// It looks at no time and no key.
			want := tt.client == "" || tt.name == "expired" || tt.name == "another key"
			if got, err := trust(claims); got != want || err != nil {
				t.Errorf("the evaluator of Keycloak's clients says %v, %v, want %v", got, err, want)
			}
			for _, grant := range []struct {
				name, refusal, user string
				form                url.Values
			}{
				{"client_assertion", tt.client, "service-account-dbt-prod", clientAssertion(tt.token)},
				{"jwt_bearer", tt.user, "transformer", jwtBearer(tt.token, good)},
			} {
				reply := ask(t, realm, grant.form)
				if refusal := strings.TrimSuffix(reply.Error+": "+reply.Description, ": "); refusal != grant.refusal {
					t.Errorf("%s: got %q, want %q", grant.name, refusal, grant.refusal)
				}
				if grant.refusal != "" {
					continue
				}
				claims := jwt.MapClaims{}
				if _, _, err := jwt.NewParser().ParseUnverified(reply.Token, claims); err != nil || claims["preferred_username"] != grant.user || reply.Lifetime < 100 || reply.Lifetime > 300 {
					t.Errorf("%s: got a token for %d s with claims %v, %v, want some 300 s and user %s", grant.name, reply.Lifetime, claims, err, grant.user)
				}
			}
		})
	}
}

// keycloakTrust has the evaluator read what the realm was imported with.
func keycloakTrust(t *testing.T, realm setup.Realm, issuer *standin.Issuer) wall.Wall {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(setup.Repository(t), "e2e", "setup", "keycloak", "realm.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ IdentityProviders, Clients []json.RawMessage }
	filled := strings.NewReplacer("$ISSUER", issuer.URL(), "$SUBJECT", setup.Subject).Replace(string(text))
	if err := json.Unmarshal([]byte(filled), &doc); err != nil {
		t.Fatal(err)
	}
	trust, err := wall.Keycloak(doc.Clients[0], doc.IdentityProviders[0], realm.URL)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// A reply is a token response. (RFC 6749 §5)
type reply struct {
	Token       string `json:"access_token"`
	Lifetime    int    `json:"expires_in"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func ask(t *testing.T, realm setup.Realm, form url.Values) (r reply) {
	t.Helper()
	resp, err := http.PostForm(realm.TokenURL, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}
