package broker

import (
	"fmt"
	"net/http"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// A passing configures how a proxy puts the current credential into each request.
type passing struct {
	login func(out *http.Request, c credential.Credential) // puts the credential in
	// reply changes or refuses a reply, which it gets without compression; nil
	// for replies that pass as they are.
	reply func(*http.Response) error
	// refused reports whether a reply says that the credential is invalid.
	refused  func(*http.Response) bool
	patience time.Duration                                      // how long a request waits for a credential
	fail     func(w http.ResponseWriter, status int, err error) // an error in the client's own form
}

// proxy returns a handler that passes requests on to the upstream, with the
// current credential.
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
		relay{
			transport: &retrier{broker: b, credential: c, send: send, refused: p.refused},
			base:      base,
			lead:      p.lead,
			reply: func(resp *http.Response) error {
				noteEnd(resp)
				if p.reply != nil {
					return p.reply(resp)
				}
				return nil
			},
			buffers: buffers,
			atOnce:  true, // results are for the client to buffer
			fail: func(w http.ResponseWriter, err error) {
				status := http.StatusBadGateway
				if isFinal(err) {
					status = http.StatusInternalServerError
				}
				p.fail(w, status, err)
			},
		}.ServeHTTP(w, r)
	}), nil
}

// lead removes the client's own login from a request.
func (p passing) lead(out *http.Request) {
	out.Header.Del("Authorization")
	if p.reply != nil {
		out.Header.Del("Accept-Encoding") // net/http asks for gzip, and undoes it
		out.Header.Del("Range")
	}
}

// unauthorized reports whether a reply says that the bearer token is invalid (RFC 9110 §15.5.2).
func unauthorized(resp *http.Response) bool { return resp.StatusCode == http.StatusUnauthorized }

func brokerError(w http.ResponseWriter, status int, err error) {
	http.Error(w, fmt.Sprintf("oidc-dbt: %v", err), status)
}
