package adapter

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// redshift logs in with a user and a password that were made for the run. The
// methods `iam` and `iam_role`, by which dbt would ask AWS itself, take no
// session token in a profile. (dbt-redshift 1.11)
var redshift = adapter{
	dialect: statement.Redshift,
	spec: policy.Adapter{
		Native:    "GRANT for a role of its own, and query monitoring rules of the workload manager",
		Unscanned: "query monitoring rules of the workload manager (scan_row_count, spectrum_scan_size_mb)",
		Unheld:    "add a query monitoring rule to the workload manager (query_execution_time)",
		Required:  []string{"host", "port", "schema"},
		Aliases:   map[string]string{"dbname": "database", "pass": "password"},
		Written: []string{
			"method", "iam_profile", "access_key_id", "token_endpoint",
			"issuer_url", "idc_region", "idp_listen_port", "idp_response_timeout", "idc_client_display_name",
		},
		Literal:  []string{"sslmode"},
		NoClaims: []string{"sslmode", "region", "cluster_id", "is_serverless", "serverless_work_group", "serverless_acct_id"},
	},
	check:     checkRedshift,
	warehouse: redshiftWarehouse,
	pairs: map[string]pair{
		"aws": {
			gives: credential.DatabaseLogin, asks: credential.Asks{Login: credential.RedshiftLogin},
			render:  redshiftPassword,
			guarded: true, route: from(redshiftProxy), check: checkRedshiftLogin, identities: map[string]string{"iam_profile": "role"},
			needed: redshiftNeeded,
		},
		"identity_center": {
			since: []since{identityCenter},
			gives: credential.IDToken, asks: credential.Asks{Login: credential.TokenLogin},
			// dbt asks a token endpoint at each login; there is no key for a token.
			render: redshiftToken, route: always(route.Route{Kind: route.TokenEndpoint, Only: true}),
			identities: map[string]string{"iam_profile": ""},
		},
		"login": {
			gives: credential.DatabaseLogin, asks: credential.Asks{Login: credential.RedshiftLogin},
			render:  redshiftPassword,
			guarded: true, route: from(redshiftProxy), check: checkRedshiftLogin, identities: map[string]string{"iam_profile": ""},
			needed: redshiftNeeded,
		},
		"vault": {
			asks:   credential.Asks{Fields: []credential.Kind{credential.DatabaseLogin}},
			render: redshiftPassword, guarded: true, route: from(redshiftProxy), direct: lease, given: []string{"user"},
			identities: map[string]string{"iam_profile": ""},
		},
	},
}

// redshiftNeeded are the keys by which AWS is asked for a login.
var redshiftNeeded = []string{"dbname", "database", "user", "cluster_id", "is_serverless", "serverless_work_group", "autocreate",
	"db_groups"}

// The hosts of clusters and workgroups, which begin with their names.
var (
	clusterHost   = lazy.MustCompile(`(?i)^([a-z0-9-]+)\.[a-z0-9-]+\.[a-z0-9-]+\.redshift\.amazonaws\.`)
	workgroupHost = lazy.MustCompile(`(?i)^([a-z0-9-]+)\.[0-9]+\.[a-z0-9-]+\.redshift-serverless\.amazonaws\.`)
)

// isServerless tells which of the two there is.
func isServerless(block *yaml.Node) bool {
	return workgroupHost.MatchString(scalar(block, "host")) || isOn(scalar(block, "is_serverless")) ||
		scalar(block, "serverless_work_group") != "" && scalar(block, "cluster_id") == ""
}

// checkRedshiftLogin holds what AWS is asked for a login by.
func checkRedshiftLogin(block *yaml.Node) error {
	var f faults
	for _, group := range elements(value(block, "db_groups")) {
		if policy.IsJinja(textOf(group)) {
			f.add("db_groups", " must be literals: the login is made from them")
		}
	}
	return f.err()
}

