package adapter

import (
	"cmp"
	"maps"
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// sqlserver logs in at SQL Server, Azure SQL and Synapse with a token of
// Entra ID, or with what a vault lends: a database's login, or a service
// principal. The backend `pyodbc` takes a token from the profile,
// `mssql-python` only what azure-identity finds. (dbt-sqlserver 1.12)
var sqlserver = adapter{
	spec: policy.Adapter{
		Native:   "database roles and GRANT for a user of its own",
		Required: []string{"database", "schema"},
		Aliases:  withAliases(nil),
		Written:  append([]string{"tenant_id", "access_token_expires_on"}, microsoftLogins...),
		Secret:   microsoftSecrets,
		Literal:  append([]string{"driver", "backend"}, microsoftPlaces...),
		NoClaims: append([]string{"driver"}, microsoftSwitches...),
	},
	warehouse: microsoftWarehouse,
	check:     checkSQLServer,
	pairs: map[string]pair{
		"entra": {
			since: []since{sqlServerAccessToken, sqlServerDriver},
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://database.windows.net"},
			render: sqlServerToken, route: from(sqlServerRoute), hosts: &microsoftDatabases, check: checkBackend,
			identities: entraIdentities,
		},
		"login": {
			since: []since{sqlServerAccessToken, sqlServerDriver},
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://database.windows.net"},
			render: sqlServerToken, route: from(sqlServerRoute), hosts: &microsoftDatabases, check: checkBackend,
			identities: personIdentities,
		},
		"vault": {
			since:  []since{sqlServerDriver},
			asks:   credential.Asks{Fields: []credential.Kind{credential.DatabaseLogin, credential.ServicePrincipal}},
			render: sqlServerLogin, route: lease, suits: principalSuits, identities: principalIdentities,
		},
	},
}

func checkSQLServer(block *yaml.Node, p pair, _ string) error {
	var f faults
	f.join(checkMicrosoft(block, p.hosts))
	driver, backend, port := scalar(block, "driver"), scalar(block, "backend"), scalar(block, "port")
	switch {
	case policy.IsJinja(driver), policy.IsJinja(backend):
		f.add("driver", " and backend must be literals: they carry the login")
	case driver != "" && !driverText.MatchString(driver):
		f.add("driver", " is %q, want the name of an ODBC driver", driver)
	}
	if port != "" && !portText.MatchString(port) {
		f.add("port", " is %q, want a number", port)
	}
	return f.err()
}

// checkBackend refuses a backend that takes no token.
func checkBackend(block *yaml.Node) error {
	if backend := scalar(block, "backend"); backend != "" && !policy.IsJinja(backend) && backend != "pyodbc" && backend != mssqlPython {
		return top("backend").fault(" is %q, but only pyodbc and mssql-python accept a token of Entra ID", backend)
	}
	return nil
}

// principalSuits holds a service principal to Microsoft's own hosts: the server
// says where its client gets a token with the secret.
func principalSuits(block *yaml.Node, c credential.Credential) error {
	if c.Kind != credential.ServicePrincipal {
		return nil
	}
	return checkMicrosoftHost(block, &microsoftDatabases)
}

func sqlServerToken(in Input) Output {
	if in.Route != (route.Address{}) {
		return Output{Keys: []Key{{"authentication", text("MSI")}}, Env: managedIdentity(in.Route)}
	}
	out := entraToken(in)
	// No key of the connection: it may change in every run.
	expiry := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(in.Credential.Expiry.Unix(), 10)}
	out.Keys = append(out.Keys, Key{"access_token_expires_on", expiry})
	return out
}

func sqlServerLogin(in Input) Output {
	if in.Credential.Kind == credential.ServicePrincipal {
		return servicePrincipal(in)
	}
	return Output{
		Keys: []Key{{"authentication", text("sql")}, {"user", text(in.Credential.User)}, {"password", envVar(passwordVariable)}},
		Env:  []Variable{{passwordVariable, in.Credential.Password, true}},
	}
}

func sqlServerRoute(block *yaml.Node) (route.Route, error) {
	return route.Route{Kind: route.AzureManagedIdentity, Only: scalar(block, "backend") == mssqlPython}, nil
}

// withAliases adds the names that both of Microsoft's adapters take.
func withAliases(more map[string]string) map[string]string {
	aliases := map[string]string{
		"user": "UID", "username": "UID", "pass": "PWD", "password": "PWD", "server": "host",
		"trusted_connection": "windows_login", "auth": "authentication",
		"app_id": "client_id", "app_secret": "client_secret", "TrustServerCertificate": "trust_cert",
		"schema_auth": "schema_authorization", "SQL_ATTR_TRACE": "trace_flag",
	}
	maps.Copy(aliases, more)
	return aliases
}

const mssqlPython = "mssql-python"

