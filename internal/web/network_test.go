package web_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

func network(env map[string]string) web.Network {
	return web.ReadNetwork(func(name string) string { return env[name] })
}

const (
	noSecretURL = " is not a URL: percent-encode its user and password"
	noURL       = " is not a URL: want http://HOST:PORT"
	noScheme    = " has an unsupported scheme, valid schemes are http, https, socks5, socks5h"
)

// TestProxyVariables: each is a URL, or nothing is sent. No error quotes one.
func TestProxyVariables(t *testing.T) {
	t.Parallel()
	tests := []struct{ value, proxy, err string }{
		{"http://proxy.corp.example:3128", "http://proxy.corp.example:3128", ""},
		{"http://proxy.corp.example:3128/", "http://proxy.corp.example:3128", ""},
		{"HTTP://proxy", "http://proxy", ""},
		{"https://proxy.corp.example", "https://proxy.corp.example", ""},
		{"socks5://proxy:1080", "socks5://proxy:1080", ""},
		{"socks5h://proxy:1080", "socks5h://proxy:1080", ""},
		{"proxy.corp.example:3128", "http://proxy.corp.example:3128", ""},
		{"proxy_1.corp.example.:3128", "http://proxy_1.corp.example.:3128", ""},
		{"svc:secret99@proxy:3128", "http://svc:secret99@proxy:3128", ""},
		{"http://svc:Win%40Secret99x%232026@127.0.0.1:3128", "http://svc:Win%40Secret99x%232026@127.0.0.1:3128", ""},
		{"http://svc:a:b!$&'()*+,;=-._~@[fd00::1]:3128", "http://svc:a%3Ab%21$&%27%28%29%2A+,;=-._~@[fd00::1]:3128", ""},
		{"http://svc@proxy", "http://svc@proxy", ""},
		{"http://@proxy", "http://@proxy", ""},
		{"http://svc:Win@Secret99x#2026@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:Win@Secret99x/2026@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:Win@Secret99x?2026@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:Win@Secret99x@127.0.0.1:3128", "", noSecretURL},
		{"svc:Win@Secret99x@127.0.0.1:3128", "", noSecretURL},
		{"http://user:HashSEKRET#word@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:100%sure@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:100%@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:pass word@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:pass\\word@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:pass\"word@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:pässword@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:[secret]@127.0.0.1:3128", "", noSecretURL},
		{"http://svc:secret99@", "", noSecretURL},
		{"http://svc:secret99@proxy:", "", noSecretURL},
		{"http://svc:secret99@:3128", "", noSecretURL},
		{"http://svc:secret99@proxy:3128/path", "", noSecretURL},
		{"DOMAIN\\svc:secret99@proxy:3128", "", noSecretURL},
		{"http:svc:secret99@proxy", "", noSecretURL},
		{"ht!tp://svc:secret99@proxy", "", noSecretURL},
		{"svc:secret99://x@proxy", "", noSecretURL},
		{"http://", "", noURL},
		{"http:", "", noURL},
		{"://proxy", "", noURL},
		{"http://proxy:port", "", noURL},
		{"http://proxy:0", "", noURL},
		{"http://proxy:65536", "", noURL},
		{"http://proxy:+80", "", noURL},
		{"http://proxy:3128 ", "", noURL},
		{" http://proxy:3128", "", noURL},
		{"http://proxy:3128\n", "", noURL},
		{"http://proxy:3128?x=y", "", noURL},
		{"http://proxy:3128#x", "", noURL},
		{"http://proxy:3128/pac", "", noURL},
		{"http://pro xy", "", noURL},
		{"http://[fd00::1", "", noURL},
		{"http://[fd00::1%25eth0]:3128", "", noURL},
		{"http://[127.0.0.1]:3128", "", noURL},
		{"http://fd00::1:3128", "", noURL},
		{"http://pröxy", "", noURL},
		{"http://%70roxy", "", noURL},
		{"true", "http://true", ""}, // as good a name as others
		{" ", "", noURL},
		{"ftp://127.0.0.1:3128", "", noScheme},
		{"socks4://127.0.0.1:3128", "", noScheme},
		{"file:///etc/passwd", "", noScheme},
		{"secret99://svc@proxy", "", noScheme},
	}
	for _, tt := range tests {
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
			n := network(map[string]string{name: tt.value})
			want := ""
			if tt.err != "" {
				want = name + tt.err
			}
			if err := n.Check(); text(err) != want || err != nil && fault.ClassOf(err) != fault.Usage {
				t.Errorf("%s=%q: error is %q (%s), want %q", name, tt.value, text(err), fault.ClassOf(err), want)
			}
			if strings.HasPrefix(strings.ToUpper(name), "HTTP_") && tt.err == "" {
				continue // for http, which only goes to this machine
			}
			u, err := n.Proxy(httptest.NewRequest(http.MethodGet, "https://sts.amazonaws.com/", nil))
			got := ""
			if u != nil {
				got = u.String()
			}
			if got != tt.proxy || text(err) != want {
				t.Errorf("%s=%q: the proxy is %q, %v, want %q, %q", name, tt.value, got, err, tt.proxy, want)
			}
			if want == "" {
				continue
			}
			if _, err := get(web.NewClient(n.Transport()), "https://192.0.2.1/"); text(err) != want || fault.ClassOf(err) != fault.Usage {
				t.Errorf("%s=%q: a request ends in %v, want %q", name, tt.value, err, want)
			}
		}
	}
}

