package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
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

// TestMain checks that net/http logs nothing: on standard error its messages
// would appear between dbt's lines, and quote what servers send.
func TestMain(m *testing.M) {
	if os.Getenv("OIDC_DBT_TEST_FEW_FILES") != "" {
		serveWithFewFiles()
		return
	}
	said := &lockedBuffer{}
	log.SetOutput(io.MultiWriter(os.Stderr, said))
	status := m.Run()
	for _, ours := range []string{"httputil: ", "superfluous", "http: panic"} {
		if strings.Contains(said.String(), ours) {
			fmt.Fprintf(os.Stderr, "the broker has net/http log %q\n", ours)
			status = 1
		}
	}
	os.Exit(status)
}

type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// dial connects to a broker.
func dial(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// ended waits until the other side has closed a connection.
func ended(t testing.TB, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open after two minutes")
	}
}

// hurried divides the broker's timeouts by four: no test sends anything late.
func hurried(c *broker.Config) { c.Hurry(4) }

// withSecret sends a request with the secret, and leaves the connection open.
func withSecret(b *broker.Broker, conn net.Conn, in *bufio.Reader) (status int, err error) {
	if _, err := fmt.Fprintf(conn, "GET /credentials HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n\r\n", address(b), b.Address().Secret.Reveal()); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// TestStrangersGiveWay: connections without the secret never keep out clients
// that have it, and are closed.
func TestStrangersGiveWay(t *testing.T) {
	t.Parallel()
	b := start(t, awsContainer, gives(session("1", time.Now().Add(time.Hour))), hurried)
	own := dial(t, address(b))
	in := bufio.NewReader(own)
	if status, err := withSecret(b, own, in); status != 200 || err != nil {
		t.Fatalf("status %d, %v", status, err)
	}
	idle := make([]net.Conn, 500)
	for i := range idle {
		idle[i] = dial(t, address(b))
		switch i % 3 {
		case 1:
			_, _ = io.WriteString(idle[i], "GET /credentials HT") // slow headers
		case 2:
			_, _ = io.WriteString(idle[i], "GET /credentials HTTP/1.1\r\nHost: "+address(b)+"\r\n\r\n") // 401
		}
		if i%50 == 0 {
			late := dial(t, address(b))
			if status, err := withSecret(b, late, bufio.NewReader(late)); status != 200 || err != nil {
				t.Errorf("with %d strangers: status %d, %v", i, status, err)
			}
		}
	}
	if status, err := withSecret(b, own, in); status != 200 || err != nil {
		t.Errorf("the first connection: status %d, %v", status, err)
	}
	for _, conn := range idle {
		ended(t, conn)
	}
	if status, err := withSecret(b, own, in); status != 200 || err != nil {
		t.Errorf("the first connection, when the strangers have gone: status %d, %v", status, err)
	}
}

// TestPostgresStrangersGiveWay: the same without HTTP.
func TestPostgresStrangersGiveWay(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, trust, "127.0.0.1")
	b := start(t, pgRoute(server), pgCredential, hurried)
	idle := make([]net.Conn, 500)
	for i := range idle {
		idle[i] = dial(t, address(b))
	}
	conn, err := pgConnect(t, b, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, stranger := range idle {
		ended(t, stranger)
	}
	pgQuery(t, conn, "who")
	_ = conn.Close(t.Context())
}

// TestNoSecretNoPatience: a refused client gets its reply, and then the broker
// neither waits for the request nor reads the rest of it.
func TestNoSecretNoPatience(t *testing.T) {
	t.Parallel()
	snowflakeServer := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(snowflakeServer.Close)
	for _, tt := range []struct {
		name  string
		kind  route.Kind
		head  string // "$HOST" is the broker's
		body  string // sent repeatedly
		reply string
	}{
		{"an endless body", route.AWSContainer, "POST /credentials HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 1000000000000\r\n\r\n", "x", "HTTP/1.1 401 Unauthorized"},
		{"a body in endless pieces", route.AWSContainer, "POST /credentials HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "HTTP/1.1 401 Unauthorized"},
		{"a body that does not come", route.AWSContainer, "POST /credentials HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 10\r\n\r\n", "", "HTTP/1.1 401 Unauthorized"},
		{"another host", route.AWSContainer, "GET /credentials HTTP/1.1\r\nHost: evil.example\r\n\r\n", "", "HTTP/1.1 403 Forbidden"},
		{"another host, a body", route.AWSContainer, "POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000000000000\r\n\r\n", "x", "HTTP/1.1 403 Forbidden"},
		{"no page", route.GoogleADC, "GET /other HTTP/1.1\r\nHost: $HOST\r\n\r\n", "", "HTTP/1.1 404 Not Found"},
		{"no session", route.Snowflake, "POST /queries/v1/query-request HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 1000000000000\r\n\r\n", "x", "HTTP/1.1 401 Unauthorized"},
		{"no signature", route.S3, "PUT /lake/x HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 1000000000000\r\n\r\n", "x", "HTTP/1.1 403 Forbidden"},
		{"nothing that is asked for", route.AWSContainer, "", "", ""},
		{"headers without an end", route.AWSContainer, "GET /credentials HTTP/1.1\r\nHost: $HOST\r\n", "", ""},
		{"a login that does not come", route.Snowflake, "POST /session/v1/login-request HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 1000\r\n\r\n", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, route.Route{Kind: tt.kind, Upstream: upstreamOf(t, snowflakeServer)}, gives(session("1", time.Now().Add(time.Hour))), hurried, func(c *broker.Config) { c.Dir = t.TempDir() })
			conn := dial(t, address(b))
			_, _ = io.WriteString(conn, strings.ReplaceAll(tt.head, "$HOST", address(b)))
			var sent sync.WaitGroup
			sent.Go(func() {
				for tt.body != "" {
					if _, err := io.WriteString(conn, tt.body); err != nil {
						return // the broker has closed the connection
					}
				}
			})
			_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
			reply, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open after two minutes")
			}
			if got, _, _ := strings.Cut(string(reply), "\r\n"); got != tt.reply {
				t.Errorf("the reply is %q, want %q", got, tt.reply)
			}
			sent.Wait()
		})
	}
}

