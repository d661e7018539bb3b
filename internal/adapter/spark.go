package adapter

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// spark logs in with a token over HTTP or ODBC, or with a user and a password
// over Thrift. (dbt-spark 1.10)
var spark = adapter{
	spec: policy.Adapter{
		Required: []string{"host", "schema", "method"},
		Written:  []string{"auth", "kerberos_service_name"},
		Literal:  []string{"method", "use_ssl", "connection_string_suffix", "endpoint", "cluster", "organization"},
		NoClaims: []string{"method", "use_ssl", "connection_string_suffix"},
		Given:    map[string][]string{"vault": {"user"}},
	},
	check: checkSpark,
	warehouse: func(block *yaml.Node) (credential.Warehouse, error) {
		return credential.Warehouse{Bearer: scalar(block, "method") != "thrift"}, nil
	},
	render: map[string]func(Input) Output{
		"vault": func(in Input) Output {
			if in.Credential.Kind == "access_token" {
				return Output{
					Keys: []Key{{"token", envVar(tokenVariable)}},
					Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
				}
			}
			return Output{
				Keys: []Key{{"auth", text("LDAP")}, {"user", text(in.Credential.User)}, {"password", envVar(passwordVariable)}},
				Env:  []Variable{{passwordVariable, in.Credential.Password, true}},
			}
		},
	},
}

// elsewhere matches what a connection string's end would change about where
// and how the login goes.
var elsewhere = lazy.MustCompile(`(?i)(?:^|;)\s*(?:host|server|port|ssl|use_?proxy|proxy\w*|uid|pwd|authmech|allow\w+|trustedcerts|cadir\w*)\s*=`)

// checkODBC keeps values from adding keywords to the connection string that
// dbt-spark puts together: it escapes none.
func checkODBC(block *yaml.Node) error {
	for _, key := range []string{"driver", "endpoint", "cluster", "organization"} {
		v := scalar(block, key)
		if key == "driver" && strings.HasPrefix(v, "{") && strings.HasSuffix(v, "}") {
			v = v[1 : len(v)-1]
		}
		if jinja(scalar(block, key)) || strings.ContainsAny(v, ";{}=") {
			return fmt.Errorf("%s is %q, want a literal that can stand in a connection string", key, scalar(block, key))
		}
	}
	for _, e := range entries(block) {
		name := e.keys[len(e.keys)-1]
		if e.keys[0] == "server_side_parameters" && (strings.ContainsAny(name, ";{}= ") || strings.ContainsAny(textOf(e.value), ";{}")) {
			return fmt.Errorf("%s cannot stand in a connection string", e.shown)
		}
	}
	return nil
}

func checkSpark(block *yaml.Node, _, _ string) error {
	for _, key := range []string{"host", "method", "use_ssl", "connection_string_suffix"} {
		if jinja(scalar(block, key)) {
			return fmt.Errorf("%s must be a literal: the login goes there", key)
		}
	}
	host, method, port := scalar(block, "host"), scalar(block, "method"), scalar(block, "port")
	switch {
	case jinja(port):
		return errors.New("port must be a literal: the login goes there")
	case port != "" && !portText.MatchString(port):
		return fmt.Errorf("port is %q, want a number", port)
	}
	if !serverText.MatchString(strings.TrimPrefix(host, "https://")) {
		return fmt.Errorf("host is %q, want one host name or address", host)
	}
	switch method {
	case "http", "odbc": // TLS always
		if method == "odbc" {
			if err := checkODBC(block); err != nil {
				return err
			}
		}
		if elsewhere.MatchString(scalar(block, "connection_string_suffix")) {
			return errors.New("connection_string_suffix: it must not change server, login or TLS")
		}
		return nil
	case "thrift":
		if !policy.IsLoopback(host) && !isOn(scalar(block, "use_ssl")) {
			return fmt.Errorf("use_ssl is %q for host %q, want true (plain connections are for loopback only)", scalar(block, "use_ssl"), host)
		}
		return nil
	}
	return fmt.Errorf("method is %q, valid methods are %q", method, []string{"http", "odbc", "thrift"})
}
