package provider_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// vaultLogin is the first hop of everything at Vault. The words of refusals
// are OpenBao's, and Vault's where they differ.
var vaultLogin = hop{
	name:    "login",
	reply:   `{"request_id": "f3d0", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null, "wrap_info": null, "warnings": null, "auth": {"client_token": "hvs.CAESIJ-vault-token-0123456789", "accessor": "p6mV", "policies": ["dbt-prod", "default"], "token_policies": ["dbt-prod", "default"], "metadata": {"role": "dbt-prod"}, "lease_duration": 1200, "renewable": true, "entity_id": "6b0b", "token_type": "service", "orphan": true}}`,
	secrets: []string{"auth.client_token"},
	also:    []mutation{{"auth", nil}, {"auth.lease_duration", -1}, {"auth.lease_duration", 1e12}, {"auth.lease_duration", "soon"}},
	refusal: `{"errors": ["$MESSAGE"]}`,
	refusals: []refusal{
		{400, "", `error validating token: invalid audience (aud) claim: audience claim does not match any expected audience`},
		{400, "", `role \"dbt-prod\" could not be found`},
		{400, "", `error validating claims: claim \"environment\" does not match any associated bound claim values`},
		{400, "", `error validating claims: claim \"environment\" is missing`},
		{400, "", `error validating token: invalid subject (sub) claim`},
		{400, "", `error validating token: invalid issuer (iss) claim`},
		{400, "", `error validating token: error verifying token signature: failed to verify id token signature`},
		{400, "", `could not load configuration`},
		{403, "", `1 error occurred:\n\t* permission denied\n\n`},
		{404, "", `namespace not found`},
		{503, "", `Vault is sealed`},
	},
	passing: []refusal{
		{400, "", `error validating token: error verifying token signature: fetching keys oidc: get keys failed: Get \"https://token.actions.githubusercontent.com/.well-known/jwks\": context deadline exceeded`},
		{400, "", `error configuring token validator: keyset configuration error: Get \"https://token.actions.githubusercontent.com/.well-known/openid-configuration\": dial tcp 192.0.2.1:443: i/o timeout`},
		{412, "", `required index state not present`},
		{429, "", `request path \"auth/jwt/login\": rate limit quota exceeded`},
	},
}

// celLogin is the login by a CEL role. The words are those of OpenBao 2.7.
var celLogin = hop{
	name: "login", reply: vaultLogin.reply, secrets: vaultLogin.secrets,
	refusal: vaultLogin.refusal,
	refusals: []refusal{
		{400, "", `error executing cel program: CEL role 'dbt-production' blocked authorization with boolean false return`},
		{400, "", `error executing cel program: CEL role 'dbt-production' blocked authorization with message: no rule matches the namespace's audience`},
		{400, "", `error executing cel program: CEL auth program failed: failed to evaluate expression: failed to evaluate expression \"claims.environment == 'production' ? pb.Auth{policies: ['dbt']} : false\": no such key: environment`},
		{400, "", `error executing cel program: CEL auth program failed: failed to evaluate expression: failed to evaluate expression \"claims.ref.matches('^refs/heads/main$')\": no such overload: matches`},
		{400, "", `error executing cel program: CEL program 'dbt-production' returned unexpected type: types.Bool`},
		{400, "", `error converting proto auth: proto: invalid nil Timestamp`},
		{400, "", `role \"dbt-production\" could not be found`},
		{400, "", `error validating token: invalid audience (aud) claim: audience claim does not match any expected audience`},
		{403, "", `permission denied`},
		{404, "", `1 error occurred:\n\t* unsupported path\n\n`},
		{404, "", `no handler for route \"auth/jwt-github/cel/login\". route entry not found.`},
	},
	passing: vaultLogin.passing[:1],
}

// vaultEnd kills the token and its leases.
const vaultEnd = "PUT vault.acme.example:8200 /v1/auth/token/revoke-self"

const vaultTarget = `
    exchange:
      vault: {address: "https://vault.acme.example:8200", namespace: data/dbt, auth_path: jwt-github, role: "dbt-${environment}", audience: https://vault.acme.example, secret: "database/creds/dbt-${environment}"}`