// TestHealthGuard: a browser learns nothing by DNS rebinding.
func TestHealthGuard(t *testing.T) {
	t.Parallel()
	b := start(t, route.Route{Kind: route.TokenEndpoint})
	h, err := b.ServeHealth(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	_, port, _ := net.SplitHostPort(h.Address())
	for host, want := range map[string]string{
		h.Address(): "HTTP/1.1 200 OK", "localhost:" + port: "HTTP/1.1 200 OK",
		"evil.example": "HTTP/1.1 403 Forbidden", "evil.example:" + port: "HTTP/1.1 403 Forbidden", "127.0.0.1": "HTTP/1.1 403 Forbidden",
	} {
		conn := dial(t, h.Address())
		if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
			t.Fatal(err)
		}
		reply, err := io.ReadAll(conn) // until the broker closes the connection
		if got, _, _ := strings.Cut(string(reply), "\r\n"); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", host, got, err, want)
		}
	}
}

// TestHopByHop: headers that concern only one connection are not forwarded, and
// no connection is upgraded to a protocol that the broker does not inspect.
func TestHopByHop(t *testing.T) {
	t.Parallel()
	for _, kind := range []route.Kind{route.ClickHouse, route.GoogleStorage, route.S3, route.Snowflake, route.Trino} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/session/") {
					fmt.Fprint(w, `{"success":true,"data":{"token":"t","masterToken":"m"}}`)
					return
				}
				if asked.Add(1) > 1 {
					return // the broker ends its session itself
				}
				for _, name := range []string{"Connection", "Upgrade", "Te", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "X-Named"} {
					if got, ok := r.Header[name]; ok {
						t.Errorf("the warehouse got %s: %q", name, got)
					}
				}
				w.Header().Set("Upgrade", "websocket")
				w.Header().Set("Connection", "Upgrade")
				w.WriteHeader(http.StatusSwitchingProtocols)
			}))
			t.Cleanup(server.Close)
			u := upstreamOf(t, server)
			u.Account = "ACME"
			b := start(t, route.Route{Kind: kind, Upstream: u}, gives(numbered(1)), func(c *broker.Config) { c.Dir = t.TempDir() })
			scheme, client := "http://", http.DefaultTransport
			if kind == route.Trino {
				scheme, client = "https://", trusting(t, b).Transport
			}
			target := map[route.Kind]string{route.ClickHouse: "/", route.Trino: "/v1/statement/x", route.Snowflake: "/queries"}[kind]
			if target == "" {
				target = "/lake/x"
			}
			req, err := http.NewRequest("GET", scheme+address(b)+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			showSecret(t, b, kind, req)
			for name, value := range map[string]string{
				"Connection": "Upgrade, X-Named", "Upgrade": "websocket", "Te": "trailers", "Keep-Alive": "1", "Proxy-Connection": "keep-alive", "Proxy-Authorization": "Basic eDp5", "X-Named": "x",
			} {
				req.Header.Set(name, value)
			}
			resp, err := client.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode == http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "" || asked.Load() != 1 {
				t.Errorf("status %d, %v, asked %d times", resp.StatusCode, resp.Header, asked.Load())
			}
		})
	}
}

