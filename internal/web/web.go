// Package web is HTTP as a credential needs it: verified TLS, no redirects, replies that are
// refused when they are too large, and a bound on every try.
package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// MaxBody is the largest reply that is read: tokens, keys and credentials are under 64 KiB.
const MaxBody = 1 << 20

// tryTimeout bounds one request and its reply. Real exchanges take well under
// a second; GitHub's token endpoint sometimes hangs.
const tryTimeout = 10 * time.Second

// dialTimeout leaves of a try so much that the error still says what could not
// be connected to; a kernel asks thrice until then.
const dialTimeout = 8 * time.Second

// A Transport is the way to all servers: TLS 1.2 or later with verified
// certificates, HTTP/1.1 (a run sends one or two requests to a host), by the
// proxy and the authorities of a Network. It can be connected before it is
// used. Its errors hold no part of the environment.
type Transport struct {
	network Network
	base    *http.Transport
	tls     *tls.Config
	pinned  bool // roots are those of this server only

	mu    sync.Mutex
	ready map[endpoint]chan net.Conn // one connection each
}

// An endpoint is what a connection is made to.
type endpoint struct {
	addr   string
	secure bool
}

// readyLife is how long a connection may wait for its first request: servers
// hang up on silent clients after 20 s or more, and a POST that meets a dead
// connection is not sent again.
const readyLife = 15 * time.Second

// NewTransport returns a Transport that asks no environment.
func NewTransport() *Transport { return Network{}.Transport() }

// Transport returns a Transport of the network.
func (n Network) Transport() *Transport { return n.transport(n.roots) }

// Trusting returns a Transport of the network that trusts only the roots, and
// neither the system's nor the environment's.
func (n Network) Trusting(roots *x509.CertPool) *Transport {
	t := n.transport(roots)
	t.pinned = true
	return t
}

// Showing returns a Transport that shows a client's certificate to any server
// that asks for one, but not to a proxy on the way. It trusts only the roots,
// those of Transport if they are nil.
func (n Network) Showing(certificate tls.Certificate, roots *x509.CertPool) *Transport {
	t := n.Transport()
	if roots != nil {
		t = n.Trusting(roots)
	}
	t.tls.Certificates = []tls.Certificate{certificate}
	return t
}

func (n Network) transport(roots *x509.CertPool) *Transport {
	t := &Transport{network: n, ready: map[endpoint]chan net.Conn{}, tls: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
	t.base = &http.Transport{
		Proxy: n.Proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return t.dial(ctx, endpoint{addr, false})
		},
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return t.dial(ctx, endpoint{addr, true})
		},
		TLSClientConfig:        t.tls, // for TLS inside a proxy's tunnel
		TLSHandshakeTimeout:    tryTimeout,
		ResponseHeaderTimeout:  tryTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    8, // so many objects of a bucket are read at once
		OnProxyConnectResponse: n.OnProxyConnectResponse,
	}
	return t
}

// Network returns the network that the transport is of.
func (t *Transport) Network() Network { return t.network }

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, t.network.explain(err, req.URL, t.pinned)
	}
	return resp, nil
}

// Preconnect dials the URLs' hosts in the background, TLS included, so that the
// next request to each finds a connection. It sends no request, and ignores
// errors: the request itself will meet them. URLs that go through a proxy are
// skipped.
func (t *Transport) Preconnect(ctx context.Context, rawURLs ...string) {
	for _, raw := range rawURLs {
		u, err := CheckURL(raw)
		if err != nil {
			continue
		}
		if proxy, err := t.base.Proxy(&http.Request{URL: u}); err != nil || proxy != nil {
			continue
		}
		to := endpoint{address(u), u.Scheme == "https"}
		t.mu.Lock()
		_, twice := t.ready[to]
		conn := make(chan net.Conn, 1)
		if !twice {
			t.ready[to] = conn
		}
		t.mu.Unlock()
		if twice {
			continue // a second request to the host follows the first on its connection
		}
		go func() {
			defer close(conn)
			if c, err := t.connect(ctx, to); err == nil {
				conn <- c
				time.AfterFunc(readyLife, func() { t.discard(to, conn) })
			}
		}()
	}
}

// take returns the connection that Preconnect has made or is making; nil for none.
func (t *Transport) take(to endpoint) chan net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	conn := t.ready[to]
	delete(t.ready, to)
	return conn
}

// discard closes conn unless a request has taken it.
func (t *Transport) discard(to endpoint, conn chan net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ready[to] != conn {
		return
	}
	delete(t.ready, to)
	if c := <-conn; c != nil {
		c.Close()
	}
}

// dial takes the connection that is ready, else connects.
func (t *Transport) dial(ctx context.Context, to endpoint) (net.Conn, error) {
	if conn := t.take(to); conn != nil {
		select {
		case c := <-conn:
			if c != nil {
				return c, nil
			}
		case <-ctx.Done():
			go func() { // it will not be asked for again
				if c := <-conn; c != nil {
					c.Close()
				}
			}()
			return nil, ctx.Err()
		}
	}
	return t.connect(ctx, to)
}

