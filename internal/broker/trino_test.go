package broker_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// upstreamOf returns the upstream for a test server with TLS.
func upstreamOf(t testing.TB, server *httptest.Server) route.Upstream {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "upstream.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return route.Upstream{Host: u.Hostname(), Port: port, CAFile: ca}
}

// startTrino serves a Trino on loopback that answers by handler.
func startTrino(t testing.TB, handler http.HandlerFunc, changes ...func(*broker.Config)) (b *broker.Broker, upstream string) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	dir := func(c *broker.Config) { c.Dir = t.TempDir() }
	return start(t, route.Route{Kind: route.Trino, Upstream: upstreamOf(t, server)}, append([]func(*broker.Config){dir}, changes...)...), server.URL
}

// trusting returns a client that trusts only the broker's own authority.
func trusting(t testing.TB, b *broker.Broker) *http.Client {
	t.Helper()
	text, err := os.ReadFile(b.Address().CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s", text)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// askTrino sends a request as Trino's client does.
func askTrino(t testing.TB, b *broker.Broker, client *http.Client, method, target string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(method, "https://"+address(b)+target, strings.NewReader("select 1"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
	req.Header.Set("X-Trino-User", "dbt")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestTrino starts a statement, fetches its next page and cancels it.
func TestTrino(t *testing.T) {
	t.Parallel()
	var tokens sync.Map
	var count atomic.Int32
	b, upstream := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
		tokens.Store(r.Header.Get("Authorization"), true)
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Forwarded") || name == "Forwarded" || name == "X-Trino-Query-Data-Encoding" || name == "Upgrade" {
				t.Errorf("Trino got %s: %q", name, r.Header[name])
			}
		}
		if r.Header.Get("X-Trino-User") != "dbt" {
			t.Errorf("Trino got the user %q", r.Header.Get("X-Trino-User"))
		}
		sql, _ := io.ReadAll(r.Body)
		switch r.Method + " " + r.URL.RequestURI() {
		case "POST /v1/statement":
			if string(sql) != "select 1" {
				t.Errorf("Trino got %q", sql)
			}
			fmt.Fprintf(w, `{"id":"q1","infoUri":"https://%[1]s/ui/query.html?q1","nextUri":"https://%[1]s/v1/statement/queued/q1/y/1?slug=a%%2Fb","stats":{"nextUri":"https://evil.example/"}}`, r.Host)
		case "GET /v1/statement/queued/q1/y/1?slug=a%2Fb":
			fmt.Fprintf(w, `{"id":"q1","partialCancelUri":"https:\/\/%[1]s\/v1\/statement\/partialCancel","nextUri":"https://%[1]s/v1/statement/executing/q1/y/2","data":[["nextUri","https://%[1]s/"]]}`, r.Host)
		case "DELETE /v1/statement/executing/q1/y/2":
			w.WriteHeader(http.StatusNoContent)
		default:
			t.Errorf("Trino was asked for %s %s", r.Method, r.URL.RequestURI())
		}
	}, func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) { // a new one for each request
			return credential.Credential{Token: secret.New(fmt.Sprintf("token-%d", count.Add(1))), Expiry: time.Now().Add(time.Hour)}, nil
		}
	})
	client, own, host := trusting(t, b), "https://"+address(b), strings.TrimPrefix(upstream, "https://")
	for _, tt := range []struct {
		method, target string
		status         int
		body           string
	}{
		{"POST", "/v1/statement", 200, `{"id":"q1","infoUri":"` + upstream + `/ui/query.html?q1","nextUri":"` + own + `/v1/statement/queued/q1/y/1?slug=a%2Fb","stats":{"nextUri":"https://evil.example/"}}`},
		{"GET", "/v1/statement/queued/q1/y/1?slug=a%2Fb", 200, `{"id":"q1","partialCancelUri":"` + own + `/v1/statement/partialCancel","nextUri":"` + own + `/v1/statement/executing/q1/y/2","data":[["nextUri","https://` + host + `/"]]}`},
		{"DELETE", "/v1/statement/executing/q1/y/2", 204, ""},
	} {
		req, err := http.NewRequest(tt.method, own+tt.target, strings.NewReader("select 1"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{
			"Authorization": {"Bearer " + b.Address().Secret.Reveal()}, "X-Trino-User": {"dbt"}, "X-Trino-Query-Data-Encoding": {"json+zstd"},
			"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Port": {"1"}, "Forwarded": {"host=evil.example"}, "X-Forwarded-Prefix": {"/x"},
			"Connection": {"Upgrade, Authorization"}, "Upgrade": {"websocket"},
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || string(body) != tt.body {
			t.Errorf("%s %s: status %d, %v\n%s\nwant %d\n%s", tt.method, tt.target, resp.StatusCode, err, body, tt.status, tt.body)
		}
	}
	for _, token := range []string{"Bearer token-1", "Bearer token-2", "Bearer token-3"} {
		if _, ok := tokens.Load(token); !ok {
			t.Errorf("Trino did not get %q", token)
		}
	}
}

// TestTrinoRefuses: none of these requests reaches Trino.
func TestTrinoRefuses(t *testing.T) {
	t.Parallel()
	var told refusals
	b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("Trino was asked for %s %s", r.Method, r.URL)
	}, func(c *broker.Config) { c.Refused = told.add })
	own := address(b)
	good := "Authorization: Bearer " + b.Address().Secret.Reveal()
	for _, tt := range []struct{ name, request, status string }{
		{"no token", "POST /v1/statement HTTP/1.1\r\nHost: " + own, "HTTP/1.1 401 Unauthorized"},
		{"another token", "POST /v1/statement HTTP/1.1\r\nHost: " + own + "\r\n" + good + "x", "HTTP/1.1 401 Unauthorized"},
		{"the token behind another", "POST /v1/statement HTTP/1.1\r\nHost: " + own + "\r\nAuthorization: Bearer x\r\n" + good, "HTTP/1.1 401 Unauthorized"},
		{"basic", "POST /v1/statement HTTP/1.1\r\nHost: " + own + "\r\nAuthorization: Basic eDp4", "HTTP/1.1 401 Unauthorized"},
		{"another path", "GET /ui/ HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 404 Not Found"},
		{"Trino's own API", "GET /v1/query HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 404 Not Found"},
		{"dots", "GET /v1/statement/../query HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 404 Not Found"},
		{"dots in escapes", "GET /v1/statement/%2e%2e/query HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 404 Not Found"},
		{"a slash in escapes", "GET /v1/statement/..%2fquery HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 404 Not Found"},
		{"two slashes", "GET /v1/statement//x HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 404 Not Found"},
		{"a method that no client uses", "PUT /v1/statement/x HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 404 Not Found"},
		{"absolute form", "GET https://evil.example/v1/statement/x HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 502 Bad Gateway"},
		{"tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nHost: " + own + "\r\n" + good, "HTTP/1.1 502 Bad Gateway"},
		{"a name that resolves to loopback", "POST /v1/statement HTTP/1.1\r\nHost: evil.example\r\n" + good, "HTTP/1.1 403 Forbidden"},
		{"two lengths", "POST /v1/statement HTTP/1.1\r\nHost: " + own + "\r\n" + good + "\r\nContent-Length: 1\r\nContent-Length: 2", "HTTP/1.1 400 Bad Request"},
		{"length and chunks", "POST /v1/nothing HTTP/1.1\r\nHost: " + own + "\r\n" + good + "\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "HTTP/1.1 404 Not Found"},
	} {
		conn, err := tls.Dial("tcp", own, trusting(t, b).Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, tt.request+"\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(tt.request, "chunked") {
			_, _ = io.WriteString(conn, "0\r\n\r\nGET /v1/statement/smuggled HTTP/1.1\r\nHost: "+own+"\r\n"+good+"\r\n\r\n")
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if got := strings.TrimSpace(line); got != tt.status {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.status)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 3]" {
		t.Errorf("told of %s callers, want [1 3]", got)
	}
}

// TestTrinoReplies: a reply that would lead the client elsewhere, or that it
// could not read, becomes an error.
func TestTrinoReplies(t *testing.T) {
	t.Parallel()
	compressed := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, text)
		w.Close()
		return b.String()
	}
	next := func(uri string) string { return `{"id":"q","nextUri":"` + uri + `"}` }
	for _, tt := range []struct {
		name, reply string // $HOST is Trino's, $OWN the broker's
		header      http.Header
		upstream    int // status; 0 for 200
		status      int
		body        string
	}{
		{name: "good", reply: next("https://$HOST/v1/statement/x"), status: 200, body: next("https://$OWN/v1/statement/x")},
		{name: "the host in capitals", reply: next("HTTPS://$HOST/v1/statement/x"), status: 200, body: next("https://$OWN/v1/statement/x")},
		{name: "compressed", reply: compressed(next("https://$HOST/v1/statement/x")), header: http.Header{"Content-Encoding": {"gzip"}}, status: 200, body: next("https://$OWN/v1/statement/x")},
		{name: "the last page", reply: `{"id":"q","nextUri":null,"data":[]}`, status: 200, body: `{"id":"q","nextUri":null,"data":[]}`},
		{name: "an error of Trino's", reply: "JWT expired", upstream: 401, status: 401, body: "JWT expired"},
		{name: "too many requests", reply: "", upstream: 429, status: 429},
		{name: "another host", reply: next("https://evil.example/v1/statement/x"), status: 502, body: `oidc-dbt: nextUri of the reply points to "https://evil.example:443", want "https://$HOST"` + "\n"},
		{name: "another port", reply: next("https://127.0.0.1:1/v1/statement/x"), status: 502, body: `oidc-dbt: nextUri of the reply points to "https://127.0.0.1:1", want "https://$HOST"` + "\n"},
		{name: "no TLS", reply: next("http://$HOST/v1/statement/x"), status: 502, body: `oidc-dbt: nextUri of the reply points to "http://$HOST", want "https://$HOST"` + "\n"},
		{name: "a login", reply: next("https://$HOST@evil.example/v1/statement/x"), status: 502, body: `oidc-dbt: nextUri of the reply is "https://$HOST@evil.example/v1/statement/x", want a URI of the warehouse` + "\n"},
		{name: "no URI", reply: next("https://[/"), status: 502, body: `oidc-dbt: nextUri of the reply is "https://[/", want a URI of the warehouse` + "\n"},
		{name: "relative", reply: next("/v1/statement/x"), status: 502, body: `oidc-dbt: nextUri of the reply points to "://:", want "https://$HOST"` + "\n"},
		{name: "another path", reply: next("https://$HOST/ui/api"), status: 502, body: `oidc-dbt: nextUri of the reply has path "/ui/api", want one under /v1/statement/` + "\n"},
		{name: "another host in escapes", reply: `{"\u006eext\u0055ri":"\u0068ttps:\/\/evil.example\/"}`, status: 502, body: `oidc-dbt: nextUri of the reply points to "https://evil.example:443", want "https://$HOST"` + "\n"},
		{name: "another host, the second time", reply: `{"nextUri":"https://$HOST/v1/statement/x","nextUri":"https://evil.example/"}`, status: 502, body: `oidc-dbt: nextUri of the reply points to "https://evil.example:443", want "https://$HOST"` + "\n"},
		{name: "too long", reply: next("https://$HOST/v1/statement/" + strings.Repeat("x", 20000)), status: 502, body: "oidc-dbt: nextUri of the reply is longer than 16384 bytes\n"},
		{name: "not what JSON has", reply: `{"nextUri":"\x"}`, status: 502, body: "oidc-dbt: nextUri of the reply is not a JSON string\n"},
		{name: "a redirect", header: http.Header{"Location": {"https://evil.example/"}}, upstream: 307, status: 502, body: "oidc-dbt: the warehouse sent a redirect, and redirects are not followed\n"},
		{name: "compressed otherwise", reply: "x", header: http.Header{"Content-Encoding": {"br"}}, status: 502, body: `oidc-dbt: the reply's content encoding is "br", want gzip or none` + "\n"},
		{name: "compressed, it says", reply: "no gzip at all", header: http.Header{"Content-Encoding": {"gzip"}}, status: 502, body: "oidc-dbt: gzip: invalid header\n"},
		{name: "cut off", reply: `{"id":"q"`, header: http.Header{"Content-Length": {"100"}}, status: 502, body: "oidc-dbt: unexpected EOF\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, upstream := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Accept-Encoding"); got != "gzip" {
					t.Errorf("Trino was asked for encoding %q", got)
				}
				for name, values := range tt.header {
					w.Header()[name] = values
				}
				if tt.upstream != 0 {
					w.WriteHeader(tt.upstream)
				}
				reply := tt.reply
				if tt.header.Get("Content-Encoding") == "gzip" && strings.HasPrefix(reply, "\x1f") {
					reply = compressed(next("https://" + r.Host + "/v1/statement/x"))
				}
				_, _ = io.WriteString(w, strings.ReplaceAll(reply, "$HOST", r.Host))
			})
			status, body := askTrino(t, b, trusting(t, b), http.MethodGet, "/v1/statement/executing")
			want := strings.NewReplacer("$HOST", strings.TrimPrefix(upstream, "https://"), "$OWN", address(b)).Replace(tt.body)
			if status != tt.status || body != want {
				t.Errorf("status %d\n%s\nwant %d\n%s", status, body, tt.status, want)
			}
		})
	}
}

