package adapter

import (
	"net"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// snowflake logs in by workload identity federation: with the ID token
// itself, or with the identity of an AWS role, which the connector signs a
// request of at each login; or with an access token of an authorization
// server that it trusts (External OAuth), or a key pair that a vault lends.
// Beside a broker dbt logs in there, and all but AWS's is put in by its proxy.
// (dbt-snowflake 1.12; Snowflake: Workload identity federation, External
// OAuth, Key-pair authentication)
var snowflake = adapter{
	dialect: statement.Snowflake,
	spec: policy.Adapter{
		Native:    "a role of its own, and a resource monitor",
		Unscanned: "a resource monitor, and STATEMENT_TIMEOUT_IN_SECONDS on the warehouse",
		Unheld:    "set STATEMENT_TIMEOUT_IN_SECONDS on the warehouse, too: the lower of the two counts",
		Required:  []string{"account", "database", "schema"},
		Written: []string{
			"authenticator", "method", "workload_identity_provider", "workload_identity_entra_resource", "token_file_path",
			"private_key_path", "oauth_client_id", "connection_name",
		},
		Literal: []string{"account", "host", "port", "protocol", "proxy_host", "proxy_port", "insecure_mode",
			"s3_stage_vpce_dns_name", "user", "role"},
		NoClaims: []string{"account", "host", "port", "protocol", "proxy_host", "proxy_port", "insecure_mode", "s3_stage_vpce_dns_name"},
		Client:   []string{"account", "user", "role", "warehouse", "database", "schema", "host", "port", "protocol"},
	},
	warehouse: func(block *yaml.Node) (credential.Warehouse, error) {
		return credential.Warehouse{Role: scalar(block, "role")}, nil
	},
	client:   snowflakeVariables,
	mappings: []string{"session_parameters"},
	check:    checkSnowflake,
	pairs: map[string]pair{
		"aws": {
			gives: credential.AWSSession, render: func(in Input) Output { return workloadIdentity(in, "AWS") },
			route: awsContainer, client: route.AWSContainer, identities: snowflakeIdentities("role"),
			since: []since{snowflakeWorkload},
		},
		"entra": {
			gives: credential.AccessToken, asks: credential.Asks{Elsewhere: true}, render: externalOAuth,
			guarded: true, route: from(snowflakeRoute), client: route.SnowflakeTokenFile, identities: snowflakeIdentities("client_id"),
			since: []since{snowflakeJWT},
		},
		"login": {
			gives: credential.AccessToken, asks: credential.Asks{Elsewhere: true}, render: externalOAuth,
			guarded: true, route: from(snowflakeRoute), client: route.SnowflakeTokenFile, identities: snowflakeIdentities(""),
			since: []since{snowflakeJWT},
		},
		"oidc": {
			gives: credential.IDToken, exposed: true, render: snowflakeIDToken,
			guarded: true, route: from(snowflakeRoute), client: route.SnowflakeTokenFile, identities: snowflakeIdentities(""),
			since: []since{snowflakeJWT, snowflakeWorkload},
		},
		"token_exchange": {
			gives: credential.AccessToken, render: externalOAuth,
			guarded: true, route: from(snowflakeRoute), client: route.SnowflakeTokenFile, identities: snowflakeIdentities("client_id"),
			since: []since{snowflakeJWT},
		},
		"vault": { // Snowflake takes no password of a service user
			asks: credential.Asks{Fields: []credential.Kind{credential.KeyPair}}, render: snowflakeKeyPair,
			guarded: true, route: from(snowflakeRoute), direct: lease,
			client: route.Lease, since: []since{snowflakeProxied}, given: []string{"user"}, identities: snowflakeIdentities("secret"),
		},
	},
}

// snowflakeIdentities are the keys that a key of `exchange` is for.
func snowflakeIdentities(exchange string) map[string]string {
	return map[string]string{"authenticator": exchange, "connection_name": exchange, "oauth_client_id": exchange}
}

func snowflakeIDToken(in Input) Output {
	if in.Route.Host != "" {
		return snowflakeByProxy(in)
	}
	out := workloadIdentity(in, "OIDC")
	out.Keys = append(out.Keys, Key{"token", envVar(tokenVariable)})
	out.Env = []Variable{{tokenVariable, in.Credential.Token, true}}
	return out
}

func snowflakeKeyPair(in Input) Output {
	if in.Route.Host == "" {
		return withTag(in, Output{
			Keys: []Key{{"user", text(in.Credential.User)}, {"private_key", envVar(privateKeyVariable)}},
			Env:  []Variable{{privateKeyVariable, in.Credential.PrivateKey, true}},
		})
	}
	out := snowflakeByProxy(in)
	if value(in.Block, "reuse_connections") == nil {
		// The user of a session is dropped with its lease: each node gets a
		// session of the user that there is.
		out.Keys = append(out.Keys, Key{"reuse_connections", boolean(false)})
	}
	return out
}

// accountText keeps an account from being another host: the connector appends
// .snowflakecomputing.com to it.
var accountText = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// accountDomain is what the connector puts behind an account.
var accountDomain = lazy.MustCompile(`(?i)\.snowflakecomputing\.(?:com|cn)\.?$`)

// accountParts are the words that may follow the first dot of an account
// locator, besides a region, which contains a hyphen. (Snowflake: Account
// identifiers)
var accountParts = []string{"aws", "azure", "gcp", "global", "privatelink", "fhplus", "dod"}

// checkAccount refuses what leads to no account's host.
func checkAccount(account string) error {
	name, _, isURL := strings.Cut(strings.TrimPrefix(account, "https://"), "/")
	switch {
	case accountDomain.MatchString(name):
		return top("account").fault(" is %q, but the connector adds the domain: write %q", account,
			strings.TrimPrefix(accountDomain.ReplaceAllString(name, ""), "https://"))
	case !accountText.MatchString(account), isURL:
		return top("account").fault(" is %q, want an account identifier such as acme-prod", account)
	}
	name, rest, dotted := strings.Cut(account, ".")
	if !dotted {
		return nil
	}
	parts := strings.Split(strings.ToLower(rest), ".")
	for i, part := range parts {
		if !strings.Contains(part, "-") && !slices.Contains(accountParts, part) {
			if i == 0 && len(parts) == 1 {
				return top("account").fault(" is %q, which names a region %q: join an organization and its account with a hyphen, "+
					"write %q", account, rest, name+"-"+rest)
			}
			return top("account").fault(" is %q, and %q is neither a region nor a cloud: write ORGANIZATION-ACCOUNT, "+
				"or LOCATOR.REGION.CLOUD", account, part)
		}
	}
	return nil
}

// stageHost is an interface endpoint for S3. (Snowflake: S3_STAGE_VPCE_DNS_NAME)
var stageHost = lazy.MustCompile(`^(?:\*\.|bucket\.)?vpce-[a-z0-9-]+\.s3\.[a-z0-9-]+\.vpce\.amazonaws\.com(?:\.cn)?$`)

// checkSnowflake holds for all providers: what the connector signs for AWS is a login, too.
func checkSnowflake(block *yaml.Node, _ pair, audience string) error {
	var f faults
	f.literals(block, "the login is sent there", "account", "host", "port", "protocol", "proxy_host", "proxy_port",
		"insecure_mode", "s3_stage_vpce_dns_name")
	account, host, protocol := scalar(block, "account"), scalar(block, "host"), scalar(block, "protocol")
	f.join(checkAccount(account))
	for _, key := range []string{"port", "proxy_port"} {
		if port := scalar(block, key); port != "" && !portText.MatchString(port) {
			f.add(key, " is %q, want a number", port)
		}
	}
	f.join(checkProxy(top("proxy_host"), scalar(block, "proxy_host")))
	if stage := scalar(block, "s3_stage_vpce_dns_name"); stage != "" && !stageHost.MatchString(strings.ToLower(stage)) {
		f.add("s3_stage_vpce_dns_name", ": host %q is not an Amazon S3 endpoint, but the stage's files and session would be "+
			"sent there", stage)
	}
	if audience == "" {
		audience = "snowflakecomputing.com"
	}
	if insteadOf(host) == "" {
		if err := policy.CheckHost(audience, host); err != nil {
			f.add("host", ": %v", err)
		}
	}
	if host != "" && !hostText.MatchString(host) {
		f.add("host", " is %q, want a host name only%s", host, insteadOf(host))
	}
	switch protocol {
	case "", "https":
	case "http":
		peer := scalar(block, "proxy_host") // sees the login in the clear, as the server does
		if peer == "" {
			peer = host
		}
		if !isLoopback(peer) {
			f.add("protocol", " is %q, want https (http is for loopback only)", protocol)
		}
	default:
		f.add("protocol", " is %q, want https", protocol)
	}
	return f.err()
}

func workloadIdentity(in Input, provider string) Output {
	return withTag(in, Output{Keys: []Key{{"authenticator", text("workload_identity")}, {"workload_identity_provider", text(provider)}}})
}

// externalOAuth names the authenticator that both of dbt's engines take for a
// plain access token: `oauth` is a refresh token to the Rust one.
func externalOAuth(in Input) Output {
	if in.Route.Host != "" {
		return snowflakeByProxy(in)
	}
	return withTag(in, Output{
		Keys: []Key{{"authenticator", text("jwt")}, {"token", envVar(tokenVariable)}},
		Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
	})
}

// snowflakeByProxy has dbt log in at the broker, which knows who it is from the
// route's secret: to the connector an access token, which it sends anywhere.
func snowflakeByProxy(in Input) Output {
	out := Output{
		Remove: []string{"proxy_host", "proxy_port"}, // the broker goes by it; it does not lead back to this machine
		Keys: []Key{
			{"host", text(in.Route.Host)}, {"port", integer(in.Route.Port)}, {"protocol", text("http")},
			{"authenticator", text("jwt")}, {"token", envVar(tokenVariable)},
		},
		Env: []Variable{{tokenVariable, in.Route.Secret, true}},
	}
	if proxy := snowflakeProxy(in.Block); proxy != "" {
		// For stages and large results, which dbt gets from cloud storage. The
		// lower case is another variable, and the one that counts.
		out.Env = append(out.Env, Variable{"HTTPS_PROXY", secret.New(proxy), false}, Variable{"https_proxy", secret.New(proxy), false})
	}
	return withTag(in, out)
}

func snowflakeRoute(block *yaml.Node) (route.Route, error) {
	account := strings.ReplaceAll(scalar(block, "account"), "_", "-") // as dbt does
	u := route.Upstream{
		Host: scalar(block, "host"), Port: web.HTTPSPort, Plain: scalar(block, "protocol") == "http",
		Proxy: snowflakeProxy(block), Account: accountName(account),
	}
	if u.Host == "" {
		u.Host = accountHost(account)
	}
	if scalar(block, "port") != "" {
		var err error
		if u.Port, err = portOf(block); err != nil {
			return route.Route{}, err
		}
	}
	return route.Route{Kind: route.Snowflake, Upstream: u}, nil
}

// accountName returns the name in an account identifier, without region and
// cloud, and without the number that a global one has.
// (snowflake-connector-python, util_text.py, parse_account)
func accountName(account string) string {
	name, rest, _ := strings.Cut(account, ".")
	if domain, _, _ := strings.Cut(rest, "."); domain == "global" {
		name = name[:max(0, strings.LastIndex(name, "-"))]
	}
	return name
}

// accountHost returns where an account is: in China under a domain of its own.
// (snowflake-connector-python, util_text.py, construct_hostname)
func accountHost(account string) string {
	_, region, _ := strings.Cut(account, ".")
	if strings.HasPrefix(strings.ToLower(region), "cn-") {
		return account + ".snowflakecomputing.cn"
	}
	return account + ".snowflakecomputing.com"
}

// snowflakeProxy returns the HTTP proxy that a block names, "" for none. A
// scheme before it is one that the connector does not look at.
func snowflakeProxy(block *yaml.Node) string {
	host, port := scalar(block, "proxy_host"), scalar(block, "proxy_port")
	if host == "" || port == "" {
		return ""
	}
	host = strings.TrimPrefix(strings.TrimPrefix(host, "http://"), "https://")
	return "http://" + net.JoinHostPort(host, port)
}

func withTag(in Input, out Output) Output {
	out.Keys = append(out.Keys, tagKey(in)...)
	return out
}
