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
	"strings"
	"syscall"
)

// A failure is a fault in our own words, which another try may cure, and what
// to do where none does, "" where nothing is known.
type failure struct{ text, hint string }

func (f failure) Error() string { return f.text }

var errNotHTTP = failure{text: "the reply is not HTTP"}

// permanent is a fault that another try would meet again, and what to do about it.
type permanent struct {
	error
	hint string
}

func (p permanent) Unwrap() error { return p.error }

// Lasting returns an error of a transport that another try would meet again, with what to do.
func Lasting(err error, hint string) error { return permanent{err, hint} }

// IsTooLarge reports whether an error is that a reply had more than MaxBody.
func IsTooLarge(err error) bool { return errors.Is(err, errTooLarge.error) }

var errTooLarge = permanent{fmt.Errorf("reply is larger than %d bytes", MaxBody), elsewhere}

const (
	elsewhere  = "another server, such as a proxy, may be answering at this address: check the address"
	checkName  = "check the spelling, and that this machine's DNS servers know it"
	checkClock = "compare this machine's clock with the certificate's dates; if the clock is right, the server needs a " +
		"new certificate"
	checkHost = "check the address; a proxy that intercepts TLS may be in between"
	checkPort = "check the address and its port: TLS is required"
	checkTLS  = "the server must support TLS 1.2 or later, and must not require a client certificate"
	unknownCA = "set " + extraCA + " to a file with the authority's certificate, to add it to the system's, or " +
		"SSL_CERT_FILE, to replace them"
	anotherCA   = unknownCA + "; the certificates of " + extraCA + " are in use, but none of them signed this server's"
	notPinnedCA = "the server's certificate is not signed by any of the certificate authorities that are configured for it"
)

// Hint returns what to do about the error of a request, "" where nothing is known.
func Hint(err error) string {
	var p permanent
	var f failure
	switch {
	case errors.As(err, &p):
		return p.hint
	case errors.As(err, &f):
		return f.hint
	}
	return ""
}

// plain returns err, a transport's, where its words are this machine's own:
// other errors of net/http quote what the server sent ("malformed HTTP response %q").
func plain(err error) error {
	switch {
	case errors.As(err, new(failure)), errors.As(err, new(permanent)): // ours
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failure{text: "the server closed the connection"} // a decoder's own EOF, in a whole reply, is another fault
	case errors.As(err, new(net.Error)), errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed),
		errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)), errors.As(err, new(tls.AlertError)),
		strings.HasPrefix(err.Error(), "tls: "):
		return err
	}
	return errNotHTTP
}

// Explain returns an error of the way to a server in words that hold no part of
// the environment, and marks what another try would meet again.
func (n Network) Explain(err error, to *url.URL) error { return n.explain(err, to, false) }

func (n Network) explain(err error, to *url.URL, pinned bool) error {
	if errors.As(err, new(permanent)) || errors.As(err, new(failure)) {
		return err
	}
	variable := n.throughProxy(to)
	proxy := "the proxy of " + variable
	var op *net.OpError
	switch {
	case variable == "":
		return n.direct(err, to.Hostname(), pinned)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failure{proxy + ", or the server behind it, closed the connection", passHint(variable)}
	case !errors.As(err, &op):
		return n.direct(err, to.Hostname(), pinned)
	case op.Op == "proxyconnect":
		var lookup *net.DNSError
		if errors.As(err, &lookup) && lookup.IsNotFound && !lookup.IsTemporary {
			return permanent{errors.New(proxy + ": no such host"), "check the host in " + variable}
		}
		if known := n.direct(err, "", false); errors.As(known, new(permanent)) {
			return permanent{fmt.Errorf("%s: %w", proxy, errors.Unwrap(known)), Hint(known)}
		}
		return failure{proxy + " cannot be reached" + reason(err),
			"check that the proxy is up at the host and port that " + variable +
				" names, or list the server's host in NO_PROXY if it needs no proxy"}
	case strings.HasPrefix(op.Op, "socks"):
		if strings.Contains(err.Error(), "authentication") {
			return permanent{errors.New(proxy + " rejects the login"), loginHint(variable)}
		}
		return failure{proxy + " cannot reach the server" + reason(err), passHint(variable)}
	case op.Op == "remote error", errors.As(err, new(*tls.CertificateVerificationError)):
		return n.direct(err, to.Hostname(), pinned)
	}
	return failure{"the connection through " + proxy + " broke" + reason(err), passHint(variable)}
}

