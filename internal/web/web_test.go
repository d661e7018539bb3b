package web_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	const scheme = `scheme is %q, want https (http is for loopback only)`
	tests := []struct{ url, err string }{
		{"https://sts.amazonaws.com", ""},
		{"https://HOST:8443/_services/token", ""},
		{"HTTPS://host", ""},
		{"http://127.0.0.1:8080/x", ""},
		{"http://127.9.9.9", ""},
		{"http://[::1]:80", ""},
		{"http://LocalHost", ""},
		{"http://sts.amazonaws.com", fmt.Sprintf(scheme, "http")},
		{"http://127.0.0.1.evil.example", fmt.Sprintf(scheme, "http")},
		{"http://localhost.evil.example", fmt.Sprintf(scheme, "http")},
		{"http://127.1", fmt.Sprintf(scheme, "http")}, // some resolvers take it for loopback, others do not
		{"http://0.0.0.0", fmt.Sprintf(scheme, "http")},
		{"ftp://127.0.0.1", fmt.Sprintf(scheme, "ftp")},
		{"file:///etc/passwd", "has no host, want https://HOST"},
		{"//host/x", fmt.Sprintf(scheme, "")},
		{"host", "has no host, want https://HOST"},
		{"", "has no host, want https://HOST"},
		{"https:host", "has no host, want https://HOST"},
		{"https://", "has no host, want https://HOST"},
		{"https://user@host", "contains a user"},
		{"https://127.0.0.1:80@evil.example", "contains a user"},
		{"https://host/?a=b", "has a query"},
		{"https://host/?", "has a query"},
		{"https://\u0430cme.example", "has a host that is not ASCII, want the form that begins with xn--"},
		{"https://host/#", "has a fragment"},
		{"https://host/#x", "has a fragment"},
		{"https://host\\@evil.example", "not a URL"},
		{"https://ho st", "not a URL"},
		{"https://host/\n", "not a URL"},
		{"https://host:port", "not a URL"},
	}
	for _, tt := range tests {
		if _, err := web.CheckURL(tt.url); text(err) != tt.err {
			t.Errorf("%q: error is %q, want %q", tt.url, text(err), tt.err)
		}
	}
}

// raw serves one canned reply to every connection, HTTP or not.
func raw(t *testing.T, reply string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, reply)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// get sends a request that holds a secret and reads the reply.
func get(client *http.Client, url string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer hunter2")
	resp, err := client.Do(req)
	if err != nil {
		return "", web.Cause(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), web.Cause(err)
}

// TestBadReplies: a server that echoes what it was sent, wherever it can, gets none of it into an error.
func TestBadReplies(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, reply, err string }{
		{"good", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"not HTTP", "Bearer hunter2\r\n\r\n", "the reply is not HTTP"},
		{"status not a number", "HTTP/1.1 hunter2\r\n\r\n", "the reply is not HTTP"},
		{"broken header", "HTTP/1.1 200 OK\r\nhunter2\r\n\r\n", "the reply is not HTTP"},
		{"broken length", "HTTP/1.1 200 OK\r\nContent-Length: hunter2\r\n\r\n", "the reply is not HTTP"},
		{"unknown encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: hunter2\r\n\r\n", "the reply is not HTTP"},
		{"broken trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nhunter2\r\n\r\n", "the reply is not HTTP"},
		{"nothing", "", "the server closed the connection"},
		{"cut off", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhunter2", "the server closed the connection"},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: https://login.corp.example/?token=hunter2\r\n\r\n", `redirected to host "login.corp.example", redirects are not followed`},
		{"redirect that keeps the method", "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://evil.example/\r\n\r\n", `redirected to host "evil.example", redirects are not followed`},
		{"redirect to a host of secrets", "HTTP/1.1 302 Found\r\nLocation: https://hunter2_" + strings.Repeat("x", 64) + ".example/\r\n\r\n", "redirected, redirects are not followed"},
		{"redirect to no URL", "HTTP/1.1 302 Found\r\nLocation: https://hunter2 %zz\r\n\r\n", "redirected, redirects are not followed"},
		{"announced too large", "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\nhunter2", "reply is larger than 1048576 bytes"},
		{"too large", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("hunter2 ", web.MaxBody/8) + "!", "reply is larger than 1048576 bytes"},
		{"headers too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("hunter2 ", 64<<10) + "\r\n\r\n", "the reply is not HTTP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := get(web.NewClient(web.NewTransport()), raw(t, tt.reply)+"/?secret=hunter2")
			if text(err) != tt.err {
				t.Errorf("error is %q, want %q", text(err), tt.err)
			}
		})
	}
}

func TestLargestReplyIsRead(t *testing.T) {
	t.Parallel()
	want := strings.Repeat("x", web.MaxBody)
	for _, head := range []string{"HTTP/1.1 200 OK\r\n\r\n", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(want))} {
		got, err := get(web.NewClient(web.NewTransport()), raw(t, head+want))
		if err != nil || got != want {
			t.Errorf("read %d bytes, %v, want %d", len(got), err, len(want))
		}
	}
}

