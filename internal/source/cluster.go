package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// ClusterMount is where a pod finds its cluster's authority and its own token for
// the API server. (Kubernetes: Accessing the Kubernetes API from a Pod)
const ClusterMount = "/var/run/secrets/kubernetes.io/serviceaccount"

// maxAuthority bounds the authority's file: one certificate is 2 kB.
const maxAuthority = 256 << 10

// Cluster returns what fetches the keys of an identity whose issuer, or whose
// jwks_uri, is the API server of the cluster that this process is a pod of: it
// trusts the cluster's authority only, connects to the cluster's own address
// only, and shows the pod's token there and nowhere else. The client is nil for
// any other identity.
func Cluster(getenv func(string) string, mount string, id policy.Identity) (*http.Client, error) {
	host, address := getenv("KUBERNETES_SERVICE_HOST"), id.JWKS
	if address == "" {
		address = id.Issuer
	}
	c := apiServer{host: host, mount: mount}
	if u, err := url.Parse(address); err != nil || id.Kind != "kubernetes" || host == "" || !c.is(u.Hostname()) {
		return nil, nil
	}
	failed := func(err error) error {
		return fault.New(fault.Unreachable, fmt.Errorf("fetch keys of issuer %q from the cluster's API server: %w", id.Issuer, err), mountHint)
	}
	authority, err := disk.Read(filepath.Join(mount, "ca.crt"), maxAuthority)
	if err != nil {
		return nil, failed(fmt.Errorf("read %q: %w", filepath.Join(mount, "ca.crt"), disk.Cause(err)))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, failed(fmt.Errorf("%q contains no certificate", filepath.Join(mount, "ca.crt")))
	}
	port := getenv("KUBERNETES_SERVICE_PORT_HTTPS")
	if port == "" {
		port = "443"
	}
	var dialer net.Dialer
	c.next = &http.Transport{ // no proxy: the address is the cluster's
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, net.JoinHostPort(host, port))
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: apiServerLimit, ResponseHeaderTimeout: apiServerLimit,
		DisableKeepAlives: true, // one or two requests in a run
	}
	return web.NewClient(c), nil
}

// apiServerLimit bounds how long a server of this cluster may take to answer.
const apiServerLimit = 10 * time.Second

const mountHint = "the pod needs its own token for the API server (`automountServiceAccountToken: true`); " +
	"or give the keys as a file: jwks_file"

// apiServer sends requests to the API server, each with the pod's token.
type apiServer struct {
	host, mount string
	next        http.RoundTripper
}

// is reports whether a name is the API server's: its service's, in any cluster
// domain, or its address. Who else had such a name would lack a certificate of
// the cluster's authority.
func (c apiServer) is(name string) bool {
	const service = "kubernetes.default.svc"
	return name == service || strings.HasPrefix(name, service+".") || name == c.host
}

func (c apiServer) RoundTrip(req *http.Request) (*http.Response, error) {
	if !c.is(req.URL.Hostname()) || req.URL.Scheme != "https" {
		return nil, web.Lasting(errors.New("it is not the cluster's own API server"),
			"set `jwks_uri: https://kubernetes.default.svc/openid/v1/jwks`")
	}
	path := filepath.Join(c.mount, "token")
	text, err := disk.Read(path, maxToken) // anew each time: a kubelet replaces it
	token := strings.TrimSpace(string(text))
	if err == nil && (token == "" || !headerText(token)) {
		err = errors.New("contains no token")
	}
	if err != nil {
		return nil, web.Lasting(fmt.Errorf("read %q: %w", path, disk.Cause(err)), mountHint)
	}
	own := req.Clone(req.Context())
	own.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.next.RoundTrip(own)
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return nil, web.Lasting(certificate.Err, "only servers with a certificate of the cluster's authority are asked")
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusUnauthorized:
		err = web.Lasting(fmt.Errorf("status is 401: the API server does not accept the pod's token %q", path), mountHint)
	case resp.StatusCode == http.StatusForbidden:
		err = web.Lasting(errors.New("status is 403: the pod's service account may not read the issuer's keys"),
			"bind it to the ClusterRole system:service-account-issuer-discovery")
	default:
		return resp, nil
	}
	resp.Body.Close()
	return nil, err
}
