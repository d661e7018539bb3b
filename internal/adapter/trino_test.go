package adapter_test

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestTrino(t *testing.T) {
	t.Parallel()
	const (
		login = "method: \"jwt\"\njwt_token: \"{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}\"\n"
		tags  = "client_tags: [\"oidc-dbt\", \"target=prod\", \"run=16055869479\"]\n"
		token = "DBT_ENV_SECRET_OIDC_TOKEN (secret)\n"
	)
	testRender(t, []renderCase{
		{name: "the ID token", provider: "oidc", block: standin.Block("trino"), want: login + "cert: true\n" + tags + token},
		{name: "a token of Entra ID", provider: "entra", block: standin.Block("trino"), want: login + "cert: true\n" + tags + token},
		{name: "a token of the company's identity provider", provider: "token_exchange", block: standin.Block("trino"), want: login + "cert: true\n" + tags + token},
		{name: "a CA and tags of one's own", provider: "oidc", block: `{type: trino, host: trino.acme.example, port: 443, catalog: lake, cert: ca.pem, client_tags: [mine]}`, want: login + token},
		{name: "a cert of nothing", provider: "oidc", block: `{type: trino, host: trino.acme.example, port: 443, catalog: lake, cert: , client_tags: [mine]}`, want: login + "cert: true\n" + token},
		{name: "by the broker", provider: "token_exchange", served: true, block: `{type: trino, host: trino.acme.example, port: 443, catalog: lake, cert: ca.pem, client_tags: [mine]}`,
			want: login + "host: \"127.0.0.1\"\nport: 20001\ncert: \"/step/ca.pem\"\n" + token},
	})
}

// TestTrinoRoute: the broker verifies Trino's certificate as dbt would have.
func TestTrinoRoute(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, block string
		want        route.Upstream
		err         string
	}{
		{name: "the system's authorities", block: `{host: trino.acme.example, port: 443}`, want: route.Upstream{Host: "trino.acme.example", Port: 443}},
		{name: "said so", block: `{host: trino.acme.example, port: 443, cert: true}`, want: route.Upstream{Host: "trino.acme.example", Port: 443}},
		{name: "an authority", block: `{host: trino.acme.example, port: 8443, cert: certs/ca.pem}`, want: route.Upstream{Host: "trino.acme.example", Port: 8443, CAFile: "certs/ca.pem"}},
		{name: "none, on loopback", block: `{host: localhost, port: 8443, cert: false}`, want: route.Upstream{Host: "localhost", Port: 8443, Unverified: true}},
		{name: "a port that is none", block: `{host: trino.acme.example, port: high}`, err: `dbt output of type "trino": port is "high", want a number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, provider := range adapter.Specs()["trino"].Providers {
				got, err := adapter.Route("trino", provider, policy.Values{}, node(t, tt.block))
				checkUsage(t, err, tt.err)
				if want := (route.Route{Kind: route.Trino, Upstream: tt.want}); err == nil && got != want {
					t.Errorf("%s: route is %+v, want %+v", provider, got, want)
				}
			}
		})
	}
}

// TestTrinoPlaces has each way to lead a token astray, by its name.
func TestTrinoPlaces(t *testing.T) {
	t.Parallel()
	const audience = "trino.acme.example"
	block := func(keys string) string { return "{type: trino, database: lake, " + keys + "}" }
	testPlaces(t, []placeCase{
		{name: "good", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, http_scheme: https, cert: /etc/ssl/acme.pem`)},
		{name: "verified by the system's roots", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, cert: true`)},
		{name: "not verified on loopback", provider: "oidc", audience: audience, block: block(`host: 127.0.0.1, port: 8443, cert: false`)},
		{name: "not verified", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, cert: false`),
			err: `cert is "false", want true or the path of a CA's certificate (turning verification off is for loopback only)`},
		{name: "not verified, in words of YAML 1.1", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, cert: no`),
			err: `cert is "no", want true or the path of a CA's certificate (turning verification off is for loopback only)`},
		{name: "not verified, as a number", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, cert: 0`),
			err: `cert is "0", want true or the path of a CA's certificate (turning verification off is for loopback only)`},
		{name: "not verified, as nothing", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, cert: ""`),
			err: `cert is "", want true or the path of a CA's certificate (turning verification off is for loopback only)`},
		{name: "verification in Jinja", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, cert: "{{ env_var('C') }}"`), err: "cert must be a literal: the token is sent there"},
		{name: "by http", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: 443, http_scheme: http`),
			err: `http_scheme is "http", want https: Trino accepts tokens over https only`},
		{name: "a host in Jinja", provider: "oidc", audience: audience, block: block(`host: "{{ env_var('H') }}", port: 443`), err: "host must be a literal: the token is sent there"},
		{name: "a host that is a URL", provider: "oidc", audience: audience, block: block(`host: "https://evil.example:1/", port: 443`), err: `host is "https://evil.example:1/", want a host name only: write "evil.example", without https://`},
		{name: "a host with a port", provider: "oidc", audience: audience, block: block(`host: "trino.acme.example:8443", port: 443`), err: `host is "trino.acme.example:8443", want a host name only`},
		{name: "a host behind a login", provider: "oidc", audience: audience, block: block(`host: "trino.acme.example@evil.example", port: 443`), err: `host is "trino.acme.example@evil.example", want a host name only`},
		{name: "a host behind a line's end", provider: "oidc", audience: audience, block: block(`host: "localhost\nevil.example", port: 443`), err: `host is "localhost\nevil.example", want a host name only`},
		{name: "a port that is a host", provider: "oidc", audience: audience, block: block(`host: trino.acme.example, port: "443@evil.example"`), err: `port is "443@evil.example", want a number`},
		{name: "no catalog", provider: "oidc", audience: audience, block: `{type: trino, host: trino.acme.example, port: 443}`, err: "requires database, which is Trino's catalog"},
		{name: "a vendor's audience", provider: "oidc", audience: "snowflakecomputing.com", block: block(`host: trino.acme.example, port: 443`),
			err: `host: host "trino.acme.example" is not one of Snowflake, whose audience "snowflakecomputing.com" the token has: give an audience of its own`},
	})
}
