//go:build e2e && linux && amd64

package dbtpackage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// The warehouses' users. Those of PostgreSQL are made by OpenBao.
const (
	trinoUser      = "dbt_trino"
	clickHouseUser = "dbt_clickhouse"
)

// A company has five CI systems, three warehouses, and two places to which records are shipped.
type company struct {
	issuers  map[string]*standin.Issuer // of the CI systems, by kind
	provider *standin.Issuer            // of the company: exchanges ID tokens for the warehouses' access tokens

	postgres    *setup.PostgresServer
	postgresLog string
	bao         *setup.OpenBaoServer
	trino       *setup.TrinoServer
	clickHouse  string // the address of the server that checks logins
	engine      string // the address of the engine behind it
	password    string // of ClickHouse's user, which no run uses any more

	store       *setup.MinIOServer
	collected   string // the collector's file
	collectorCA string

	workspace, policy, log string // of all jobs

	mu     sync.Mutex
	events []string // of Trino
}

func newCompany(t *testing.T) *company {
	t.Helper()
	c := &company{
		issuers: map[string]*standin.Issuer{}, provider: setup.Issuer(t), password: "old/battery&staple",
		workspace: t.TempDir(),
	}
	for _, s := range systems {
		c.issuers[s.kind] = setup.Issuer(t)
		c.issuers[s.kind].SetClaims(s.with("0"))
	}
	keys := c.publish(t)
	logs := t.TempDir()
	c.postgresLog = filepath.Join(logs, "server.csv")
	c.postgres = setup.Postgres(t, false, "logging_collector=on", "log_destination=csvlog", "log_directory="+logs,
		"log_filename=server.log", "log_connections=on", "log_statement=all")
	c.postgres.SQL(t, tables+"; create role dbt_old login password 'old-"+c.postgres.Password+"'")
	c.bao = setup.OpenBao(t)
	c.lend(t, keys+"/keys")
	c.startTrino(t)
	c.startClickHouse(t)

	c.store = setup.MinIO(t, setup.MinIOConfig{
		Discovery: keys + "/.well-known/openid-configuration", Audience: audience, Claim: storePolicy,
		Token: func() string { return c.issuers["github"].Sign(audience, nil) }, Buckets: []string{"acme-audit"},
	})
	ca, certificate := setup.Certificate(t)
	collector, file := setup.Collector(t, setup.CollectorProgram(t), certificate, "")
	c.collected, c.collectorCA = file, ca

	setup.Write(t, c.workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\n")
	c.policy = setup.Write(t, t.TempDir(), "policy.yml", c.policyText(t, collector))
	c.log = filepath.Join(t.TempDir(), "audit.jsonl")
	return c
}

// with returns the claims of one run's tokens.
func (s system) with(run string) map[string]any {
	claims := maps.Clone(s.claims)
	claims[s.run], claims[storePolicy] = run, "writeonly"
	return claims
}

// publish serves the keys of all CI systems as one set, for those who trust one issuer only.
func (c *company) publish(t *testing.T) (address string) {
	t.Helper()
	var keys jose.JSONWebKeySet
	for _, issuer := range c.issuers {
		key, id := issuer.Key()
		keys.Keys = append(keys.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "RS256", Use: "sig"})
	}
	host, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(keys)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": address, "jwks_uri": address + "/keys",
			"authorization_endpoint": address + "/authorize", "token_endpoint": address + "/token",
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"}})
	}))
	address = fmt.Sprintf("http://%s:%d", host, port)
	return address
}

// policy has a target for each warehouse, and one for the records, with the same rules.
const policy = `version: 1
identities:
IDENTITIES
audit:
  otlp: {endpoint: "COLLECTOR"}
  bucket: {target: audit-log, url: "s3://acme-audit/oidc-dbt/", endpoint: "STORE"}
  require: [otlp, bucket]
targets:
  pg:
    dbt: {type: postgres, host: 127.0.0.1, port: PG_PORT, dbname: postgres, schema: marts}
    exchange:
      vault: {address: "VAULT", role: dbt-prod, audience: "AUDIENCE", secret: database/creds/dbt-prod}
    allow:
RULES
  trino:
    dbt:
      {type: trino, host: 127.0.0.1, port: TRINO_PORT, user: TRINO_USER, database: memory, schema: marts, cert: "TRINO_CA"}
    exchange:
      token_exchange: {token_url: "CH_URL/oauth/trino", grant: client_assertion, audience: "AUDIENCE"}
    allow:
RULES
  ch:
    dbt: {type: clickhouse, host: 127.0.0.1, port: CH_PORT, user: CH_USER, schema: marts}
    exchange:
      token_exchange: {token_url: "CH_URL/oauth/clickhouse", grant: client_assertion, audience: "AUDIENCE"}
    allow:
RULES
  audit-log:
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/ignored", region: us-east-1, endpoint: "STORE", audience: "AUDIENCE"}
    allow:
RULES
`

