//go:build e2e && linux && amd64

package identities

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A network leads by public names to a stand-in, through a proxy, over TLS.
type network struct {
	proxy, ca string
	client    *http.Client // of those who are in it
}

// network has the issuer, and what else the row serves, answer at public names.
func (m *machine) network() network {
	m.t.Helper()
	mux := http.NewServeMux()
	var names []string
	if at, err := url.Parse(m.url); err == nil && at.Host != "" {
		names = append(names, at.Host)
		base := "GET " + at.Host + at.Path
		mux.HandleFunc(base+"/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": m.url, "jwks_uri": m.url + "/keys",
				"id_token_signing_alg_values_supported": []string{"RS256"}})
		})
		mux.Handle(base+"/keys", m.keys())
		mux.Handle(base+"/.well-known/jwks", m.keys())
	}
	for name, handler := range m.row.served {
		names = append(names, name)
		mux.Handle(name+"/", handler(m))
	}
	return route(m.t, mux, names...)
}

// keys serves the issuer's keys at another place.
func (m *machine) keys() http.Handler {
	if m.row.keys != nil {
		return m.row.keys(m)
	}
	to, err := url.Parse(m.issuer.URL() + "/.well-known/jwks")
	if err != nil {
		m.t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL, r.Out.Host = to, to.Host }}
}

// route starts a proxy that leads to the handler, and nowhere else.
func route(t *testing.T, handler http.Handler, names ...string) (n network) {
	t.Helper()
	behind, ca := setup.ServeTLS(t, handler, names...)
	_, port := setup.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { setup.Tunnel(w, r, behind) }))
	n.proxy, n.ca = fmt.Sprintf("http://127.0.0.1:%d", port), ca
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	n.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme == "http" { // of loopback
				return nil, nil
			}
			return url.Parse(n.proxy)
		},
	}}
	return n
}