var (
	// microsoftLogins are keys of dbt-sqlserver and dbt-fabric, and their
	// aliases, that choose a login.
	microsoftLogins = []string{"authentication", "auth", "UID", "user", "username", "windows_login",
		"trusted_connection", "client_id", "app_id"}
	microsoftSecrets = []string{"PWD", "app_secret"}
	// The keys that choose who dbt is, by what replaces them: a token of Entra
	// ID, or what a vault lends.
	entraIdentities = map[string]string{
		"client_id": "client_id", "app_id": "client_id", "tenant_id": "tenant", "user": "client_id", "username": "client_id", "uid": "client_id",
	}
	principalIdentities = map[string]string{"client_id": "", "app_id": ""}
	personIdentities    = map[string]string{"client_id": "", "app_id": "", "tenant_id": "", "user": "", "username": "", "uid": ""}
	// microsoftSwitches are keys that choose how the server is reached.
	microsoftSwitches = []string{"host", "server", "port", "encrypt", "trust_cert", "TrustServerCertificate"}
	microsoftPlaces   = append([]string{"database"}, microsoftSwitches...)
)

// microsoftDatabases are Azure SQL, Synapse and Fabric, in each cloud. Below
// fabric.microsoft.com all names are Microsoft's, its own rings'
// (*.msit-datawarehouse) included; below the database services' the servers
// have names that customers choose, but only Microsoft runs what answers.
// (Microsoft: Azure Private Endpoint private DNS zone values; Fabric:
// connectivity to a warehouse)
var microsoftDatabases = hosts{"Azure SQL, Synapse and Fabric",
	lazy.MustCompile(`^(?:[a-z0-9-]+\.)+(?:database\.(?:windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)|` +
		`sql\.azuresynapse\.(?:net|usgovcloudapi\.net|azure\.cn)|fabric\.microsoft\.com|pbidedicated\.windows\.net)$`)}

var (
	// microsoftServer is one server. Fabric's host may hold the port, SQL
	// Server's the instance; both end up in a connection string.
	microsoftServer = lazy.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)(?:,[0-9]{1,5}|\\[A-Za-z0-9_$-]+)?$`)
	databaseText    = lazy.MustCompile(`^[^;{}=\x00-\x1f]+$`)
	driverText      = lazy.MustCompile(`^(?:[^;{}=]+|\{[^;{}=]+\})$`)
)

// oneOf returns the value of whichever of a key's names the block has.
func oneOf(block *yaml.Node, names ...string) string {
	for _, name := range names {
		if v := value(block, name); v != nil {
			return textOf(v)
		}
	}
	return ""
}

// microsoftHost returns the server's name, "" for one that is none.
func microsoftHost(block *yaml.Node) string {
	if m := microsoftServer.FindStringSubmatch(oneOf(block, "host", "server")); m != nil {
		return m[1]
	}
	return ""
}

// microsoftWarehouse says where the token goes.
func microsoftWarehouse(block *yaml.Node) (credential.Warehouse, error) {
	return credential.Warehouse{Host: microsoftHost(block)}, nil
}

// checkMicrosoft holds the connection string that the adapters put together:
// they escape neither host nor database. vendor is whose the host must be, nil
// for any.
func checkMicrosoft(block *yaml.Node, vendor *hosts) error {
	var f faults
	f.literals(block, "the login is sent there", microsoftPlaces...)
	server, database, host := oneOf(block, "host", "server"), scalar(block, "database"), microsoftHost(block)
	encrypt, trust := oneOf(block, "encrypt"), oneOf(block, "trust_cert", "TrustServerCertificate")
	if host == "" && !policy.IsJinja(server) { // its own fault, by whichever name it has
		f.add("host", " is %q, want one server%s", server, insteadOf(server))
	}
	if !databaseText.MatchString(database) {
		f.add("database", " is %q, want a name that is valid in a connection string", database)
	}
	if isLoopback(cmp.Or(host, server)) {
		return f.err()
	}
	if encrypt != "" && !isOn(encrypt) {
		f.add("encrypt", " is %q, want TLS (turning it off is for loopback only)", encrypt)
	}
	if !isOff(trust) {
		f.add("trust_cert", " is %q, want the certificate verified (turning it off is for loopback only)", trust)
	}
	if vendor != nil {
		f.join(checkMicrosoftHost(block, vendor))
	}
	return f.err()
}

func checkMicrosoftHost(block *yaml.Node, vendor *hosts) error {
	if host := microsoftHost(block); !vendor.has(host) {
		return top("host").fault(" %q does not belong to %s, but the login is valid for all of its hosts", host, vendor.vendor)
	}
	return nil
}

func entraToken(in Input) Output {
	return Output{
		Keys: []Key{{"authentication", text("ActiveDirectoryAccessToken")}, {"access_token", envVar(tokenVariable)}},
		Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
	}
}

func servicePrincipal(in Input) Output {
	return Output{
		Keys: []Key{
			{"authentication", text("ActiveDirectoryServicePrincipal")}, {"client_id", text(in.Credential.User)},
			{"client_secret", envVar(passwordVariable)},
		},
		Env: []Variable{{passwordVariable, in.Credential.Password, true}},
	}
}
