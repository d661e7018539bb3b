package adapter

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// trino sends a bearer with each request: the ID token itself, which Trino
// verifies, or an access token. With method `jwt` dbt speaks only https.
// (dbt-trino 1.11; Trino: JWT authentication)
var trino = adapter{
	roots:   []string{"cert"},
	dialect: statement.Trino,
	spec: policy.Adapter{
		Required: []string{"host", "port", "schema"},
		Aliases:  map[string]string{"catalog": "database"},
		Written: []string{
			"method", "impersonation_user", "client_certificate", "client_private_key", "keytab", "principal", "krb5_config",
			"service_name", "hostname_override", "mutual_authentication", "force_preemptive", "sanitize_mutual_error_response", "delegate",
		},
		Literal:  []string{"host", "port", "cert", "http_scheme", "roles"},
		NoClaims: []string{"host", "port", "cert", "http_scheme"},
	},
	mappings: []string{"http_headers", "session_properties", "roles"},
	check:    checkTrino,
	pairs: map[string]pair{
		"entra": {
			since: []since{trinoCert},
			gives: credential.AccessToken, asks: credential.Asks{Elsewhere: true},
			render:  trinoToken,
			guarded: true, route: from(trinoRoute), identities: map[string]string{"impersonation_user": "", "principal": "client_id"},
		},
		"oidc": {
			since: []since{trinoCert},
			gives: credential.IDToken, exposed: true,
			render:  trinoToken,
			guarded: true, route: from(trinoRoute), identities: map[string]string{"impersonation_user": "", "principal": ""},
		},
		"token_exchange": {
			since:   []since{trinoCert},
			gives:   credential.AccessToken,
			render:  trinoToken,
			guarded: true, route: from(trinoRoute), identities: map[string]string{"impersonation_user": "", "principal": "client_id"},
		},
	},
}

// hostText is one host name or IPv4 address. Client libraries take a host
// with a colon or a slash for a URL, which may name another scheme and port.
var hostText = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

var portText = lazy.MustCompile(`^[0-9]{1,5}$`)

func checkTrino(block *yaml.Node, _ pair, audience string) error {
	var f faults
	f.literals(block, "the token is sent there", "host", "port", "cert", "http_scheme")
	host, port, scheme := scalar(block, "host"), scalar(block, "port"), scalar(block, "http_scheme")
	if !hostText.MatchString(host) {
		f.add("host", " is %q, want a host name only%s", host, insteadOf(host))
	} else if err := policy.CheckHost(audience, host); err != nil {
		f.add("host", ": %v", err)
	}
	if !portText.MatchString(port) {
		f.add("port", " is %q, want a number", port)
	}
	if scheme != "" && scheme != "https" {
		f.add("http_scheme", " is %q, want https: Trino accepts tokens over https only", scheme)
	}
	if scalar(block, "database") == "" && scalar(block, "catalog") == "" {
		f.missing("database", ", which is Trino's catalog")
	}
	cert := value(block, "cert")
	switch {
	case cert == nil, cert.Tag == "!!null", isLoopback(host):
	case cert.Tag == "!!bool" && isOn(cert.Value):
	case cert.Tag == "!!str" && strings.ContainsAny(cert.Value, `./\`): // a path, and no false in disguise
	default:
		f.add("cert", " is %q, want true or the path of a CA's certificate (turning verification off is for loopback only)", cert.Value)
	}
	return f.err()
}

// trinoRoute is the proxy, which verifies Trino's certificate in dbt's place.
func trinoRoute(block *yaml.Node) (route.Route, error) {
	port, err := portOf(block)
	r := route.Route{Kind: route.Trino, Upstream: route.Upstream{Host: scalar(block, "host"), Port: port}}
	if cert := value(block, "cert"); cert == nil || cert.Tag == "!!null" || cert.Tag == "!!bool" && isOn(cert.Value) {
		return r, err
	} else if cert.Tag == "!!str" && cert.Value != "" {
		r.Upstream.CAFile = cert.Value
	} else {
		r.Upstream.Unverified = true // on loopback: checkTrino
	}
	return r, err
}

func trinoToken(in Input) Output {
	out := Output{
		Keys: []Key{{"method", text("jwt")}, {"jwt_token", envVar(tokenVariable)}},
		Env:  []Variable{{tokenVariable, in.Credential.Token, true}},
	}
	cert := value(in.Block, "cert")
	switch {
	case in.Route.Port != 0:
		// The client sends a token over https only.
		out.Keys = append(out.Keys, Key{"host", text(in.Route.Host)}, Key{"port", integer(in.Route.Port)}, Key{"cert", text(in.Route.CAFile)})
		out.Env[0].Value = in.Route.Secret
	case cert == nil, cert.Tag == "!!null":
		out.Keys = append(out.Keys, Key{"cert", boolean(true)}) // dbt-trino's own default verifies nothing
	}
	if value(in.Block, "client_tags") == nil {
		tags := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{text("oidc-dbt"), text("target=" + in.Facts.Target())}}
		if run := runID(in); run != "" {
			tags.Content = append(tags.Content, text("run="+run))
		}
		out.Keys = append(out.Keys, Key{"client_tags", tags})
	}
	return out
}
