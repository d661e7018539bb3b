package adapter

import (
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// clickhouse logs in with a user and a password. The broker's proxy puts fresh
// ones into each request, or a bearer, which ClickHouse takes and
// dbt-clickhouse has no key for. (dbt-clickhouse 1.10)
var clickhouse = adapter{
	dialect: statement.ClickHouse,
	spec: policy.Adapter{
		// A certificate for another name would pass for the host's.
		Written:  []string{"client_cert", "client_cert_key", "server_host_name"},
		Nested:   []string{"custom_settings.user"}, // a parameter of the request, as each setting is
		Literal:  []string{"secure", "verify", "driver"},
		NoClaims: []string{"secure", "verify", "driver"},
	},
	mappings: []string{"custom_settings"},
	check:    checkClickHouse,
	pairs: map[string]pair{
		"token_exchange": {gives: credential.AccessToken, render: clickHouseProxy,
			guarded: true, route: from(clickHouseBearer)},
		"vault": {
			asks:   credential.Asks{Fields: []credential.Kind{credential.DatabaseLogin}},
			render: clickHouseLogin, guarded: true, route: from(clickHouseLease), direct: lease, given: []string{"user"},
		},
	},
}

// clickHouseLogin writes user and password, or leads dbt to the broker.
func clickHouseLogin(in Input) Output {
	if in.Route.Port != 0 {
		return clickHouseProxy(in)
	}
	return Output{
		Keys: []Key{{"user", text(in.Credential.User)}, {"password", envVar(passwordVariable)}},
		Env:  []Variable{{passwordVariable, in.Credential.Password, true}},
	}
}

// clickHouseProxy leads dbt to the broker. The user stays what the block says:
// it is a key of the connection, and the broker puts in the real one.
func clickHouseProxy(in Input) Output {
	return Output{
		Keys: []Key{
			{"driver", text("http")}, {"host", text(in.Route.Host)}, {"port", integer(in.Route.Port)}, {"secure", boolean(false)},
			{"password", envVar(passwordVariable)},
		},
		Env: []Variable{{passwordVariable, in.Route.Secret, true}},
	}
}

// clickHouseLease is the proxy; the native protocol is none of its.
func clickHouseLease(block *yaml.Node) (route.Route, error) {
	r, err := clickHouseRoute(block)
	if err != nil || clickHouseDriver(block, r.Upstream.Port) != "http" {
		return route.Route{Kind: route.Lease}, err
	}
	return r, nil
}

// clickHouseBearer is the proxy: dbt-clickhouse has no key for a bearer.
func clickHouseBearer(block *yaml.Node) (route.Route, error) {
	r, err := clickHouseRoute(block)
	if err != nil {
		return r, err
	}
	if driver := clickHouseDriver(block, r.Upstream.Port); driver != "http" {
		return r, top("driver").fault(" is %q, want http: a bearer token works over HTTP only", driver)
	}
	r.Only = true
	return r, nil
}

// clickHousePorts are dbt-clickhouse's own defaults, by the driver and by
// whether the connection has TLS.
var clickHousePorts = map[string]map[bool]int{
	"http":   {false: 8123, true: 8443},
	"native": {false: 9000, true: 9440},
}

// clickHouseRoute is the proxy to where dbt-clickhouse would have connected.
func clickHouseRoute(block *yaml.Node) (route.Route, error) {
	secure := isOn(scalar(block, "secure"))
	port := clickHousePorts[clickHouseDriver(block, 0)][secure]
	if scalar(block, "port") != "" {
		var err error
		if port, err = portOf(block); err != nil {
			return route.Route{}, err
		}
	}
	verify := scalar(block, "verify")
	return route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{
		// on loopback: checkClickHouse
		Host: clickHouseHost(block), Port: port, Plain: !secure, Unverified: secure && verify != "" && !isOn(verify),
	}}, nil
}

// clickHouseHost is the block's host, or dbt-clickhouse's own default.
func clickHouseHost(block *yaml.Node) string {
	if value(block, "host") == nil {
		return "localhost"
	}
	return scalar(block, "host")
}

// clickHouseDriver is the protocol that dbt-clickhouse chooses: by the port,
// where the block does not say it.
func clickHouseDriver(block *yaml.Node, port int) string {
	driver := scalar(block, "driver")
	switch {
	case driver != "":
		return driver
	case port == clickHousePorts["native"][false], port == clickHousePorts["native"][true]:
		return "native"
	}
	return "http"
}

// checkClickHouse keeps the login from being sent unencrypted, or to a server with any certificate.
func checkClickHouse(block *yaml.Node, _ pair, _ string) error {
	var f faults
	f.literals(block, "the login is sent there", "host", "port", "secure", "verify", "driver")
	host, secure, verify := clickHouseHost(block), scalar(block, "secure"), scalar(block, "verify")
	if !serverText.MatchString(host) {
		f.add("host", " is %q, want one host name or address%s", host, insteadOf(host))
	}
	if scalar(block, "port") != "" && !portText.MatchString(scalar(block, "port")) {
		f.add("port", " is %q, want a number", scalar(block, "port"))
	}
	if isLoopback(host) {
		return f.err()
	}
	if !isOn(secure) {
		f.add("secure", " is %q for host %q, want true (plain connections are for loopback only)", secure, host)
	}
	if verify != "" && !isOn(verify) {
		f.add("verify", " is %q for host %q, want certificates verified", verify, host)
	}
	return f.err()
}
