//go:build e2e

package profiles

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// More exchange blocks of projects.
const (
	clientID       = "11111111-2222-3333-4444-555555555555"
	askEntra       = `{entra: {tenant: acme.example, client_id: ` + clientID + `, authority: "$ENTRA"}}`
	askEntraOwn    = `{entra: {tenant: acme.example, client_id: ` + clientID + `, authority: "$ENTRA", scope: "api://acme/.default"}}`
	askDatabricks  = `{databricks: {host: "$DATABRICKS", account_id: ` + clientID + `, client_id: ` + clientID + `}}`
	askVault       = `{vault: {address: "$VAULT", role: dbt-prod, audience: vault, secret: database/creds/dbt-prod}}`
	askAuthServer  = `{token_exchange: {token_url: "$AUTH/token", audience: acme, grant: client_assertion, client_id: dbt-prod}}`
	databricksHost = "host: adb-1234567890123456.7.azuredatabricks.net, http_path: /sql/1.0/warehouses/a"
)

const poolProvider = "projects/123456789012/locations/global/workloadIdentityPools/github/providers/github"

// target is not used by other tests: its port must be free in both runs.
const target = "parsed-twice"

// world are the servers and programs of the runs.
type world struct {
	binary   string
	python   pyenv.Python
	issuer   *standin.Issuer
	vault    *standin.Vault
	sts      *standin.STS
	store    *standin.Store
	redshift *standin.Redshift
	google   *standin.Google

	entra, databricks, authServer *standin.TokenService
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{binary: setup.Binary(t), python: setup.Python(t), issuer: setup.Issuer(t)}
	w.sts = setup.STS(t, w.issuer)
	var err error
	if w.store, err = standin.StartStore(w.sts, "lake"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	if w.google, err = standin.StartGoogle(standin.GoogleConfig{
		IssuerURL: w.issuer.URL(), Provider: poolProvider, ServiceAccounts: map[string][]string{setup.ServiceAccount: {setup.Subject}},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.google.Close)
	if w.vault, err = standin.StartVault(standin.VaultConfig{
		IssuerURL: w.issuer.URL(), Roles: map[string]standin.VaultRole{"dbt-prod": {
			BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"sub": {setup.Subject}}, Policies: []string{"database/creds/dbt-prod"},
		}},
		Secrets: map[string]standin.VaultSecret{"database/creds/dbt-prod": {TTL: time.Hour}},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.vault.Close)
	if w.redshift, err = standin.StartRedshift(w.sts, standin.RedshiftConfig{
		Region: "eu-central-1", Workgroups: map[string]standin.Workgroup{"marts": {ID: "8a5b"}},
		Policies: map[string]string{setup.Role: `{"Statement": {"Effect": "Allow", "Action": "redshift-serverless:GetCredentials", "Resource": "*"}}`},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.redshift.Close)
	if w.entra, err = standin.StartEntra(standin.EntraConfig{Tenant: "acme.example",
		Resources:    []string{"https://database.windows.net", "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d", "api://acme"},
		Applications: map[string][]standin.FederatedCredential{clientID: {{Issuer: w.issuer.URL(), Subject: setup.Subject, Audience: "api://AzureADTokenExchange"}}},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.entra.Close)
	if w.databricks, err = standin.StartDatabricks(standin.DatabricksConfig{Account: clientID, Policies: []standin.FederationPolicy{
		{ServicePrincipal: clientID, Issuer: w.issuer.URL(), Subject: setup.Subject},
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.databricks.Close)
	if w.authServer, err = standin.StartAuthServer(standin.AuthServerConfig{IssuerURL: w.issuer.URL(), Audience: "acme", Clients: map[string]standin.AuthClient{
		"dbt-prod": {Subject: setup.Subject, Scopes: []string{"warehouse"}},
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.authServer.Close)
	return w
}

// secrets returns all that was issued.
func (w *world) secrets() (all []string) {
	all = append(w.issuer.Issued(), w.issuer.RequestToken())
	for _, s := range w.sts.Sessions() {
		all = append(all, s.AccessKeyID, s.SecretAccessKey, s.SessionToken)
	}
	for _, l := range w.redshift.Logins() {
		all = append(all, l.Password)
	}
	for _, token := range w.google.Tokens() {
		all = append(all, token.Value)
	}
	for _, service := range []*standin.TokenService{w.entra, w.databricks, w.authServer} {
		for _, bearer := range service.Bearers() {
			all = append(all, bearer.Value)
		}
	}
	return all
}

// exec runs a dbt command through `oidc-dbt exec`, as a separate run.
func (w *world) exec(t *testing.T, project string, run int, args ...string) string {
	t.Helper()
	claims := standin.GitHubClaims()
	claims["run_id"], claims["sha"] = fmt.Sprint(16055869479+run), strings.Repeat(fmt.Sprint(run), 40)
	w.issuer.SetClaims(claims)
	cmd := exec.CommandContext(t.Context(), w.binary, append([]string{"exec", "--target", target, "--audit-log", filepath.Join(t.TempDir(), "audit.jsonl"), "--", w.python.Program("dbt"), "--no-use-colors"}, args...)...)
	cmd.Dir = project
	cmd.Env = w.python.Environ()
	for name, value := range w.issuer.RunnerEnv() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("dbt %v: %v\n%s", args, err, text)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "::add-mask::") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// projects has a project for each pair of adapter and provider: the dbt block,
// the exchange, and dbt's command. If there is no warehouse, dbt only parses,
// which is all that the credential could affect.
var projects = []struct {
	name, dbt, exchange string
	args                []string
}{
	{"duckdb", `{type: duckdb, path: shop.duckdb, secrets: [{type: s3, endpoint: "$STORE", url_style: path, use_ssl: false}]}`, `{aws: {role: "$ROLE", region: eu-central-1, endpoint: "$STS"}}`, []string{"build"}},
	{"snowflake", `{type: snowflake, account: acme-prod, user: DBT, database: ANALYTICS, warehouse: W, schema: marts}`, `{oidc: {audience: snowflakecomputing.com}}`, []string{"parse"}},
	{"bigquery", `{type: bigquery, project: acme-dbt, dataset: marts}`, `{gcp: {workload_identity_provider: ` + poolProvider + `, sts_endpoint: "$GOOGLE"}}`, []string{"parse"}},
	{"sqlserver", `{type: sqlserver, driver: ODBC Driver 18 for SQL Server, host: acme.database.windows.net, database: marts, schema: dbo}`, askEntra, []string{"parse"}},
	{"athena", `{type: athena, s3_staging_dir: s3://lake/athena/, database: awsdatacatalog, schema: marts}`, `{aws: {role: "$ROLE", region: eu-central-1, endpoint: "$STS"}}`, []string{"parse"}},
	{"snowflake-from", `{from: profiles.yml, output: prod, with: {account: acme-prod, role: TRANSFORMER}}`, `{oidc: {audience: snowflakecomputing.com}}`, []string{"parse"}},
	{"snowflake-aws", `{type: snowflake, account: acme-prod, database: ANALYTICS, warehouse: W, schema: marts}`, `{aws: {role: "$ROLE", region: eu-central-1, endpoint: "$STS"}}`, []string{"parse"}},
	{"redshift", `{type: redshift, host: marts.123456789012.eu-central-1.redshift-serverless.amazonaws.com, port: 5439, dbname: analytics, schema: marts}`, `{aws: {role: "$ROLE", region: eu-central-1, endpoint: "$STS", redshift_endpoint: "$REDSHIFT"}}`, []string{"parse"}},
	{"trino", `{type: trino, host: trino.acme.example, port: 443, database: lake, schema: marts}`, `{oidc: {audience: trino.acme.example}}`, []string{"parse"}},
	{"duckdb-gcp", `{type: duckdb, path: shop.duckdb}`, `{gcp: {workload_identity_provider: ` + poolProvider + `, sts_endpoint: "$GOOGLE"}}`, []string{"parse"}},
	{"postgres-aws", `{type: postgres, host: dw.c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com, port: 5432, user: dbt, database: analytics, schema: marts}`, `{aws: {role: "$ROLE", region: eu-central-1, endpoint: "$STS"}}`, []string{"parse"}},
	{"postgres-gcp", `{type: postgres, host: 10.0.0.3, port: 5432, database: analytics, schema: marts}`, `{gcp: {workload_identity_provider: ` + poolProvider + `, service_account: ` + setup.ServiceAccount + `, sts_endpoint: "$GOOGLE", iam_endpoint: "$GOOGLE"}}`, []string{"parse"}},
	{"postgres-vault", `{type: postgres, host: dw.acme.example, port: 5432, database: analytics, schema: marts}`, askVault, []string{"parse"}},
	{"redshift-vault", `{type: redshift, host: acme.abc123.eu-central-1.redshift.amazonaws.com, port: 5439, dbname: analytics, schema: marts}`, askVault, []string{"parse"}},
	{"trino-entra", `{type: trino, host: trino.acme.example, port: 443, database: lake, schema: marts}`, askEntraOwn, []string{"parse"}},
	{"trino-token-exchange", `{type: trino, host: trino.acme.example, port: 443, database: lake, schema: marts}`, askAuthServer, []string{"parse"}},
	{"snowflake-entra", `{type: snowflake, account: acme-prod, database: ANALYTICS, warehouse: W, schema: marts}`, askEntraOwn, []string{"parse"}},
	{"snowflake-token-exchange", `{type: snowflake, account: acme-prod, database: ANALYTICS, warehouse: W, schema: marts}`, askAuthServer, []string{"parse"}},
	{"databricks", `{type: databricks, ` + databricksHost + `, catalog: main, schema: marts}`, askDatabricks, []string{"parse"}},
	{"databricks-entra", `{type: databricks, ` + databricksHost + `, catalog: main, schema: marts}`, askEntra, []string{"parse"}},
	{"fabric", `{type: fabric, host: acme.datawarehouse.fabric.microsoft.com, database: marts, schema: dbo}`, askEntra, []string{"parse"}},
}

// variables is a typical profiles.yml: with variables for all that differs.
const variables = `shop:
  target: dev
  outputs:
    dev: {type: postgres, host: localhost, port: 5432, user: dev, password: dev, dbname: dw, schema: dev}
    prod:
      type: snowflake
      account: "{{ env_var('NOBODY_HAS_SET_THIS') }}"
      user: DBT
      password: "{{ env_var('DBT_ENV_SECRET_NOBODY_HAS_SET_THIS') }}"
      role: "{{ env_var('NOBODY_HAS_SET_THIS') }}"
      database: "{{ env_var('DATABASE', 'ANALYTICS') }}"
      warehouse: W
      schema: marts
`

// TestPartialParsing runs each project twice, with another ID token, session and
// run id the second time: dbt must parse nothing again, and store nothing of the
// credential.
func TestPartialParsing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, p := range setup.Few(4, projects...) {
		t.Run(p.name, func(t *testing.T) {
			project := t.TempDir()
			w.checkout(t, project, p.dbt, p.exchange)
			var output strings.Builder
			for run := range 2 {
				if err := os.RemoveAll(filepath.Join(project, "logs")); err != nil {
					t.Fatal(err)
				}
				output.WriteString(w.exec(t, project, run, append([]string{"--log-level-file", "debug"}, p.args...)...))
				log, err := os.ReadFile(filepath.Join(project, "logs", "dbt.log"))
				if err != nil {
					t.Fatal(err)
				}
				output.Write(log)
				if run == 0 {
					continue
				}
				if !bytes.Contains(log, []byte("Partial parsing enabled: 0 files deleted, 0 files added, 0 files changed.")) || bytes.Contains(log, []byte("Unable to do partial parsing")) {
					t.Errorf("the second run did not parse partially:\n%s", log)
				}
			}
			// After a partial parse the manifest has the first run's metadata.
			artifact, runID := "manifest.json", "16055869479"
			if p.name == "duckdb" {
				artifact, runID = "run_results.json", "16055869480"
			}
			metadata, err := os.ReadFile(filepath.Join(project, "target", artifact))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{`"OIDC_RUN_ID": "` + runID + `"`, `"OIDC_SUBJECT": "` + setup.Subject + `"`, `"OIDC_TARGET": "` + target + `"`} {
				if !bytes.Contains(metadata, []byte(want)) {
					t.Errorf("the metadata of %s has no %s", artifact, want)
				}
			}
			w.checkLeaks(t, "output and log", []byte(output.String()))
			err = filepath.WalkDir(project, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				data, err := os.ReadFile(path)
				w.checkLeaks(t, path, data)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if p.name == "duckdb" && (w.store.Served("PUT") == 0 || w.store.Served("GET") == 0) {
				t.Error("dbt neither wrote to nor read from the store")
			}
		})
	}
}

func (w *world) checkLeaks(t *testing.T, where string, data []byte) {
	t.Helper()
	for _, s := range w.secrets() {
		if bytes.Contains(data, []byte(s)) {
			t.Errorf("a secret is in %s", where)
			return
		}
	}
}

// checkout writes a project with one seed and two models.
func (w *world) checkout(t *testing.T, dir, dbt, exchange string) {
	t.Helper()
	places := strings.NewReplacer("$STS", w.sts.URL(), "$STORE", w.store.Host(), "$REDSHIFT", w.redshift.URL(), "$GOOGLE", w.google.URL(), "$ROLE", setup.Role,
		"$ENTRA", w.entra.URL(), "$DATABRICKS", w.databricks.URL(), "$AUTH", w.authServer.URL(), "$VAULT", w.vault.URL())
	policy := setup.Policy(w.issuer, places.Replace(dbt), places.Replace(exchange))
	setup.Write(t, dir, ".github/oidc-dbt.yml", strings.Replace(policy, "\n  prod:\n", "\n  "+target+":\n", 1))
	setup.Write(t, dir, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
	setup.Write(t, dir, "profiles.yml", variables) // for blocks with `from`
	setup.Write(t, dir, "seeds/raw_orders.csv", "order_id,amount\n1,12.50\n2,40.00\n")
	setup.Write(t, dir, "models/orders.sql", "{{ config(materialized='external', location='s3://lake/orders.parquet') if target.type == 'duckdb' }}\nselect * from {{ ref('raw_orders') }}\n")
	setup.Write(t, dir, "models/total.sql", "-- depends_on: {{ ref('orders') }}\nselect sum(amount) as total from {% if target.type == 'duckdb' %}read_parquet('s3://lake/orders.parquet'){% else %}{{ ref('orders') }}{% endif %}\n")
}