// policyText is the policy of this company's addresses.
func (c *company) policyText(t *testing.T, collector string) string {
	t.Helper()
	front, err := url.Parse(c.clickHouse)
	if err != nil {
		t.Fatal(err)
	}
	var identities, rules []string
	for _, s := range systems {
		identities = append(identities, fmt.Sprintf("  %s: {kind: %s, issuer: %q}", s.kind, s.kind, c.issuers[s.kind].URL()))
		rules = append(rules, fmt.Sprintf("      - {identity: %s, %s", s.kind, s.rule))
	}
	return strings.NewReplacer(
		"IDENTITIES", strings.Join(identities, "\n"), "RULES", strings.Join(rules, "\n"), "AUDIENCE", audience,
		"COLLECTOR", collector, "STORE", c.store.URL, "VAULT", c.bao.URL, "PG_PORT", fmt.Sprint(c.postgres.Port),
		"TRINO_PORT", fmt.Sprint(c.trino.Port), "TRINO_USER", trinoUser, "TRINO_CA", c.trino.CA,
		"CH_PORT", front.Port(), "CH_USER", clickHouseUser, "CH_URL", c.clickHouse,
	).Replace(policy)
}

// lend lets OpenBao create users of PostgreSQL for the CI systems' tokens.
func (c *company) lend(t *testing.T, keys string) {
	t.Helper()
	c.bao.Write(t, "sys/auth/jwt", map[string]any{"type": "jwt"})
	for _, write := range []struct {
		path string
		body map[string]any
	}{
		{"auth/jwt/config", map[string]any{"jwks_url": keys}},
		{"auth/jwt/role/dbt-prod", map[string]any{
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{audience},
			"token_policies": []string{"dbt-prod"}, "token_no_default_policy": true, "token_ttl": "10m",
		}},
		{"sys/mounts/database", map[string]any{"type": "database"}},
		{"database/config/warehouse", map[string]any{
			"plugin_name": "postgresql-database-plugin", "allowed_roles": "dbt-prod",
			"connection_url": c.postgres.URL("{{username}}:{{password}}"),
			"username":       c.postgres.User, "password": c.postgres.Password,
		}},
		{"database/roles/dbt-prod", map[string]any{
			"db_name": "warehouse", "default_ttl": "5m", "max_ttl": "10m",
			"creation_statements": []string{
				`create role "{{name}}" with login password '{{password}}' valid until '{{expiration}}'`,
			},
		}},
		{"sys/policies/acl/dbt-prod", map[string]any{"policy": `path "database/creds/dbt-prod" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`}},
	} {
		c.bao.Write(t, write.path, write.body)
	}
}

// startTrino starts a server that accepts the company's access tokens, and posts its events.
func (c *company) startTrino(t *testing.T) {
	t.Helper()
	host, port := setup.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event bytes.Buffer
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Compact(&event, text)
		}
		if err != nil {
			t.Error(err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.events = append(c.events, event.String())
	}))
	c.trino = setup.Trino(t, setup.TrinoConfig{
		Issuer: c.provider.URL(), JWKS: c.provider.URL() + "/.well-known/jwks", Audience: "trino", Claim: "sub",
		UserPattern: "(" + trinoUser + ")", Events: fmt.Sprintf("http://%s:%d/", host, port),
	}, trinoUser, func() string { return c.access("trino") })
}

// access returns an access token of a warehouse.
func (c *company) access(warehouse string) string {
	user := map[string]string{"trino": trinoUser, "clickhouse": clickHouseUser}[warehouse]
	return c.provider.Sign(warehouse, map[string]any{"sub": user})
}

// startClickHouse starts ClickHouse's engine, and what is in front of it: the company's provider, and the check of
// logins. The engine has one user, which is not asked for a password; its query log gets user and factor as the
// comment of each query.
func (c *company) startClickHouse(t *testing.T) {
	t.Helper()
	python, engine := setup.Python(t), setup.Port(t)
	config := setup.Write(t, t.TempDir(), "clickhouse.xml",
		"<clickhouse><query_log><database>system</database><table>query_log</table></query_log></clickhouse>\n")
	setup.Start(t, engine, python.Environ(), python.Program("python"), filepath.Join("..", "clickhouse", "server.py"),
		fmt.Sprint(engine), filepath.Join(t.TempDir(), "data"), config)
	c.engine = fmt.Sprintf("http://127.0.0.1:%d", engine)
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", engine)})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/{warehouse}", c.exchange)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		factor, err := c.login(r)
		if err != nil {
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(w, "Code: 516. DB::Exception: "+err.Error()+". (AUTHENTICATION_FAILED)", http.StatusForbidden)
			return
		}
		query := r.URL.Query()
		query.Set("log_comment", fmt.Sprintf(`{"user":%q,"auth_type":%q}`, clickHouseUser, factor))
		r.URL.RawQuery = query.Encode()
		behind.ServeHTTP(w, r)
	})
	host, port := setup.Serve(t, mux)
	c.clickHouse = fmt.Sprintf("http://%s:%d", host, port)
}

// exchange gives an access token to a client that authenticates with an ID token. (RFC 7523 §2.2)
func (c *company) exchange(w http.ResponseWriter, r *http.Request) {
	err := errors.New("no issuer is trusted")
	for _, s := range systems {
		subject := s.claims["sub"].(string)
		err = setup.Verify(r.Context(), c.issuers[s.kind], audience, subject, r.PostFormValue("client_assertion"))
		if err == nil {
			break
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil || r.PostFormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": fmt.Sprint(err)})
		return
	}
	token := c.access(r.PathValue("warehouse"))
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 290})
}

// login checks a request to ClickHouse, and returns how it was authenticated.
func (c *company) login(r *http.Request) (factor string, err error) {
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return "JWT", setup.Verify(r.Context(), c.provider, "clickhouse", clickHouseUser, bearer)
	}
	if name, password, _ := r.BasicAuth(); name == clickHouseUser && password == c.password {
		return "SHA256_PASSWORD", nil
	}
	return "", errors.New("wrong user or password")
}
