package standin_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// startIssuers starts an issuer that is trusted, and one that is not.
func startIssuers(t *testing.T) (issuer, other *standin.Issuer) {
	t.Helper()
	for _, i := range []**standin.Issuer{&issuer, &other} {
		started, err := standin.StartIssuer(nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(started.Close)
		*i = started
	}
	return issuer, other
}

// ask posts a form and returns the reply's fields, and its outcome in short:
// the status, and of an error the code and the first sentence.
func ask(t *testing.T, address string, form url.Values) (fields map[string]any, outcome string) {
	t.Helper()
	resp, err := http.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return readReply(t, resp)
}

func readReply(t *testing.T, resp *http.Response) (fields map[string]any, outcome string) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatalf("%s is not JSON: %v", body, err)
	}
	if resp.StatusCode == http.StatusOK {
		return fields, "200"
	}
	words := func(names ...string) string {
		for _, name := range names {
			if s, ok := fields[name].(string); ok {
				s, _, _ = strings.Cut(s, ". ")
				return s
			}
		}
		return ""
	}
	return fields, fmt.Sprintf("%d %s: %s", resp.StatusCode, words("error", "error_code"), words("error_description", "message"))
}

// An asking is a change to a good request, and what comes of it.
type asking struct {
	name   string
	change func(url.Values) // of the form
	want   string
}

// set is a change of one parameter; "" leaves it out.
func set(name, value string) func(url.Values) {
	return func(form url.Values) {
		form.Del(name)
		if value != "" {
			form.Set(name, value)
		}
	}
}