func (t *Transport) connect(ctx context.Context, to endpoint) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !to.secure {
		return dialer.DialContext(ctx, "tcp", to.addr)
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	config := t.tls
	// a proxy with TLS is not the server that the roots are of, nor the certificate for
	if (t.pinned || len(t.tls.Certificates) > 0) && t.network.isProxy(to.addr) {
		config = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.network.roots}
	}
	return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", to.addr)
}

// address is how net/http names a URL's host to its dialer.
func address(u *url.URL) string { return net.JoinHostPort(u.Hostname(), Port(u)) }

// The ports that a URL of HTTP may leave out (RFC 9110 §4.2).
const (
	HTTPPort  = 80
	HTTPSPort = 443
)

const socksPort = 1080

// Port returns the port of a URL, or the one that its scheme implies where
// it names none; "" of a scheme that implies none.
func Port(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	port := map[string]int{"http": HTTPPort, "https": HTTPSPort, "socks5": socksPort, "socks5h": socksPort}[u.Scheme]
	if port == 0 {
		return ""
	}
	return strconv.Itoa(port)
}

// NewClient returns a client over rt that refuses redirects, plain http to
// anything but loopback, and replies of more than MaxBody, each with an error.
func NewClient(rt http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: guard{rt},
		Timeout:   tryTimeout,
		// guard refuses redirects before http.Client reads the Location; should
		// one get past it, it is a reply with a wrong status.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guard checks each request and bounds each reply.
type guard struct{ next http.RoundTripper }

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := checkScheme(req.URL); err != nil {
		return nil, permanent{err, ""}
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, plain(err)
	}
	takeNote(req.Context(), resp)
	if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
		resp.Body.Close()
		return nil, redirected(req.URL, resp.Header.Get("Location"))
	}
	if resp.ContentLength > MaxBody {
		resp.Body.Close()
		return nil, errTooLarge
	}
	resp.Body = &limited{body: resp.Body, left: MaxBody}
	return resp, nil
}

// redirected is the refusal of a redirect: it would carry the request's secret
// to a host that was not checked. The error names the host, which tells a
// captive portal, and nothing else of the header, which a hostile server may
// have filled with what it was sent.
func redirected(from *url.URL, location string) error {
	to, err := from.Parse(location)
	if err != nil || !hostName.MatchString(to.Host) {
		return permanent{errRedirect, elsewhere}
	}
	return permanent{redirectedTo(to.Host), elsewhere}
}

var errRedirect = errors.New("redirected, redirects are not followed")

// redirectedTo is errRedirect with the host.
type redirectedTo string

func (r redirectedTo) Error() string {
	return fmt.Sprintf("redirected to host %q, redirects are not followed", string(r))
}

func (redirectedTo) Is(target error) bool { return target == errRedirect }

var hostName = lazy.MustCompile(`^(?:[A-Za-z0-9-]{1,63}\.){0,8}[A-Za-z0-9-]{1,63}(?::[0-9]{1,5})?$`)

// limited fails where io.LimitReader would silently end: half a reply must
// not pass for a whole one.
type limited struct {
	body io.ReadCloser
	left int
	err  error
}

func (l *limited) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err // decoders ask again
	}
	if len(p) > l.left+1 {
		p = p[:l.left+1] // one more than allowed, to tell "ends here" from "goes on"
	}
	n, err := l.body.Read(p)
	switch l.left -= n; {
	case l.left < 0:
		n, err = 0, errTooLarge
	case errors.Is(err, io.EOF):
		err = io.EOF
	case err != nil:
		err = plain(err) // a broken trailer is quoted, too
	}
	l.err = err
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
	case strings.ContainsFunc(u.Hostname(), func(c rune) bool { return c >= utf8.RuneSelf }):
		// A reader takes one letter for another: a Cyrillic a for a Latin one.
		return nil, errors.New("has a host that is not ASCII, want the form that begins with xn--")
	case u.User != nil:
		return nil, errors.New("contains a user")
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

// Cause returns what went wrong in a request or in reading its reply, without
// the URL, whose query may hold a secret, and without what a library wrapped
// around it: the caller has named the server.
func Cause(err error) error {
	var refusal permanent
	var fault failure
	var sent *url.Error
	var reason net.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &fault):
		return fault
	case errors.As(err, &sent):
		err = sent.Err
		errors.As(err, &reason)
	case errors.As(err, &reason):
		err = reason
	}
	if reason != nil && reason.Timeout() && !errors.Is(err, context.Canceled) {
		return timedOut{err}
	}
	return err
}

// NoReply reports whether err, of a request or of reading its reply, says that
// there was none, or not all of it. Otherwise the fault is in what came.
func NoReply(err error) bool {
	return errors.As(err, new(net.Error)) || errors.As(err, new(failure)) || Refusal(err) != nil
}

type timedOut struct{ error }

func (timedOut) Error() string   { return "no reply in time" }
func (t timedOut) Unwrap() error { return t.error }