// TestTrinoLargeReplies: an error after the status has been sent cuts the reply off.
func TestTrinoLargeReplies(t *testing.T) {
	t.Parallel()
	row := `["` + strings.Repeat("a \\\"row\\\" ", 100) + `"],`
	head, rows := `{"nextUri":"https://$HOST/v1/statement/x","data":[`, strings.Repeat(row, 1000)+"[]]"
	for _, tt := range []struct {
		name, reply, body string
		size              int // the announced size of the reply, 0 for the real one
	}{
		{name: "good", reply: head + rows + "}", body: strings.Replace(head, "$HOST", "$OWN", 1) + rows + "}"},
		{name: "a foreign URI at the end", reply: head + rows + `,"nextUri":"https://evil.example/"}`},
		{name: "cut off", reply: head + rows, size: 10_000_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.size > 0 {
					w.Header().Set("Content-Length", strconv.Itoa(tt.size))
				}
				_, _ = io.WriteString(w, strings.ReplaceAll(tt.reply, "$HOST", r.Host))
			})
			req, err := http.NewRequest(http.MethodGet, "https://"+address(b)+"/v1/statement/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
			resp, err := trusting(t, b).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if tt.body == "" {
				if !errors.Is(err, io.ErrUnexpectedEOF) || bytes.Contains(body, []byte("evil")) {
					t.Errorf("error is %v, want the reply broken off", err)
				}
				return
			}
			if want := strings.Replace(tt.body, "$OWN", address(b), 1); err != nil || string(body) != want {
				t.Errorf("%v: the reply of %d bytes is not the %d that were sent", err, len(body), len(want))
			}
		})
	}
}

