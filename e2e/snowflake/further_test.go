//go:build e2e

package snowflake

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// oauthBlock has no user: the integration maps the token to one.
func oauthBlock(port int) string {
	return strings.Replace(block(port), "user: DBT_PROD, ", "", 1)
}

func TestDbtBuildWithExternalOAuth(t *testing.T) {
	t.Parallel()
	const (
		client   = "11111111-2222-3333-4444-555555555555"
		resource = "api://snowflake.acme.example"
		role     = "session:role:TRANSFORMER"
	)
	for _, tt := range setup.Few(1, []struct {
		name  string
		scope string // the scope that the integration requires
		start func(issuer *standin.Issuer, now func() time.Time) (*standin.TokenService, error)
		ask   func(url string) string
	}{
		{"entra", resource + "/.default", func(issuer *standin.Issuer, now func() time.Time) (*standin.TokenService, error) {
			return standin.StartEntra(standin.EntraConfig{Tenant: "acme.example", Resources: []string{resource}, Now: now, Applications: map[string][]standin.FederatedCredential{
				client: {{Issuer: issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}},
			}})
		}, func(url string) string {
			return fmt.Sprintf("{entra: {tenant: acme.example, client_id: %s, scope: %q, authority: %q}}", client, resource+"/.default", url)
		}},
		{"token_exchange", role, func(issuer *standin.Issuer, now func() time.Time) (*standin.TokenService, error) {
			return standin.StartAuthServer(standin.AuthServerConfig{IssuerURL: issuer.URL(), Audience: "acme", Now: now, Clients: map[string]standin.AuthClient{
				"dbt-prod": {Subject: setup.Subject, Scopes: []string{role, "session:role:OTHER"}},
			}})
		}, func(url string) string {
			return fmt.Sprintf("{token_exchange: {token_url: %q, audience: acme, grant: client_assertion, client_id: dbt-prod, scope: %q}}", url+"/token", role)
		}},
	}...) {
		t.Run(tt.name, func(t *testing.T) {
			issuer := setup.Issuer(t)
			late := time.Duration(0)
			tokens, err := tt.start(issuer, func() time.Time { return time.Now().Add(late) })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(tokens.Close)
			s, port := start(t, issuer, nil)
			s.bearer = func(token string) error {
				if !tokens.Valid(token, tt.scope) {
					return errors.New("Invalid OAuth access token.")
				}
				return nil
			}
			workspace := setup.Project(t, issuer, oauthBlock(port), tt.ask(tokens.URL()))
			env, _ := setup.Authenticate(t, issuer, workspace)
			setup.Build(t, setup.Python(t), issuer, workspace, env)
			if s.logins == 0 || len(s.refused) > 0 || s.token != tokens.Bearers()[0].Value {
				t.Errorf("%d logins, refused: %q", s.logins, s.refused)
			}
			good := env["DBT_ENV_SECRET_OIDC_TOKEN"]
			for name, token := range map[string]string{"one that was never issued": good + "x", "the ID token": issuer.Issued()[0]} {
				if s.bearer(token) == nil {
					t.Errorf("%s is accepted", name)
				}
			}

			// A login after the token has expired: dbt prints the reason.
			late = 61 * time.Minute
			out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1")
			if err == nil || len(s.refused) == 0 || !strings.Contains(out, "Invalid OAuth access token") {
				t.Errorf("dbt with an expired token: %v, refused %q\n%s", err, s.refused, out)
			}
			if strings.Contains(out, good) {
				t.Error("the token is in dbt's output")
			}
		})
	}
}

// The user from a vault.
const leased = "V_DBT_1"

// checkKeyPair verifies the connector's token, as Snowflake does.
// (Snowflake: Using key-pair authentication, generating a JWT)
func checkKeyPair(public *rsa.PublicKey, user, token string) error {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	subject := "ACME-PROD." + user
	claims := jwt.MapClaims{}
	_, err = jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithSubject(subject),
		jwt.WithIssuer(subject+".SHA256:"+base64.StdEncoding.EncodeToString(sum[:]))).ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return public, nil })
	if err != nil {
		return fmt.Errorf("JWT token is invalid: %w", err)
	}
	issued, err := claims.GetIssuedAt()
	expires, _ := claims.GetExpirationTime()
	if err != nil || issued == nil || expires.Sub(issued.Time) > time.Hour {
		return errors.New("JWT token is invalid: it lives longer than an hour")
	}
	return nil
}

func TestDbtBuildWithAKeyPair(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	exchange := setup.OpenBao(t).Static(t, issuer, map[string]any{"username": leased, "rsa_private_key": text})
	s, port := start(t, issuer, nil)
	check := func(user, token string) error {
		if user != leased {
			return fmt.Errorf("user %q does not exist", user)
		}
		return checkKeyPair(&key.PublicKey, user, token)
	}
	dropped := false
	s.keyPair = func(user, token string) error {
		if dropped {
			return errors.New("JWT token is invalid: the user was dropped")
		}
		return check(user, token)
	}
	workspace := setup.Project(t, issuer, oauthBlock(port), exchange)
	env, step := setup.Authenticate(t, issuer, workspace)
	if got := step.Outputs["private-key"]; got != base64.StdEncoding.EncodeToString(der) {
		t.Error("the output private-key is not the key")
	}
	out := setup.Build(t, setup.Python(t), issuer, workspace, env)
	if s.logins == 0 || len(s.refused) > 0 {
		t.Errorf("%d logins, refused: %q", s.logins, s.refused)
	}
	if strings.Contains(out, env["DBT_ENV_SECRET_OIDC_PRIVATE_KEY"]) {
		t.Error("the key is in dbt's output")
	}

	// One mutation of each property.
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	parsed, _, err := jwt.NewParser().ParseUnverified(s.token, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	mutated := func(signer *rsa.PrivateKey, changes jwt.MapClaims) string {
		claims := jwt.MapClaims{}
		for _, all := range []jwt.MapClaims{parsed.Claims.(jwt.MapClaims), changes} {
			for name, v := range all {
				claims[name] = v
			}
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(signer)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	now := time.Now()
	for name, tt := range map[string]struct {
		user, token string
	}{
		"user":        {"DBT_PROD", s.token},
		"issuer":      {leased, mutated(key, jwt.MapClaims{"iss": "ACME-PROD." + leased + ".SHA256:AAAA"})},
		"subject":     {leased, mutated(key, jwt.MapClaims{"sub": "ACME-PROD.DBT_PROD"})},
		"expiry":      {leased, mutated(key, jwt.MapClaims{"iat": now.Add(-2 * time.Minute).Unix(), "exp": now.Add(-time.Minute).Unix()})},
		"life":        {leased, mutated(key, jwt.MapClaims{"iat": now.Unix(), "exp": now.Add(2 * time.Hour).Unix()})},
		"signature":   {leased, mutated(other, nil)},
		"no token":    {leased, ""},
		"private key": {leased, env["DBT_ENV_SECRET_OIDC_PRIVATE_KEY"]},
	} {
		if err := check(tt.user, tt.token); err == nil {
			t.Errorf("a login with another %s is accepted", name)
		}
	}
	if err := check(leased, mutated(key, nil)); err != nil {
		t.Errorf("the good login is refused: %v", err)
	}

	// The user is dropped at the end of the lease.
	dropped = true
	out, err = setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1")
	if err == nil || !strings.Contains(out, "the user was dropped") {
		t.Errorf("dbt after the lease: %v\n%s", err, out)
	}
}
