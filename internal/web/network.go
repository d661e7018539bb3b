package web

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A Network is the way from this machine to others, as its environment
// describes it: the proxy on the way, and the authorities that are trusted. The
// zero value connects directly and trusts the system's authorities.
type Network struct {
	proxy    func(*url.URL) (*url.URL, error) // nil for none
	variable string                           // the name of the one that names the proxy for https
	roots    *x509.CertPool                   // nil for the system's
	extra    string                           // the SHA-256 of the file of NODE_EXTRA_CA_CERTS, "" for none
	looked   bool                             // CheckRootFiles has found nothing
	fault    error
}

const extraCA = "NODE_EXTRA_CA_CERTS"

// ReadNetwork reads HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, each in
// either case, the upper one first, and NODE_EXTRA_CA_CERTS. What is wrong with
// them is the error of Check, and of every request: none goes around a proxy
// that was meant.
func ReadNetwork(getenv func(string) string) Network {
	var n Network
	var faults []error
	first := func(names ...string) (variable, value string) {
		var seen []string
		for _, name := range names {
			text := getenv(name)
			if text == "" || slices.Contains(seen, text) { // on Windows both cases are one variable
				continue
			}
			seen = append(seen, text)
			u, err := parseProxy(text)
			switch {
			case err != nil:
				faults = append(faults, fmt.Errorf("%s %w", name, err))
			case variable == "":
				variable, value = name, u
			}
		}
		return variable, value
	}
	variable, secure := first("HTTPS_PROXY", "https_proxy")
	_, plain := first("HTTP_PROXY", "http_proxy")
	other, all := first("ALL_PROXY", "all_proxy") // as curl and Python's requests take it
	if secure == "" {
		variable, secure = other, all
	}
	if plain == "" {
		plain = all
	}
	if secure != "" || plain != "" {
		n.variable = variable
		n.proxy = (&httpproxy.Config{HTTPSProxy: secure, HTTPProxy: plain, NoProxy: either(getenv, "NO_PROXY", "no_proxy")}).ProxyFunc()
	}
	if path := getenv(extraCA); path != "" {
		err := CheckRootFiles(getenv) // it is added to what these hold
		n.looked = err == nil
		if err != nil {
			faults = append(faults, err)
		} else if n.roots, n.extra, err = readExtra(path); err != nil {
			faults = append(faults, fmt.Errorf("%s %w", extraCA, err))
		}
	}
	if len(faults) > 0 {
		n.fault = fault.New(fault.Usage, errors.Join(faults...), "")
	}
	return n
}

func either(getenv func(string) string, upper, lower string) string {
	if v := getenv(upper); v != "" {
		return v
	}
	return getenv(lower)
}

// Check returns what is wrong with the environment's description of the
// network, an error of class Usage. It names variables and quotes none.
func (n Network) Check() error { return n.fault }

// CheckRootFiles is the function, unless ReadNetwork has had to look already.
func (n Network) CheckRootFiles(getenv func(string) string) error {
	if n.looked {
		return nil
	}
	return CheckRootFiles(getenv)
}

// Proxy is http.Transport's.
func (n Network) Proxy(req *http.Request) (*url.URL, error) {
	switch {
	case n.fault != nil:
		return nil, permanent{n.fault, ""}
	case n.proxy == nil:
		return nil, nil
	}
	return n.proxy(req.URL)
}

// Roots are the trusted authorities, nil for only the system's.
func (n Network) Roots() *x509.CertPool { return n.roots }

// ExtraCA returns the SHA-256 of the certificates that are trusted in addition
// to the system's, in hex; "" for none.
func (n Network) ExtraCA() string { return n.extra }

// schemes are the proxies that net/http can go by.
var schemes = []string{"http", "https", "socks5", "socks5h"}

var (
	errProxySecret = errors.New("is not a URL: percent-encode its user and password")
	errProxyURL    = errors.New("is not a URL: want http://HOST:PORT")
	errProxyScheme = fmt.Errorf("has an unsupported scheme, valid schemes are %s", strings.Join(schemes, ", "))
)