// reason is what the system says of a connection, without addresses.
func reason(err error) string {
	var number syscall.Errno
	var e net.Error
	switch {
	case errors.As(err, &e) && e.Timeout():
		return ": no reply in time"
	case errors.As(err, &number):
		return ": " + number.Error()
	}
	return ""
}

// passHint is for a proxy that is there, while nothing comes back by it.
func passHint(variable string) string {
	return "check that the proxy of " + variable +
		" allows this host and can reach it; if the host needs no proxy, list it in NO_PROXY"
}

func loginHint(variable string) string {
	return "set the user and password in " + variable + ", percent-encoded: http://USER:PASSWORD@HOST:PORT"
}

// direct is explain without a proxy.
func (n Network) direct(err error, host string, pinned bool) error {
	var certificate *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var lookup *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &name):
		return permanent{fmt.Errorf("the server's certificate is not valid for host %q", name.Host), checkHost}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return permanent{fmt.Errorf("tls: failed to verify certificate: %w", invalid), checkClock}
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return permanent{errUnknownAuthority, n.authorityHint(pinned)}
	case errors.As(err, &certificate):
		return permanent{certificate, n.authorityHint(pinned)}
	case errors.As(err, new(tls.RecordHeaderError)):
		return permanent{errors.New("the server does not speak TLS"), checkPort}
	case errors.As(err, &op) && op.Op == "remote error" && !strings.Contains(op.Err.Error(), "internal error"):
		return permanent{fmt.Errorf("%w: %w", errRefusesTLS, op.Err), checkTLS}
	case strings.Contains(err.Error(), "tls: server selected unsupported protocol version"):
		return permanent{errors.New("the server supports only TLS versions older than 1.2"), checkTLS}
	case errors.As(err, &lookup) && lookup.IsNotFound && !lookup.IsTemporary && !lookup.IsTimeout:
		return permanent{fmt.Errorf("no such host: %q", host), checkName}
	}
	return err
}

// errUnknownAuthority is crypto/tls's, without the name that the certificate gives itself.
var errUnknownAuthority = errors.New("tls: failed to verify certificate: x509: certificate signed by unknown authority")

// UnknownAuthority reports whether err is that of a certificate that no trusted
// authority has signed.
func UnknownAuthority(err error) bool { return errors.Is(err, errUnknownAuthority) }

// errRefusesTLS is an alert of the server's, whose words follow.
var errRefusesTLS = errors.New("the server refused the TLS connection")

// RefusesTLS reports whether err is that of a server that ended the handshake,
// as one does that wants another certificate of its client's, or any.
func RefusesTLS(err error) bool { return errors.Is(err, errRefusesTLS) }

func (n Network) authorityHint(pinned bool) string {
	switch {
	case pinned:
		return notPinnedCA
	case n.extra != "":
		return anotherCA
	}
	return unknownCA
}

// OnProxyConnectResponse is http.Transport's: why a proxy makes no connection.
// net/http would quote the proxy's own words.
func (n Network) OnProxyConnectResponse(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	err := fmt.Errorf("the proxy of %s replied with status %d", n.variable, resp.StatusCode)
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusProxyAuthRequired && proxy.User != nil:
		return permanent{fmt.Errorf("%w: it rejects the user and password", err), loginHint(n.variable)}
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return permanent{fmt.Errorf("%w: it requires a user and password", err), loginHint(n.variable)}
	case Transient(resp.StatusCode):
		return failure{err.Error(), passHint(n.variable)}
	}
	return permanent{err, "allow this host in the proxy, or list it in NO_PROXY"}
}

// Failed returns why a request had no usable reply: its Cause, marked by
// Temporary unless another try would meet it again.
func Failed(err error) error { return FailedAs(err, Cause(err)) }

// FailedAs returns words, marked as Failed would mark err, which they are for.
func FailedAs(err, words error) error {
	switch {
	case Refusal(err) != nil:
		return words
	case errors.Is(err, errNotHTTP):
		return Brief(words) // another server's port
	}
	return Temporary(words)
}

// Refusal returns why a client of this package refused to send a request or to
// read its reply, or could not connect for a reason that lasts; nil where it
// did not. Another try would end in the same.
func Refusal(err error) error {
	var p permanent
	if errors.As(err, &p) {
		return p
	}
	return nil
}

// Redirected reports whether err is the refusal of a redirect.
func Redirected(err error) bool { return errors.Is(err, errRedirect) }

// Transient reports whether a status is one of a moment. (RFC 9110 §15.5.9,
// RFC 8470 §5.2, RFC 6585 §4; of the server's own, 501, 505 and 511 last.)
func Transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500
}