// TestTrinoWithoutCredential: the status is none of 502, 503 and 504, after
// which a client retries without showing the message.
func TestTrinoWithoutCredential(t *testing.T) {
	t.Parallel()
	b, _ := startTrino(t, func(http.ResponseWriter, *http.Request) { t.Error("Trino was asked") }, func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) {
			return credential.Credential{}, errors.New("request ID token: down")
		}
	})
	if status, body := askTrino(t, b, trusting(t, b), http.MethodPost, "/v1/statement"); status != http.StatusInternalServerError || body != "oidc-dbt: request ID token: down\n" {
		t.Errorf("status %d, %s", status, body)
	}
}

// TestTrinoDown: the client may retry after this status.
func TestTrinoDown(t *testing.T) {
	t.Parallel()
	b := start(t, route.Route{Kind: route.Trino, Upstream: route.Upstream{Host: "127.0.0.1", Port: closedPort(t)}}, func(c *broker.Config) { c.Dir = t.TempDir() })
	if status, body := askTrino(t, b, trusting(t, b), http.MethodPost, "/v1/statement"); status != http.StatusBadGateway || !strings.HasPrefix(body, "oidc-dbt: dial tcp ") {
		t.Errorf("status %d, %s", status, body)
	}
}

// TestAuthority: the certificate that the client trusts is valid only for
// loopback, and its key is not stored.
func TestAuthority(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, _ := startTrino(t, func(http.ResponseWriter, *http.Request) {}, func(c *broker.Config) { c.Dir = dir })
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || filepath.Join(dir, files[0].Name()) != b.Address().CAFile {
		t.Fatalf("files are %v, %v, want only %s", files, err, b.Address().CAFile)
	}
	if info, err := files[0].Info(); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v, want 0600", info.Mode(), err)
	}
	text, err := os.ReadFile(b.Address().CAFile)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		t.Fatalf("the file holds\n%s", text)
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(root.IsCA, root.MaxPathLen, root.PermittedDNSDomains, root.PermittedIPRanges, root.PermittedDNSDomainsCritical); got != "true 0 [localhost] [127.0.0.1/32] true" {
		t.Errorf("the authority is %s", got)
	}
	config := trusting(t, b).Transport.(*http.Transport).TLSClientConfig
	for _, tt := range []struct{ name, err string }{
		{"127.0.0.1", ""},
		{"localhost", ""},
		{"trino.acme.example", "tls: failed to verify certificate: x509: certificate is valid for localhost, not trino.acme.example"},
	} {
		named := config.Clone()
		named.ServerName = tt.name
		conn, err := tls.Dial("tcp", address(b), named)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			conn.Close()
		}
		if got != tt.err {
			t.Errorf("%s: error is %q, want %q", tt.name, got, tt.err)
		}
	}
	other, _ := startTrino(t, func(http.ResponseWriter, *http.Request) {})
	if conn, err := tls.Dial("tcp", address(other), config); err == nil {
		conn.Close()
		t.Error("another run's broker is trusted")
	}
}

