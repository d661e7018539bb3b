package command_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// servers start the stand-ins, by the place that is their address in files,
// inputs and variables. A step has those that it names.
var servers = map[string]func(s *step){
	"$STS": (*step).needSTS,
	"$REDSHIFT": func(s *step) {
		s.needSTS()
		redshift, err := standin.StartRedshift(s.sts, redshiftConfig)
		s.started("$REDSHIFT", redshift, err)
	},
	"$IDENTITY_CENTER": func(s *step) {
		s.needSTS()
		people, err := standin.StartIdentityCenter(s.sts, identityCenterConfig(s.issuer))
		s.started("$IDENTITY_CENTER", people, err)
	},
	"$GOOGLE": func(s *step) {
		var err error
		s.google, err = standin.StartGoogle(googleConfig(s.issuer))
		s.started("$GOOGLE", s.google, err)
	},
	"$VAULT": func(s *step) {
		var err error
		s.vault, err = standin.StartVault(vaultConfig(s.issuer))
		s.started("$VAULT", s.vault, err)
	},
	"$ENTRA": func(s *step) {
		entra, err := standin.StartEntra(entraConfig(s.issuer))
		s.started("$ENTRA", entra, err)
	},
	"$DATABRICKS": func(s *step) {
		databricks, err := standin.StartDatabricks(databricksConfig(s.issuer))
		s.started("$DATABRICKS", databricks, err)
	},
	"$TOKENS": func(s *step) { s.startTokens(0) },
	"$BAD": func(s *step) {
		s.bad = httptest.NewServer(http.HandlerFunc(reply))
		s.t.Cleanup(s.bad.Close)
		s.t.Cleanup(s.bad.CloseClientConnections)
		s.addresses["$BAD"] = s.bad.URL
	},
	"$CLICKHOUSE_PORT": func(s *step) {
		s.warehouse = &warehouse{bearers: map[string]bool{}}
		s.warehouse.Server = httptest.NewServer(s.warehouse)
		s.t.Cleanup(s.warehouse.Close)
		s.addresses["$CLICKHOUSE_PORT"] = strings.TrimPrefix(s.warehouse.URL, "http://127.0.0.1:") // the port
	},
}

func (s *step) needSTS() {
	if s.sts == nil {
		s.startSTS(stsConfig(s.issuer))
	}
}

// startSTS starts $STS with other settings than a case's.
func (s *step) startSTS(config standin.STSConfig) {
	s.t.Helper()
	var err error
	s.sts, err = standin.StartSTS(config)
	s.started("$STS", s.sts, err)
}

// startTokens starts $TOKENS, whose tokens live for so long.
func (s *step) startTokens(life time.Duration) {
	s.t.Helper()
	config := authServerConfig(s.issuer)
	config.Lifetime = life
	var err error
	s.tokens, err = standin.StartAuthServer(config)
	s.started("$TOKENS", s.tokens, err)
}

func (s *step) started(place string, server interface {
	URL() string
	Close()
}, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(server.Close)
	s.addresses[place] = server.URL()
}

// address returns a server's address, and starts it before.
func (s *step) address(place string) string {
	s.t.Helper()
	if s.addresses[place] == "" {
		servers[place](s)
	}
	return s.addresses[place]
}

// expand puts addresses in place of their names.
func (s *step) expand(text string) string {
	s.t.Helper()
	for place := range servers {
		if strings.Contains(text, place) {
			s.address(place)
		}
	}
	var names []string
	for place, address := range s.addresses {
		names = append(names, place, address)
	}
	return strings.NewReplacer(names...).Replace(text)
}

// secrets is all that must be seen nowhere.
func (s *step) secrets() []string {
	list := append(s.issuer.Issued(), s.issuer.RequestToken())
	if s.vault != nil {
		list = append(list, s.vault.Issued()...)
	}
	if s.warehouse != nil {
		list = append(list, s.warehouse.shown()...)
	}
	return list
}

// warehouse is a ClickHouse that answers any query, and collects the bearers
// that it was shown.
type warehouse struct {
	*httptest.Server
	mu      sync.Mutex
	bearers map[string]bool
}

