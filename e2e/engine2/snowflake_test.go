//go:build e2e && linux && amd64

package engine2

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A login is what a client sends to Snowflake.
type login struct {
	Authenticator string `json:"AUTHENTICATOR"`
	User          string `json:"LOGIN_NAME"`
	Token         string `json:"TOKEN"`
}

// snowflake starts fakesnow, which accepts any login, behind a server that
// verifies logins with check.
func snowflake(t *testing.T, check func(login) error) (block string) {
	t.Helper()
	python, port := setup.Python(t), setup.Port(t)
	setup.Start(t, port, python.Environ(), python.Program("python"), "-m", "uvicorn", "--host", "127.0.0.1", "--port", fmt.Sprint(port), "fakesnow.server:app")
	next := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	_, front := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/session/v1/login-request" {
			next.ServeHTTP(w, r)
			return
		}
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		text := raw
		if r.Header.Get("Content-Encoding") == "gzip" {
			if z, err := gzip.NewReader(bytes.NewReader(raw)); err == nil {
				text, _ = io.ReadAll(z) // after an error the JSON is incomplete
			}
		}
		var in struct{ Data login }
		err = json.Unmarshal(text, &in)
		if err == nil {
			err = check(in.Data)
		}
		if err != nil {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": "390144", "message": err.Error(), "data": map[string]any{}})
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		next.ServeHTTP(w, r)
	}))
	return fmt.Sprintf(`{type: snowflake, account: acme-prod, host: 127.0.0.1, port: %d, protocol: http, user: DBT_PROD, role: TRANSFORMER, database: ANALYTICS, warehouse: W, schema: marts}`, front)
}

// TestSnowflakeWorkloadIdentity: the profiles of providers `oidc` and `aws` behave as docs/warehouses/snowflake.md says.
func TestSnowflakeWorkloadIdentity(t *testing.T) {
	t.Parallel()
	e, issuer := start(t), setup.Issuer(t)
	workspace := setup.Project(t, issuer,
		`{type: snowflake, account: acme-prod, host: 127.0.0.1, port: 9, protocol: http, user: DBT_PROD, role: TRANSFORMER, database: ANALYTICS, warehouse: W, schema: marts}`,
		"{oidc: {audience: snowflakecomputing.com}}")
	env, _ := setup.Authenticate(t, issuer, workspace)
	out, err := e.dbt(t, workspace, env, "build")
	if err == nil || !strings.Contains(out, "Unsupported authenticator: workload_identity") {
		t.Errorf("dbt build: %v\n%s", err, out)
	}
	setup.NoSecrets(t, issuer, "dbt's output", out)
}

// TestSnowflakeByTheBroker: with the broker, the ID token works for this engine, too.
func TestSnowflakeByTheBroker(t *testing.T) {
	t.Parallel()
	e, issuer := start(t), setup.Issuer(t)
	logins := make(chan string, 100)
	block := snowflake(t, func(l login) error {
		if l.Authenticator != "WORKLOAD_IDENTITY" {
			return fmt.Errorf("authenticator is %q", l.Authenticator)
		}
		logins <- l.Token
		return setup.Verify(t.Context(), issuer, "snowflakecomputing.com", setup.Subject, l.Token)
	})
	workspace := setup.Project(t, issuer, block, "{oidc: {audience: snowflakecomputing.com}}")
	out, err := setup.Exec(t, issuer, workspace, nil, "env", "XDG_CACHE_HOME="+e.cache, "DBT_ALLOW_EXPERIMENTAL_ADAPTERS=true", "NO_COLOR=1", e.python.Program("dbt"), "build")
	if err != nil || !strings.Contains(out, "3 success") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	setup.NoSecrets(t, issuer, "dbt's output", out)
	if len(logins) == 0 {
		t.Error("there was no login")
	}
}

// build builds twice: with the action's credential, which must pass, and with
// another one in its place.
func (e engine) build(t *testing.T, issuer *standin.Issuer, dbt, exchange, variable, other string) {
	t.Helper()
	workspace := setup.Project(t, issuer, dbt, exchange)
	env, _ := setup.Authenticate(t, issuer, workspace)
	out, err := e.dbt(t, workspace, env, "build")
	if err != nil || !strings.Contains(out, "3 success") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	if secret := env[variable]; secret == "" || strings.Contains(out, secret) {
		t.Errorf("%s is not set, or is in dbt's output:\n%s", variable, out)
	}
	env[variable] = other
	if out, err := e.dbt(t, workspace, env, "build"); err == nil {
		t.Errorf("dbt passed with another secret:\n%s", out)
	}
}

// TestSnowflakeToken: the login with an access token of the company's authorization server.
func TestSnowflakeToken(t *testing.T) {
	t.Parallel()
	const role = "session:role:TRANSFORMER"
	e, issuer := start(t), setup.Issuer(t)
	server, err := standin.StartAuthServer(standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Audience: "https://login.acme.example", Clients: map[string]standin.AuthClient{"dbt": {Subject: setup.Subject, Scopes: []string{role}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	block := snowflake(t, func(l login) error {
		if l.Authenticator != "OAUTH" || !server.Valid(l.Token, role) {
			return fmt.Errorf("authenticator %q, or its token, is not the user's", l.Authenticator)
		}
		return nil
	})
	exchange := fmt.Sprintf(`{token_exchange: {token_url: "%s/token", grant: client_assertion, client_id: dbt, audience: https://login.acme.example, scope: %q}}`, server.URL(), role)
	e.build(t, issuer, block, exchange, "DBT_ENV_SECRET_OIDC_TOKEN", "made-up")
}

// TestSnowflakeKeyPair: the login with a key pair from a vault.
func TestSnowflakeKeyPair(t *testing.T) {
	t.Parallel()
	generate := func() (*rsa.PrivateKey, []byte) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return key, der
	}
	key, der := generate()
	_, other := generate()
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := sha256.Sum256(public)
	e, issuer := start(t), setup.Issuer(t)
	server, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(),
		Roles:     map[string]standin.VaultRole{"dbt": {BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"sub": {setup.Subject}}, Policies: []string{"kv/dbt"}}},
		Secrets: map[string]standin.VaultSecret{"kv/dbt": {Data: map[string]any{
			"username": "DBT_PROD", "private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	block := snowflake(t, func(l login) error {
		if l.Authenticator != "SNOWFLAKE_JWT" {
			return fmt.Errorf("authenticator is %q", l.Authenticator)
		}
		parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithSubject("ACME-PROD.DBT_PROD"),
			jwt.WithIssuer("ACME-PROD.DBT_PROD.SHA256:"+base64.StdEncoding.EncodeToString(fingerprint[:])))
		_, err := parser.Parse(l.Token, func(*jwt.Token) (any, error) { return &key.PublicKey, nil })
		return err
	})
	exchange := fmt.Sprintf(`{vault: {address: %q, audience: vault, role: dbt, secret: kv/dbt, static: true}}`, server.URL())
	e.build(t, issuer, block, exchange, "DBT_ENV_SECRET_OIDC_PRIVATE_KEY", base64.StdEncoding.EncodeToString(other))
}
