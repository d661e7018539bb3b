package adapter

import (
	"errors"
	"fmt"
	"net"
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

// duckdb reads object stores with secrets of DuckDB's own kinds. Their values
// come from variables that dbt takes for secrets: the SDKs' own names would put
// the session into the manifest, and a full parse into every run.
//
// The user's entries of `secrets:` of the provider's kind say endpoint,
// url_style, use_ssl, region and scope, and are completed with the credential.
// One that has a login of its own and a scope is not touched: it is for another
// bucket. Where none is completed, one is added. (dbt-duckdb 1.11: secrets)
var duckdb = adapter{
	roots: []string{"settings", "ca_cert_file"},
	spec: policy.Adapter{
		Native:  "the bucket's policy or `session_policy` of the exchange",
		Written: []string{"use_credential_provider"},
		Secret:  []string{"key_id"},
		Nested: []string{
			"settings.azure_credential_chain", "config_options.azure_credential_chain",
			"settings.http_proxy_username", "config_options.http_proxy_username", "secrets.http_proxy_username",
			"settings.azure_proxy_user_name", "config_options.azure_proxy_user_name", "secrets.proxy_user_name",
			"settings.user", "config_options.user", "settings.username", "config_options.username",
			"filesystems.key", "filesystems.profile", "filesystems.profile_name", "filesystems.username", "filesystems.user",
			"filesystems.client_id", "filesystems.tenant_id", "filesystems.auth",
		},
		Names: []string{"attach.secret", "plugins.secret"}, // of an entry of `secrets`
	},
	others: []string{
		"motherduck_token", "settings.motherduck_token", "settings.token", "config_options.motherduck_token", "config_options.token",
		"secrets", "attach", "plugins", "path", "remote",
	},
	mappings: []string{"settings", "config_options", "remote", "retries", "attach.options", "plugins.config"},
	lists:    []string{"secrets", "attach", "filesystems", "plugins"},
	pairs: map[string]pair{
		"aws": {
			since: []since{duckdbSecrets},
			gives: credential.AWSSession, render: duckdbS3, route: from(s3Route), check: s3Secrets.checkAll,
			complete: s3Secrets.settled, entries: s3Secrets.ours,
			identities: map[string]string{"profile": "role", "assume_role_arn": "then_assume"},
		},
		"login": {
			since: []since{duckdbSecrets},
			gives: credential.AWSSession, asks: credential.Asks{Login: credential.RoleLogin},
			render: duckdbS3, route: from(s3Route), check: s3Secrets.checkAll, complete: s3Secrets.settled, entries: s3Secrets.ours,
			identities: map[string]string{"profile": "", "assume_role_arn": ""},
		},
		"entra": {
			since: []since{duckdbSecrets},
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://storage.azure.com"}, // in every cloud
			render: duckdbAzure, route: always(route.Route{Kind: route.AzureManagedIdentity}), check: azureSecrets.checkAll,
			complete: azureSecrets.settled, entries: azureSecrets.ours,
			identities: map[string]string{"tenant_id": "tenant", "client_id": "client_id", "object_id": "client_id", "resource_id": "client_id"},
		},
		"gcp": {
			since: []since{duckdbSecrets},
			gives: credential.GoogleAccessToken, asks: credential.Asks{Scope: "https://www.googleapis.com/auth/devstorage.read_write"},
			render: duckdbGCS, route: from(googleStorage), check: gcsSecrets.checkAll, complete: gcsSecrets.settled, entries: gcsSecrets.ours,
		},
	},
}

func duckdbS3(in Input) Output {
	aws, region := in.Credential.AWS, Key{"region", text(in.Credential.AWS.Region)}
	if in.Route.Host != "" {
		return s3Secrets.served(in, region)
	}
	return s3Secrets.output(in, []Key{region}, nil, []login{
		{"key_id", "DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID", aws.AccessKeyID},
		{"secret", "DBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY", aws.SecretAccessKey},
		{"session_token", "DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN", aws.SessionToken},
	})
}

func duckdbGCS(in Input) Output {
	if in.Route.Port == 0 {
		return gcsSecrets.output(in, nil, nil, []login{{"bearer_token", tokenVariable, in.Credential.Token}})
	}
	return gcsSecrets.output(in, nil, []Key{
		{"endpoint", text(net.JoinHostPort(in.Route.Host, strconv.Itoa(in.Route.Port)))},
		{"use_ssl", boolean(false)}, {"url_style", text("path")},
	}, []login{{"bearer_token", tokenVariable, in.Route.Secret}})
}

// duckdbAzure has DuckDB ask for a token in each query where it can: a secret
// with the token would keep that, one of a managed identity asks.
func duckdbAzure(in Input) Output {
	provider, logins := "access_token", []login{{"access_token", tokenVariable, in.Credential.Token}}
	if in.Route != (route.Address{}) {
		provider, logins = "managed_identity", nil
	}
	out := azureSecrets.output(in, []Key{{"provider", text(provider)}}, nil, logins)
	if in.Route != (route.Address{}) {
		out.Env = managedIdentity(in.Route)
	}
	// The extension's own transport looks for certificates where only some
	// systems have them. (DuckDB: Azure extension)
	out.Keys = append(out.Keys, Key{"settings", withSetting(value(in.Block, "settings"), "azure_transport_option_type", "curl")})
	return out
}

// s3Route leads to the one object store that the block's secrets are for.
// There is none where they are for several, or where DuckDB is to use a proxy,
// which could not reach the broker.
func s3Route(block *yaml.Node) (route.Route, error) {
	ca, proxy := setting(block, "ca_cert_file"), setting(block, "http_proxy")
	stored := map[route.Upstream]bool{}
	served := proxy == "" && !policy.IsJinja(ca)
	for _, s := range elements(value(block, "secrets")) {
		if s3Secrets.isOurs(s) {
			stored[s3Upstream(s, ca)] = true
			served = served && !policy.IsJinja(optionText(s, "url_style"))
		}
	}
	if len(stored) == 0 {
		stored[route.Upstream{CAFile: ca}] = true // Amazon S3
	}
	if !served || len(stored) > 1 {
		return route.Route{}, nil
	}
	r := route.Route{Kind: route.S3}
	for r.Upstream = range stored {
	}
	return r, nil
}

// s3Upstream returns the store that an entry of `secrets:` is for, as DuckDB
// finds it.
func s3Upstream(s *yaml.Node, ca string) route.Upstream {
	u := route.Upstream{CAFile: ca}
	parts := hostPort.FindStringSubmatch(optionText(s, "endpoint"))
	if parts == nil || parts[0] == "s3.amazonaws.com" { // its hosts go by region
		return u
	}
	u.Host = strings.Trim(parts[1], "[]")
	u.Unverified = !isTrue(optionText(s, "verify_ssl"))
	u.Buckets = !strings.EqualFold(optionText(s, "url_style"), "path")
	u.Plain = !isTrue(optionText(s, "use_ssl"))
	u.Port = storePort(parts[2], u.Plain)
	return u
}

// storePort is the port of an endpoint, where that names one, or of HTTP.
func storePort(named string, plain bool) int {
	if port, err := strconv.Atoi(named); err == nil {
		return port
	}
	if plain {
		return web.HTTPPort
	}
	return web.HTTPSPort
}

// served has DuckDB ask the broker for objects. The endpoint that an entry has
// is where the broker goes. (DuckDB 1.5: secrets of type s3)
func (st store) served(in Input, region Key) Output {
	st.drop = slices.Concat(st.drop, []string{"verify_ssl", "http_proxy", "http_proxy_username", "http_proxy_password"})
	return st.output(in, []Key{region}, []Key{
		{"endpoint", text(net.JoinHostPort(in.Route.Host, strconv.Itoa(in.Route.Port)))}, {"use_ssl", boolean(false)},
		{"url_style", text("path")},
		{"key_id", text("oidc-dbt")}, {"secret", text("unused")}, // what they sign is signed anew
	}, []login{{"session_token", tokenVariable, in.Route.Secret}})
}

// googleStorage leads to the one place that the block's secrets are for. As
// with s3Route there is none for several, or where DuckDB is to use a proxy.
func googleStorage(block *yaml.Node) (route.Route, error) {
	places := map[route.Upstream]bool{}
	served := setting(block, "http_proxy") == ""
	for _, s := range elements(value(block, "secrets")) {
		if gcsSecrets.isOurs(s) {
			places[storageUpstream(s)] = true
			served = served && optionText(s, "http_proxy") == ""
		}
	}
	if len(places) == 0 {
		places[route.Upstream{Host: googleStorageHost, Port: web.HTTPSPort}] = true
	}
	if !served || len(places) > 1 {
		return route.Route{}, nil
	}
	r := route.Route{Kind: route.GoogleStorage}
	for r.Upstream = range places {
	}
	return r, nil
}

const googleStorageHost = "storage.googleapis.com"

// storageUpstream is the place that an entry of type gcs names.
func storageUpstream(s *yaml.Node) route.Upstream {
	u := route.Upstream{Host: googleStorageHost, Plain: !isTrue(optionText(s, "use_ssl")),
		Unverified: !isTrue(optionText(s, "verify_ssl"))}
	u.Port = storePort("", u.Plain)
	if parts := hostPort.FindStringSubmatch(optionText(s, "endpoint")); parts != nil {
		u.Host = strings.Trim(parts[1], "[]")
		u.Port = storePort(parts[2], u.Plain)
	}
	return u
}

// A store is one kind of DuckDB's secrets.
type store struct {
	kind      string
	also      string // another type whose entries DuckDB takes for the same paths; "" for none
	extension string
	keys      []string // what an entry has that is a login of its own
	// drop are the options that choose an identity, or would have DuckDB write
	// the secret to disk.
	drop []string
	// check returns what keeps an entry from being given the credential.
	check    func(s *yaml.Node) error
	required string // the option without which DuckDB does not find the store; "" for none
	// settings are DuckDB's own, by the option that they set if an entry lacks
	// it. They are copied even where they are harmless, so that a step and a
	// run with a broker use one store.
	settings map[string]string
	// explicit are the options that are written even as they are by default:
	// no setting outranks them then.
	explicit []Key
}

// The stores. (DuckDB 1.5: extensions httpfs and azure)
var (
	s3Secrets = store{
		kind: "s3", also: "aws", extension: "httpfs",
		keys: []string{"key_id", "secret"},
		settings: map[string]string{
			"endpoint": "s3_endpoint", "region": "s3_region", "url_style": "s3_url_style", "use_ssl": "s3_use_ssl",
			"url_compatibility_mode": "s3_url_compatibility_mode", "requester_pays": "s3_requester_pays", "kms_key_id": "s3_kms_key_id",
		},
		explicit: []Key{{"endpoint", text("s3.amazonaws.com")}, {"use_ssl", boolean(true)}, {"verify_ssl", boolean(true)}},
		drop: []string{
			"persistent", "storage",
			"key_id", "secret", "session_token", "provider", "chain", "profile", "refresh", "refresh_info", "validation",
			"assume_role_arn", "external_id", "web_identity_token_file",
		},
		check: func(s *yaml.Node) error {
			_, err := checkEndpointOption(s)
			return err
		},
	}
	gcsSecrets = store{
		kind: "gcs", extension: "httpfs",
		keys: []string{"key_id", "secret", "bearer_token"},
		// The endpoint of S3 is none of this type's.
		settings: map[string]string{"url_style": "s3_url_style", "use_ssl": "s3_use_ssl", "requester_pays": "s3_requester_pays"},
		explicit: []Key{{"endpoint", text(googleStorageHost)}, {"use_ssl", boolean(true)}, {"verify_ssl", boolean(true)}},
		drop:     []string{"persistent", "storage", "key_id", "secret", "session_token", "bearer_token", "provider", "refresh", "refresh_info"},
		check: func(s *yaml.Node) error {
			host, err := checkEndpointOption(s)
			if err == nil && policy.CheckHost(googleAudience, host) != nil {
				err = fmt.Errorf("endpoint: host %q does not belong to Google Cloud, but the access token would be sent there", host)
			}
			return err
		},
	}
	azureSecrets = store{
		kind: "azure", extension: "azure",
		keys: []string{"connection_string", "access_token", "client_secret", "client_certificate_path"},
		drop: []string{
			"persistent", "storage", "provider", "connection_string", "access_token", "chain", "tenant_id", "client_id", "client_secret",
			"client_certificate_path", "object_id", "resource_id", "token_scope", "refresh", "refresh_info", "validation",
		},
		check:    checkAzure,
		required: "account_name",
		settings: map[string]string{"account_name": "azure_account_name", "endpoint": "azure_endpoint"},
	}
)

var (
	storageAccount = lazy.MustCompile(`^[a-z0-9]{3,24}$`)
	// blobHosts are Azure Storage's, national clouds included; the account is
	// in front. On loopback only the name can have that.
	blobHosts = lazy.MustCompile(`^(?:(?:[a-z0-9-]+\.)*(?:blob|dfs)\.(?:core\.(?:windows\.net|usgovcloudapi\.net|` +
		`chinacloudapi\.cn)|storage\.azure\.net)|localhost(?::[0-9]{1,5})?)$`)
)

// checkAzure holds for DuckDB's form of a place in Azure Storage: always TLS,
// at the account's name in front of the endpoint.
func checkAzure(s *yaml.Node) error {
	account, endpoint := optionText(s, "account_name"), optionText(s, "endpoint")
	switch {
	case policy.IsJinja(account) || policy.IsJinja(endpoint):
		return errors.New("account_name and endpoint must be literals: the credential is sent there")
	case !storageAccount.MatchString(account):
		return fmt.Errorf("account_name is %q, want a storage account's name", account)
	case endpoint != "" && !blobHosts.MatchString(endpoint):
		return fmt.Errorf("endpoint %q is not an Azure Storage endpoint such as blob.core.windows.net, but the access "+
			"token would be sent there", endpoint)
	}
	return nil
}

// A login is one option of a secret, and the variable that holds its value.
type login struct {
	option, variable string
	value            secret.Value
}

// output completes the user's secrets with the logins, with defaults where an
// entry has none, and with fixed in place of what it has.
func (st store) output(in Input, defaults, fixed []Key, logins []login) Output {
	out := Output{Keys: []Key{
		{"extensions", withExtension(value(in.Block, "extensions"), st.extension)},
		{"secrets", st.completed(value(in.Block, "secrets"), defaults, fixed, logins)},
	}}
	for _, l := range logins {
		out.Env = append(out.Env, Variable{l.variable, l.value, true})
	}
	return out
}

// elements returns the elements of a list, none of anything else.
func elements(list *yaml.Node) []*yaml.Node {
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	return list.Content
}

// withExtension adds an extension to the user's list.
func withExtension(list *yaml.Node, name string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: slices.Clone(elements(list))}
	for _, e := range out.Content {
		if e.Value == name || scalar(e, "name") == name {
			return out
		}
	}
	out.Content = append(out.Content, text(name))
	return out
}

