package standin

import (
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// blocks are a good `dbt:` block for each type, and, by type and provider, for
// each pair that needs one of its own.
var blocks = map[string]string{
	"athena":     `{type: athena, schema: marts, database: awsdatacatalog}`,
	"bigquery":   `{type: bigquery, project: acme-dbt, dataset: marts}`,
	"clickhouse": `{type: clickhouse, host: ch.acme.example, port: 8443, secure: true, schema: marts}`,
	"databricks": `{type: databricks, host: adb-1234567890123456.7.azuredatabricks.net, ` +
		`http_path: /sql/1.0/warehouses/abcdef0123456789, catalog: main, schema: marts}`,
	"duckdb": `{type: duckdb, path: lake.duckdb, secrets: [{type: azure, account_name: acmelake}]}`,
	"fabric": `{type: fabric, host: acme.datawarehouse.fabric.microsoft.com, tenant_id: ` +
		`11111111-2222-3333-4444-555555555555, database: marts, schema: dbo}`,
	"postgres": `{type: postgres, host: localhost, port: 5432, user: dbt, database: analytics, schema: marts}`,
	"redshift": `{type: redshift, host: acme.abc123.eu-central-1.redshift.amazonaws.com, port: 5439, user: dbt, ` +
		`dbname: analytics, schema: marts}`,
	"snowflake": `{type: snowflake, account: acme-prod, database: ANALYTICS, schema: marts}`,
	"spark":     `{type: spark, method: thrift, host: spark.acme.example, port: 10001, use_ssl: true, schema: marts}`,

	"spark aws":   `{type: spark, method: session, host: NA, schema: marts}`,
	"spark entra": `{type: spark, method: session, host: NA, schema: marts}`,

	"sqlserver": `{type: sqlserver, driver: ODBC Driver 18 for SQL Server, host: acme.database.windows.net, port: 1433, ` +
		`database: marts, schema: dbo}`,
	"trino": `{type: trino, host: trino.acme.example, port: 443, database: lake, schema: marts}`,
}

// exchanges are a good `exchange:` block for each provider, and, by type and
// provider, for each pair that needs one of its own.
var exchanges = map[string]string{
	"aws":        `{aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}}`,
	"databricks": `{databricks: {client_id: 11111111-2222-3333-4444-555555555555, account_id: 66666666-7777-8888-9999-000000000000}}`,
	"entra":      `{entra: {tenant: 11111111-2222-3333-4444-555555555555, client_id: 66666666-7777-8888-9999-000000000000}}`,
	"gcp":        `{gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/github/providers/github}}`,
	"oidc":       `{oidc: {audience: snowflakecomputing.com}}`,
	"token_exchange": `{token_exchange: {token_url: "https://auth.acme.example/token", grant: client_assertion, ` +
		`audience: "https://auth.acme.example", client_id: dbt-prod}}`,
	"vault": `{vault: {address: "https://vault.acme.example:8200", role: dbt, audience: vault, secret: database/creds/dbt}}`,

	"identity_center": `{identity_center: {region: eu-central-1, application: ` +
		`"arn:aws:sso::123456789012:application/ssoins-1234567890abcdef/apl-1234567890abcdef", role: "arn:aws:iam::123456789012:role/dbt-prod"}}`,
	"login":           `{login: {}}`,
	"snowflake login": `{login: {scope: "session:role:TRANSFORMER"}}`,
	"athena login":    `{login: {region: eu-central-1}}`,
	"duckdb login":    `{login: {region: eu-central-1}}`,
	"redshift login":  `{login: {region: eu-central-1}}`,
	"postgres databricks": `{databricks: {host: acme.cloud.databricks.com, client_id: ` +
		`66666666-7777-8888-9999-000000000000, database_instance: dw}}`,
	"postgres gcp": `{gcp: {workload_identity_provider: ` +
		`projects/123/locations/global/workloadIdentityPools/github/providers/github, service_account: dbt@acme-dbt.iam.gserviceaccount.com}}`,
	"redshift identity_center": `{identity_center: {region: eu-central-1, audience: redshift.acme.example}}`,
	"trino oidc":               `{oidc: {audience: trino.acme.example}}`,
	"snowflake entra": `{entra: {tenant: acme.example, client_id: 11111111-2222-3333-4444-555555555555, ` +
		`scope: "api://snowflake.acme.example/.default"}}`,
	"trino entra": `{entra: {tenant: acme.example, client_id: 11111111-2222-3333-4444-555555555555, ` +
		`scope: "api://trino.acme.example/.default"}}`,
}

// issued is what each provider gives, and, by type and provider, what it gives
// to one type only. Each secret has "marked" in it.
var issued = map[string]credential.Credential{
	"aws":            awsSession,
	"databricks":     {Kind: "access_token", Token: secret.New("marked-access-token")},
	"entra":          {Kind: "access_token", Token: secret.New("marked-access-token")},
	"gcp":            {Kind: "google_access_token", Token: secret.New("marked-access-token")},
	"oidc":           {Kind: "id_token", Token: secret.New("marked-id-token")},
	"token_exchange": {Kind: "access_token", Token: secret.New("marked-access-token")},
	"vault":          {Kind: "database_login", User: "v-dbt-1", Password: secret.New("marked-password")},

	"identity_center":          awsSession,
	"login":                    {Kind: "access_token", Token: secret.New("marked-access-token")},
	"athena login":             awsSession,
	"duckdb login":             awsSession,
	"redshift login":           {Kind: "database_login", User: "IAM:ann", Password: secret.New("marked-password")},
	"sqlserver login":          {Kind: "access_token", Token: secret.New("marked-access-token"), Expiry: time.Unix(1795600000, 0)},
	"postgres aws":             {Kind: "database_login", User: "dbt", Password: secret.New("marked-password")},
	"postgres databricks":      {Kind: "access_token", Token: secret.New("marked-password")},
	"redshift identity_center": {Kind: "id_token", Token: secret.New("marked-id-token")},
	"redshift aws":             {Kind: "database_login", User: "IAM:dbt", Password: secret.New("marked-password")},
	"postgres gcp":             {Kind: "database_login", User: "dbt@acme-dbt.iam", Password: secret.New("marked-access-token")},
	"fabric vault": {Kind: "service_principal", User: "66666666-7777-8888-9999-000000000000",
		Password: secret.New("marked-client-secret")},
	"snowflake vault": {Kind: "key_pair", User: "V_DBT_1", PrivateKey: secret.New("marked-private-key")},
	"sqlserver entra": {Kind: "access_token", Token: secret.New("marked-access-token"), Expiry: time.Unix(1795600000, 0)},
}

var awsSession = credential.Credential{Kind: "aws_session", AWS: &credential.AWS{
	AccessKeyID: secret.New("marked-access-key-id"), SecretAccessKey: secret.New("marked-secret-access-key"),
	SessionToken: secret.New("marked-session-token"), Region: "eu-central-1",
}}

// Block returns a good `dbt:` block of an adapter, on one line.
func Block(dbtType string) string { return fixture(blocks, dbtType) }

// PairBlock returns a good `dbt:` block of an adapter for a provider, on one line.
func PairBlock(dbtType, provider string) string {
	return fixture(blocks, dbtType+" "+provider, dbtType)
}

// Exchange returns a good `exchange:` block of a provider for an adapter, on
// one line.
func Exchange(dbtType, provider string) string {
	return fixture(exchanges, dbtType+" "+provider, provider)
}

// Identity returns the kind of the identity whose tokens an exchange takes, with
// the keys that this kind needs, and a rule for the claims of GitHubClaims.
func Identity(exchange string) (kind, rule string) {
	const person = `{sub: "repo:acme/analytics:environment:production"}`
	switch {
	case strings.HasPrefix(exchange, "{login: {region:"):
		return `kind: people, audience: oidc-dbt, aws_sso: {start_url: "https://acme.awsapps.com/start", region: eu-central-1, ` +
			`account: "123456789012", role: Analyst}`, person
	case strings.HasPrefix(exchange, "{login: "):
		return "kind: people, client_id: dbt-cli", person
	}
	return "kind: github", `{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}`
}

// Credential returns what a provider gives for an adapter. Its secrets, and
// nothing else, have "marked" in them; it has an expiry only where the profile
// does.
func Credential(dbtType, provider string) credential.Credential {
	return fixture(issued, dbtType+" "+provider, provider)
}

// Address is where a broker serves a pair.
func Address() route.Address {
	return route.Address{
		Host: "127.0.0.1", Port: 20001, Secret: secret.New("marked-secret-of-the-run"), File: "/step/file", CAFile: "/step/ca.pem",
		URL: secret.New("http://127.0.0.1:20001/marked-secret-of-the-run/token"),
	}
}

// fixture returns the first that there is. It panics where there is none: the
// table has a line to get.
func fixture[T any](table map[string]T, names ...string) T {
	for _, name := range names {
		if v, ok := table[name]; ok {
			return v
		}
	}
	var nothing T // Lacks says so
	return nothing
}

// Lacks returns what the fixtures have not got for a pair.
func Lacks(dbtType, provider string) (missing []string) {
	pair := dbtType + " " + provider
	has := func(what string, ok bool) {
		if !ok {
			missing = append(missing, what)
		}
	}
	has("blocks", PairBlock(dbtType, provider) != "")
	has("exchanges", Exchange(dbtType, provider) != "")
	_, own := issued[pair]
	_, usual := issued[provider]
	has("issued", own || usual)
	return missing
}
