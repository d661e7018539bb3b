// Package route is how dbt stays logged in: which of the ways that a client library knows leads to the broker, described for the adapter that writes the profile and the broker that serves it.
package route

import "github.com/oidc-dbt/oidc-dbt/internal/secret"

// A Kind is one way of asking for a credential that a client library knows.
type Kind string

// The kinds.
const (
	None          Kind = ""               // dbt reads the credential once, from the profile
	TokenEndpoint Kind = "token_endpoint" // an OAuth token endpoint: dbt-redshift with Identity Center
	ClickHouse    Kind = "clickhouse"     // a proxy for ClickHouse's HTTP interface
)

// A Route is what a pair of adapter and provider needs beside dbt.
type Route struct {
	Kind     Kind
	Only     bool     // the pair has no other way: without a broker it is an error
	Upstream Upstream // of a proxy: the warehouse
}

// An Upstream is the warehouse behind a proxy. TLS is verified, with the
// system's roots unless CAFile names others.
type Upstream struct {
	Host   string
	Port   int
	Plain  bool // no TLS; only ever for loopback
	CAFile string
}

// An Address is where the broker serves a route, on loopback.
type Address struct {
	Host   string // an IP address
	Port   int
	Secret secret.Value // what the client must show: a bearer or a password, new in each run
}
