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
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A login is what a client sends to Snowflake.
type login struct {
	Authenticator string `json:"AUTHENTICATOR"`
	User          string `json:"LOGIN_NAME"`
	Token         string `json:"TOKEN"`
}

// snowflake starts fakesnow, which lets everybody in, behind a server that
// asks check.
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
				text, _ = io.ReadAll(z) // what is left out is missing in the JSON
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

// TestSnowflakeWorkloadIdentity: what the profile of providers `oidc` and `aws` comes to, as docs/warehouses/snowflake.md has it.
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

// TestSnowflake: the logins by an access token and by a key pair, in the keys
// that dbt-snowflake takes too.
func TestSnowflake(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := sha256.Sum256(public)
	issuer := "ACME-PROD.DBT_PROD.SHA256:" + base64.StdEncoding.EncodeToString(fingerprint[:])
	e := start(t)
	for _, tt := range []struct {
		name, keys, variable, secret string
		check                        func(login) error
	}{{
		name: "token", keys: `authenticator: jwt, token: "{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}"`, variable: "DBT_ENV_SECRET_OIDC_TOKEN", secret: "access-token-of-the-user",
		check: func(l login) error {
			if l.Authenticator != "OAUTH" || l.Token != "access-token-of-the-user" {
				return fmt.Errorf("authenticator %q, or its token, is not the user's", l.Authenticator)
			}
			return nil
		},
	}, {
		name: "key pair", keys: `private_key: "{{ env_var('DBT_ENV_SECRET_OIDC_PRIVATE_KEY') }}"`, variable: "DBT_ENV_SECRET_OIDC_PRIVATE_KEY", secret: base64.StdEncoding.EncodeToString(der),
		check: func(l login) error {
			if l.Authenticator != "SNOWFLAKE_JWT" {
				return fmt.Errorf("authenticator is %q", l.Authenticator)
			}
			parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithIssuer(issuer), jwt.WithSubject("ACME-PROD.DBT_PROD"))
			_, err := parser.Parse(l.Token, func(*jwt.Token) (any, error) { return &key.PublicKey, nil })
			return err
		},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			logins := 0
			block := snowflake(t, func(l login) error {
				logins++
				return tt.check(l)
			})
			workspace := t.TempDir()
			setup.Write(t, workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
			setup.Write(t, workspace, "models/one.sql", "select 1 as one\n")
			setup.Write(t, workspace, "profiles.yml", fmt.Sprintf("shop: {target: prod, outputs: {prod: %s, %s}}}\n", strings.TrimSuffix(block, "}"), tt.keys))
			env := map[string]string{"DBT_PROFILES_DIR": workspace, tt.variable: tt.secret}
			out, err := e.dbt(t, workspace, env, "build")
			if err != nil || !strings.Contains(out, "1 success") || logins == 0 {
				t.Fatalf("dbt build after %d logins: %v\n%s", logins, err, out)
			}
			if strings.Contains(out, tt.secret) {
				t.Errorf("the secret is in dbt's output:\n%s", out)
			}
			other, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.MarshalPKCS8PrivateKey(other)
			if err != nil {
				t.Fatal(err)
			}
			env[tt.variable] = base64.StdEncoding.EncodeToString(der)
			if out, err := e.dbt(t, workspace, env, "build"); err == nil {
				t.Errorf("dbt passed with another secret:\n%s", out)
			}
		})
	}
}