func checkRedshift(block *yaml.Node, p pair, _ string) error {
	var f faults
	f.literals(block, "the login is made from it, or is sent there", append([]string{"host", "port", "sslmode"}, p.needed...)...)
	host, mode := scalar(block, "host"), scalar(block, "sslmode")
	if !serverText.MatchString(host) {
		f.add("host", " is %q, want one host name or address%s", host, insteadOf(host))
	}
	f.join(checkDatabase(databaseOf(block)))
	if databaseOf(block) == "" {
		f.missing("dbname", "")
	}
	if mode == "disable" && !isLoopback(host) { // any other verifies the certificate
		f.add("sslmode", ` is "disable", want verify-full or verify-ca (an unencrypted login is for loopback only)`)
	}
	return f.err()
}

func redshiftWarehouse(block *yaml.Node) (credential.Warehouse, error) {
	w := credential.Warehouse{Host: scalar(block, "host"), Database: databaseOf(block), User: scalar(block, "user")}
	var err error
	if w.Port, err = portOf(block); err != nil {
		return w, err
	}
	named, hosts, key := &w.Redshift.Cluster, clusterHost, "cluster_id"
	if isServerless(block) {
		named, hosts, key = &w.Redshift.Workgroup, workgroupHost, "serverless_work_group"
	}
	if *named = scalar(block, key); *named == "" {
		if m := hosts.FindStringSubmatch(w.Host); m != nil {
			*named = strings.ToLower(m[1])
		}
	}
	w.Redshift.AutoCreate = isOn(scalar(block, "autocreate"))
	for _, group := range elements(value(block, "db_groups")) {
		w.Redshift.Groups = append(w.Redshift.Groups, textOf(group))
	}
	return w, nil
}

// redshiftProxy describes the way to Redshift as its driver goes it, which
// takes a certificate for any name unless told otherwise.
func redshiftProxy(block *yaml.Node) (route.Route, error) {
	u, err := databaseUpstream(block)
	mode := scalar(block, "sslmode")
	if mode == "" && !policy.IsLoopback(u.Host) {
		mode = "verify-full" // as redshiftConnection writes it
	}
	u.Plain, u.AnyName = mode == "disable", mode != "disable" && mode != "verify-full"
	return route.Route{Kind: route.Postgres, Upstream: u}, err
}

func redshiftPassword(in Input) Output {
	if in.Route.Port != 0 {
		return Output{
			Remove: []string{"cluster_id"},
			Keys:   append(append([]Key{{"method", text("database")}}, throughProxy(in)...), tagKey(in)...),
			Env:    []Variable{{passwordVariable, in.Route.Secret, true}},
		}
	}
	return Output{
		// dbt's Rust engine takes no cluster_id with the method database.
		Remove: []string{"cluster_id"},
		Keys: append([]Key{{"method", text("database")}, {"user", text(in.Credential.User)}, {"password", envVar(passwordVariable)}},
			redshiftConnection(in)...),
		Env: []Variable{{passwordVariable, in.Credential.Password, true}},
	}
}

// redshiftToken has dbt fetch the ID token from the broker at each login, and
// hand it to Redshift, which exchanges it at Identity Center. Of the two kinds
// of endpoint that dbt knows, `entra` sends what request_data says and no more.
func redshiftToken(in Input) Output {
	endpoint := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		text("type"), text("entra"),
		text("request_url"), text(fmt.Sprintf("http://%s:%d/token", in.Route.Host, in.Route.Port)),
		text("request_data"), text("client_secret={{ env_var('" + tokenVariable + "') }}"),
	}}
	return Output{
		Keys: append([]Key{{"method", text("oauth_token_identity_center")}, {"token_endpoint", endpoint}}, redshiftConnection(in)...),
		Env:  []Variable{{tokenVariable, in.Route.Secret, true}},
	}
}

// redshiftConnection adds what a connection lacks: the tag, and a certificate
// for this very host. The driver's own default takes one for any.
func redshiftConnection(in Input) (keys []Key) {
	if scalar(in.Block, "sslmode") == "" && !policy.IsLoopback(scalar(in.Block, "host")) {
		keys = append(keys, Key{"sslmode", text("verify-full")})
	}
	return append(keys, tagKey(in)...)
}