// checkAskings asks with each change to the good form.
func checkAskings(t *testing.T, address string, good func() url.Values, cases []asking) {
	t.Helper()
	for _, tt := range cases {
		form := good()
		if tt.change != nil {
			tt.change(form)
		}
		if _, got := ask(t, address, form); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

const (
	exchangeAudience = "api://AzureADTokenExchange"
	assertionType    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	exchangeGrant    = "urn:ietf:params:oauth:grant-type:token-exchange"
	bearerGrant      = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	tokenTypeJWT     = "urn:ietf:params:oauth:token-type:jwt"
)

func TestEntraRefusesEachMutation(t *testing.T) {
	t.Parallel()
	issuer, other := startIssuers(t)
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant: "acme.example", Resources: []string{"https://database.windows.net"},
		Applications: map[string][]standin.FederatedCredential{"dbt": {{issuer.URL(), production, exchangeAudience}}, "none": nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	good := func() url.Values {
		return url.Values{
			"grant_type": {"client_credentials"}, "client_id": {"dbt"}, "scope": {"https://database.windows.net/.default"},
			"client_assertion_type": {assertionType}, "client_assertion": {issuer.Sign(exchangeAudience, nil)},
		}
	}
	assertion := func(audience string, changes map[string]any) func(url.Values) {
		return set("client_assertion", issuer.Sign(audience, changes))
	}
	const none = "No matching federated identity record found for presented assertion "
	checkAskings(t, entra.URL()+"/acme.example/oauth2/v2.0/token", good, []asking{
		{"good", nil, "200"},
		{"no grant", set("grant_type", ""), "400 invalid_request: AADSTS900144: The request body must contain the following parameter: 'grant_type'"},
		{"another grant", set("grant_type", "password"), "400 unsupported_grant_type: AADSTS70003: The app requested an unsupported grant type 'password'"},
		{"another application", set("client_id", "other"), "400 unauthorized_client: AADSTS700016: Application with identifier 'other' was not found in the directory 'acme.example'"},
		{"an application without trust", set("client_id", "none"), "401 invalid_client: AADSTS70025: The client 'none' has no configured federated identity credentials"},
		{"a scope that is none", set("scope", "https://database.windows.net/read"), "400 invalid_scope: AADSTS1002012: The provided value for scope https://database.windows.net/read is not valid"},
		{"another resource", set("scope", "https://vault.azure.net/.default"), "400 invalid_resource: AADSTS500011: The resource principal named https://vault.azure.net was not found in the tenant named acme.example"},
		{"no assertion", set("client_assertion", ""), "401 invalid_client: AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'"},
		{"an assertion of another type", set("client_assertion_type", "saml"), "401 invalid_client: AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'"},
		{"not a token", set("client_assertion", "hunter2"), "401 invalid_client: AADSTS50027: JWT token is invalid or malformed"},
		{"another issuer", set("client_assertion", other.Sign(exchangeAudience, nil)), "401 invalid_client: AADSTS700211: " + none + "issuer '" + other.URL() + "'"},
		{"another audience", assertion("api://azureadtokenexchange", nil), "401 invalid_client: AADSTS700212: " + none + "audience 'api://azureadtokenexchange'"},
		{"two audiences", assertion("", map[string]any{"aud": []string{exchangeAudience, "x"}}), "401 invalid_client: AADSTS700212: " + none + "audience '[" + exchangeAudience + " x]'"},
		{"another subject", assertion(exchangeAudience, map[string]any{"sub": "repo:acme/analytics:environment:staging"}), "401 invalid_client: AADSTS700213: " + none + "subject 'repo:acme/analytics:environment:staging'"},
		{"another key", set("client_assertion", other.Sign(exchangeAudience, map[string]any{"iss": issuer.URL()})), "401 invalid_client: AADSTS50013: Assertion failed signature validation"},
		{"expired", assertion(exchangeAudience, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "401 invalid_client: AADSTS700024: Client assertion is not within its valid time range"},
		{"without an expiry", assertion(exchangeAudience, map[string]any{"exp": nil}), "401 invalid_client: AADSTS700024: Client assertion is not within its valid time range"},
	})
	if _, got := ask(t, entra.URL()+"/other/oauth2/v2.0/token", good()); got != "400 invalid_request: AADSTS90002: Tenant 'other' not found" {
		t.Errorf("another tenant: got %s", got)
	}
}

func TestBearersDie(t *testing.T) {
	t.Parallel()
	issuer, _ := startIssuers(t)
	clock := newClock()
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant: "acme.example", Resources: []string{"a", "b"}, Lifetime: time.Minute, Now: clock.now,
		Applications: map[string][]standin.FederatedCredential{"dbt": {{issuer.URL(), production, exchangeAudience}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	fields, got := ask(t, entra.URL()+"/acme.example/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"dbt"}, "scope": {"a/.default"}, "client_assertion_type": {assertionType}, "client_assertion": {issuer.Sign(exchangeAudience, nil)},
	})
	token, _ := fields["access_token"].(string)
	if got != "200" || fields["expires_in"] != 60.0 || fields["token_type"] != "Bearer" {
		t.Fatalf("got %s, %v", got, fields)
	}
	if !entra.Valid(token, "a/.default") || !entra.Valid(token, "") || entra.Valid(token, "b/.default") || entra.Valid("other", "") {
		t.Error("the bearer is valid for something else than its scope")
	}
	if b, ok := entra.Bearer(token); !ok || b.Client != "dbt" || len(entra.Bearers()) != 1 {
		t.Errorf("the bearer is %v, %v", b, ok)
	}
	clock.forward(time.Minute)
	if entra.Valid(token, "") {
		t.Error("the bearer outlives its end")
	}
}

func TestDatabricksRefusesEachMutation(t *testing.T) {
	t.Parallel()
	issuer, other := startIssuers(t)
	clock := newClock()
	databricks, err := standin.StartDatabricks(standin.DatabricksConfig{
		Account: "account", Instances: []string{"marts"}, Endpoints: []string{"projects/p/branches/b/endpoints/e"}, Now: clock.now,
		Policies: []standin.FederationPolicy{
			{ServicePrincipal: "principal", Issuer: issuer.URL(), Subject: production},
			{ServicePrincipal: "named", Issuer: issuer.URL(), Subject: production, Audiences: []string{"https://github.com/acme"}},
			{Issuer: issuer.URL(), Users: []string{"engineer@acme.example"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(databricks.Close)
	good := func() url.Values {
		return url.Values{"grant_type": {exchangeGrant}, "subject_token_type": {tokenTypeJWT}, "scope": {"all-apis"}, "client_id": {"principal"}, "subject_token": {issuer.Sign("account", nil)}}
	}
	token := func(audience string, changes map[string]any) func(url.Values) {
		return set("subject_token", issuer.Sign(audience, changes))
	}
	both := func(changes ...func(url.Values)) func(url.Values) {
		return func(form url.Values) {
			for _, change := range changes {
				change(form)
			}
		}
	}
	const none = "400 invalid_grant: No federation policy matches the token."
	checkAskings(t, databricks.URL()+"/oidc/v1/token", good, []asking{
		{"good", nil, "200"},
		{"an audience of the policy's own", both(set("client_id", "named"), token("https://github.com/acme", nil)), "200"},
		{"by the account-wide policy", both(set("client_id", ""), token("account", map[string]any{"sub": "engineer@acme.example"})), "200"},
		{"the account-wide policy does not know it", set("client_id", ""), none},
		{"another principal", set("client_id", "other"), none},
		{"another grant", set("grant_type", "client_credentials"), "400 unsupported_grant_type: The grant type is not supported."},
		{"another type", set("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"), "400 invalid_request: The subject token's type is not supported."},
		{"another scope", set("scope", "sql"), "400 invalid_scope: The scope is not known."},
		{"not a token", set("subject_token", "hunter2"), "400 invalid_grant: The subject token is not a JWT."},
		{"another issuer", set("subject_token", other.Sign("account", nil)), none},
		{"another audience", token("other", nil), none},
		{"another subject", token("account", map[string]any{"sub": production + "x"}), none},
		{"another key", set("subject_token", other.Sign("account", map[string]any{"iss": issuer.URL()})), "400 invalid_grant: The token is not verified: signature."},
		{"expired", token("account", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "400 invalid_grant: The token is not verified: times."},
	})
	fields, got := ask(t, databricks.URL()+"/oidc/accounts/account/v1/token", good())
	bearer, _ := fields["access_token"].(string)
	if life, _ := fields["expires_in"].(float64); got != "200" || life < 290 || life > 300 {
		t.Fatalf("got %s, %v, want the life of the ID token", got, fields)
	}
	const instance, endpoint = `{"request_id": "1", "instance_names": ["marts"]}`, `{"endpoint": "projects/p/branches/b/endpoints/e"}`
	for _, tt := range []struct{ name, path, bearer, body, want string }{
		{"an instance", "database", bearer, instance, "200"},
		{"an endpoint", "postgres", bearer, endpoint, "200"},
		{"no bearer", "database", "", instance, "401 UNAUTHENTICATED: Credential was not sent or was of an unsupported type for this API."},
		{"another bearer", "database", "other", instance, "401 UNAUTHENTICATED: Credential was not sent or was of an unsupported type for this API."},
		{"another instance", "database", bearer, `{"request_id": "1", "instance_names": ["other"]}`, "404 RESOURCE_DOES_NOT_EXIST: Database 'other' does not exist."},
		{"another endpoint", "postgres", bearer, `{"endpoint": "projects/p/branches/b/endpoints/o"}`, "404 RESOURCE_DOES_NOT_EXIST: Database 'projects/p/branches/b/endpoints/o' does not exist."},
		{"no request id", "database", bearer, `{"instance_names": ["marts"]}`, "400 INVALID_PARAMETER_VALUE: request_id is missing."},
		{"not JSON", "database", bearer, `marts`, "400 MALFORMED_REQUEST: The request is not JSON."},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, databricks.URL()+"/api/2.0/"+tt.path+"/credentials", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+tt.bearer)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		fields, got := readReply(t, resp)
		resp.Body.Close()
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		if password, _ := fields["token"].(string); got == "200" && (!databricks.Valid(password, "database") || databricks.Valid(password, "all-apis")) {
			t.Errorf("%s: the password is not only for the database", tt.name)
		}
	}
	clock.forward(5 * time.Minute)
	if databricks.Valid(bearer, "") {
		t.Error("the bearer outlives the ID token")
	}
}

func TestAuthServerRefusesEachMutation(t *testing.T) {
	t.Parallel()
	issuer, other := startIssuers(t)
	server, err := standin.StartAuthServer(standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Audience: "auth", Users: []string{production},
		Clients: map[string]standin.AuthClient{
			"dbt":    {Subject: production, Scopes: []string{"session:role:A", "session:role:B"}, Targets: []string{"trino"}},
			"public": {Scopes: []string{"session:role:A"}, Targets: []string{"https://trino.example"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	token := func(audience string, changes map[string]any) string { return issuer.Sign(audience, changes) }
	bad := func(parameter, code, prefix string) []asking {
		words := map[string]string{"audience": "Invalid token audience", "expired": "Token is not active", "issuer": "No Identity Provider for provided issuer", "key": "Invalid signature", "subject": "User not found"}
		if parameter == "client_assertion" {
			for _, name := range []string{"issuer", "key", "subject"} {
				words[name] = "Invalid client or Invalid client credentials"
			}
		}
		return []asking{
			{"another audience", set(parameter, token("other", nil)), prefix + code + ": " + words["audience"]},
			{"expired", set(parameter, token("auth", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), prefix + code + ": " + words["expired"]},
			{"another issuer", set(parameter, other.Sign("auth", nil)), prefix + code + ": " + words["issuer"]},
			{"another key", set(parameter, other.Sign("auth", map[string]any{"iss": issuer.URL()})), prefix + code + ": " + words["key"]},
			{"another subject", set(parameter, token("auth", map[string]any{"sub": "other"})), prefix + code + ": " + words["subject"]},
		}
	}
	t.Run("client_credentials", func(t *testing.T) {
		t.Parallel()
		checkAskings(t, server.URL()+"/token", func() url.Values {
			return url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {assertionType}, "client_assertion": {token("auth", nil)}, "scope": {"session:role:A"}}
		}, append(bad("client_assertion", "invalid_client", "401 "), []asking{
			{"good", nil, "200"},
			{"another client", set("client_id", "public"), "401 invalid_client: Invalid client or Invalid client credentials"},
			{"an assertion of another type", set("client_assertion_type", "saml"), "401 invalid_client: Invalid client or Invalid client credentials"},
			{"no assertion", set("client_assertion", ""), "401 invalid_client: Invalid client or Invalid client credentials"},
			{"another scope", set("scope", "admin"), "400 invalid_scope: Invalid scopes: admin"},
			{"another grant", set("grant_type", "password"), "400 unsupported_grant_type: Unsupported grant_type"},
		}...))
	})
	t.Run("jwt-bearer", func(t *testing.T) {
		t.Parallel()
		checkAskings(t, server.URL()+"/token", func() url.Values {
			return url.Values{"grant_type": {bearerGrant}, "client_id": {"public"}, "assertion": {token("auth", nil)}}
		}, append(bad("assertion", "invalid_grant", "400 "), asking{"good", nil, "200"}))
	})
	t.Run("token-exchange", func(t *testing.T) {
		t.Parallel()
		checkAskings(t, server.URL()+"/token", func() url.Values {
			return url.Values{"grant_type": {exchangeGrant}, "client_id": {"public"}, "subject_token_type": {tokenTypeJWT}, "subject_token": {token("auth", nil)}, "resource": {"https://trino.example"}}
		}, append(bad("subject_token", "invalid_grant", "400 "), []asking{
			{"good", nil, "200"},
			{"another target", set("audience", "trino"), "400 invalid_target: Requested target not available: trino"},
			{"another type", set("subject_token_type", "urn:x"), "400 invalid_request: The token type is not supported"},
			{"a client that must prove itself", set("client_id", "dbt"), "401 invalid_client: Invalid client or Invalid client credentials"},
			{"a public client's own token", set("grant_type", "client_credentials"), "400 unauthorized_client: Public client not allowed to retrieve service account"},
		}...))
	})
}
