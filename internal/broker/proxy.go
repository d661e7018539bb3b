package broker

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

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
