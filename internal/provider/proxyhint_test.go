package provider_test

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// deadProxy is a proxy that nothing listens at, on the way to every server.
type deadProxy struct{ network web.Network }

func (d deadProxy) RoundTrip(req *http.Request) (*http.Response, error) {
	return nil, d.network.Explain(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}, req.URL)
}

// TestDeadProxy: the hint of every provider is about the proxy, not about the
// provider's status page, and neither it nor the error holds the proxy's value.
func TestDeadProxy(t *testing.T) {
	t.Parallel()
	network := web.Network{}.By(&url.URL{Scheme: "http", Host: "proxy.corp.example:3128", User: url.UserPassword("svc", "Secret99x")}, "HTTPS_PROXY")
	eachFixture(t, func(t *testing.T, r run) {
		var err error
		synctest.Test(t, func(t *testing.T) {
			env := exchange.Env{HTTP: web.NewClient(deadProxy{network}), Now: time.Now}
			if r.login {
				env.Login = r.signedIn(t, env)
			}
			if r.held != nil {
				_, err = provider.Renew(t.Context(), env, r.grant, *r.held)
			} else {
				_, err = provider.Exchange(t.Context(), env, r.grant, r.warehouse, r.idToken)
			}
		})
		if err == nil && len(r.hops) == 0 {
			return // sends no request
		}
		const want = "the proxy of HTTPS_PROXY cannot be reached: connection refused"
		if err == nil || !strings.HasSuffix(err.Error(), want) || fault.ClassOf(err) != fault.Unreachable || !strings.Contains(fault.Hint(err), "HTTPS_PROXY") {
			t.Errorf("error is %v (hint %q), want one that ends in %q", err, fault.Hint(err), want)
		}
		if err != nil && (strings.Contains(err.Error()+fault.Hint(err), "Secret99x") || strings.Contains(err.Error()+fault.Hint(err), "corp.example")) {
			t.Errorf("the proxy's value is in %v (hint %q)", err, fault.Hint(err))
		}
	})
}
