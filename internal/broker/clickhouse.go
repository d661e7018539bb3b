package broker

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// clickHouse passes requests on to ClickHouse's HTTP interface with the
// credential as bearer, which dbt-clickhouse has no key for. The client shows
// the secret as its password, in whichever of the interface's three forms.
// (ClickHouse: HTTP interface, authentication)
func clickHouse(b *Broker) (http.Handler, error) {
	proxy, err := b.proxy(func(out *http.Request, c credential.Credential) {
		q := out.URL.Query()
		q.Del("user")
		q.Del("password")
		out.URL.RawQuery = q.Encode()
		out.Header.Del("X-ClickHouse-User")
		out.Header.Del("X-ClickHouse-Key")
		out.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.knows(clickHousePassword(r)) {
			b.refused.add()
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(w, "Code: 516. DB::Exception: oidc-dbt: the password is not this run's. (AUTHENTICATION_FAILED)", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}), nil
}

func clickHousePassword(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	if key := r.Header.Get("X-ClickHouse-Key"); key != "" {
		return key
	}
	return r.URL.Query().Get("password")
}

// proxy returns a handler that passes requests on to the upstream, with the
// current credential put in by login. Replies that would send the client
// elsewhere become errors.
func (b *Broker) proxy(login func(out *http.Request, c credential.Credential)) (http.Handler, error) {
	transport, base, err := upstream(b.config.Route.Upstream)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := b.config.Current(r.Context())
		if err != nil {
			badGateway(w, err)
			return
		}
		(&httputil.ReverseProxy{
			Transport: transport,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(base)
				p.Out.Header.Del("Authorization")
				login(p.Out, c)
			},
			ModifyResponse: func(resp *http.Response) error {
				if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
					return errors.New("the warehouse redirects, and redirects are not followed")
				}
				return nil
			},
			FlushInterval: -1, // results are for the client to buffer
			ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, err error) { badGateway(w, err) },
		}).ServeHTTP(w, r)
	}), nil
}

func badGateway(w http.ResponseWriter, err error) {
	http.Error(w, fmt.Sprintf("oidc-dbt: %v", err), http.StatusBadGateway)
}
