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

// A relay passes a request on to an upstream. It is the core of every route
// that does so over HTTP; its fields are what differs between them.
//
// It passes nothing on of what concerns one connection alone (RFC 9110 §7.6.1),
// and never switches protocols: what follows could not be looked at.
type relay struct {
	transport http.RoundTripper
	base      *url.URL                   // the upstream; nil where lead names it for each request
	lead      func(out *http.Request)    // what else changes of a request on its way
	reply     func(*http.Response) error // changes or refuses a reply
	redirects bool                       // they are replies as others are; without, they become errors
	buffers   httputil.BufferPool        // nil for new ones
	atOnce    bool                       // whatever is there of a reply goes on: the client buffers it
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
		ErrorLog:       noLog(), // a client that is gone is none of ours
	}
	if y.atOnce {
		p.FlushInterval = -1
	}
	p.ServeHTTP(w, r)
}

func (y relay) rewrite(to *httputil.ProxyRequest) {
	// httputil has removed the other headers of one connection by now, and put
	// these back.
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

// isFinal reports whether no other try will do better than one that ended with
// err: the certificate or the proxy on the way would have to change.
func isFinal(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || web.Refusal(err) != nil
}

// noLog is for what net/http would say on standard error: it quotes what
// clients and servers send.
func noLog() *log.Logger { return log.New(io.Discard, "", 0) }

// pieceSize is how much is passed on at once, where that much is there. TLS
// gives 16 KiB at a time, and a write for each of these would cost a third of
// the throughput.
const pieceSize = 256 << 10

// A pool lends buffers of one size.
type pool struct{ free sync.Pool }

func newPool(size int) *pool {
	return &pool{sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

func (p *pool) Get() []byte  { return *p.free.Get().(*[]byte) }
func (p *pool) Put(b []byte) { p.free.Put(&b) }