func TestClientRefusesPlainHTTP(t *testing.T) {
	t.Parallel()
	// 192.0.2.0/24 is for documentation: the refusal comes before any connection.
	_, err := get(web.NewClient(web.NewTransport()), "http://192.0.2.1/")
	if want := `scheme is "http", want https (http is for loopback only)`; text(err) != want {
		t.Errorf("error is %q, want %q", text(err), want)
	}
}

func TestClientVerifiesCertificates(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	_, err := get(web.NewClient(web.NewTransport()), server.URL)
	if want := "tls: failed to verify certificate: x509: certificate signed by unknown authority"; text(err) != want {
		t.Errorf("error is %q, want %q", text(err), want)
	}
}

// TestTransportTrusts: the roots given, and no others, are trusted, for early connections too.
func TestTransportTrusts(t *testing.T) {
	t.Parallel()
	start := func() *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
		server.Config.ErrorLog = quiet()
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	server := start()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	transport := web.Network{}.Trusting(roots)
	transport.Preconnect(t.Context(), server.URL)
	if body, err := get(web.NewClient(transport), server.URL); err != nil || body != "ok" {
		t.Errorf("got %q, %v", body, err)
	}
	_, err := get(web.NewClient(web.Network{}.Trusting(x509.NewCertPool())), server.URL)
	if want := "tls: failed to verify certificate: x509: certificate signed by unknown authority"; text(err) != want {
		t.Errorf("without the root: error is %q, want %q", text(err), want)
	}
}

func TestCauseHidesTheURL(t *testing.T) {
	t.Parallel()
	err := &url.Error{Op: "Get", URL: "https://host/?token=hunter2", Err: io.ErrUnexpectedEOF}
	if got := web.Cause(err); !errors.Is(got, io.ErrUnexpectedEOF) {
		t.Errorf("cause is %q", got)
	}
	err.Err = context.DeadlineExceeded
	if got := web.Cause(err); got.Error() != "no reply in time" || !errors.Is(got, context.DeadlineExceeded) {
		t.Errorf("cause is %q", got)
	}
}

// TestNoReply: a reply that did not come, or not whole, is told from one that
// a decoder does not like, however often a library wraps it.
func TestNoReply(t *testing.T) {
	t.Parallel()
	decode := func(reply string) error {
		resp, err := web.NewClient(web.NewTransport()).Get(raw(t, reply))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(&struct{ Token string }{})
	}
	for _, tt := range []struct {
		name, reply string
		noReply     bool
		cause       string
	}{
		{"good", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false, ""},
		{"half of the JSON", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{\"to", false, ""},
		{"not JSON", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n<", false, ""},
		{"half of the reply", "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"to", true, "the server closed the connection"},
		{"nothing", "", true, "the server closed the connection"},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n", true, `redirected to host "evil.example", redirects are not followed`},
		{"too large", "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n", true, "reply is larger than 1048576 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := decode(tt.reply)
			if err != nil {
				err = fmt.Errorf("an SDK says: %w", err)
			}
			if got := web.NoReply(err); got != tt.noReply {
				t.Errorf("NoReply(%v) is %v, want %v", err, got, tt.noReply)
			}
			if got := text(web.Cause(err)); tt.noReply && got != tt.cause {
				t.Errorf("cause is %q, want %q", got, tt.cause)
			}
		})
	}
}

// counting serves and counts connections.
func counting(t *testing.T) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, &conns
}

func TestPreconnect(t *testing.T) {
	t.Parallel()
	server, conns := counting(t)
	transport := web.NewTransport()
	transport.Preconnect(context.Background(), server.URL, server.URL+"/again", "not a URL", "http://192.0.2.1")
	for deadline := time.Now().Add(5 * time.Second); conns.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if got := conns.Load(); got != 1 {
		t.Fatalf("%d connections before the request, want 1", got)
	}
	for range 2 {
		if body, err := get(web.NewClient(transport), server.URL); err != nil || body != "ok" {
			t.Fatalf("got %q, %v", body, err)
		}
	}
	if got := conns.Load(); got != 1 {
		t.Errorf("%d connections after two requests, want the one that was ready", got)
	}
}

// TestPreconnectToNobody: what fails early is met again, and told, by the request.
func TestPreconnectToNobody(t *testing.T) {
	t.Parallel()
	server, _ := counting(t)
	server.Close()
	transport := web.NewTransport()
	transport.Preconnect(context.Background(), server.URL)
	_, err := get(web.NewClient(transport), server.URL)
	var refused *net.OpError
	if !errors.As(err, &refused) {
		t.Errorf("error is %v, want a refused connection", err)
	}
}

// TestPreconnectOfTLSIsNotForPlainHTTP: the same port, asked for both ways.
func TestPreconnectOfTLSIsNotForPlainHTTP(t *testing.T) {
	t.Parallel()
	server, _ := counting(t)
	transport := web.NewTransport()
	transport.Preconnect(context.Background(), strings.Replace(server.URL, "http", "https", 1))
	if body, err := get(web.NewClient(transport), server.URL); err != nil || body != "ok" {
		t.Errorf("got %q, %v", body, err)
	}
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