func TestWhichProxy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		env   map[string]string
		url   string
		proxy string
		err   string
	}{
		{"none", nil, "https://a.example", "", ""},
		{"for https", map[string]string{"HTTPS_PROXY": "http://one"}, "https://a.example", "http://one", ""},
		{"for http only", map[string]string{"HTTP_PROXY": "http://one"}, "https://a.example", "", ""},
		{"the upper case first", map[string]string{"HTTPS_PROXY": "http://one", "https_proxy": "http://two"}, "https://a.example", "http://one", ""},
		{"for all", map[string]string{"ALL_PROXY": "http://all"}, "https://a.example", "http://all", ""},
		{"its own before that for all", map[string]string{"all_proxy": "http://all", "https_proxy": "http://two"}, "https://a.example", "http://two", ""},
		{"not this machine", map[string]string{"HTTP_PROXY": "http://one", "HTTPS_PROXY": "http://one", "ALL_PROXY": "http://all"}, "http://127.0.0.1:8080", "", ""},
		{"excepted", map[string]string{"HTTPS_PROXY": "http://one", "NO_PROXY": "b.example,.a.example"}, "https://x.a.example", "", ""},
		{"excepted in lower case", map[string]string{"HTTPS_PROXY": "http://one", "no_proxy": "a.example"}, "https://x.a.example", "", ""},
		{"not excepted", map[string]string{"HTTPS_PROXY": "http://one", "NO_PROXY": "b.example"}, "https://a.example", "http://one", ""},
		{"all excepted", map[string]string{"ALL_PROXY": "http://one", "NO_PROXY": "*"}, "https://a.example", "", ""},
		{"one of two is none", map[string]string{"HTTPS_PROXY": "http://one", "https_proxy": "http://a:b@c@d"}, "https://a.example", "", "https_proxy" + noSecretURL},
		{"all faults at once", map[string]string{"HTTPS_PROXY": "ftp://one", "ALL_PROXY": "http://", "NODE_EXTRA_CA_CERTS": "/nowhere"}, "https://a.example", "",
			"HTTPS_PROXY" + noScheme + "\nALL_PROXY" + noURL + "\nNODE_EXTRA_CA_CERTS names a file that does not exist"},
		{"excepted does not make it a URL", map[string]string{"HTTPS_PROXY": "http://a b", "NO_PROXY": "*"}, "https://a.example", "", "HTTPS_PROXY" + noURL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, err := network(tt.env).Proxy(httptest.NewRequest(http.MethodGet, tt.url, nil))
			got := ""
			if u != nil {
				got = u.String()
			}
			if got != tt.proxy || text(err) != tt.err {
				t.Errorf("got %q, %q, want %q, %q", got, text(err), tt.proxy, tt.err)
			}
		})
	}
}

