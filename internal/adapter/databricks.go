package adapter

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// databricks sends a bearer with each request: Databricks' own token, or one
// of Microsoft Entra ID in Azure. Both of dbt's engines read it as `token`.
// (dbt-databricks 1.12)
var databricks = adapter{
	spec: policy.Adapter{
		Native:   "Unity Catalog's grants to a service principal of its own, and STATEMENT_TIMEOUT of the SQL warehouse",
		Required: []string{"host", "http_path", "schema"},
		Aliases:  map[string]string{"catalog": "database", "target_catalog": "target_database"},
		Written: []string{
			"auth_type", "client_id", "azure_client_id", "azure_tenant_id", "oauth_redirect_url", "oauth_scopes", "oidc_token_filepath",
		},
		Literal:  []string{"connection_parameters", "compute"},
		NoClaims: []string{"connection_parameters", "http_path", "compute"},
	},
	mappings: []string{"connection_parameters", "connection_parameters.http_headers", "session_properties", "compute"},
	check:    checkDatabricks,
	warehouse: func(block *yaml.Node) (credential.Warehouse, error) {
		return credential.Warehouse{Host: scalar(block, "host")}, nil
	},
	pairs: map[string]pair{
		"databricks": {
			gives: credential.AccessToken, asks: credential.Asks{Workspace: true}, exposed: true,
			render: databricksToken, route: from(databricksRoute),
			identities: map[string]string{"client_id": "client_id", "azure_client_id": "client_id", "azure_tenant_id": ""},
		},
		"entra": {
			gives: credential.AccessToken, asks: credential.Asks{Resource: credential.DatabricksResource}, hosts: &azureWorkspaces,
			render: databricksToken, route: from(databricksRoute),
			identities: map[string]string{"client_id": "client_id", "azure_client_id": "client_id", "azure_tenant_id": "tenant"},
		},
		"login": {
			gives: credential.AccessToken, asks: credential.Asks{Resource: credential.DatabricksResource}, hosts: &azureWorkspaces,
			render: databricksToken, route: from(databricksRoute),
			identities: map[string]string{"client_id": "", "azure_client_id": "", "azure_tenant_id": ""},
		},
	},
}

// databricksHosts are workspaces in each cloud. (databricks-sdk-py, environments.py)
var databricksHosts = lazy.MustCompile(`^(?:[a-z0-9-]+\.)+(?:(?:cloud|gcp|dev)\.databricks\.com|` +
	`cloud\.databricks\.(?:us|mil)|azuredatabricks\.net|databricks\.azure\.(?:us|cn))$`)

// azureWorkspaces are those of them that take a token of Entra ID.
var azureWorkspaces = hosts{"Azure Databricks", lazy.MustCompile(`(?:azuredatabricks\.net|databricks\.azure\.(?:us|cn))$`)}

// ownAudience reports whether an audience is neither Databricks' nor, as its
// default is, an account's id: such a token can be used only where the
// federation policy names that audience.
func ownAudience(audience, host string) bool {
	return audience != "" && !accountID.MatchString(audience) && policy.CheckHost(audience, host) == nil
}

