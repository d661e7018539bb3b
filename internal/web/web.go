// Package web is HTTP as a credential needs it: verified TLS, no redirects, replies that are refused when they are too large, and a bound on every try.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// MaxBody is the largest reply that is read: tokens, keys and credentials are under 64 KiB.
const MaxBody = 1 << 20

// tryTimeout bounds one request and its reply. Real exchanges take well under
// a second; GitHub's token endpoint sometimes hangs.
const tryTimeout = 10 * time.Second

// A Transport is the way to all servers: TLS 1.2 or later with verified
// certificates, HTTP/1.1 (a run sends one or two requests to a host), proxies
// from HTTPS_PROXY and NO_PROXY, further roots from SSL_CERT_FILE and
// SSL_CERT_DIR. It can be connected before it is used.
type Transport struct {
	base *http.Transport

	mu    sync.Mutex
	ready map[string]chan net.Conn // by network address; one connection each
}

// NewTransport returns a Transport.
func NewTransport() *Transport {
	t := &Transport{ready: map[string]chan net.Conn{}}
	t.base = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            func(ctx context.Context, network, addr string) (net.Conn, error) { return t.dial(ctx, addr, false) },
		DialTLSContext:         func(ctx context.Context, network, addr string) (net.Conn, error) { return t.dial(ctx, addr, true) },
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12}, // for TLS inside a proxy's tunnel
		TLSHandshakeTimeout:    tryTimeout,
		ResponseHeaderTimeout:  tryTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        90 * time.Second,
	}
	return t
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.base.RoundTrip(req)
}

// Preconnect dials the URLs' hosts in the background, TLS included, so that
// the next request to each finds a connection. It sends no request, and
// ignores errors: the request itself will meet them. URLs that go through a
// proxy are left alone.
func (t *Transport) Preconnect(ctx context.Context, rawURLs ...string) {
	for _, raw := range rawURLs {
		u, err := CheckURL(raw)
		if err != nil {
			continue
		}
		if proxy, err := t.base.Proxy(&http.Request{URL: u}); err != nil || proxy != nil {
			continue
		}
		key := address(u)
		conn := make(chan net.Conn, 1)
		t.mu.Lock()
		t.ready[key] = conn
		t.mu.Unlock()
		go func() {
			defer close(conn)
			if c, err := connect(ctx, key, u.Scheme == "https"); err == nil {
				conn <- c
			}
		}()
	}
}

// dial takes the connection that Preconnect has made or is making, else connects.
func (t *Transport) dial(ctx context.Context, addr string, secure bool) (net.Conn, error) {
	t.mu.Lock()
	conn := t.ready[addr]
	delete(t.ready, addr)
	t.mu.Unlock()
	if conn != nil {
		select {
		case c := <-conn:
			if c != nil {
				return c, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return connect(ctx, addr, secure)
}

func connect(ctx context.Context, addr string, secure bool) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: tryTimeout}
	if !secure {
		return dialer.DialContext(ctx, "tcp", addr)
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", addr)
}

// address is how net/http names a URL's host to its dialer.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// NewClient returns a client over rt that refuses redirects, plain http to
// anything but loopback, and replies of more than MaxBody, each with an error.
func NewClient(rt http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: guard{rt},
		Timeout:   tryTimeout,
		CheckRedirect: func(req *http.Request, _ []*http.Request) error {
			// A redirect would carry the request's secret to a host that nobody checked.
			return permanent{fmt.Errorf("redirected to host %q, redirects are not followed", req.URL.Host)}
		},
	}
}

// guard checks each request and bounds each reply.
type guard struct{ next http.RoundTripper }

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := checkScheme(req.URL); err != nil {
		return nil, permanent{err}
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > MaxBody {
		resp.Body.Close()
		return nil, errTooLarge
	}
	resp.Body = &limited{body: resp.Body, left: MaxBody}
	return resp, nil
}

var errTooLarge = permanent{fmt.Errorf("reply is larger than %d bytes", MaxBody)}

// permanent is a fault that another try would meet again.
type permanent struct{ error }

// limited fails where io.LimitReader would silently end: half a reply must
// not pass for a whole one.
type limited struct {
	body io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if len(p) > l.left+1 {
		p = p[:l.left+1] // one more than allowed, to tell "ends here" from "goes on"
	}
	n, err := l.body.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

func (l *limited) Close() error { return l.body.Close() }

// CheckURL parses an endpoint's URL: https, or http on loopback, with a host,
// and without user, query or fragment.
func CheckURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	switch {
	case u.Hostname() == "":
		return nil, errors.New("has no host, want https://HOST")
	case u.User != nil:
		return nil, errors.New("has a user in it")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("has a query")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("has a fragment")
	}
	return u, checkScheme(u)
}

func checkScheme(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("scheme is %q, want https (http is for loopback only)", u.Scheme)
}

// IsLoopback reports whether a host can only be this machine.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Cause returns what went wrong in a request, without the URL: its query may
// hold what is nobody's business, and the caller has named the server.
func Cause(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		if ue.Timeout() && !errors.Is(ue.Err, context.Canceled) {
			return timedOut{ue.Err}
		}
		return ue.Err
	}
	return err
}

type timedOut struct{ error }

func (timedOut) Error() string   { return "no reply in time" }
func (t timedOut) Unwrap() error { return t.error }