// FuzzProxyVariables: what is accepted leads to the host that is written there,
// and what is not is never quoted.
func FuzzProxyVariables(f *testing.F) {
	for _, seed := range []string{"http://svc:Win@Secret99x#2026@127.0.0.1:1", "proxy:3128", "socks5h://u:p@[::1]:1080", "http://svc:100%sure@h", "https://h/", "a://b", "[::1]:8"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		n := network(map[string]string{"HTTPS_PROXY": value})
		u, err := n.Proxy(httptest.NewRequest(http.MethodGet, "https://sts.amazonaws.com/", nil))
		switch {
		case value == "" && (u != nil || err != nil), value != "" && (u == nil) == (err == nil):
			t.Fatalf("%q: %v, %v", value, u, err)
		case err != nil:
			if err.Error() != "HTTPS_PROXY"+noURL && err.Error() != "HTTPS_PROXY"+noSecretURL && err.Error() != "HTTPS_PROXY"+noScheme {
				t.Errorf("%q: %v", value, err)
			}
		case u != nil:
			if rest := value[strings.LastIndex(value, "@")+1:]; strings.Count(value, "@") > 1 || !strings.Contains(rest, u.Host) || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
				t.Errorf("%q: the proxy is %q", value, u)
			}
		}
	})
}

// noHost cannot be one: no server need be asked (RFC 1035 §2.3.4).
var noHost = strings.Repeat("x", 64) + ".example"

// proxy is one that replies so to each CONNECT.
func proxy(t *testing.T, reply string) string {
	t.Helper()
	return strings.TrimPrefix(raw(t, reply), "http://")
}

// TestErrorsOfProxies: they name the variable and no part of its value.
func TestErrorsOfProxies(t *testing.T) {
	t.Parallel()
	port, err := standin.Port()
	if err != nil {
		t.Fatal(err)
	}
	gone := fmt.Sprintf("127.0.0.1:%d", port)
	unknown, _ := secured(t, func(c *x509.Certificate) {}, nil)
	plain, _ := counting(t)
	const login = "set the user and password in HTTPS_PROXY, percent-encoded: http://USER:PASSWORD@HOST:PORT"
	const up = "check that the proxy is up at the host and port that HTTPS_PROXY names, or list the server's host in NO_PROXY if it needs no proxy"
	const pass = "check that the proxy of HTTPS_PROXY allows this host and can reach it; if the host needs no proxy, list it in NO_PROXY"
	tests := []struct {
		name, value string
		err, hint   string
		again       bool
	}{
		{"nobody", "http://svc:Secret99x@" + gone, "the proxy of HTTPS_PROXY cannot be reached: connection refused", up, true},
		{"no such host", "http://svc:Secret99x@" + noHost + ":3128", "the proxy of HTTPS_PROXY: no such host", "check the host in HTTPS_PROXY", false},
		{"407 without a login", "http://" + proxy(t, "HTTP/1.1 407 Proxy Authentication Required\r\nX: hunter2\r\n\r\n"), "the proxy of HTTPS_PROXY replied with status 407: it requires a user and password", login, false},
		{"407 with a login", "http://svc:Secret99x@" + proxy(t, "HTTP/1.1 407 hunter2\r\n\r\n"), "the proxy of HTTPS_PROXY replied with status 407: it rejects the user and password", login, false},
		{"403", "http://" + proxy(t, "HTTP/1.1 403 hunter2\r\n\r\n"), "the proxy of HTTPS_PROXY replied with status 403", "allow this host in the proxy, or list it in NO_PROXY", false},
		{"302", "http://" + proxy(t, "HTTP/1.1 302 hunter2\r\nLocation: https://hunter2.example\r\n\r\n"), "the proxy of HTTPS_PROXY replied with status 302", "allow this host in the proxy, or list it in NO_PROXY", false},
		{"502", "http://" + proxy(t, "HTTP/1.1 502 hunter2\r\n\r\n"), "the proxy of HTTPS_PROXY replied with status 502", pass, true},
		{"503", "http://" + proxy(t, "HTTP/1.1 503 hunter2\r\n\r\n"), "the proxy of HTTPS_PROXY replied with status 503", pass, true},
		{"no HTTP", "http://" + proxy(t, "hunter2\r\n\r\n"), "the reply is not HTTP", "", true},
		{"hangs up", "http://" + proxy(t, ""), "the proxy of HTTPS_PROXY, or the server behind it, closed the connection", pass, true},
		{"no TLS", "https://" + strings.TrimPrefix(plain.URL, "http://"), "the proxy of HTTPS_PROXY: the server does not speak TLS", "check the address and its port: TLS is required", false},
		{"of an unknown authority", strings.Replace(unknown, "https://", "https://svc:Secret99x@", 1), "the proxy of HTTPS_PROXY: tls: failed to verify certificate: x509: certificate signed by unknown authority",
			"set NODE_EXTRA_CA_CERTS to a file with the authority's certificate, to add it to the system's, or SSL_CERT_FILE, to replace them", false},
		{"SOCKS to nobody", "socks5://svc:Secret99x@" + gone, "the proxy of HTTPS_PROXY cannot be reached: connection refused", up, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := get(web.NewClient(network(map[string]string{"HTTPS_PROXY": tt.value}).Transport()), "https://sts.eu-central-1.amazonaws.com/")
			if text(err) != tt.err || web.Hint(err) != tt.hint || (web.Refusal(err) == nil) != tt.again || !web.NoReply(err) {
				t.Errorf("got %q (hint %q, again %v), want %q (%q, %v)", text(err), web.Hint(err), web.Refusal(err) == nil, tt.err, tt.hint, tt.again)
			}
		})
	}
}