var accountID = lazy.MustCompile(`^(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func checkDatabricks(block *yaml.Node, p pair, audience string) error {
	var f faults
	f.literals(block, "the token is sent there", "host", "http_path")
	host := scalar(block, "host")
	if name, port, ok := strings.Cut(host, ":"); ok && policy.IsLoopback(name) && portText.MatchString(port) {
		host = name // a stand-in, whose connector needs _connection_uri besides
	}
	name := strings.ToLower(host)
	switch {
	case !hostText.MatchString(host):
		f.add("host", " is %q, want a host name only%s", host, insteadOf(host))
	case policy.IsLoopback(host):
	case ownAudience(audience, name): // a workspace with a domain of its own
	case !databricksHosts.MatchString(name) && p.exposed:
		f.add("host", " %q does not belong to Databricks, but the token would be sent there: a workspace with a custom domain "+
			"requires its own audience under exchange", host)
	case !databricksHosts.MatchString(name):
		f.add("host", " %q does not belong to Databricks, but the token would be sent there", host)
	case p.hosts != nil && !p.hosts.has(name):
		f.add("host", " %q does not belong to %s, which Entra ID's token is for", host, p.hosts.vendor)
	}
	for _, e := range entries(block) {
		path := textOf(e.value)
		switch {
		case e.keys[len(e.keys)-1] != "http_path":
		case policy.IsJinja(path):
			f.join(e.fault(" must be a literal: the token is sent there"))
		case !pathText.MatchString(path):
			f.join(e.fault(" is %q, want a path such as /sql/1.0/warehouses/ID", path))
		}
	}
	f.join(checkParameters(value(block, "connection_parameters"), isLoopback(host)))
	return f.err()
}

var pathText = lazy.MustCompile(`^[A-Za-z0-9/_.?=&%:-]*$`)

// otherLogins are the connector's parameters that choose another login, as it
// reads them. (databricks-sql-connector 4.2: session.py, auth/auth.py)
var otherLogins = []string{
	"auth_type", "username", "password", "access_token", "credentials_provider", "client_id", "client_secret",
	"identity_federation_client_id", "experimental_oauth_persistence", "_use_cert_as_auth",
}

// checkParameters holds what dbt hands on to the connector as it is, and over
// everything else.
func checkParameters(parameters *yaml.Node, loopback bool) error {
	var f faults
	switch {
	case policy.IsJinja(textOf(parameters)):
		f.add("connection_parameters", " must be a literal: it decides where the token is sent")
		return f.err()
	case parameters == nil, parameters.Kind != yaml.MappingNode:
		return nil // settle says so
	}
	for i := 0; i+1 < len(parameters.Content); i += 2 {
		key, v := parameters.Content[i].Value, parameters.Content[i+1]
		at, text := top("connection_parameters").at(key), textOf(v)
		switch {
		case policy.IsJinja(key), anyJinja(v):
			f.join(at.fault(" must be a literal: it decides where the token is sent"))
		case slices.Contains(otherLogins, key), strings.HasPrefix(key, "oauth_"), strings.HasPrefix(key, "azure_"),
			strings.HasPrefix(key, "_tls_client_cert"):
			f.join(at.fault(" selects another login: remove it"))
		case key == "_connection_uri":
			host, err := checkEndpoint(at, text)
			f.join(err)
			if !policy.IsLoopback(host) || !loopback {
				f.join(at.fault(" is for loopback only: the token is sent to host"))
			}
		case key == "_port" && !portText.MatchString(text):
			f.join(at.fault(" is %q, want a number", text))
		case key == "_tls_no_verify" && !isOff(text) && !loopback, key == "_tls_verify_hostname" && !isOn(text) && !loopback:
			f.join(at.fault(" is %q, want TLS verified (turning it off is for loopback only)", text))
		}
	}
	return f.err()
}

// anyJinja reports whether only dbt will know something in a value.
func anyJinja(v *yaml.Node) bool {
	return v.Kind == yaml.ScalarNode && policy.IsJinja(v.Value) || slices.ContainsFunc(v.Content, anyJinja)
}

func databricksRoute(block *yaml.Node) (route.Route, error) {
	return metadataRoute(scalar(block, "host")), nil
}

// databricksTools is for the SDKs and the command of Databricks.
func databricksTools(_ *yaml.Node, exchange policy.Values) (route.Route, error) {
	return metadataRoute(exchange.Get("host")), nil
}

// metadataRoute is for the workspace at a host, or a URL, that was checked.
func metadataRoute(host string) route.Route {
	_, name, isURL := strings.Cut(host, "://")
	if !isURL {
		name = host
	}
	r := route.Route{Kind: route.DatabricksMetadata, Upstream: route.Upstream{Host: strings.TrimSuffix(name, "/"), Port: web.HTTPSPort}}
	if name, port, ok := strings.Cut(r.Upstream.Host, ":"); ok {
		r.Upstream.Host = name
		r.Upstream.Port, _ = strconv.Atoi(port) // its form was checked
	}
	return r
}

// databricksMetadata has databricks-sdk ask the broker, for each session and
// each request of its REST API. With DATABRICKS_AUTH_TYPE it looks at no other
// login, the profile's token included.
func databricksMetadata(served route.Address) []Variable {
	return []Variable{
		{"DATABRICKS_AUTH_TYPE", secret.New("metadata-service"), false},
		{"DATABRICKS_METADATA_SERVICE_URL", served.URL, true},
	}
}

// databricksToken writes the token also where the broker serves the next
// ones: dbt-databricks wants one, and dbt's Rust engine has no other way.
func databricksToken(in Input) Output {
	out := Output{
		Keys: []Key{{"token", envVar(tokenVariable)}},
		Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
	}
	if in.Route != (route.Address{}) {
		out.Env = append(out.Env, databricksMetadata(in.Route)...)
	}
	if value(in.Block, "query_tags") == nil {
		tags := map[string]string{"oidc_dbt_target": in.Facts.Target()}
		if run := runID(in); run != "" {
			tags["oidc_dbt_run_id"] = run
		}
		line, _ := json.Marshal(tags) // strings cannot fail
		out.Keys = append(out.Keys, Key{"query_tags", text(string(line))})
	}
	return out
}
