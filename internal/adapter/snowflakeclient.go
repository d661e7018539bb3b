package adapter

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// snowflakeVariables are what snow, schemachange and Terraform's provider read
// for a connection that is not described elsewhere. All of them take a plain
// access token, which is what they show to the broker's proxy. (snowflake-cli,
// snow_connector.py, SUPPORTED_ENV_OVERRIDES; schemachange, config/utils.py;
// terraform-provider-snowflake, snowflakeenvs)
func snowflakeVariables(in Input) []Variable {
	vars := snowflakePlace(in)
	public := func(name, value string) {
		if value != "" {
			vars = append(vars, Variable{name, secret.New(value), false})
		}
	}
	byProxy := in.Route.Host != "" && in.Credential.AWS == nil
	for _, key := range []string{"user", "role", "warehouse", "database", "schema"} {
		public("SNOWFLAKE_"+strings.ToUpper(key), scalar(in.Block, key))
	}
	login := func(authenticator string) { public("SNOWFLAKE_AUTHENTICATOR", authenticator) }
	federated := func(provider string) {
		login("WORKLOAD_IDENTITY")
		public("SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER", provider)
	}
	switch c := in.Credential; {
	case byProxy:
		login("OAUTH")
		return append(vars, Variable{"SNOWFLAKE_TOKEN", in.Route.Secret, true})
	case c.AWS != nil:
		federated("AWS")
		return append(vars, awsEnvironment(*c.AWS, in.Route)...)
	case c.Kind == credential.KeyPair:
		login("SNOWFLAKE_JWT")
		public("SNOWFLAKE_USER", c.User)
		// snow reads the one, Terraform's provider the other.
		return append(vars, Variable{"SNOWFLAKE_PRIVATE_KEY_RAW", c.PrivateKey, true}, Variable{"SNOWFLAKE_PRIVATE_KEY", c.PrivateKey, true})
	case c.Kind == credential.IDToken:
		federated("OIDC")
	default:
		login("OAUTH")
	}
	if in.Route.File != "" {
		public("SNOWFLAKE_TOKEN_FILE_PATH", in.Route.File)
		return vars // a token next to it would become stale
	}
	return append(vars, Variable{"SNOWFLAKE_TOKEN", in.Credential.Token, true})
}

// snowflakePlace is where the clients go, in full: no variable of the job adds
// to it. Without an account it is theirs to know.
func snowflakePlace(in Input) (vars []Variable) {
	account := strings.ReplaceAll(scalar(in.Block, "account"), "_", "-") // as in its host
	if account == "" {
		return nil
	}
	add := func(name, value string) { vars = append(vars, Variable{name, secret.New(value), false}) }
	add("SNOWFLAKE_ACCOUNT", account)
	if organization, name, ok := strings.Cut(account, "-"); ok && !strings.Contains(account, ".") {
		add("SNOWFLAKE_ORGANIZATION_NAME", organization) // Terraform's
		add("SNOWFLAKE_ACCOUNT_NAME", name)
	}
	host, port, protocol := scalar(in.Block, "host"), scalar(in.Block, "port"), scalar(in.Block, "protocol")
	if in.Route.Host != "" && in.Credential.AWS == nil {
		host, port, protocol = in.Route.Host, strconv.Itoa(in.Route.Port), "http"
	}
	add("SNOWFLAKE_HOST", cmp.Or(host, accountHost(account)))
	add("SNOWFLAKE_PORT", cmp.Or(port, strconv.Itoa(web.HTTPSPort)))
	add("SNOWFLAKE_PROTOCOL", cmp.Or(protocol, "https"))
	return vars
}
