package adapter

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// clickhouse logs in with a user and a password. A bearer, which ClickHouse
// takes and dbt-clickhouse has no key for, is put into each request by the
// broker's proxy. (dbt-clickhouse 1.10)
var clickhouse = adapter{
	spec: policy.Adapter{
		Required: []string{"host", "schema"},
		// A certificate for another name would pass for the host's.
		Written:  []string{"client_cert", "client_cert_key", "server_host_name"},
		Literal:  []string{"secure", "verify", "driver"},
		NoClaims: []string{"secure", "verify", "driver"},
	},
	check: checkClickHouse,
	render: map[string]func(Input) Output{
		"vault": func(in Input) Output {
			return Output{
				Keys: []Key{{"user", text(in.Credential.User)}, {"password", envVar(passwordVariable)}},
				Env:  []Variable{{passwordVariable, in.Credential.Password, true}},
			}
		},
		"token_exchange": func(in Input) Output {
			return Output{
				Keys: []Key{
					{"driver", text("http")}, {"host", text(in.Route.Host)}, {"port", integer(in.Route.Port)}, {"secure", boolean(false)},
					{"password", envVar(passwordVariable)},
				},
				Env: []Variable{{passwordVariable, in.Route.Secret, true}},
			}
		},
	},
	routes: map[string]func(*yaml.Node) (route.Route, error){
		"token_exchange": func(block *yaml.Node) (route.Route, error) {
			secure := isOn(scalar(block, "secure"))
			port := 8123
			if secure {
				port = 8443
			}
			if scalar(block, "port") != "" {
				var err error
				if port, err = portOf(block); err != nil {
					return route.Route{}, err
				}
			}
			if driver := scalar(block, "driver"); driver != "" && driver != "http" {
				return route.Route{}, fmt.Errorf("driver is %q, want http: a bearer is for HTTP alone", driver)
			}
			return route.Route{Kind: route.ClickHouse, Only: true, Upstream: route.Upstream{Host: scalar(block, "host"), Port: port, Plain: !secure}}, nil
		},
	},
}

// checkClickHouse keeps the login from going out in the clear, or to whoever
// has any certificate.
func checkClickHouse(block *yaml.Node, _, _ string) error {
	for _, key := range []string{"host", "port", "secure", "verify", "driver"} {
		if jinja(scalar(block, key)) {
			return fmt.Errorf("%s must be a literal: the login goes there", key)
		}
	}
	host, secure, verify := scalar(block, "host"), scalar(block, "secure"), scalar(block, "verify")
	switch {
	case !serverText.MatchString(host):
		return fmt.Errorf("host is %q, want one host name or address", host)
	case policy.IsLoopback(host):
	case !isOn(secure):
		return fmt.Errorf("secure is %q for host %q, want true (plain connections are for loopback only)", secure, host)
	case verify != "" && !isOn(verify):
		return fmt.Errorf("verify is %q for host %q, want certificates verified", verify, host)
	}
	return nil
}