var vault = []fixture{{
	name:   "vault",
	target: vaultTarget,
	claims: map[string]any{"environment": "production"},
	hops: []hop{vaultLogin, {
		name:    "read",
		reply:   `{"request_id": "f3d1", "lease_id": "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", "renewable": true, "lease_duration": 900, "data": {"username": "v-jwt-repo-dbt-prod-0TxpJuFn", "password": "hunter2-0123456789-A1a"}, "wrap_info": null, "warnings": null, "auth": null}`,
		secrets: []string{"data.password"},
		expiry:  "lease_duration",
		also:    []mutation{{"lease_id", nil}, {"lease_id", ""}, {"data", nil}, {"data.username", nil}, {"data.username", "{{ env_var('HOME') }}"}},
		refusal: `{"errors": ["$MESSAGE"]}`,
		refusals: []refusal{
			{403, "", `1 error occurred:\n\t* permission denied\n\n`},
			{400, "", `unknown role: dbt-production`},
			{404, "", `no handler for route \"database/creds/dbt-production\". route entry not found.`},
			{400, "", `Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.`},
			{500, "", `1 error occurred:\n\t* failed to connect to the database`},
		},
	}},
	end:  vaultEnd,
	want: issued{kind: "database_login", id: "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", user: "v-jwt-repo-dbt-prod-0TxpJuFn", life: 15 * time.Minute},
}, {
	name:   "vault-cel",
	target: strings.Replace(vaultTarget, "role:", "auth: cel, role:", 1),
	claims: map[string]any{"environment": "production"},
	hops: []hop{celLogin, {
		name:    "read",
		reply:   `{"request_id": "f3d1", "lease_id": "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", "renewable": true, "lease_duration": 900, "data": {"username": "v-jwt-repo-dbt-prod-0TxpJuFn", "password": "hunter2-0123456789-A1a"}, "wrap_info": null, "warnings": null, "auth": null}`,
		secrets: []string{"data.password"},
		expiry:  "lease_duration",
		refusal: `{"errors": ["$MESSAGE"]}`,
		refusals: []refusal{
			{403, "", `1 error occurred:\n\t* permission denied\n\n`},
			{400, "", `Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.`},
		},
	}},
	end:  vaultEnd,
	want: issued{kind: "database_login", id: "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", user: "v-jwt-repo-dbt-prod-0TxpJuFn", life: 15 * time.Minute},
}, {
	name:   "vault-renewal",
	target: vaultTarget,
	claims: map[string]any{"environment": "production"},
	held:   lent(),
	hops: []hop{{
		name:    "renew the token",
		reply:   `{"request_id": "f3d2", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null, "wrap_info": null, "warnings": null, "auth": {"client_token": "hvs.CAESIJ-vault-token-0123456789", "accessor": "p6mV", "policies": ["dbt-prod", "default"], "token_policies": ["dbt-prod", "default"], "metadata": {"role": "dbt-prod"}, "lease_duration": 1200, "renewable": true, "entity_id": "6b0b", "token_type": "service", "orphan": true}}`,
		expiry:  "auth.lease_duration",
		also:    []mutation{{"auth", nil}},
		refusal: `{"errors": ["$MESSAGE"]}`,
		refusals: []refusal{
			{403, "", `permission denied`},
			{403, "", `2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n`},
			{403, "", `1 error occurred:\n\t* permission denied\n\n`},
			{400, "", `batch tokens cannot be renewed`},
			{503, "", `Vault is sealed`},
		},
	}, {
		name:    "renew the lease",
		reply:   `{"request_id": "f3d3", "lease_id": "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", "renewable": true, "lease_duration": 900, "data": null, "wrap_info": null, "warnings": null, "auth": null}`,
		expiry:  "lease_duration",
		refusal: `{"errors": ["$MESSAGE"]}`,
		refusals: []refusal{
			{400, "", `lease not found`},
			{403, "", `1 error occurred:\n\t* permission denied\n\n`},
			{400, "", `lease is not renewable`},
			{500, "", `1 error occurred:\n\t* failed to renew entry: resp: (*logical.Response)(nil) err: failed to update user`},
		},
	}},
	want: issued{kind: "database_login", id: "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", user: "v-jwt-repo-dbt-prod-0TxpJuFn", life: 15 * time.Minute},
}}