// TestProxyIsUsed: with its login, and for the server that it is to reach.
func TestProxyIsUsed(t *testing.T) {
	t.Parallel()
	server, roots := secured(t, func(*x509.Certificate) {}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	asked := make(chan *http.Request, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		asked <- req
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		up, err := net.Dial("tcp", strings.TrimPrefix(server, "https://"))
		if err != nil {
			return
		}
		defer up.Close()
		go func() { _, _ = io.Copy(up, conn) }()
		_, _ = io.Copy(conn, up)
	}()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	n := network(map[string]string{"HTTPS_PROXY": "http://svc:Win%40Secret@" + listener.Addr().String()})
	body, err := get(web.NewClient(n.Trusting(pool)), strings.Replace(server, "127.0.0.1", "server.example", 1))
	if err != nil || body != "ok" {
		t.Errorf("got %q, %v", body, err)
	}
	if req := <-asked; req.Method != http.MethodConnect || !strings.HasPrefix(req.Host, "server.example:") || req.Header.Get("Proxy-Authorization") != "Basic c3ZjOldpbkBTZWNyZXQ=" {
		t.Errorf("the proxy was asked %s %s with %q", req.Method, req.Host, req.Header.Get("Proxy-Authorization"))
	}
}

// secured starts a server with TLS and returns its URL and its authority in PEM.
func secured(t *testing.T, change func(*x509.Certificate), handler http.Handler) (address string, authority []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hunter2's authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "hunter2"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"server.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(leaf)
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = quiet()
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
}

// TestLastingErrors: what another try would meet again says what to do.
func TestLastingErrors(t *testing.T) {
	t.Parallel()
	const authority = "set NODE_EXTRA_CA_CERTS to a file with the authority's certificate, to add it to the system's, or SSL_CERT_FILE, to replace them"
	good := func(*x509.Certificate) {}
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	file := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trusted, ca := secured(t, good, ok)
	expired, expiredCA := secured(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2002, 1, 1, 0, 0, 0, 0, time.UTC)
	}, ok)
	early, earlyCA := secured(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2202, 1, 1, 0, 0, 0, 0, time.UTC)
	}, ok)
	other, otherCA := secured(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"hunter2.example"}, nil }, ok)
	old := httptest.NewUnstartedServer(ok)
	old.Config.ErrorLog = quiet()
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	t.Cleanup(old.Close)
	mutual := httptest.NewUnstartedServer(ok)
	mutual.Config.ErrorLog = quiet()
	mutual.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	mutual.StartTLS()
	t.Cleanup(mutual.Close)
	mutualCA := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mutual.Certificate().Raw})
	plain, _ := counting(t)
	const dates = "compare this machine's clock with the certificate's dates; if the clock is right, the server needs a new certificate"
	const modern = "the server must support TLS 1.2 or later, and must not require a client certificate"
	tests := []struct{ name, extra, url, err, hint string }{
		{"unknown authority", "", trusted, "tls: failed to verify certificate: x509: certificate signed by unknown authority", authority},
		{"another authority", file(otherCA), trusted, "tls: failed to verify certificate: x509: certificate signed by unknown authority",
			authority + "; the certificates of NODE_EXTRA_CA_CERTS are in use, but none of them signed this server's"},
		{"known authority", file(append([]byte("# of our own\n"), ca...)), trusted, "", ""},
		{"two authorities", file(append(append([]byte{}, otherCA...), ca...)), trusted, "", ""},
		{"expired", file(expiredCA), expired, "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time NOW is after 2002-01-01T00:00:00Z", dates},
		{"not yet valid", file(earlyCA), early, "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time NOW is before 2201-01-01T00:00:00Z", dates},
		{"another's name", file(otherCA), other, `the server's certificate is not valid for host "127.0.0.1"`, "check the address; a proxy that intercepts TLS may be in between"},
		{"old TLS", "", old.URL, "the server refused the TLS connection: tls: protocol version not supported", modern},
		{"wants a certificate", file(mutualCA), mutual.URL, "the server refused the TLS connection: tls: handshake failure", modern},
		{"no TLS", "", strings.Replace(plain.URL, "http://", "https://", 1), "the server does not speak TLS", "check the address and its port: TLS is required"},
		{"no such host", "", "https://" + noHost + "/", `no such host: "` + noHost + `"`, "check the spelling, and that this machine's DNS servers know it"},
		{"redirect", "", raw(t, "HTTP/1.1 302 Found\r\nLocation: https://login.corp.example/\r\n\r\n"), `redirected to host "login.corp.example", redirects are not followed`,
			"another server, such as a proxy, may be answering at this address: check the address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := network(map[string]string{"NODE_EXTRA_CA_CERTS": tt.extra})
			if err := n.Check(); err != nil {
				t.Fatal(err)
			}
			_, err := get(web.NewClient(n.Transport()), tt.url)
			got := text(err)
			if before, rest, ok := strings.Cut(got, "current time "); ok {
				_, rest, _ = strings.Cut(rest, " ")
				got = before + "current time NOW " + rest
			}
			if got != tt.err || web.Hint(err) != tt.hint || err != nil && (web.Refusal(err) == nil || !web.NoReply(err)) {
				t.Errorf("got %q (hint %q, lasts %v), want %q (%q)", got, web.Hint(err), web.Refusal(err) != nil, tt.err, tt.hint)
			}
		})
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(otherCA)
	_, err := get(web.NewClient(network(map[string]string{"NODE_EXTRA_CA_CERTS": file(ca)}).Trusting(pool)), trusted)
	if want := "the server's certificate is not signed by any of the certificate authorities that are configured for it"; web.Hint(err) != want {
		t.Errorf("pinned: %v, hint %q, want %q: the environment adds nothing to a server's own authorities", err, web.Hint(err), want)
	}
}

