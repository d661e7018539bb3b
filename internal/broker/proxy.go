package broker

import (
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
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A passing is how a proxy passes requests on to the upstream.
type passing struct {
	login func(out *http.Request, c credential.Credential) // puts the credential in
	// reply changes or refuses a reply, which it gets without compression; nil
	// for replies that pass as they are.
	reply func(*http.Response) error
	// refused reports whether a reply says that the credential is no good.
	refused  func(*http.Response) bool
	patience time.Duration                                      // how long a request waits for a credential
	fail     func(w http.ResponseWriter, status int, err error) // an error in the client's own form
}

// proxy returns a handler that passes requests on to the upstream, with the
// current credential. Replies that would send the client elsewhere become errors.
func (b *Broker) proxy(p passing) (http.Handler, error) {
	transport, base, err := upstream(b.config.Network, b.config.Route.Upstream)
	if err != nil {
		return nil, err
	}
	transport.DisableCompression = p.reply == nil // what the client asks for is what it gets
	buffers := newPool(pieceSize)
	send := func(out *http.Request, c credential.Credential) (*http.Response, error) {
		p.login(out, c)
		return transport.RoundTrip(out)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := b.current(r.Context(), p.patience)
		if err != nil {
			// Clients ask again after a bad gateway, and keep its words to themselves.
			p.fail(w, http.StatusInternalServerError, err)
			return
		}
		// The warehouse may answer before it has read everything, and net/http
		// would take the rest of the request away from under its transport.
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 has it
		passOn(httputil.ReverseProxy{
			Transport: &retrier{broker: b, credential: c, send: send, refused: p.refused},
			Rewrite: func(to *httputil.ProxyRequest) {
				to.SetURL(base)
				to.Out.Header.Del("Authorization")
				if p.reply != nil {
					to.Out.Header.Del("Accept-Encoding") // net/http asks for gzip, and undoes it
					to.Out.Header.Del("Range")
				}
			},
			ModifyResponse: func(resp *http.Response) error {
				if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
					return errors.New("the warehouse redirects, and redirects are not followed")
				}
				noteEnd(resp)
				if p.reply != nil {
					return p.reply(resp)
				}
				return nil
			},
			FlushInterval: -1, // results are for the client to buffer
			BufferPool:    buffers,
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				status := http.StatusBadGateway
				if wrong := new(tls.CertificateVerificationError); errors.As(err, &wrong) || web.Refusal(err) != nil {
					status = http.StatusInternalServerError // no other try will do better
				}
				p.fail(w, status, err)
			},
		}).ServeHTTP(w, r)
	}), nil
}

// passOn returns a proxy that passes nothing on of what concerns one
// connection alone (RFC 9110 §7.6.1), and never switches protocols: what
// follows could not be looked at. httputil has removed the others by the time
// of Rewrite, and put these back.
func passOn(p httputil.ReverseProxy) *httputil.ReverseProxy {
	rewrite, modify := p.Rewrite, p.ModifyResponse
	p.Rewrite = func(to *httputil.ProxyRequest) {
		for _, name := range []string{"Connection", "Upgrade", "Te"} {
			to.Out.Header.Del(name)
		}
		rewrite(to)
	}
	p.ModifyResponse = func(resp *http.Response) error {
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return errors.New("the warehouse switches to another protocol, which nobody has asked for")
		}
		if modify != nil {
			return modify(resp)
		}
		return nil
	}
	p.ErrorLog = noLog() // a client that is gone is none of ours
	return &p
}

// unauthorized reports whether a reply says that the bearer is no good (RFC 9110 §15.5.2).
func unauthorized(resp *http.Response) bool { return resp.StatusCode == http.StatusUnauthorized }

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

func brokerError(w http.ResponseWriter, status int, err error) {
	http.Error(w, fmt.Sprintf("oidc-dbt: %v", err), status)
}