// withSetting adds a setting to the user's, unless it is there.
func withSetting(settings *yaml.Node, name, v string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if settings != nil && settings.Kind == yaml.MappingNode {
		out.Content = slices.Clone(settings.Content)
	}
	if option(out, name) == nil {
		out.Content = append(out.Content, text(name), text(v))
	}
	return out
}

// option returns an option of an entry of `secrets:`; DuckDB does not care how
// its name is spelt, USE_SSL say.
func option(s *yaml.Node, name string) *yaml.Node {
	for i := 0; s != nil && s.Kind == yaml.MappingNode && i+1 < len(s.Content); i += 2 {
		if strings.EqualFold(s.Content[i].Value, name) {
			return s.Content[i+1]
		}
	}
	return nil
}

func optionText(s *yaml.Node, name string) string { return textOf(option(s, name)) }

// isOurs reports whether an entry of `secrets:` gets the credential. Without a
// scope an entry with another login would compete with ours for every bucket.
func (st store) isOurs(s *yaml.Node) bool {
	if kind := scalar(s, "type"); !strings.EqualFold(kind, st.kind) && (st.also == "" || !strings.EqualFold(kind, st.also)) {
		return false
	}
	own := slices.ContainsFunc(st.keys, func(key string) bool { return optionText(s, key) != "" })
	return !own || !hasScope(s)
}