// TestAuthorityPath: the run that has the target's port uses the same file each
// time, and does not remove another run's.
func TestAuthorityPath(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state") // does not exist yet
	target := rand.Text()                        // with a port of its own
	run := func(state string) *broker.Broker {
		b, _ := startTrino(t, func(http.ResponseWriter, *http.Request) {}, func(c *broker.Config) { c.Target, c.StateDir = target, state })
		return b
	}
	first := run(state)
	path := first.Address().CAFile
	if want := filepath.Join(state, fmt.Sprintf("ca-%d.pem", first.Address().Port)); path != want {
		t.Errorf("the file is %s, want %s", path, want)
	}
	concurrent := run(state)
	if strings.HasPrefix(concurrent.Address().CAFile, state) {
		t.Errorf("two brokers have one file: %s", concurrent.Address().CAFile)
	}
	if status, _ := askTrino(t, first, trusting(t, first), http.MethodGet, "/v1/statement/x"); status != http.StatusOK {
		t.Errorf("the first broker is not trusted any more: status %d", status)
	}
	first.Close()
	if files, err := os.ReadDir(state); err != nil || len(files) > 0 {
		t.Errorf("left are %v, %v", files, err)
	}
	second := run(state)
	if second.Address().CAFile != path {
		t.Errorf("the file is %s, was %s", second.Address().CAFile, path)
	}
	first.Close() // a second time
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the second broker's file: %v, %v", info, err)
	}
	second.Close()
	if third := run(filepath.Join(concurrent.Address().CAFile, "no folder")); filepath.Base(third.Address().CAFile) != "ca.pem" {
		t.Errorf("the file is %s", third.Address().CAFile)
	}
}

// TestAuthorityWithoutAFolder: the file cannot be written, as on a full disk.
func TestAuthorityWithoutAFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "missing")
	_, err := broker.Start(broker.Config{Target: t.Name(), Route: route.Route{Kind: route.Trino, Upstream: route.Upstream{Host: "trino.example", Port: 443}}, Dir: dir, Now: time.Now})
	if err == nil || !strings.HasPrefix(err.Error(), "start broker: write ca.pem: open "+filepath.Join(dir, ".ca.pem.")) {
		t.Errorf("error is %v", err)
	}
}

// TestReplyBeforeTheRequestIsRead: a warehouse may refuse a request before it
// has read all of it, and the client must get the whole refusal.
func TestReplyBeforeTheRequestIsRead(t *testing.T) {
	t.Parallel()
	reply := strings.Repeat("no ", 100_000)
	b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, reply)
	})
	client := trusting(t, b)
	for range 200 {
		if status, body := askTrino(t, b, client, http.MethodPost, "/v1/statement"); status != http.StatusOK || body != reply {
			t.Fatalf("status %d, %d bytes, want %d", status, len(body), len(reply))
		}
	}
}
