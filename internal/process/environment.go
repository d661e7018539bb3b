package process

import (
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// dbtVariables select a profile or target other than the one written.
var dbtVariables = []string{
	"DBT_TARGET", "DBT_ENGINE_TARGET", "DBT_PROFILE", "DBT_ENGINE_PROFILE",
	"DBT_PROFILES_DIR", "DBT_ENGINE_PROFILES_DIR",
}

// SecretPrefix is the prefix of every variable that a written profile reads a secret from.
const SecretPrefix = "DBT_ENV_SECRET_OIDC_"

// sdkVariables are, by kind of credential or route, the variables that its SDK
// would use before or in addition to the given credential, and those that
// choose where it is sent. A trailing `*` matches any suffix. A test compares
// the list with what the clients read (e2e/variables).
var sdkVariables = map[string][]string{
	string(credential.AWSSession): slices.Concat(awsVariables, duckdbVariables),
	string(route.AWSContainer):    slices.Concat(awsVariables, duckdbVariables),
	string(route.S3):              slices.Concat(awsVariables, duckdbVariables),
	// google-auth's application default credentials, gcloud's own, and
	// Terraform's; and where the clients would send them instead.
	string(credential.GoogleAccessToken): slices.Concat([]string{
		"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_GHA_CREDS_PATH", "GOOGLE_OAUTH_ACCESS_TOKEN",
		"CLOUDSDK_AUTH_*", "CLOUDSDK_API_ENDPOINT_OVERRIDES_*",
		"GOOGLE_CREDENTIALS", "GOOGLE_CLOUD_KEYFILE_JSON", "GCLOUD_KEYFILE_JSON", "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
		"GOOGLE_BACKEND_CREDENTIALS", "GOOGLE_BACKEND_IMPERSONATE_SERVICE_ACCOUNT",
		"GOOGLE_CLOUD_QUOTA_PROJECT", "GOOGLE_EXTERNAL_ACCOUNT_*",
		"GOOGLE_API_USE_MTLS_ENDPOINT", "GOOGLE_AUTH_WEBAUTHN_PLUGIN",
		"API_ENDPOINT_OVERRIDE", "API_VERSION_OVERRIDE", "BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST",
	}, duckdbVariables),
	string(credential.AccessToken):     slices.Concat(libpqVariables, databricksVariables, snowflakeVariables),
	string(credential.DatabaseLogin):   libpqVariables,
	string(route.AzureManagedIdentity): slices.Concat(managedIdentityVariables, duckdbVariables),
	string(route.AzureTokenFile):       slices.Concat(managedIdentityVariables, entraVariables),
	string(route.FederatedTokenURL):    entraVariables,
	string(route.DatabricksMetadata):   databricksVariables,
	string(credential.KeyPair):         snowflakeVariables,
	string(credential.IDToken):         snowflakeVariables,
	// With these, libpq would demand more of the loopback proxy than a password
	// login, or TLS, which only the proxy's own connection has.
	string(route.Postgres): {
		"PGSSLROOTCERT", "PGSSLNEGOTIATION", "PGREQUIRESSL", "PGGSSENCMODE", "PGREQUIREAUTH", "PGCHANNELBINDING", "PGREQUIREPEER",
		"PGPASSWORD", "PGPASSFILE", "PGSSLCERTMODE",
	},
	string(route.PasswordFile):       slices.Concat(libpqVariables, []string{"PGPASSWORD"}),
	string(route.Snowflake):          snowflakeVariables,
	string(route.SnowflakeTokenFile): snowflakeVariables,
	"snowflake_client":               snowflakeClientVariables,
	// requests prefers these to the profile's cert.
	string(route.Trino): {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"},
}

// awsVariables are those that the credential chains of botocore, aws-sdk-cpp and
// others read: keys, profiles, web identity, containers.
var awsVariables = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
	"AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_CREDENTIAL_*", "BOTO_CONFIG",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
	"AWS_ROLE", "AWS_ROLE_*", "AWS_IAM_ROLE_*", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_BEARER_TOKEN_*", "AWS_LOGIN_CACHE_DIRECTORY",
	"AWS_CONTAINER_*", "AWS_EC2_METADATA_SERVICE_ENDPOINT*",
	"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
	// Where the credential is sent, and the access key's id (AWS_CSM_HOST).
	// AWS_DATA_PATH has tables of endpoints, and a plug-in can do anything.
	"AWS_ENDPOINT_URL*", "AWS_ACCOUNT_ID", "AWS_ACCOUNT_ID_ENDPOINT_MODE", "AWS_ENDPOINT_DISCOVERY_ENABLED", "AWS_ENABLE_ENDPOINT_DISCOVERY",
	"AWS_DATA_PATH", "AWS_CSM_*", "AWS_PROXY_NO_VERIFY_PEER", "BOTOCORE_EXPERIMENTAL__PLUGINS",
}

// duckdbVariables choose DuckDB's object stores, or another login. (httpfs, MotherDuck)
var duckdbVariables = []string{"DUCKDB_S3_ENDPOINT", "DUCKDB_S3_USE_SSL", "MOTHERDUCK_*", "motherduck_*"}

// libpqVariables send a login to a host other than the profile's, or add a
// client certificate to the password.
var libpqVariables = []string{"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR", "PGSSLCERT", "PGSSLKEY"}

// managedIdentityVariables make Azure's SDKs use the endpoint of a host other
// than App Service. (azure-identity, managed_identity.py)
var managedIdentityVariables = []string{
	"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET",
	"AZURE_POD_IDENTITY_AUTHORITY_HOST",
}

// entraVariables give DefaultAzureCredential another login, which it would try
// first, or choose where it logs in. (azure-identity, _constants.py)
var entraVariables = []string{
	"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_AUTHORITY_HOST", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_REGIONAL_AUTHORITY_NAME",
	"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN",
	"AZURE_USERNAME", "AZURE_PASSWORD", "AZURE_TOKEN_CREDENTIALS", "AZURE_SDK_CLOUD_CONF", "MSAL_FORCE_REGION",
	"AZURE_KUBERNETES_TOKEN_PROXY", "AZURE_KUBERNETES_SNI_NAME", "AZURE_KUBERNETES_CA_FILE", "AZURE_KUBERNETES_CA_DATA",
}

// snowflakeVariables are another login to snowflake-connector-python.
var snowflakeVariables = []string{"SNOWFLAKE_TOKEN", "SNOWFLAKE_TOKEN_FILE_PATH", "SNOWFLAKE_PASSWORD", "SNOWFLAKE_USER",
	// Which hosts get a federated token, who Azure says that this is, and what vouches for certificates.
	"SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES", "MANAGED_IDENTITY_CLIENT_ID", "SF_OCSP_RESPONSE_CACHE_SERVER_URL",
	"SF_OCSP_TEST_MODE", "SF_TEST_*", "SNOWFLAKE_TEST_MODE",
	"SNOWFLAKE_DISABLE_LOG_SECRET_MASKING",
}

// snowflakeClientVariables give snow, schemachange and Terraform's provider
// another login or another server.
var snowflakeClientVariables = []string{
	"SNOWFLAKE_PRIVATE_KEY*", "SNOWFLAKE_SESSION_TOKEN", "SNOWFLAKE_MASTER_TOKEN", "SNOWFLAKE_OAUTH_*", "SNOWFLAKE_TOKEN_ACCESSOR_*",
	"SNOWFLAKE_PASSCODE*", "SNOWFLAKE_OKTA_URL", "SNOWFLAKE_INSECURE_MODE", "SNOWFLAKE_PROFILE", "SNOWSQL_PWD",
	"SNOWFLAKE_CONNECTIONS*", "SNOWFLAKE_DEFAULT_CONNECTION_NAME", "SNOWFLAKE_WORKLOAD_IDENTITY_*",
}

// databricksVariables make databricks-sdk choose a login other than the token,
// or refuse to choose between two.
var databricksVariables = []string{
	"DATABRICKS_AUTH_TYPE", "DATABRICKS_USERNAME", "DATABRICKS_PASSWORD", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET",
	"DATABRICKS_CONFIG_PROFILE", "DATABRICKS_CONFIG_FILE", "DATABRICKS_DISCOVERY_URL", "DATABRICKS_METADATA_SERVICE_URL",
	"DATABRICKS_TOKEN_AUDIENCE",
	"DATABRICKS_GOOGLE_SERVICE_ACCOUNT", "GOOGLE_CREDENTIALS", "DATABRICKS_AZURE_RESOURCE_ID",
	"ARM_USE_MSI", "ARM_CLIENT_ID", "ARM_CLIENT_SECRET", "ARM_TENANT_ID", "ARM_ENVIRONMENT",
	"DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_ACCOUNT_ID", "DATABRICKS_WORKSPACE_ID", "DATABRICKS_CLOUD",
	"DATABRICKS_AZURE_TENANT_ID", "DATABRICKS_CLI_PATH",
	"DATABRICKS_OIDC_*", "DATABRICKS_MODEL_SERVING_HOST_URL", "DB_MODEL_SERVING_HOST_URL",
	"IS_IN_DATABRICKS_MODEL_SERVING_ENV", "IS_IN_DB_MODEL_SERVING_ENV",
}

// Outranking returns the names that Environment removes, by kind of credential
// or route.
func Outranking() map[string][]string { return maps.Clone(sdkVariables) }

// Environment returns the environment for a command that uses a credential:
// kinds are the credential's and, where a broker serves it, the route's. It is
// base without the variables that would outrank the credential and without
// those that are withheld, since ID tokens can be obtained by them, plus the
// variables of set ("NAME=value"). removed has the names that were removed and
// not set again, sorted.
//
// Withholding is hygiene, not a security boundary: code of
// the same user can read them from a parent process.
func Environment(base, set, kinds, withheld []string) (env, removed []string) {
	drop := slices.Concat(dbtVariables, withheld)
	for _, kind := range kinds {
		drop = append(drop, sdkVariables[kind]...)
	}
	isSet := map[string]bool{}
	for _, kv := range set {
		isSet[fold(name(kv))] = true
	}
	dropped := map[string]bool{}
	var families []string
	for _, n := range drop {
		if family, is := strings.CutSuffix(n, "*"); is {
			families = append(families, fold(family))
		}
		dropped[fold(n)] = true
	}
	for _, kv := range base {
		n := fold(name(kv))
		switch {
		case isSet[n]:
		case dropped[n], strings.HasPrefix(n, SecretPrefix), // the prefix: an earlier step's credential
			slices.ContainsFunc(families, func(f string) bool { return strings.HasPrefix(n, f) }):
			removed = append(removed, name(kv))
		default:
			env = append(env, kv)
		}
	}
	slices.Sort(removed)
	return append(env, set...), removed
}

func name(kv string) string {
	n, _, _ := strings.Cut(kv, "=")
	return n
}

// fold makes names comparable: on Windows their case does not matter.
func fold(name string) string {
	if runtime.GOOS == "windows" {
		return strings.ToUpper(name)
	}
	return name
}
