package broker

import (
	"bytes"
	"io"
	"net/http"
	"sync"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// A retrier sends one request with a credential, and once more with the next one
// if the warehouse refuses a credential that should be valid.
type retrier struct {
	broker     *Broker
	credential credential.Credential
	send       func(*http.Request, credential.Credential) (*http.Response, error)
	refused    func(*http.Response) bool
}

// RoundTrip implements http.RoundTripper.
func (t *retrier) RoundTrip(r *http.Request) (*http.Response, error) {
	body := remember(r)
	resp, err := t.send(r, t.credential)
	if err != nil || !t.refused(resp) {
		return resp, err
	}
	next, ok := t.broker.renewed(r.Context(), t.credential)
	if !ok {
		return resp, nil
	}
	again := r.Clone(r.Context())
	if again.Body, ok = body.again(); !ok {
		return resp, nil // the client may retry, and gets the next credential
	}
	resp.Body.Close()
	return t.send(again, next)
}

// maxRemembered bounds requests that can be sent again: statements, not uploads.
const maxRemembered = 64 << 10

// A memory keeps what has been read of a request's body, up to a limit.
type memory struct {
	io.ReadCloser

	mu    sync.Mutex // a transport may still read after the reply has come
	text  []byte
	whole bool // the body has been read to its end
	much  bool // the body is larger than the limit
}

// remember records the body of r as it is read; nil if it is too long.
func remember(r *http.Request) *memory {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return &memory{ReadCloser: http.NoBody, whole: true}
	case r.ContentLength > maxRemembered:
		return nil
	}
	m := &memory{ReadCloser: r.Body}
	r.Body = m
	return m
}

func (m *memory) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.much = m.much || len(m.text)+n > maxRemembered; m.much {
		m.text = nil
	} else {
		m.text = append(m.text, p[:n]...)
	}
	m.whole = m.whole || err == io.EOF
	return n, err
}

// again returns the body for another request; false if it is not complete.
func (m *memory) again() (io.ReadCloser, bool) {
	if m == nil {
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.whole || m.much:
		return nil, false
	case len(m.text) == 0:
		return http.NoBody, true
	}
	return io.NopCloser(bytes.NewReader(m.text)), true
}
