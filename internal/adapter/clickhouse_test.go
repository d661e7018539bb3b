package adapter_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestClickHouse(t *testing.T) {
	t.Parallel()
	const proxied = "driver: \"http\"\nhost: \"127.0.0.1\"\nport: 20001\nsecure: false\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"
	testRender(t, []renderCase{
		{name: "a lease", provider: "vault", block: standin.Block("clickhouse"),
			want: "user: \"v-dbt-1\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"},
		{name: "a lease by the broker", provider: "vault", block: standin.Block("clickhouse"), served: true, want: proxied},
		{name: "a token", provider: "token_exchange", block: standin.Block("clickhouse"), served: true, want: proxied},
	})
}

func TestClickHousePlaces(t *testing.T) {
	t.Parallel()
	ch := func(keys string) string { return "{type: clickhouse, " + keys + "}" }
	testPlaces(t, []placeCase{
		{name: "by TLS", provider: "vault", block: ch(`host: ch.acme.example, secure: true`)},
		{name: "in the clear on loopback", provider: "vault", block: ch(`host: 127.0.0.1`)},
		{name: "unverified on loopback", provider: "vault", block: ch(`host: localhost, secure: yes, verify: no`)},
		{name: "in the clear by default", provider: "vault", block: ch(`host: ch.acme.example`), err: `secure is "" for host "ch.acme.example", want true (plain connections are for loopback only)`},
		{name: "in the clear", provider: "vault", block: ch(`host: ch.acme.example, secure: off`), err: `secure is "off" for host "ch.acme.example", want true (plain connections are for loopback only)`},
		{name: "any certificate", provider: "vault", block: ch(`host: ch.acme.example, secure: true, verify: false`), err: `verify is "false" for host "ch.acme.example", want certificates verified`},
		{name: "TLS in Jinja", provider: "vault", block: ch(`host: ch.acme.example, secure: "{{ env_var('S') }}"`), err: "secure must be a literal: the login is sent there"},
		{name: "a host in Jinja", provider: "vault", block: ch(`host: "{{ env_var('H') }}", secure: true`), err: "host must be a literal: the login is sent there"},
		{name: "a host that is a URL", provider: "vault", block: ch(`host: "https://evil.example/", secure: true`), err: `host is "https://evil.example/", want one host name or address: write "evil.example", without https://`},
		{name: "a host behind a login", provider: "vault", block: ch(`host: "127.0.0.1@evil.example"`), err: "host is \"127.0.0.1@evil.example\", want one host name or address\n" +
			`secure is "" for host "127.0.0.1@evil.example", want true (plain connections are for loopback only)`},
	})
}

// TestClickHouseRoute: what is behind the proxy is what the block describes.
func TestClickHouseRoute(t *testing.T) {
	t.Parallel()
	to := func(host string, port int, plain bool) route.Route {
		return route.Route{Kind: route.ClickHouse, Only: true, Upstream: route.Upstream{Host: host, Port: port, Plain: plain}}
	}
	unverified := to("127.0.0.1", 8443, false)
	unverified.Upstream.Unverified = true
	const native = `dbt output of type "clickhouse": driver is "native", want http: a bearer token works over HTTP only`
	const port = `dbt output of type "clickhouse": port is "high", want a number`
	for _, tt := range []struct {
		name, block string
		want        route.Route // with a token
		err         string      // with a token
		lease       string      // with a lease
	}{
		{name: "TLS", block: `{host: ch.acme.example, secure: true}`, want: to("ch.acme.example", 8443, false)},
		{name: "a port", block: `{host: ch.acme.example, port: 443, secure: true, driver: http}`, want: to("ch.acme.example", 443, false)},
		{name: "plain", block: `{host: 127.0.0.1}`, want: to("127.0.0.1", 8123, true)},
		{name: "unverified", block: `{host: 127.0.0.1, secure: true, verify: false}`, want: unverified},
		{name: "the native protocol", block: `{host: ch.acme.example, secure: true, driver: native}`, err: native},
		{name: "the native protocol by its port", block: `{host: ch.acme.example, secure: true, port: 9440}`, err: native},
		{name: "HTTP on the port of the native protocol", block: `{host: 127.0.0.1, port: 9000, driver: http}`, want: to("127.0.0.1", 9000, true)},
		{name: "a port that is none", block: `{host: ch.acme.example, secure: true, port: high}`, err: port, lease: port},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := adapter.Route("clickhouse", "token_exchange", policy.Values{}, node(t, tt.block))
			checkUsage(t, err, tt.err)
			if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
				t.Errorf("route (-want +got):\n%s", diff)
			}
			if tt.want.Only = false; tt.err == native { // dbt can hold a lease itself
				tt.want.Kind = route.Lease
			}
			got, err = adapter.Route("clickhouse", "vault", policy.Values{}, node(t, tt.block))
			checkUsage(t, err, tt.lease)
			if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
				t.Errorf("route with a lease (-want +got):\n%s", diff)
			}
		})
	}
}
