// Package route is how dbt stays logged in: which of the ways that a client library knows
// leads to the broker, described for the adapter that writes the profile and the broker that
// serves it.
package route

import "github.com/oidc-dbt/oidc-dbt/internal/secret"

// A Kind is one way of asking for a credential that a client library knows.
type Kind string

// The kinds.
const (
	None Kind = "" // dbt reads the credential once, from the profile

	// What a client library asks for by itself.
	AWSContainer         Kind = "aws_container"              // container credentials: every AWS SDK
	AzureManagedIdentity Kind = "azure_managed_identity"     // App Service's endpoint: azure-identity, DuckDB
	AzureTokenFile       Kind = "azure_federated_token_file" // azure-identity
	DatabricksMetadata   Kind = "databricks_metadata"        // databricks-sdk's metadata service
	FederatedTokenURL    Kind = "federated_token_url"        // dbt-fabric
	GoogleADC            Kind = "google_adc"                 // google-auth's external_account
	PasswordFile         Kind = "pgpassfile"                 // libpq
	SnowflakeTokenFile   Kind = "snowflake_token_file"       // snow, schemachange
	TokenEndpoint        Kind = "token_endpoint"             // OAuth: dbt-redshift with Identity Center

	// Proxies that put the credential into each login or request.
	ClickHouse    Kind = "clickhouse"     // ClickHouse's HTTP interface
	GoogleStorage Kind = "google_storage" // Cloud Storage's XML API: DuckDB
	Postgres      Kind = "postgres"       // PostgreSQL's wire protocol
	S3            Kind = "s3"             // Amazon S3's protocol, and container credentials with it: DuckDB
	Snowflake     Kind = "snowflake"
	Trino         Kind = "trino"

	// Nothing is served: the credential that dbt has is kept alive.
	Lease Kind = "lease" // of Vault or OpenBao
)

// AWSContainerPath is where a broker serves container credentials.
const AWSContainerPath = "/credentials"

// IsProxy reports whether dbt then connects to the broker in the place of the warehouse.
func (k Kind) IsProxy() bool {
	switch k {
	case ClickHouse, GoogleStorage, Postgres, S3, Snowflake, Trino:
		return true
	}
	return false
}

// A Route is what a pair of adapter and provider needs in addition to dbt.
type Route struct {
	Kind     Kind
	Only     bool     // the pair has no other way: without a broker it is an error
	IDToken  bool     // the client exchanges by itself: the route serves the ID token
	Upstream Upstream // of a proxy, and of databricks_metadata: the warehouse
	Google   Google   // of GoogleADC
}

// A Google is what Google's client libraries need to know about a credential besides its source.
type Google struct {
	Audience string // the workload identity provider: //iam.googleapis.com/projects/NUMBER/…
	Universe string // its domain; "" for googleapis.com
	Project  string // that people of a workforce pool use; "" for a workload's
}

// An Upstream is the warehouse behind a proxy. TLS is verified, with the
// system's roots unless CAFile names others.
type Upstream struct {
	Host       string // "" of an object store for Amazon S3
	Port       int
	Plain      bool // no TLS; only ever for loopback
	Unverified bool // any certificate will do; only ever for loopback
	CAFile     string
	Proxy      string // the HTTP proxy on the way there, a URL; "" for the environment's
	AnyName    bool   // the certificate may be for another name than Host, as by libpq's verify-ca

	Buckets bool // of an object store: each bucket's name is in front of the host

	// Of a database:
	User     string // who logs in where the credential does not say
	Database string // the one that a client may open; "" where only dbt knows its name
	Account  string // of Snowflake: its name, without region and domain
}

// An Address is where the broker serves a route: on loopback, in a file that
// it rewrites, or both.
type Address struct {
	Host   string // an IP address; "" of a route that is only a file
	Port   int
	Secret secret.Value // what the client must show: a bearer or a password, new in each run
	URL    secret.Value // of a client that shows nothing: the secret is a segment of its path
	File   string       // the path of the file that the client reads; "" for none
	CAFile string       // the path of the certificate authority to verify the broker with, in PEM; "" for plain HTTP
}
