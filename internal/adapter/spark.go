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

func checkSpark(block *yaml.Node, _, _ string) error {
	for _, key := range []string{"host", "method", "use_ssl", "connection_string_suffix"} {
		if jinja(scalar(block, key)) {
			return fmt.Errorf("%s must be a literal: the login goes there", key)
		}
	}
	host, method := scalar(block, "host"), scalar(block, "method")
	if !serverText.MatchString(strings.TrimPrefix(host, "https://")) {
		return fmt.Errorf("host is %q, want one host name or address", host)
	}
	switch method {
	case "http", "odbc": // TLS always
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
