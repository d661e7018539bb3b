//go:build e2e

package duckdb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const (
	account     = "acmelake"
	application = "66666666-7777-8888-9999-000000000000"
	storage     = "https://storage.azure.com"    // the resource that Azure Storage is
	database    = "https://database.windows.net" // another one
	tenantID    = "99999999-8888-7777-6666-555555555555"
	tokenIssuer = "https://sts.windows.net/" + tenantID + "/" // of version 1, which Azure Storage gets
)

// A tenant is one of Entra ID, with one application. Its access tokens are JWTs
// with the claims that Entra ID's for an application have, signed with keys that
// are not those of the job's ID tokens.
type tenant struct {
	*standin.TokenService
	keys *standin.Issuer
}

// startTenant starts a tenant whose application trusts production. Tokens expire
// later by grace than the replies that they are in say.
func startTenant(t *testing.T, issuer *standin.Issuer, life, grace time.Duration) tenant {
	t.Helper()
	entra, err := standin.StartEntra(standin.EntraConfig{
		Tenant: "acme.onmicrosoft.com", Resources: []string{storage, database}, Lifetime: life,
		Applications: map[string][]standin.FederatedCredential{application: {
			{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	a := tenant{entra, setup.Issuer(t)}
	const principal = "88888888-7777-6666-5555-444444444444"
	a.keys.SetClaims(map[string]any{
		"iss": tokenIssuer, "idp": tokenIssuer, "tid": tenantID, "ver": "1.0",
		"appid": application, "appidacr": "2", "idtyp": "app", "oid": principal, "sub": principal,
	})
	entra.SignWith(func(b standin.Bearer) string {
		resource, _ := strings.CutSuffix(b.Scopes[0], "/.default")
		return a.keys.Sign(resource, map[string]any{"exp": b.Expiry.Add(grace).Unix()})
	})
	return a
}

// exchange returns an exchange block, with more keys or none.
func (a tenant) exchange(more string) string {
	const block = "{entra: {tenant: acme.onmicrosoft.com, client_id: %s, authority: %q%s}}"
	return fmt.Sprintf(block, application, a.URL(), more)
}

// admits is what Azure Storage checks of a token: signature, issuer, audience,
// times, and that the application has a role on the account.
func (a tenant) admits(now func() time.Time) func(bearer string) bool {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(),
		jwt.WithIssuer(tokenIssuer), jwt.WithAudience(storage), jwt.WithTimeFunc(now))
	return func(bearer string) bool {
		claims := jwt.MapClaims{}
		_, err := parser.ParseWithClaims(bearer, claims, setup.Keys(context.Background(), a.keys))
		return err == nil && claims["appid"] == application
	}
}

// A front is what checks tokens before Azurite does, at the account's name.
type front struct {
	*gateway
	url  string
	port int
	ca   string
}

// newFront passes requests on as they are. It calls done, unless that is nil, with
// those that Azurite has answered.
func newFront(t *testing.T, azurite setup.AzuriteServer, let func(bearer string) bool, done func(*http.Request)) front {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", azurite.Port)})
			r.Out.Host = r.In.Host     // names the account
			r.Out.Header.Del("Expect") // the front answers it; the extension's client hangs at a second 100
		},
		Transport: trusting(t, azurite.CA),
		ModifyResponse: func(r *http.Response) error {
			if done != nil {
				done(r.Request)
			}
			return nil
		},
	}
	d := &gateway{next: proxy, let: let}
	port, ca := setup.ServeTLS(t, d, account+".localhost")
	return front{d, fmt.Sprintf("https://%s.localhost:%d", account, port), port, ca}
}

// trusting returns a transport to loopback that trusts an authority's certificate
// for the account.
func trusting(t *testing.T, ca string) *http.Transport {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := loopback()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: account + ".localhost"}
	return transport
}

// loopback returns a transport that looks no name up: not every system knows that
// ACCOUNT.localhost is loopback. It keeps no connection: Azurite ends those that
// are idle for five seconds, maybe while a request is on its way.
func loopback() *http.Transport {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
	return &http.Transport{DialContext: dial, DisableKeepAlives: true}
}

// ask sends a request for a path of the account, with a token.
func ask(t *testing.T, transport http.RoundTripper, method, url, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("x-ms-version", "2024-11-04")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// startAzurite starts Azurite with the container lake.
func startAzurite(t *testing.T, a tenant) setup.AzuriteServer {
	t.Helper()
	azurite := setup.Azurite(t, account)
	container, token := azurite.URL+"/lake?restype=container", a.keys.Sign(storage, nil)
	status, body := ask(t, trusting(t, azurite.CA), http.MethodPut, container, token)
	if status != http.StatusCreated {
		t.Fatalf("create the container: %d, %s", status, body)
	}
	return azurite
}

func lakeBlock(port int) string {
	return fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, secrets: [{type: azure, account_name: %s, `+
		`endpoint: "localhost:%d"}]}`, account, port)
}

// azureBuild runs a build that writes a blob and reads it back, and returns what
// is needed to run it again.
func azureBuild(
	t *testing.T, issuer *standin.Issuer, a tenant, azurite setup.AzuriteServer, port int, ca string,
) (workspace string, env map[string]string) {
	t.Helper()
	workspace = setup.Project(t, issuer, lakeBlock(port), a.exchange(""))
	lake(t, workspace, "az://lake/orders.parquet")
	env, _ = setup.Authenticate(t, issuer, workspace)
	env["CURL_CA_INFO"] = ca
	setup.NoSecrets(t, a.keys, "dbt's output", setup.Build(t, setup.Python(t), issuer, workspace, env))
	blob, token := azurite.URL+"/lake/orders.parquet", a.keys.Sign(storage, nil)
	status, body := ask(t, trusting(t, azurite.CA), http.MethodGet, blob, token)
	if status != http.StatusOK || !strings.HasPrefix(body, "PAR1") {
		t.Errorf("the blob: %d, %.100q", status, body)
	}
	return workspace, env
}

// forDatabases returns a token of the same application for another resource.
func forDatabases(t *testing.T, issuer *standin.Issuer, a tenant) string {
	t.Helper()
	workspace := setup.Project(t, issuer, lakeBlock(443), a.exchange(`, scope: "`+database+`/.default"`))
	env, _ := setup.Authenticate(t, issuer, workspace)
	return env["DBT_ENV_SECRET_OIDC_TOKEN"]
}

// TestAzurite has nothing between DuckDB and Azurite.
func TestAzurite(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	a := startTenant(t, issuer, time.Hour, 0)
	azurite := startAzurite(t, a)
	workspace, env := azureBuild(t, issuer, a, azurite, azurite.Port, azurite.CA)
	for _, tt := range []struct{ name, token string }{
		{"for another resource", forDatabases(t, issuer, a)},
		{"that has expired", a.keys.Sign(storage, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})},
	} {
		env["DBT_ENV_SECRET_OIDC_TOKEN"] = tt.token
		out, err := setup.DBT(t, setup.Python(t), workspace, env, "build", "--select", "read_back")
		if err == nil || !strings.Contains(out, "Server failed to authenticate the request") {
			t.Errorf("dbt with a token %s: %v\n%s", tt.name, err, out)
		}
	}
}

// TestAzureStorage has a front before Azurite that checks all of a token.
func TestAzureStorage(t *testing.T) {
	t.Parallel()
	issuer, clock := setup.Issuer(t), &clock{}
	a := startTenant(t, issuer, time.Hour, 0)
	azurite := startAzurite(t, a)
	d := newFront(t, azurite, a.admits(clock.now), nil)
	workspace, env := azureBuild(t, issuer, a, azurite, d.port, d.ca)
	if in, refused := d.in.Load(), d.refused.Load(); in == 0 || refused > 0 {
		t.Errorf("%d requests, %d refusals; want some and none", in, refused)
	}
	good := env["DBT_ENV_SECRET_OIDC_TOKEN"]
	expectRefused(t, workspace, env, forDatabases(t, issuer, a), d.gateway)
	expectRefused(t, workspace, env, setup.Forge(t, a.keys, storage), d.gateway)
	clock.forward()
	expectRefused(t, workspace, env, good, d.gateway)
}

// TestWhoChecksWhat sends tokens to Azurite and to the front: where Azurite accepts
// one, the front has to refuse it.
func TestWhoChecksWhat(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	a := startTenant(t, issuer, time.Hour, 0)
	azurite := startAzurite(t, a)
	d := newFront(t, azurite, a.admits(time.Now), nil)
	good := a.keys.Sign(storage, nil)
	changed := func(name string, value any) string { return a.keys.Sign(storage, map[string]any{name: value}) }
	const list = "/lake?restype=container&comp=list"
	for _, tt := range []struct {
		name, token string
		azurite     string // its refusal, "" if it accepts
		front       int
	}{
		{"good", good, "", http.StatusOK},
		{"for another resource", a.keys.Sign(database, nil), "Invalid token audience.", http.StatusUnauthorized},
		{"of another issuer", changed("iss", issuer.URL()), "Invalid token issuer.", http.StatusUnauthorized},
		{"the job's ID token", issuer.Sign("api://AzureADTokenExchange", nil), "Invalid token issuer.", http.StatusUnauthorized},
		{"expired", changed("exp", time.Now().Add(-time.Minute).Unix()), "The token is expired.", http.StatusUnauthorized},
		{"not yet valid", changed("nbf", time.Now().Add(time.Hour).Unix()), "Lifetime validation failed.", http.StatusUnauthorized},
		{"of another tenant", changed("iss", "https://sts.windows.net/00000000-0000-0000-0000-000000000000/"), "", http.StatusUnauthorized},
		{"of another application", changed("appid", "11111111-2222-3333-4444-555555555555"), "", http.StatusUnauthorized},
		{"of another key", setup.Forge(t, a.keys, storage), "", http.StatusUnauthorized},
		{"without a signature", good[:strings.LastIndex(good, ".")+1], "", http.StatusUnauthorized},
	} {
		status, body := ask(t, trusting(t, azurite.CA), http.MethodGet, azurite.URL+list, tt.token)
		if accepted := status == http.StatusOK; accepted != (tt.azurite == "") || !strings.Contains(body, tt.azurite) {
			t.Errorf("%s: Azurite says %d, want %q in\n%s", tt.name, status, tt.azurite, body)
		}
		if status, _ := ask(t, trusting(t, d.ca), http.MethodGet, d.url+list, tt.token); status != tt.front {
			t.Errorf("%s: the front says %d, want %d", tt.name, status, tt.front)
		}
	}
	plain := setup.AzuriteWithoutTLS(t, account)
	const words = "Authentication scheme Bearer is not allowed with HTTP."
	status, body := ask(t, loopback(), http.MethodGet, plain.URL+list, good)
	if status != http.StatusForbidden || !strings.Contains(body, words) {
		t.Errorf("over HTTP: Azurite says %d, want %q in\n%s", status, words, body)
	}
}