// lent is a credential whose lease ends in five minutes.
func lent() *credential.Credential {
	return &credential.Credential{
		Kind: "database_login", ID: "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", User: "v-jwt-repo-dbt-prod-0TxpJuFn", Password: secret.New("hunter2-0123456789-A1a"), Expiry: start.Add(5 * time.Minute),
		Lease: &credential.Lease{
			Provider: "vault",
			Address:  "https://vault.acme.example:8200", Namespace: "data/dbt", Token: secret.New("hvs.CAESIJ-vault-token-0123456789"),
			ID: "database/creds/dbt-production/V7UEuRKvOgaFs0SvsGs8fvgn", Secret: credential.Term{Expiry: start.Add(5 * time.Minute), Renewable: true}, Login: credential.Term{Expiry: start.Add(10 * time.Minute), Renewable: true},
		},
	}
}

// read runs the exchange of a fixture for a warehouse, with another secret.
func (r run) read(t *testing.T, w credential.Warehouse, secret string) result {
	t.Helper()
	r.warehouse = w
	return r.exchange(t, func(reply http.ResponseWriter, req request) {
		switch {
		case req.what() == r.end:
			reply.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(req.RequestURI, "/login"):
			r.hops[0].send(reply, http.StatusOK, r.hops[0].reply)
		default:
			r.hops[1].send(reply, http.StatusOK, secret)
		}
	})
}

// leased is a reply with the data in it, for fifteen minutes.
func leased(data string) string {
	return `{"lease_id": "database/creds/dbt-production/V7UE", "lease_duration": 900, "data": ` + data + `}`
}

