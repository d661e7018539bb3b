package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A way sends requests to a warehouse over HTTP. Its errors about a proxy contain
// no part of the environment.
type way struct {
	*http.Transport
	network web.Network
}

// RoundTrip implements http.RoundTripper.
func (w way) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.Transport.RoundTrip(req)
	if err == nil || errors.As(err, new(*tls.CertificateVerificationError)) { // each route handles this itself
		return resp, err
	}
	if proxy, perr := w.network.Proxy(req); proxy == nil && perr == nil {
		return nil, err
	}
	return nil, w.network.Explain(err, req.URL)
}

// upstream returns the way to a warehouse over HTTP, and its URL. It verifies
// certificates, and uses the environment's proxy unless the route names one.
// Replies are not limited, since results may have any size.
func upstream(network web.Network, u route.Upstream) (way, *url.URL, error) {
	config, err := clientTLS(network, u)
	if err != nil {
		return way{}, nil, err
	}
	base := &url.URL{Scheme: "https"}
	if u.Plain {
		base.Scheme = "http"
	}
	// as in the clients' Host header
	base.Host = strings.TrimSuffix(net.JoinHostPort(u.Host, strconv.Itoa(u.Port)), ":"+web.Port(base))
	if u.Proxy != "" {
		p, err := url.Parse(u.Proxy)
		if err != nil {
			return way{}, nil, errors.New("proxy_host and proxy_port do not form a valid URL")
		}
		network = network.By(p, "proxy_host")
	}
	return way{&http.Transport{
		Proxy:                  network.Proxy,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConnsPerHost:    min(64, limitsOf(openFiles()).known), // dbt's threads
		IdleConnTimeout:        90 * time.Second,
		OnProxyConnectResponse: network.OnProxyConnectResponse,
	}, network}, base, nil
}

// maxRoots bounds a file of certificate authorities: all of a system's are under 300 KiB.
const maxRoots = 4 << 20

// clientTLS returns how the warehouse's certificate is verified; nil for a plain
// connection, which is allowed only on loopback.
func clientTLS(network web.Network, u route.Upstream) (*tls.Config, error) {
	switch {
	case u.Host == "" || u.Port == 0:
		return nil, errors.New("the warehouse has no host or port")
	case u.Plain && !web.IsLoopback(u.Host):
		return nil, fmt.Errorf("the warehouse %q requires TLS (plain connections are allowed only on loopback)", u.Host)
	case u.Unverified && !web.IsLoopback(u.Host):
		return nil, fmt.Errorf("the certificate of the warehouse %q must be verified (it may be unverified only on loopback)", u.Host)
	case u.Plain:
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Host, RootCAs: network.Roots(), InsecureSkipVerify: u.Unverified}
	if u.AnyName {
		config.InsecureSkipVerify = true // skips the name; the chain is verified below
		config.VerifyConnection = func(s tls.ConnectionState) error {
			options := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool()}
			for _, c := range s.PeerCertificates[1:] {
				options.Intermediates.AddCert(c)
			}
			if _, err := s.PeerCertificates[0].Verify(options); err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
			}
			return nil
		}
	}
	if u.CAFile == "" {
		return config, nil
	}
	pem, err := disk.Read(u.CAFile, maxRoots)
	if err != nil {
		return nil, fmt.Errorf("read the warehouse's certificate authorities: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the warehouse's certificate authorities: %q contains no certificate in PEM", u.CAFile)
	}
	return config, nil
}