// ours returns the entries of `secrets:` that get the credential.
func (st store) ours(block *yaml.Node) []*yaml.Node {
	return slices.DeleteFunc(slices.Clone(elements(value(block, "secrets"))), func(s *yaml.Node) bool { return !st.isOurs(s) })
}

// hasScope reports whether an entry is for certain buckets or paths only.
func hasScope(s *yaml.Node) bool {
	scope := option(s, "scope")
	all := elements(scope)
	if all == nil {
		all = []*yaml.Node{scope}
	}
	for _, e := range all {
		if _, path, _ := strings.Cut(textOf(e), "://"); path == "" && !policy.IsJinja(textOf(e)) {
			return false // `s3://` is every bucket
		}
	}
	return true
}

var hostPort = lazy.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?$`)

// checkEndpointOption is checkEndpoint for the form that DuckDB has: host and
// port, and whether to use TLS.
func checkEndpointOption(s *yaml.Node) (host string, err error) {
	endpoint, ssl, verify := optionText(s, "endpoint"), optionText(s, "use_ssl"), optionText(s, "verify_ssl")
	if policy.IsJinja(endpoint) || policy.IsJinja(ssl) || policy.IsJinja(verify) {
		return "", errors.New("endpoint, use_ssl and verify_ssl must be literals: the credential is sent there")
	}
	// The whole of it is held to a pattern: in 127.0.0.1:1@evil.example, what
	// is before the colon is not the host.
	parts := hostPort.FindStringSubmatch(endpoint)
	if parts != nil {
		host = strings.Trim(parts[1], "[]")
	}
	switch {
	case strings.Contains(endpoint, "@"): // what is before it may be a password
		return "", errors.New("endpoint contains a login, want host or host:port")
	case endpoint != "" && parts == nil:
		return "", fmt.Errorf("endpoint is %q, want host or host:port", endpoint)
	case policy.IsLoopback(host):
	case !isTrue(ssl):
		return "", fmt.Errorf("use_ssl is %q for endpoint %q, want TLS (plain http is for loopback only)", ssl, endpoint)
	case !isTrue(verify):
		return "", fmt.Errorf("verify_ssl is %q for endpoint %q, want TLS verified", verify, endpoint)
	}
	return host, nil
}

// isTrue reports whether DuckDB takes a switch that is on by default for on,
// as dbt's YAML or DuckDB itself reads it; in doubt it does not.
func isTrue(s string) bool {
	return slices.Contains([]string{"", "true", "yes", "on", "1", "t", "y"}, strings.ToLower(s))
}

// completed returns the user's secrets with the logins in those of the kind.
func (st store) completed(list *yaml.Node, defaults, fixed []Key, logins []login) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	found := false
	for _, s := range elements(list) {
		if st.isOurs(s) {
			s, found = st.complete(s, defaults, fixed, logins), true
		}
		out.Content = append(out.Content, s)
	}
	if !found {
		entry := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{text("type"), text(st.kind)}}
		out.Content = append(out.Content, st.complete(entry, defaults, fixed, logins))
	}
	return out
}

func (st store) complete(entry *yaml.Node, defaults, fixed []Key, logins []login) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	drop := slices.Clone(st.drop)
	for _, k := range fixed {
		drop = append(drop, k.Name)
	}
	for i := 0; i+1 < len(entry.Content); i += 2 {
		if !slices.Contains(drop, strings.ToLower(entry.Content[i].Value)) {
			out.Content = append(out.Content, entry.Content[i], entry.Content[i+1])
		}
	}
	for _, k := range fixed {
		out.Content = append(out.Content, text(k.Name), k.Value)
	}
	for _, k := range slices.Concat(defaults, st.explicit) {
		plain := !isTrue(optionText(out, "use_ssl")) && k.Name == "verify_ssl" // nothing to verify
		if optionText(out, k.Name) == "" && !plain {
			out.Content = append(out.Content, text(k.Name), k.Value)
		}
	}
	for _, l := range logins {
		out.Content = append(out.Content, text(l.option), envVar(l.variable))
	}
	return out
}