func TestExtraCA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, ca := secured(t, func(*x509.Certificate) {}, nil)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hunter2")})
	const none = "names a file without a certificate in PEM (-----BEGIN CERTIFICATE-----)"
	tests := []struct{ name, path, err string }{
		{"not set", "", ""},
		{"one", write("one.pem", ca), ""},
		{"with a key before it", write("key.pem", append(key, ca...)), ""},
		{"not there", filepath.Join(dir, "hunter2"), "names a file that does not exist"},
		{"a folder", dir, "does not name a regular file"},
		{"empty", write("empty.pem", nil), none},
		{"DER", write("der.pem", []byte{0x30, 0x82, 1, 1}), none},
		{"a key alone", write("only-key.pem", key), none},
		{"malformed", write("malformed.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hunter2")})), "names a file with a malformed certificate"},
		{"too large", write("large.pem", make([]byte, 8<<20+1)), "names a file of more than 8388608 bytes"},
	}
	for _, tt := range tests {
		n := network(map[string]string{"NODE_EXTRA_CA_CERTS": tt.path})
		want := ""
		if tt.err != "" {
			want = "NODE_EXTRA_CA_CERTS " + tt.err
		}
		if err := n.Check(); text(err) != want || err != nil && fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: error is %q, want %q", tt.name, text(err), want)
		}
		sum := ""
		if tt.path != "" && tt.err == "" {
			data, err := os.ReadFile(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			hash := sha256.Sum256(data)
			sum = hex.EncodeToString(hash[:])
		}
		if got := n.ExtraCA(); got != sum {
			t.Errorf("%s: its SHA-256 is %q, want %q", tt.name, got, sum)
		}
		if (n.Roots() != nil) != (sum != "") {
			t.Errorf("%s: the roots are %v", tt.name, n.Roots())
		}
	}
	if _, err := network(map[string]string{"NODE_EXTRA_CA_CERTS": "/nowhere"}).Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "a.example"}}); err == nil {
		t.Error("a request is sent though the file is not there")
	}
}
