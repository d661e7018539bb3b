package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A relay forwards requests to an upstream. It is the core of every HTTP proxy
// route; its fields are the differences between them.
//
// It does not forward hop-by-hop headers (RFC 9110 §7.6.1), and never switches
// protocols, since it could not check what follows.
type relay struct {
	transport http.RoundTripper
	base      *url.URL                   // the upstream; nil if lead sets it for each request
	lead      func(out *http.Request)    // changes each request
	reply     func(*http.Response) error // changes or refuses a reply
	redirects bool                       // forward redirects, instead of refusing them
	buffers   httputil.BufferPool        // nil for new ones
	atOnce    bool                       // forward each part of a reply immediately
	fail      func(w http.ResponseWriter, err error)
}

// ServeHTTP implements http.Handler.
func (y relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := httputil.ReverseProxy{
		Transport:      y.transport,
		Rewrite:        y.rewrite,
		ModifyResponse: y.modify,
		BufferPool:     y.buffers,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, err error) { y.fail(w, err) },
		ErrorLog:       noLog(), // a client that has gone is not an error
	}
	if y.atOnce {
		p.FlushInterval = -1
	}
	p.ServeHTTP(w, r)
}

func (y relay) rewrite(to *httputil.ProxyRequest) {
	// httputil has removed all hop-by-hop headers, and put these back.
	for _, name := range []string{"Connection", "Upgrade", "Te"} {
		to.Out.Header.Del(name)
	}
	if y.base != nil {
		to.SetURL(y.base)
	}
	y.lead(to.Out)
}

func (y relay) modify(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return errors.New("the warehouse switched to another protocol, which was not requested")
	case !y.redirects && resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "":
		return errors.New("the warehouse sent a redirect, and redirects are not followed")
	}
	return y.reply(resp)
}

// isFinal reports whether another try would end with err again: the certificate
// or the proxy would have to change.
func isFinal(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || web.Refusal(err) != nil
}

// noLog discards net/http's messages, which quote what clients and servers send.
func noLog() *log.Logger { return log.New(io.Discard, "", 0) }

// pieceSize is how much is forwarded at once, if that much is available. TLS reads
// return 16 KiB, and a write for each would cost a third of the throughput.
const pieceSize = 256 << 10

// A pool lends buffers of one size.
type pool struct{ free sync.Pool }

func newPool(size int) *pool {
	return &pool{sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

func (p *pool) Get() []byte  { return *p.free.Get().(*[]byte) }
func (p *pool) Put(b []byte) { p.free.Put(&b) }