var (
	userInfo  = lazy.MustCompile(`^(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*$`) // RFC 3986 §3.2.1
	proxyHost = lazy.MustCompile(`^(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?$`)
)

// parseProxy returns a proxy's URL, with its scheme. net/url takes more, and
// then a piece of a password for the host; its errors, and ours, quote nothing.
func parseProxy(text string) (string, error) {
	malformed := errProxyURL
	if strings.Contains(text, "@") {
		malformed = errProxySecret
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "http", text // as curl has it
		if before, _, ok := strings.Cut(text, ":"); ok && slices.Contains(schemes, strings.ToLower(before)) {
			return "", malformed
		}
	}
	if scheme = strings.ToLower(scheme); !slices.Contains(schemes, scheme) {
		if !proxyHost.MatchString(scheme) {
			return "", malformed
		}
		return "", errProxyScheme
	}
	rest = strings.TrimSuffix(rest, "/")
	place := rest
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if !userInfo.MatchString(rest[:at]) {
			return "", malformed
		}
		place = rest[at+1:]
	}
	host, port := place, ""
	if colon := strings.LastIndexByte(place, ':'); colon > strings.LastIndexByte(place, ']') {
		host, port = place[:colon], place[colon+1:]
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strings.ContainsAny(port, "+-") {
			return "", malformed
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err != nil || !ip.Is6() || ip.Zone() != "" ||
			!strings.HasSuffix(inner, "]") {
			return "", malformed
		}
	} else if !proxyHost.MatchString(host) {
		return "", malformed
	}
	if _, err := url.Parse(scheme + "://" + rest); err != nil {
		return "", malformed
	}
	return scheme + "://" + rest, nil
}

// maxExtra bounds the file of NODE_EXTRA_CA_CERTS: all of Mozilla's
// authorities are 220 KiB.
const maxExtra = 8 << 20

// readExtra adds the certificates of a file, in PEM, to the system's.
// (Node.js: NODE_EXTRA_CA_CERTS)
func readExtra(path string) (pool *x509.CertPool, sum string, err error) {
	data, err := readFile(path)
	if err != nil {
		return nil, "", err
	}
	if pool, err = x509.SystemCertPool(); err != nil {
		return nil, "", errors.New("cannot be added to the system's certificate authorities, which cannot be read")
	}
	found := false
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue // OpenSSL passes over it, too
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, "", errors.New("names a file with a malformed certificate")
		}
		pool.AddCert(c)
		found = true
	}
	if !found {
		return nil, "", errors.New("names a file without a certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	hash := sha256.Sum256(data)
	return pool, hex.EncodeToString(hash[:]), nil
}

// readFile is disk.Read. Its errors do not repeat the path.
func readFile(path string) ([]byte, error) {
	data, err := disk.Read(path, maxExtra)
	var reason *fs.PathError
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("names a file that does not exist")
	case errors.As(err, new(disk.NotRegular)):
		return nil, errors.New("does not name a regular file")
	case errors.As(err, new(disk.TooLarge)):
		return nil, fmt.Errorf("names a file of more than %d bytes", maxExtra)
	case errors.As(err, &reason):
		return nil, fmt.Errorf("names a file that cannot be read: %w", reason.Err)
	}
	return nil, errors.New("names a file that cannot be read")
}

// By returns the network with another proxy, for all servers; name is what a
// user knows it by.
func (n Network) By(proxy *url.URL, name string) Network {
	n.variable, n.proxy = name, func(*url.URL) (*url.URL, error) { return proxy, nil }
	return n
}

// throughProxy returns the variable that names the proxy on the way to u, ""
// for a direct way.
func (n Network) throughProxy(u *url.URL) string {
	if n.proxy == nil {
		return ""
	}
	if p, err := n.proxy(u); err != nil || p == nil {
		return ""
	}
	return n.variable
}

// isProxy reports whether an address is that of the proxy for https.
func (n Network) isProxy(addr string) bool {
	if n.proxy == nil {
		return false
	}
	p, err := n.proxy(&url.URL{Scheme: "https", Host: "proxied.invalid"})
	return err == nil && p != nil && addr == net.JoinHostPort(p.Hostname(), Port(p))
}