// showSecret adds the secret to a request as the kind's clients do.
func showSecret(t *testing.T, b *broker.Broker, kind route.Kind, req *http.Request) {
	t.Helper()
	own := b.Address().Secret.Reveal()
	switch kind {
	case route.S3:
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=x")
		req.Header.Set("X-Amz-Security-Token", own)
	case route.ClickHouse:
		req.SetBasicAuth("dbt", own)
	case route.Snowflake:
		resp, err := http.Post("http://"+address(b)+"/session/v1/login-request", "application/json", strings.NewReader(fmt.Sprintf(`{"data":{"ACCOUNT_NAME":"acme","TOKEN":%q}}`, own)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		req.Header.Set("Authorization", `Snowflake Token="t"`)
	default:
		req.Header.Set("Authorization", "Bearer "+own)
	}
}

// TestFewFiles: with few descriptors the broker goes on working, refused
// clients learn which limit was reached, and nothing is left open.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // which has no such limit
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -n 64; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), "OIDC_DBT_TEST_FEW_FILES=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &lockedBuffer{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // in case the test fails before its end
	var to, own string
	out := bufio.NewReader(stdout)
	if _, err := fmt.Fscan(out, &to, &own); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	const words = "oidc-dbt: 5 connections to the broker are open, which is the maximum\n"
	var served, full int
	var open []net.Conn
	for range 12 {
		conn, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
		_, _ = fmt.Fprintf(conn, "GET /credentials HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n\r\n", to, own)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		text, _ := io.ReadAll(resp.Body)
		switch {
		case resp.StatusCode == 200:
			served++
		case resp.StatusCode == 503 && string(text) == words:
			full++
			conn.Close() // only one refusal can be open at a time
		default:
			t.Errorf("status %d, %s", resp.StatusCode, text)
		}
	}
	if served != 5 || full != 7 {
		t.Errorf("%d were served and %d told that there is no room, want 5 and 7", served, full)
	}
	// A client that closes its connection makes room.
	open[0].Close()
	conn, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET /credentials HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n\r\n", to, own)
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("%v, %v, want the place that became free", resp, err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	const warning = "5 connections to the broker are open, which is the maximum (the limit of open files is 64: raise it to 3248 with ulimit -n or LimitNOFILE, or use fewer threads)\n"
	if said.String() != warning {
		t.Errorf("said %q, want %q", said, warning)
	}
}

// serveWithFewFiles is the other process of TestFewFiles: a broker whose
// renewals need 15 descriptors.
func serveWithFewFiles() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	count := func() int {
		entries, err := os.ReadDir("/dev/fd")
		if err != nil {
			fail(err)
		}
		return len(entries)
	}
	before := count()
	config := broker.Config{
		Target: "few-files", Route: awsContainer, Now: time.Now, Refused: func(int) {}, Failed: func(err error) { fmt.Fprintln(os.Stderr, err) },
		Current: func(context.Context) (credential.Credential, error) {
			var files []*os.File
			defer func() {
				for _, f := range files {
					f.Close()
				}
			}()
			for range 15 {
				f, err := os.Open(os.DevNull)
				if err != nil {
					return credential.Credential{}, err
				}
				files = append(files, f)
			}
			return credential.Credential{Expiry: time.Now().Add(time.Hour), AWS: &credential.AWS{AccessKeyID: secret.New("ASIA")}}, nil
		},
	}
	hurried(&config)
	b, err := broker.Start(config)
	if err != nil {
		fail(err)
	}
	fmt.Println(address(b), b.Address().Secret.Reveal())
	_, _ = io.Copy(io.Discard, os.Stdin)
	b.Close()
	for range 600 {
		if count() <= before+1 && runtime.NumGoroutine() <= 3 { // one descriptor is the poller's
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	stacks := make([]byte, 64<<10)
	fail(fmt.Errorf("%d descriptors, %d before, %d goroutines:\n%s", count(), before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)]))
}