func (w *warehouse) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bearers[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] = true
	_, _ = io.WriteString(rw, "1\n")
}

// shown returns the bearers.
func (w *warehouse) shown() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.bearers))
}

// reply answers by path as no server should.
func reply(w http.ResponseWriter, r *http.Request) {
	fault, ok := faults[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fault(w, r)
}

// faults are the bad replies, by the path that gives them.
var faults = map[string]http.HandlerFunc{
	"nothing": func(w http.ResponseWriter, _ *http.Request) {},
	"empty":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"value":""}`) },
	"html": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>hunter2-secret</html>")
	},
	"garbage": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprint(w, "<AssumeRole<<>hunter2-secret")
	},
	"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/nothing", http.StatusFound) },
	"401":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2-secret", http.StatusUnauthorized) },
	"403":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2-secret", http.StatusForbidden) },
	"500": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "hunter2-secret", http.StatusInternalServerError)
	},
	"hang":      func(_ http.ResponseWriter, r *http.Request) { hang(r) },
	"huge":      func(w http.ResponseWriter, _ *http.Request) { huge(w) },
	"past":      stsReply(-time.Hour),
	"long":      stsReply(100 * time.Hour),
	"no-expiry": stsReply(0),
}

// hang answers never. A server notices its client's end only when the body was read.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func huge(w http.ResponseWriter) {
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for range 64 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// stsReply is an AssumeRoleWithWebIdentity reply that expires after life; 0 leaves the expiry out.
func stsReply(life time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		expiration := ""
		if life != 0 {
			expiration = "<Expiration>" + time.Now().Add(life).UTC().Format(time.RFC3339) + "</Expiration>"
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/dbt/x</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>ASIASTANDIN000000001</AccessKeyId><SecretAccessKey>stand-in-secret-key-000000000000000000</SecretAccessKey><SessionToken>stand-in-session-token</SessionToken>%s</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, expiration)
	}
}

const (
	prodRole = "arn:aws:iam::123456789012:role/dbt-prod"
	lakeRole = "arn:aws:iam::210987654321:role/lake"
	poorRole = "arn:aws:iam::123456789012:role/poor" // has no permissions
	pool     = "projects/123/locations/global/workloadIdentityPools/gh/providers/gh"
)

// stsConfig is an account whose role trusts what the cases' rules allow.
func stsConfig(issuer *standin.Issuer) standin.STSConfig {
	production := map[string][]string{"sub": {"repo:acme/analytics:environment:production", "repo:acme@9919/analytics@487920697:environment:production"}}
	return standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{
		prodRole: {Audience: "sts.amazonaws.com", Claims: production},
		poorRole: {Audience: "sts.amazonaws.com", Claims: production},
		lakeRole: {TrustedRole: prodRole, ExternalID: "acme", SetsContext: true},
	}}
}

// redshiftConfig is one cluster and one workgroup, where the role may get the
// login of one user, in one group, at one database.
var redshiftConfig = standin.RedshiftConfig{
	Region: "eu-central-1", Clusters: map[string]standin.Cluster{"acme": {Users: []string{"dbt"}}}, Workgroups: map[string]standin.Workgroup{"marts": {ID: "8a5b"}},
	Policies: map[string]string{prodRole: `{"Statement": [
		{"Effect": "Allow", "Action": "redshift:GetClusterCredentials", "Resource": ["arn:aws:redshift:eu-central-1:123456789012:dbuser:acme/dbt", "arn:aws:redshift:eu-central-1:123456789012:dbname:acme/analytics"]},
		{"Effect": "Allow", "Action": "redshift:JoinGroup", "Resource": "arn:aws:redshift:eu-central-1:123456789012:dbgroup:acme/writers"},
		{"Effect": "Allow", "Action": "redshift-serverless:GetCredentials", "Resource": "arn:aws:redshift-serverless:eu-central-1:123456789012:workgroup/8a5b"}]}`},
}

// identityCenterConfig knows the actor of the cases as a user.
func identityCenterConfig(issuer *standin.Issuer) standin.IdentityCenterConfig {
	return standin.IdentityCenterConfig{
		Region: "eu-central-1", Application: "arn:aws:sso::123456789012:application/ssoins-1234567890abcdef/apl-1234567890abcdef", Roles: []string{prodRole},
		IssuerURL: issuer.URL(), Audiences: []string{"sts.amazonaws.com"}, Claim: "actor", Users: map[string]string{"octocat": "user-1"},
	}
}

// googleConfig is a pool whose condition names the environment.
func googleConfig(issuer *standin.Issuer) standin.GoogleConfig {
	const subject = "repo:acme/analytics:environment:production"
	return standin.GoogleConfig{
		IssuerURL: issuer.URL(), Provider: pool,
		Condition:       func(claims map[string]any) bool { return claims["sub"] == subject },
		ServiceAccounts: map[string][]string{"dbt@acme-dbt.iam.gserviceaccount.com": {subject}},
	}
}

// vaultConfig is a server whose role trusts what the cases' rules allow.
func vaultConfig(issuer *standin.Issuer) standin.VaultConfig {
	production := map[string][]string{"repository_id": {"487920697"}, "environment": {"production"}}
	paths := []string{"database/creds/dbt-prod", "azure/creds/dbt-prod", "secret/data/dbt", "kv/azure", "secret/data/nothing"}
	return standin.VaultConfig{
		IssuerURL: issuer.URL(),
		Roles: map[string]standin.VaultRole{
			"dbt-prod":  {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths},
			"elsewhere": {BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"environment": {"staging"}}, Policies: paths},
			"cel-prod":  {CEL: true, BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths},
			"cel-other": {CEL: true, BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"environment": {"staging"}}, Policies: paths},
			"poor":      {BoundAudiences: []string{"vault"}, BoundClaims: production},
			"endless":   {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, Endless: true},
			"brief":     {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, TokenTTL: 8 * time.Second},
			"capped":    {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, TokenTTL: 10 * time.Second, TokenMaxTTL: 15 * time.Second},
			"short":     {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, TokenTTL: 2 * time.Minute},
		},
		Secrets: map[string]standin.VaultSecret{
			"database/creds/dbt-prod": {TTL: time.Hour},
			"azure/creds/dbt-prod":    {TTL: 8 * time.Second, Azure: true},
			"secret/data/dbt":         {Data: map[string]any{"data": map[string]any{"username": "DBT", "password": "hunter2-static"}, "metadata": map[string]any{"version": 1}}},
			"kv/azure":                {Data: map[string]any{"client_id": "0a0b0c0d", "client_secret": "hunter2-principal"}},
		},
	}
}

const workload = "repo:acme/analytics:environment:production"

// entraConfig is a tenant with an application that trusts the environment.
func entraConfig(issuer *standin.Issuer) standin.EntraConfig {
	return standin.EntraConfig{
		Tenant: "acme.example", Resources: []string{"https://database.windows.net", "https://storage.azure.com", "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d", "api://acme-warehouse"},
		Applications: map[string][]standin.FederatedCredential{
			"11111111-2222-3333-4444-555555555555": {{Issuer: issuer.URL(), Subject: workload, Audience: "api://AzureADTokenExchange"}},
		},
	}
}

// databricksConfig is an account with a service principal that trusts the environment.
func databricksConfig(issuer *standin.Issuer) standin.DatabricksConfig {
	return standin.DatabricksConfig{
		Account: "12121212-3434-5656-7878-909090909090", Instances: []string{"marts"},
		Policies: []standin.FederationPolicy{{ServicePrincipal: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", Issuer: issuer.URL(), Subject: workload}},
	}
}

// authServerConfig is a company's authorization server with a client of the
// environment's, and a public one for whom the environment is a user.
func authServerConfig(issuer *standin.Issuer) standin.AuthServerConfig {
	return standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Users: []string{workload},
		Clients: map[string]standin.AuthClient{
			"dbt-production": {Subject: workload, Scopes: []string{"session:role:TRANSFORMER"}},
			"dbt":            {Scopes: []string{"session:role:TRANSFORMER"}, Targets: []string{"trino"}},
		},
	}
}
