package adapter

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// postgres logs in with a password: a lease's, or a token in its place, as
// the clouds' own databases take them. Through a broker's proxy it is the
// proxy's, which logs in with a fresh one each time. (dbt-postgres 1.11)
var postgres = adapter{
	roots:   []string{"sslrootcert"},
	dialect: statement.Postgres,
	spec: policy.Adapter{
		Unscanned: "`statement_timeout`: PostgreSQL does not count the bytes that a statement reads",
		Unheld:    "have a job of the database's owner end what runs too long: ALTER ROLE … SET is no more than a default",
		Required:  []string{"host", "port", "schema"},
		Aliases:   map[string]string{"dbname": "database", "pass": "password"},
		Written:   []string{"sslcert", "sslkey"},
		Literal:   []string{"sslmode"},
		NoClaims:  []string{"sslmode", "sslrootcert"},
	},
	check: checkPostgres,
	warehouse: func(block *yaml.Node) (credential.Warehouse, error) {
		port, err := portOf(block)
		if err != nil {
			return credential.Warehouse{}, err
		}
		return credential.Warehouse{Host: scalar(block, "host"), Port: port, Database: databaseOf(block), User: scalar(block, "user")}, nil
	},
	pairs: map[string]pair{
		"aws": {
			gives: credential.DatabaseLogin, asks: credential.Asks{Login: credential.RDSLogin},
			render:  databasePassword,
			guarded: true, route: from(postgresProxy), direct: from(passwordFile), needed: []string{"user"},
		},
		"databricks": {
			gives: credential.AccessToken, asks: credential.Asks{Login: credential.LakebaseLogin}, hosts: &lakebaseHosts,
			render:  databasePassword,
			guarded: true, route: from(postgresProxy), direct: from(passwordFile), needed: []string{"user"},
		},
		"entra": {
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://ossrdbms-aad.database.windows.net"}, hosts: &azurePostgresHosts,
			render:  databasePassword,
			guarded: true, route: from(postgresProxy), direct: from(passwordFile), needed: []string{"user"},
		},
		"gcp": {
			gives:   credential.DatabaseLogin,
			asks:    credential.Asks{Login: credential.CloudSQLLogin, Scope: "https://www.googleapis.com/auth/sqlservice.login"},
			render:  databasePassword,
			guarded: true, route: from(postgresProxy), direct: from(passwordFile), given: []string{"user"},
		},
		"login": {
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://ossrdbms-aad.database.windows.net"}, hosts: &azurePostgresHosts,
			render:  databasePassword,
			guarded: true, route: from(postgresProxy), direct: from(passwordFile), needed: []string{"user"},
		},
		"vault": { // another user each time, which no file can tell libpq
			asks:   credential.Asks{Fields: []credential.Kind{credential.DatabaseLogin}},
			render: databasePassword, guarded: true, route: from(postgresProxy), direct: lease, given: []string{"user"},
		},
	},
}

// passwordFile has libpq read the password anew for each connection.
func passwordFile(block *yaml.Node) (route.Route, error) {
	u, err := databaseUpstream(block)
	return route.Route{Kind: route.PasswordFile, Upstream: u}, err
}

// databaseOf returns the block's database, by its name or dbt's own alias.
func databaseOf(block *yaml.Node) string {
	if database := scalar(block, "database"); database != "" {
		return database
	}
	return scalar(block, "dbname")
}

// postgresProxy describes the way to the server as libpq would go it, except
// that it never trusts a server that it has not verified: without a file of
// authorities the system's are trusted and the host's name is verified, as
// libpq does for `sslrootcert: system`.
func postgresProxy(block *yaml.Node) (route.Route, error) {
	u, err := databaseUpstream(block)
	if err != nil {
		return route.Route{}, err
	}
	mode, ca := scalar(block, "sslmode"), scalar(block, "sslrootcert")
	switch {
	case policy.IsJinja(ca):
		return route.Route{}, top("sslrootcert").fault(" must be a literal: oidc-dbt verifies the server with it")
	case ca != "" && ca != "system":
		u.CAFile = ca
		u.AnyName = mode == "require" || mode == "verify-ca"
	}
	if policy.IsLoopback(u.Host) {
		u.Plain = mode == "" && ca == "" || slices.Contains([]string{"disable", "allow", "prefer"}, mode)
	}
	return route.Route{Kind: route.Postgres, Upstream: u}, nil
}

// databaseUpstream is what PostgreSQL and Redshift have in common.
func databaseUpstream(block *yaml.Node) (u route.Upstream, err error) {
	u = route.Upstream{Host: scalar(block, "host"), User: scalar(block, "user"), Database: databaseOf(block)}
	if policy.IsJinja(u.Database) {
		u.Database = ""
	}
	u.Port, err = portOf(block)
	return u, err
}

// proxyUser is who the profile says that dbt is, where the proxy logs in as
// another user each time: a changing name would cost dbt its partial parsing.
const proxyUser = "oidc-dbt"

