package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// proxyPatience bounds how long a request waits for a credential where the old
// one has died. Trino's client hangs up after 30 s, and dbt then says nothing
// of why.
const proxyPatience = 25 * time.Second

// proxy returns a handler that passes requests on to the upstream, with the
// current credential put in by login. Replies that would send the client
// elsewhere become errors.
func (b *Broker) proxy(login func(out *http.Request, c credential.Credential)) (http.Handler, error) {
	return b.rewritingProxy(login, nil)
}

// rewritingProxy is a proxy whose replies are changed or refused by reply,
// which gets them without compression.
func (b *Broker) rewritingProxy(login func(out *http.Request, c credential.Credential), reply func(*http.Response) error) (http.Handler, error) {
	transport, base, err := upstream(b.config.Route.Upstream)
	if err != nil {
		return nil, err
	}
	transport.DisableCompression = reply == nil // what the client asks for is what it gets
	buffers := newPool(pieceSize)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), proxyPatience, errors.New("the next credential is still being asked for"))
		c, err := b.config.Current(ctx)
		cancel()
		if err != nil {
			// Clients ask again after a bad gateway, and keep its words to themselves.
			brokerError(w, http.StatusInternalServerError, err)
			return
		}
		// The warehouse may answer before it has read everything, and net/http
		// would take the rest of the request away from under its transport.
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 has it
		(&httputil.ReverseProxy{
			Transport: transport,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(base)
				p.Out.Header.Del("Authorization")
				p.Out.Header.Del("Upgrade") // another protocol could not be looked at
				p.Out.Header.Del("Connection")
				if reply != nil {
					p.Out.Header.Del("Accept-Encoding") // net/http asks for gzip, and undoes it
					p.Out.Header.Del("Range")
				}
				login(p.Out, c)
			},
			ModifyResponse: func(resp *http.Response) error {
				if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
					return errors.New("the warehouse redirects, and redirects are not followed")
				}
				if reply != nil {
					return reply(resp)
				}
				return nil
			},
			FlushInterval: -1, // results are for the client to buffer
			BufferPool:    buffers,
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				status := http.StatusBadGateway
				if wrong := new(tls.CertificateVerificationError); errors.As(err, &wrong) {
					status = http.StatusInternalServerError // no other try will do better
				}
				brokerError(w, status, err)
			},
			ErrorLog: log.New(io.Discard, "", 0), // a client that is gone is none of ours
		}).ServeHTTP(w, r)
	}), nil
}

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

func brokerError(w http.ResponseWriter, status int, err error) {
	http.Error(w, fmt.Sprintf("oidc-dbt: %v", err), status)
}
