package broker

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// TestWayThroughProxies: the environment's proxy is the warehouse's too, and
// what its errors say is no part of a variable.
func TestWayThroughProxies(t *testing.T) {
	t.Parallel()
	port, err := standin.Port()
	if err != nil {
		t.Fatal(err)
	}
	gone := fmt.Sprintf("127.0.0.1:%d", port)
	network := func(proxy string) web.Network {
		return web.ReadNetwork(func(name string) string { return map[string]string{"HTTPS_PROXY": proxy}[name] })
	}
	for _, tt := range []struct {
		name, environment, own, err string
	}{
		{"the environment's", "http://svc:Secret99x@" + gone, "", "the proxy of HTTPS_PROXY cannot be reached: connection refused"},
		{"malformed", "http://svc:Win@Secret99x#2026@proxy:1", "", "HTTPS_PROXY is not a URL: percent-encode its user and password"},
		{"the warehouse's own", "http://svc:Secret99x@192.0.2.1:1", "http://" + gone, "the proxy of proxy_host cannot be reached: connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			way, base, err := upstream(network(tt.environment), route.Upstream{Host: "acme.snowflakecomputing.com", Port: 443, Proxy: tt.own})
			if err != nil {
				t.Fatal(err)
			}
			resp, err := way.RoundTrip(&http.Request{Method: http.MethodGet, URL: base.ResolveReference(&url.URL{Path: "/"}), Header: http.Header{}})
			if err == nil {
				resp.Body.Close()
				t.Fatal("no error")
			}
			if err.Error() != tt.err {
				t.Errorf("error is %q, want %q", err, tt.err)
			}
		})
	}
}