func vaultRun(t *testing.T, f fixture) run {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	verifier := idtoken.NewVerifier(web.NewClient(web.NewTransport()), func() time.Time { return start }, idtoken.Issuer{URL: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks"})
	return f.authorize(t, issuer, verifier)
}

// TestVaultForms: what a secret's fields become depends on the warehouse.
func TestVaultForms(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := func(kind string, der []byte) string {
		text, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	line := base64.StdEncoding.EncodeToString(pkcs8)
	const (
		login     = `{"username": "u", "password": "hunter2-p"}`
		principal = `{"client_id": "c", "client_secret": "hunter2-s"}`
		token     = `{"token": "hunter2-t"}`
	)
	keyPair := `{"username": "u", "rsa_private_key": ` + inPEM("PRIVATE KEY", pkcs8) + `}`
	r := vaultRun(t, vault[0])
	for _, tt := range []struct {
		name, dbtType, data, want, err string
		bearer                         bool
	}{
		{name: "a login for PostgreSQL", dbtType: "postgres", data: login, want: "database_login u hunter2-p"},
		{name: "a login for Redshift", dbtType: "redshift", data: login, want: "database_login u hunter2-p"},
		{name: "a login for ClickHouse", dbtType: "clickhouse", data: login, want: "database_login u hunter2-p"},
		{name: "a login for SQL Server", dbtType: "sqlserver", data: login, want: "database_login u hunter2-p"},
		{name: "a principal for SQL Server", dbtType: "sqlserver", data: principal, want: "service_principal c hunter2-s"},
		{name: "a principal for Fabric", dbtType: "fabric", data: principal, want: "service_principal c hunter2-s"},
		{name: "a bearer for Spark", dbtType: "spark", bearer: true, data: token, want: "access_token  hunter2-t"},
		{name: "an access token for Spark", dbtType: "spark", bearer: true, data: `{"access_token": "hunter2-a", "token": "hunter2-t"}`, want: "access_token  hunter2-a"},
		{name: "a login for Spark", dbtType: "spark", data: login, want: "database_login u hunter2-p"},
		{name: "a login for Spark over HTTP", dbtType: "spark", bearer: true, data: login, err: `the secret has the fields ["password" "username"], want "access_token" or "token"`},
		{name: "a key for Snowflake, PKCS #8", dbtType: "snowflake", data: keyPair, want: "key_pair u " + line},
		{name: "a key for Snowflake, PKCS #1", dbtType: "snowflake", data: `{"username": "u", "private_key": ` + inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)) + `}`, want: "key_pair u " + line},
		{name: "a key for anything", data: keyPair, want: "key_pair u " + line},
		{name: "a principal for anything", data: principal, want: "service_principal c hunter2-s"},
		{name: "an elliptic key", dbtType: "snowflake", data: `{"username": "u", "private_key": ` + inPEM("PRIVATE KEY", ec) + `}`, err: "the private key is not an unencrypted RSA key in PEM"},
		{name: "an encrypted key", dbtType: "snowflake", data: `{"username": "u", "private_key": ` + inPEM("ENCRYPTED PRIVATE KEY", pkcs8) + `}`, err: "the private key is not an unencrypted RSA key in PEM"},
		{name: "no key at all", dbtType: "snowflake", data: `{"username": "u", "private_key": "hunter2"}`, err: "the private key is not an unencrypted RSA key in PEM"},
		{name: "a login for Snowflake", dbtType: "snowflake", data: login, err: `the secret has the fields ["password" "username"], want "username" and "rsa_private_key" or "private_key"`},
		{name: "a login for Fabric", dbtType: "fabric", data: login, err: `the secret has the fields ["password" "username"], want "client_id" and "client_secret"`},
		{name: "a user without a password", dbtType: "sqlserver", data: `{"username": "u", "Password": "hunter2"}`, err: `the secret has the fields ["Password" "username"], want "username" and "password", or "client_id" and "client_secret"`},
		{name: "a user in Jinja", dbtType: "postgres", data: `{"username": "{{ env_var('HOME') }}", "password": "hunter2"}`, err: `the field "username" contains invalid characters`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res := r.read(t, typed(tt.dbtType, "vault", credential.Warehouse{Bearer: tt.bearer}), leased(tt.data))
			if tt.err != "" {
				if want := `exchange ID token with "vault": read "database/creds/dbt-production": ` + tt.err; fmt.Sprint(res.err) != want || fault.ClassOf(res.err) != fault.Refused {
					t.Errorf("got %v\nwant %s", res.err, want)
				}
				if last := res.requests[len(res.requests)-1].what(); last != r.end {
					t.Errorf("the last request is %q, want the end of the lease", last)
				}
				return
			}
			c := res.credential
			secret := c.Password.Reveal() + c.PrivateKey.Reveal() + c.Token.Reveal()
			if got := string(c.Kind) + " " + c.User + " " + secret; res.err != nil || got != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, res.err, tt.want)
			}
			if c.Lease == nil || c.Lease.Token.Reveal() != "hvs.CAESIJ-vault-token-0123456789" || !slices.Contains(c.Secrets(), c.Lease.Token) {
				t.Errorf("the lease is %+v", c.Lease)
			}
		})
	}
}

// TestVaultExpiry: the end is that of the lease or of the token, whichever is
// first; what has no lease needs the policy's consent.
func TestVaultExpiry(t *testing.T) {
	t.Parallel()
	static := vault[0]
	static.target = strings.Replace(static.target, "address:", "static: true, address:", 1)
	strict, lax := vaultRun(t, vault[0]), vaultRun(t, static)
	const data = `"data": {"username": "u", "password": "hunter2"`
	for _, tt := range []struct {
		name, reply string
		life        time.Duration
		static      bool
		err         string // without `static: true`; "" where it makes no difference
	}{
		{name: "a lease", reply: `{"lease_id": "l", "lease_duration": 900, ` + data + `}}`, life: 15 * time.Minute},
		{name: "a lease that outlives the token", reply: `{"lease_id": "l", "lease_duration": 3600, ` + data + `}}`, life: 20 * time.Minute},
		{name: "KV version 1", reply: `{"lease_id": "", "lease_duration": 2764800, ` + data + `}}`, static: true, life: credential.Never().Sub(start), err: "no lease"},
		{name: "KV version 2", reply: `{"lease_id": "", "lease_duration": 0, "data": {` + data + `}, "metadata": {"version": 3}}}`, static: true, life: credential.Never().Sub(start), err: "no lease"},
		{name: "a static role", reply: `{"lease_id": "", "lease_duration": 0, ` + data + `, "ttl": 4000, "last_vault_rotation": "1999-12-31T23:00:00Z"}}`, static: true, life: 4000 * time.Second, err: "no lease"},
		{name: "a user's own ttl", reply: `{"lease_id": "", "lease_duration": 0, ` + data + `, "ttl": 4000}}`, static: true, life: credential.Never().Sub(start), err: "no lease"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res := lax.read(t, credential.Warehouse{}, tt.reply)
			if got := res.credential.Expiry.Sub(start); res.err != nil || got != tt.life || res.credential.Static != tt.static {
				t.Errorf("it lives %s, static: %v, %v, want %s, %v", got, res.credential.Static, res.err, tt.life, tt.static)
			}
			res = strict.read(t, credential.Warehouse{}, tt.reply)
			if tt.err == "" {
				if res.err != nil {
					t.Error(res.err)
				}
				return
			}
			if want := `exchange ID token with "vault": read "database/creds/dbt-production": the secret has no lease and outlives the run`; fmt.Sprint(res.err) != want || fault.ClassOf(res.err) != fault.Refused {
				t.Errorf("got %v\nwant %s", res.err, want)
			}
		})
	}
}

