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
	testRender(t, []renderCase{
		{name: "a lease", provider: "vault", block: standin.Block("clickhouse"),
			want: "user: \"v-dbt-1\"\npassword: \"{{ env_var('DBT_ENV_SECRET_OIDC_PASSWORD') }}\"\nDBT_ENV_SECRET_OIDC_PASSWORD (secret)\n"},
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
		{name: "TLS in Jinja", provider: "vault", block: ch(`host: ch.acme.example, secure: "{{ env_var('S') }}"`), err: "secure must be a literal: the login goes there"},
		{name: "a host in Jinja", provider: "vault", block: ch(`host: "{{ env_var('H') }}", secure: true`), err: "host must be a literal: the login goes there"},
		{name: "a host that is a URL", provider: "vault", block: ch(`host: "https://evil.example/", secure: true`), err: `host is "https://evil.example/", want one host name or address`},
		{name: "a host behind a login", provider: "vault", block: ch(`host: "127.0.0.1@evil.example"`), err: `host is "127.0.0.1@evil.example", want one host name or address`},
	})
}

// TestClickHouseRoute: what is behind the proxy is what the block describes.
func TestClickHouseRoute(t *testing.T) {
	t.Parallel()
	to := func(host string, port int, plain bool) route.Route {
		return route.Route{Kind: route.ClickHouse, Only: true, Upstream: route.Upstream{Host: host, Port: port, Plain: plain}}
	}
	for _, tt := range []struct {
		name, block string
		want        route.Route
		err         string
	}{
		{name: "TLS", block: `{host: ch.acme.example, secure: true}`, want: to("ch.acme.example", 8443, false)},
		{name: "a port", block: `{host: ch.acme.example, port: 443, secure: true, driver: http}`, want: to("ch.acme.example", 443, false)},
		{name: "plain", block: `{host: 127.0.0.1}`, want: to("127.0.0.1", 8123, true)},
		{name: "the native protocol", block: `{host: ch.acme.example, secure: true, driver: native}`, err: `dbt output of type "clickhouse": driver is "native", want http: a bearer is for HTTP alone`},
		{name: "a port that is none", block: `{host: ch.acme.example, secure: true, port: high}`, err: `dbt output of type "clickhouse": port is "high", want a number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := adapter.Route("clickhouse", "token_exchange", policy.Values{}, node(t, tt.block))
			checkUsage(t, err, tt.err)
			if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
				t.Errorf("route (-want +got):\n%s", diff)
			}
		})
	}
	if r, err := adapter.Route("clickhouse", "vault", policy.Values{}, node(t, standin.Block("clickhouse"))); r != (route.Route{}) || err != nil {
		t.Errorf("with a lease the route is %+v, %v, want none", r, err)
	}
}
