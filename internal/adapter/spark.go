package adapter

import (
	"cmp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// spark logs in with a token over HTTP or ODBC, or with a user and a password
// over Thrift. With method session there is no login: Spark runs in dbt's
// process, and reads and writes an object store by Hadoop. (dbt-spark 1.10)
var spark = adapter{
	spec: policy.Adapter{
		Native:   "grants of the catalog, and the policy of the store",
		Required: []string{"host", "schema", "method"},
		Written:  []string{"auth", "kerberos_service_name"},
		Literal:  []string{"method", "use_ssl", "connection_string_suffix", "endpoint", "cluster", "organization"},
		NoClaims: []string{"method", "use_ssl", "connection_string_suffix"},
	},
	mappings: []string{"server_side_parameters"},
	check:    checkSpark,
	warehouse: func(block *yaml.Node) (credential.Warehouse, error) {
		return credential.Warehouse{Bearer: scalar(block, "method") != "thrift"}, nil
	},
	pairs: map[string]pair{
		"aws": {gives: credential.AWSSession, render: sparkS3, route: awsContainer},
		"entra": {
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://storage.azure.com"}, render: sparkAzure,
			// Hadoop reads an ID token from a file, and exchanges it itself; it
			// takes no access token from elsewhere.
			route: always(route.Route{Kind: route.AzureTokenFile, IDToken: true, Only: true}),
		},
		"vault": {
			asks:   credential.Asks{Fields: []credential.Kind{credential.DatabaseLogin}},
			render: sparkLogin, route: lease, given: []string{"user"},
		},
	},
}

func sparkS3(in Input) Output {
	// Hadoop 3.4 has another SDK than 3.3, and takes the older name for the newer class, too.
	class := "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
	if in.Route.Host != "" {
		class = "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider" // container credentials first
	}
	return Output{Keys: []Key{hadoop(in.Block, "fs.s3a.aws.credentials.provider", class)}}
}

func sparkAzure(in Input) Output {
	exchange := in.Facts.Exchange()
	return Output{
		Keys: []Key{hadoop(in.Block,
			"fs.azure.account.auth.type", "OAuth",
			"fs.azure.account.oauth.provider.type", "org.apache.hadoop.fs.azurebfs.oauth2.WorkloadIdentityTokenProvider",
			"fs.azure.account.oauth2.msi.authority", cmp.Or(exchange.Get("authority"), publicAuthority),
			"fs.azure.account.oauth2.msi.tenant", exchange.Get("tenant"),
			"fs.azure.account.oauth2.client.id", exchange.Get("client_id"),
			"fs.azure.account.oauth2.token.file", in.Route.File,
		)},
		Env: federatedTokenFile(in.Facts, in.Route),
	}
}

func sparkLogin(in Input) Output {
	if in.Credential.Kind == credential.AccessToken {
		return Output{
			Keys: []Key{{"token", envVar(tokenVariable)}},
			Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
		}
	}
	return Output{
		Keys: []Key{{"auth", text("LDAP")}, {"user", text(in.Credential.User)}, {"password", envVar(passwordVariable)}},
		Env:  []Variable{{passwordVariable, in.Credential.Password, true}},
	}
}

// hadoop returns the block's server_side_parameters with settings of Hadoop's,
// by name and value, in the place of those that it has.
// (hadoop-aws: Authenticating with S3; hadoop-azure, AbfsConfiguration)
func hadoop(block *yaml.Node, settings ...string) Key {
	all := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if own := value(block, "server_side_parameters"); own != nil && own.Kind == yaml.MappingNode {
		all.Content = append(all.Content, own.Content...)
	}
	for i := 0; i < len(settings); i += 2 {
		all.Content = append(all.Content, text("spark.hadoop."+settings[i]), text(settings[i+1]))
	}
	return Key{"server_side_parameters", all}
}

// storeLogin matches settings of Hadoop's stores that are a login, or choose
// who gets it, for all or for one bucket or account.
var storeLogin = lazy.MustCompile(`(?i)^(?:spark\.hadoop\.)?(?:` +
	`fs\.s3[an]?\.(?:.*\.)?(?:endpoint|proxy\.[\w.]+|connection\.ssl\.enabled|access\.key|secret\.key|session\.token|` +
	`[\w.]*credentials?[\w.]*|assumed\.role\.[\w.]+|custom\.signers|impl)|` +
	`fs\.azure\.(?:account\.|sas\.|identity\.|always\.use\.https|[\w.]*endpoint).*|fs\.(?:abfss?|wasbs?)\.impl|` +
	`hadoop\.security\.credential\.[\w.]+)$`)

// checkSession holds a Spark in dbt's process to the store's own hosts.
func checkSession(block *yaml.Node, p pair) error {
	if p.lends() {
		return top("method").fault(` is "session", which has no login: Spark runs in dbt's process; for its store use provider "aws" or "entra"`)
	}
	parameters := value(block, "server_side_parameters")
	var f faults
	switch {
	case policy.IsJinja(textOf(parameters)):
		f.add("server_side_parameters", " must be a literal: it may decide where the credential is sent")
		return f.err()
	case parameters == nil, parameters.Kind != yaml.MappingNode:
		return nil // settle says so
	}
	for i := 0; i+1 < len(parameters.Content); i += 2 {
		name := parameters.Content[i].Value
		at := top("server_side_parameters").at(name)
		switch {
		case policy.IsJinja(name):
			f.join(at.fault(" must be a literal: it may decide where the credential is sent"))
		case storeLogin.MatchString(strings.TrimSpace(name)):
			f.join(at.fault(" selects the store's login or who gets it: remove it, the exchange does this"))
		}
	}
	return f.err()
}

// elsewhere matches what a connection string's end would change about where
// and how the login goes.
var elsewhere = lazy.MustCompile(`(?i)(?:^|;)\s*(?:host|server|port|ssl|use_?proxy|proxy\w*|uid|pwd|authmech|allow\w+|` +
	`trustedcerts|cadir\w*)\s*=`)

// checkODBC keeps values from adding keywords to the connection string that
// dbt-spark puts together: it escapes none.
func checkODBC(block *yaml.Node) error {
	var f faults
	for _, key := range []string{"driver", "endpoint", "cluster", "organization"} {
		v := scalar(block, key)
		if key == "driver" && strings.HasPrefix(v, "{") && strings.HasSuffix(v, "}") {
			v = v[1 : len(v)-1]
		}
		if policy.IsJinja(scalar(block, key)) || strings.ContainsAny(v, ";{}=") {
			f.add(key, " is %q, want a literal that is valid in a connection string", scalar(block, key))
		}
	}
	for _, e := range entries(block) {
		name := e.keys[len(e.keys)-1]
		if e.keys[0] == "server_side_parameters" && (strings.ContainsAny(name, ";{}= ") || strings.ContainsAny(textOf(e.value), ";{}")) {
			f.join(e.fault(" is not valid in a connection string"))
		}
	}
	return f.err()
}

func checkSpark(block *yaml.Node, p pair, _ string) error {
	var f faults
	f.literals(block, "the login is sent there", "host", "method", "use_ssl", "connection_string_suffix", "port")
	host, method, port := scalar(block, "host"), scalar(block, "method"), scalar(block, "port")
	if port != "" && !portText.MatchString(port) {
		f.add("port", " is %q, want a number", port)
	}
	if !serverText.MatchString(strings.TrimPrefix(host, "https://")) {
		f.add("host", " is %q, want one host name or address%s", host, insteadOf(host))
	}
	if methods := []string{"http", "odbc", "thrift"}; !p.lends() && slices.Contains(methods, method) {
		f.add("method", " is %q, for which provider %q has no login: want method session, for a store, or provider \"vault\"", method, p.provider)
	}
	switch method {
	case "session":
		f.join(checkSession(block, p))
	case "http", "odbc": // TLS always
		if method == "odbc" {
			f.join(checkODBC(block))
		}
		if elsewhere.MatchString(scalar(block, "connection_string_suffix")) {
			f.add("connection_string_suffix", ": it must not change server, login or TLS")
		}
	case "thrift":
		if !isLoopback(host) && !isOn(scalar(block, "use_ssl")) {
			f.add("use_ssl", " is %q for host %q, want true (plain connections are for loopback only)", scalar(block, "use_ssl"), host)
		}
	default:
		f.add("method", " is %q, valid methods are %q", method, []string{"http", "odbc", "session", "thrift"})
	}
	return f.err()
}