// TestVaultRevoke: over TLS of a private authority; a token that has ended is
// no error, one that may not end itself is.
func TestVaultRevoke(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		reply  string
		err    string
	}{
		{name: "done", status: 204},
		{name: "Vault does not know it", status: 403, reply: `{"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`},
		{name: "OpenBao does not know it", status: 403, reply: `{"errors": ["permission denied"]}`},
		{name: "not allowed", status: 403, reply: `{"errors": ["1 error occurred:\n\t* permission denied\n\n"]}`, err: `revoke the lease: refused: "1 error occurred: * permission denied"`},
		{name: "a batch token", status: 400, reply: `{"errors": ["batch tokens cannot be revoked"]}`, err: `revoke the lease: refused: "batch tokens cannot be revoked"`},
		{name: "a page", status: 403, reply: `<html>hunter2`, err: `revoke the lease: Vault replied with status 403`},
		{name: "its token in its words", status: 400, reply: `{"errors": ["bad token hvs.CAESIJ-0123456789"]}`, err: `revoke the lease: refused: "bad token …"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("X-Vault-Token") != "hvs.CAESIJ-0123456789" || req.Header.Get("X-Vault-Namespace") != "team" || req.URL.Path != "/v1/auth/token/revoke-self" {
					t.Errorf("asked for %s with %v", req.URL.Path, req.Header)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.reply)
			}))
			t.Cleanup(server.Close)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // a job that was cancelled ends its lease all the same
			err := provider.Revoke(ctx, exchange.Env{HTTP: web.NewClient(web.NewTransport()), Now: time.Now}, credential.Lease{
				Provider: "vault",
				Address:  server.URL, Namespace: "team", Token: secret.New("hvs.CAESIJ-0123456789"),
				CACert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
			})
			if got := fmt.Sprint(err); err != nil && got != tt.err || err == nil && tt.err != "" {
				t.Errorf("got %v\nwant %s", err, tt.err)
			}
		})
	}
}

// renewal is a server that lends for ten seconds at a time, and its clock.
type renewal struct {
	run
	vault *standin.Vault
	env   exchange.Env
	at    *time.Time
}

// newRenewal lends a credential by the role and the secret.
func newRenewal(t *testing.T, role standin.VaultRole, lease standin.VaultSecret) (renewal, credential.Credential) {
	t.Helper()
	issuer, verifier := startIssuer(t)
	at := start
	r := renewal{at: &at, env: exchange.Env{HTTP: web.NewClient(web.NewTransport()), Now: func() time.Time { return at }}}
	const path = "database/creds/dbt-prod"
	role.BoundAudiences, role.Policies, lease.TTL = []string{"vault"}, []string{path}, 10*time.Second
	if role.TokenTTL == 0 {
		role.TokenTTL = 20 * time.Second
	}
	var err error
	r.vault, err = standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(), Now: r.env.Now, Roles: map[string]standin.VaultRole{"dbt-prod": role}, Secrets: map[string]standin.VaultSecret{path: lease},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.vault.Close)
	auth := "jwt"
	if role.CEL {
		auth = "cel"
	}
	r.run = fixture{target: "exchange:\n      vault: {address: " + r.vault.URL() + ", auth: " + auth + ", role: dbt-prod, audience: vault, secret: " + path + "}"}.authorize(t, issuer, verifier)
	c, err := provider.Exchange(t.Context(), r.env, r.grant, credential.Warehouse{}, r.idToken)
	if err != nil {
		t.Fatal(err)
	}
	return r, c
}

// TestRenew: the same user lives on, as long as renewals come in time and the
// server's maximum allows.
func TestRenew(t *testing.T) {
	t.Parallel()
	const (
		secretHint = "raise max_ttl of the role behind database/creds/dbt-prod"
		loginHint  = "raise token_max_ttl of auth/jwt/role/dbt-prod, or give it a token_period"
		endedHint  = "the lease has ended: it expired while the server was unreachable, or it was revoked"
	)
	for _, tt := range []struct {
		name    string
		role    standin.VaultRole
		lease   standin.VaultSecret
		every   time.Duration // between renewals; 0 for six seconds
		last    time.Duration // the credential's end, from the start
		err     string
		hint    string
		renewed int
	}{
		{name: "the lease's maximum", lease: standin.VaultSecret{MaxTTL: 45 * time.Second}, renewed: 6, last: 45 * time.Second,
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:45Z, in 3s: logins fail after that", hint: secretHint},
		{name: "the token's maximum", role: standin.VaultRole{TokenMaxTTL: 28 * time.Second}, renewed: 3, last: 28 * time.Second,
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:28Z, in 4s: logins fail after that", hint: loginHint},
		{name: "the maximum of a CEL role's token", role: standin.VaultRole{CEL: true, TokenMaxTTL: 28 * time.Second}, renewed: 3, last: 28 * time.Second,
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:28Z, in 4s: logins fail after that", hint: "raise MaxTTL of auth/jwt/cel/role/dbt-prod, or give it a period"},
		{name: "the token's maximum, with less than a second left", role: standin.VaultRole{TokenMaxTTL: 19900 * time.Millisecond},
			every: 9900 * time.Millisecond, renewed: 1, last: 19900 * time.Millisecond,
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:19Z, in 0s: logins fail after that", hint: loginHint},
		{name: "too late", every: 10 * time.Second, last: 10 * time.Second, err: `renew the lease: refused: "lease not found"`, hint: endedHint},
		{name: "too late for the token", every: 20 * time.Second, last: 10 * time.Second, err: `renew the Vault token: refused: "permission denied"`, hint: endedHint},
		{name: "not allowed", role: standin.VaultRole{Fixed: true}, last: 10 * time.Second, err: `renew the Vault token: refused: "1 error occurred: * permission denied"`,
			hint: "a policy of the role must allow `update` on auth/token/renew-self and sys/leases/renew, as the policy `default` does"},
		{name: "a batch token", role: standin.VaultRole{Batch: true}, renewed: 2, last: 20 * time.Second,
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:20Z, in 2s: logins fail after that", hint: "set token_type=service on auth/jwt/role/dbt-prod (a batch token cannot be renewed), or raise its token_ttl"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, first := newRenewal(t, tt.role, tt.lease)
			if tt.every == 0 {
				tt.every = 6 * time.Second
			}
			c, renewed := first, 0
			var err error
			for ; err == nil && renewed < 100; renewed++ {
				if !r.vault.Login(first.User, first.Password.Reveal()) {
					t.Fatal("the login ended though it was renewed in time")
				}
				*r.at = r.at.Add(tt.every)
				var next credential.Credential
				if next, err = provider.Renew(t.Context(), r.env, r.grant, c); err == nil {
					c = next
				}
			}
			if got := fmt.Sprint(err); got != tt.err || fault.Hint(err) != tt.hint || !fault.Lasts(err) || fault.ClassOf(err) != fault.Refused {
				t.Errorf("got %s (%v)\nhint: %s\nwant %s\nhint: %s", got, fault.ClassOf(err), fault.Hint(err), tt.err, tt.hint)
			}
			if renewed--; renewed != tt.renewed || c.Expiry.Sub(start) != tt.last {
				t.Errorf("renewed %d times, to %s from the start, want %d, %s", renewed, c.Expiry.Sub(start), tt.renewed, tt.last)
			}
			if c.User != first.User || c.Password != first.Password || c.ID != first.ID {
				t.Errorf("it is another login: %s for %s", c.User, first.User)
			}
			*r.at = start.Add(tt.last)
			if r.vault.Login(first.User, first.Password.Reveal()) {
				t.Error("the login outlives its expiry")
			}
		})
	}
}

// TestOutlook: what will end the lease is told at the start, and asking for it
// leaves the lease at its usual life.
func TestOutlook(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		role  standin.VaultRole
		lease standin.VaultSecret
		down  bool
		err   string
		hint  string
		class fault.Class // of err; Refused where it is left out
	}{
		{name: "no end in sight"},
		{name: "six hours", lease: standin.VaultSecret{MaxTTL: 6 * time.Hour}},
		{name: "the lease's maximum", role: standin.VaultRole{TokenMaxTTL: 4 * time.Hour}, lease: standin.VaultSecret{MaxTTL: 2 * time.Hour},
			err: "the lease cannot be renewed beyond 2000-01-01T02:00:00Z, in 2h0m0s: logins fail after that", hint: "raise max_ttl of the role behind database/creds/dbt-prod"},
		{name: "the token's maximum", role: standin.VaultRole{TokenMaxTTL: time.Hour}, lease: standin.VaultSecret{MaxTTL: 2 * time.Hour},
			err: "the lease cannot be renewed beyond 2000-01-01T01:00:00Z, in 1h0m0s: logins fail after that", hint: "raise token_max_ttl of auth/jwt/role/dbt-prod, or give it a token_period"},
		{name: "a token with a period", role: standin.VaultRole{Period: 20 * time.Second}},
		{name: "a batch token", role: standin.VaultRole{Batch: true},
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:20Z, in 20s: logins fail after that", hint: "set token_type=service on auth/jwt/role/dbt-prod (a batch token cannot be renewed), or raise its token_ttl"},
		{name: "a CEL role's token without lease_options", role: standin.VaultRole{CEL: true, Batch: true},
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:20Z, in 20s: logins fail after that", hint: "the cel_program of auth/jwt/cel/role/dbt-prod must set lease_options with renewable: true, issue_time: now and MaxTTL"},
		{name: "a lease that is not renewable", lease: standin.VaultSecret{Rigid: true},
			err: "the lease cannot be renewed beyond 2000-01-01T00:00:10Z, in 10s: logins fail after that", hint: "raise the time to live of database/creds/dbt-prod: its engine issues leases that cannot be renewed"},
		{name: "not allowed", role: standin.VaultRole{Fixed: true}, err: `renew the Vault token: refused: "1 error occurred: * permission denied"`,
			hint: "a policy of the role must allow `update` on auth/token/renew-self and sys/leases/renew, as the policy `default` does"},
		{name: "out of reach", down: true, err: "renew the Vault token: dial tcp $VAULT: connect: connection refused", class: fault.Unreachable, hint: "run the job again; if it persists, see the provider's status page"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, first := newRenewal(t, tt.role, tt.lease)
			if tt.down {
				r.vault.Close()
			}
			c, err := provider.Outlook(t.Context(), r.env, r.grant, first)
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), strings.TrimPrefix(r.vault.URL(), "http://"), "$VAULT")
			}
			if tt.class == 0 {
				tt.class = fault.Refused
			}
			if got != tt.err || fault.Hint(err) != tt.hint || err != nil && fault.ClassOf(err) != tt.class {
				t.Errorf("got %s (%v)\nhint: %s\nwant %s (%v)\nhint: %s", got, fault.ClassOf(err), fault.Hint(err), tt.err, tt.class, tt.hint)
			}
			if c.Expiry != first.Expiry || c.User != first.User {
				t.Errorf("it is %s's to %s, want %s's to %s", c.User, c.Expiry, first.User, first.Expiry)
			}
			*r.at = first.Expiry.Add(-time.Second)
			if !r.vault.Login(first.User, first.Password.Reveal()) {
				t.Error("the login ended early")
			}
			*r.at = first.Expiry
			if r.vault.Login(first.User, first.Password.Reveal()) {
				t.Error("the login is left with a longer life than it had")
			}
		})
	}
}