// throughProxy leads dbt to the proxy, which the password is for, and which
// encrypts on the way to the server. In place of a lease's user, another one
// each time, the profile keeps the block's.
func throughProxy(in Input) []Key {
	keys := []Key{{"host", text(in.Route.Host)}, {"port", integer(in.Route.Port)}, {"sslmode", text("disable")},
		{"password", envVar(passwordVariable)}}
	switch user := in.Credential.User; {
	case !in.pair.lends() && user != "":
		keys = append(keys, Key{"user", text(user)})
	case scalar(in.Block, "user") == "":
		keys = append(keys, Key{"user", text(proxyUser)})
	}
	return keys
}

// serverText is one host: libpq takes a list for hosts to try, and what begins
// with `/` or `@` for a socket.
var serverText = lazy.MustCompile(`^(?:[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:]+)$`)

// What AWS signs names its host itself, Cloud SQL has addresses only, and a
// lease is for the one database.
var (
	// (Microsoft: Azure Database for PostgreSQL, Azure Cosmos DB for PostgreSQL; national clouds)
	azurePostgresHosts = hosts{"Azure Database for PostgreSQL",
		lazy.MustCompile(`^(?:[a-z0-9-]+\.)+(?:postgres\.database\.(?:azure\.com|usgovcloudapi\.net|chinacloudapi\.cn)|` +
			`postgres\.cosmos\.azure\.com)$`)}
	// (Databricks: Lakebase, on AWS, Azure and Google Cloud; regions and rings
	// come before and after `database`)
	lakebaseHosts = hosts{"Lakebase",
		lazy.MustCompile(`^(?:[a-z0-9-]+\.)+database\.(?:[a-z0-9-]+\.)*(?:(?:cloud|gcp|dev)\.databricks\.com|` +
			`cloud\.databricks\.(?:us|mil)|azuredatabricks\.net|databricks\.azure\.(?:us|cn))$`)}
)

// checkDatabase keeps a database's name from being a connection string, which
// libpq takes in its place.
func checkDatabase(name string) error {
	if strings.Contains(name, "=") || strings.Contains(name, "://") {
		return top("database").fault(" is a connection string (…), want a database's name")
	}
	return nil
}

func checkPostgres(block *yaml.Node, p pair, _ string) error {
	host, mode, user := scalar(block, "host"), scalar(block, "sslmode"), scalar(block, "user")
	var f faults
	f.literals(block, "the login is sent there", "host", "port", "sslmode")
	if !serverText.MatchString(host) {
		f.add("host", " is %q, want one host name or address%s", host, insteadOf(host))
	}
	f.join(checkDatabase(databaseOf(block)))
	if p.hosts != nil && !p.hosts.has(host) {
		f.add("host", " %q does not belong to %s, but the token would be sent there", host, p.hosts.vendor)
	}
	switch mode {
	case "", "require", "verify-ca", "verify-full":
	default: // libpq falls back to plain text with `allow` and `prefer`
		if !isLoopback(host) {
			f.add("sslmode", " is %q, want require, verify-ca or verify-full (an unencrypted password is for loopback only)", mode)
		}
	}
	switch {
	case p.brings("user"):
	case user == "":
		f.missing("user", ": provider %q supplies none", p.provider)
	case policy.IsJinja(user):
		f.add("user", " must be a literal: the login is for that user")
	}
	return f.err()
}

// databasePassword puts a database's password, or the token used as one, into the profile.
func databasePassword(in Input) Output {
	if in.Route.Port != 0 {
		return Output{
			Remove: []string{"sslrootcert"}, // libpq refuses `system` without TLS
			Keys:   append(throughProxy(in), tagKey(in)...),
			Env:    []Variable{{passwordVariable, in.Route.Secret, true}, {"PGSSLMODE", secret.New("disable"), false}},
		}
	}
	password := in.Credential.Password
	if password.IsZero() {
		password = in.Credential.Token
	}
	out := Output{
		Keys: []Key{{"password", envVar(passwordVariable)}},
		Env:  []Variable{{passwordVariable, password, true}},
	}
	if in.Route.File != "" { // libpq looks there where the password is empty, and dbt refuses none at all
		out = Output{
			Keys: []Key{{"password", text("")}},
			Env:  []Variable{{"PGPASSFILE", secret.New(in.Route.File), false}},
		}
	}
	if user := in.Credential.User; user != "" {
		out.Keys = append(out.Keys, Key{"user", text(user)})
	}
	mode, ca := scalar(in.Block, "sslmode"), scalar(in.Block, "sslrootcert")
	if mode == "" && !policy.IsLoopback(scalar(in.Block, "host")) {
		mode = "require" // libpq's own default would fall back to plain text
		if ca != "" {
			mode = "verify-full"
		}
		out.Keys = append(out.Keys, Key{"sslmode", text(mode)})
	}
	// dbt's Rust engine reads neither key; libpq then looks here before it
	// falls back. For dbt-postgres, and where they agree anyway, the keys win.
	if mode != "" {
		out.Env = append(out.Env, Variable{"PGSSLMODE", secret.New(mode), false})
	}
	if ca != "" && !policy.IsJinja(ca) {
		out.Env = append(out.Env, Variable{"PGSSLROOTCERT", secret.New(ca), false})
	}
	out.Keys = append(out.Keys, tagKey(in)...)
	return out
}
