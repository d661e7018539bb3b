package broker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// refusals collects what a broker tells of callers without the secret.
type refusals struct {
	mu   sync.Mutex
	told []int
}

func (r *refusals) add(count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, count)
}

// start serves a route with the bearer "marked-token", which lives an hour.
func start(t testing.TB, r route.Route, changes ...func(*broker.Config)) *broker.Broker {
	t.Helper()
	config := broker.Config{
		Target: t.Name(), Route: r, Now: time.Now, Refused: func(int) {}, Failed: func(error) {},
		Current: func(context.Context) (credential.Credential, error) {
			return credential.Credential{Token: secret.New("marked-token"), Expiry: time.Now().Add(time.Hour)}, nil
		},
	}
	for _, change := range changes {
		change(&config)
	}
	b, err := broker.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func address(b *broker.Broker) string {
	return net.JoinHostPort(b.Address().Host, strconv.Itoa(b.Address().Port))
}

// roundTrip sends raw lines to the broker and returns the status line.
func roundTrip(t *testing.T, b *broker.Broker, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address(b))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	status, _, _ := strings.Cut(string(reply), "\r\n")
	return status
}

// TestGuard: what no client of dbt's sends never reaches a route.
func TestGuard(t *testing.T) {
	t.Parallel()
	b := start(t, route.Route{Kind: route.TokenEndpoint})
	own := address(b)
	const end = "\r\nConnection: close\r\n\r\n"
	for _, tt := range []struct{ name, request, status string }{
		{"own address", "GET / HTTP/1.1\r\nHost: " + own + end, "HTTP/1.1 405 Method Not Allowed"},
		{"localhost", "GET / HTTP/1.1\r\nHost: localhost:" + strconv.Itoa(b.Address().Port) + end, "HTTP/1.1 405 Method Not Allowed"},
		{"a name that resolves to loopback", "GET / HTTP/1.1\r\nHost: evil.example" + end, "HTTP/1.1 403 Forbidden"},
		{"another port", "GET / HTTP/1.1\r\nHost: 127.0.0.1:1" + end, "HTTP/1.1 403 Forbidden"},
		{"no host", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 403 Forbidden"},
		{"absolute form", "GET http://evil.example/ HTTP/1.1\r\nHost: " + own + end, "HTTP/1.1 502 Bad Gateway"},
		{"absolute form of itself", "GET http://" + own + "/ HTTP/1.1\r\nHost: " + own + end, "HTTP/1.1 502 Bad Gateway"},
		{"tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443" + end, "HTTP/1.1 502 Bad Gateway"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: " + own + end, "HTTP/1.1 502 Bad Gateway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := roundTrip(t, b, tt.request); got != tt.status {
				t.Errorf("status is %q, want %q", got, tt.status)
			}
		})
	}
}

// TestPort: the profile leads to the same port in every run, if it is free.
func TestPort(t *testing.T) {
	t.Parallel()
	target := rand.Text() // with a port of its own
	config := func(c *broker.Config) { c.Target = target }
	first := start(t, route.Route{Kind: route.TokenEndpoint}, config)
	second := start(t, route.Route{Kind: route.TokenEndpoint}, config)
	if first.Address().Port == second.Address().Port {
		t.Error("two brokers have one port")
	}
	if first.Address().Secret.SHA256() == second.Address().Secret.SHA256() {
		t.Error("two brokers have one secret")
	}
	port := first.Address().Port
	first.Close()
	if again := start(t, route.Route{Kind: route.TokenEndpoint}, config); again.Address().Port != port {
		t.Errorf("port is %d, was %d", again.Address().Port, port)
	}
	if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", second.Address().Port)); err != nil {
		t.Errorf("closing one closed the other: %v", err)
	}
	if host := second.Address().Host; host != "127.0.0.1" {
		t.Errorf("listens on %s", host)
	}
}

func TestNoBroker(t *testing.T) {
	t.Parallel()
	var none *broker.Broker
	if none.Address() != (route.Address{}) {
		t.Error("no broker has an address")
	}
	none.Close()
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		route route.Route
		class fault.Class
		err   string
	}{
		{"no route", route.Route{}, fault.Internal, `start broker: unknown route ""`},
		{"no host", route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{Port: 1}}, fault.Usage, "start broker: the warehouse has no host or port"},
		{"plain", route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{Host: "ch.example", Port: 8123, Plain: true}}, fault.Usage, `start broker: the warehouse "ch.example" requires TLS (plain connections are allowed only on loopback)`},
		{"unverified", route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{Host: "ch.example", Port: 8443, Unverified: true}}, fault.Usage, `start broker: the certificate of the warehouse "ch.example" must be verified (it may be unverified only on loopback)`},
		{"no authorities", route.Route{Kind: route.ClickHouse, Upstream: route.Upstream{Host: "ch.example", Port: 8443, CAFile: empty}}, fault.Usage, fmt.Sprintf("start broker: read the warehouse's certificate authorities: %q contains no certificate in PEM", empty)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := broker.Start(broker.Config{Target: "prod", Route: tt.route, Now: time.Now})
			if err == nil || err.Error() != tt.err || fault.ClassOf(err) != tt.class {
				t.Errorf("error is %v (%v), want %s (%v)", err, fault.ClassOf(err), tt.err, tt.class)
			}
		})
	}
}

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	var told refusals
	b := start(t, route.Route{Kind: route.TokenEndpoint}, func(c *broker.Config) { c.Refused = told.add })
	post := func(clientSecret string) (status int, reply map[string]any) {
		resp, err := http.PostForm("http://"+address(b)+"/any", url.Values{"grant_type": {"client_credentials"}, "client_secret": {clientSecret}, "scope": {"everything"}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, reply
	}
	status, reply := post(b.Address().Secret.Reveal())
	if life, _ := reply["expires_in"].(float64); status != http.StatusOK || reply["access_token"] != "marked-token" || reply["token_type"] != "Bearer" || life < 3590 || life > 3600 {
		t.Errorf("status %d, %v", status, reply)
	}
	for range 5 {
		if status, reply := post("guess"); status != http.StatusUnauthorized || reply["error"] != "invalid_client" || reply["access_token"] != nil {
			t.Errorf("a guess gets status %d, %v", status, reply)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 4]" {
		t.Errorf("told of %s callers, want [1 4]: the first at once, the others at the end", got)
	}
}

func TestTokenEndpointWithoutCredential(t *testing.T) {
	t.Parallel()
	b := start(t, route.Route{Kind: route.TokenEndpoint}, func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) {
			return credential.Credential{}, errors.New("request ID token: down")
		}
	})
	resp, err := http.PostForm("http://"+address(b)+"/", url.Values{"client_secret": {b.Address().Secret.Reveal()}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	want := `{"error":"temporarily_unavailable","error_description":"oidc-dbt: request ID token: down"}` + "\n"
	if resp.StatusCode != http.StatusServiceUnavailable || string(body) != want {
		t.Errorf("status %d, %s", resp.StatusCode, body)
	}
}

var ownID = regexp.MustCompile(`[?&]?query_id=oidc-dbt-[A-Z2-7]{26}(&|$)`)

// withoutID leaves out the id that the broker gives a query.
func withoutID(query string) string {
	return ownID.ReplaceAllStringFunc(query, func(id string) string {
		if id[0] == '?' && id[len(id)-1] == '&' {
			return "?"
		}
		if id[0] == '&' && id[len(id)-1] == '&' {
			return "&"
		}
		return ""
	})
}

// clickHouseServer accepts only the bearer, and answers with what it was sent.
func clickHouseServer(t testing.TB) (*httptest.Server, route.Route) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("redirect"):
			http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
			return
		case r.Header.Get("Authorization") != "Bearer marked-token":
			http.Error(w, "no bearer", http.StatusForbidden)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-ClickHouse-Summary", "{}")
		fmt.Fprintf(w, "%s %s host=%s key=%s user=%s body=%s", r.Method, withoutID(r.URL.RequestURI()), r.Host, r.Header.Get("X-ClickHouse-Key"), r.Header.Get("X-ClickHouse-User"), body)
	}))
	t.Cleanup(server.Close)
	return server, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(t, server)}
}

func TestClickHouse(t *testing.T) {
	t.Parallel()
	server, r := clickHouseServer(t)
	b := start(t, r)
	password := b.Address().Secret.Reveal()
	const wrong = "Code: 516. DB::Exception: oidc-dbt: the password does not belong to this run. (AUTHENTICATION_FAILED)\n"
	host := strings.TrimPrefix(server.URL, "https://")
	for _, tt := range []struct {
		name   string
		target string
		login  func(*http.Request)
		status int
		body   string
	}{
		{"basic", "/?database=marts", func(r *http.Request) { r.SetBasicAuth("dbt", password) }, 200, "POST /?database=marts host=" + host + " key= user= body=select 1"},
		{"headers", "/", func(r *http.Request) {
			r.Header.Set("X-ClickHouse-User", "dbt")
			r.Header.Set("X-ClickHouse-Key", password)
		}, 200, "POST / host=" + host + " key= user= body=select 1"},
		{"query", "/?password=" + password + "&user=dbt&query=select+2", func(*http.Request) {}, 200, "POST /?query=select+2 host=" + host + " key= user= body=select 1"},
		{"a session and a role", "/?session_id=s&role=r&quota_key=k", func(r *http.Request) { r.SetBasicAuth("dbt", password) }, 200, "POST /?quota_key=k&role=r&session_id=s host=" + host + " key= user= body=select 1"},
		{"another user, too", "/?user=admin", func(r *http.Request) {
			r.SetBasicAuth("dbt", password)
			r.Header.Set("X-ClickHouse-User", "admin")
		}, 200, "POST / host=" + host + " key= user= body=select 1"},
		{"another user behind a semicolon", "/?a=b;user=admin&query=select+2", func(r *http.Request) { r.SetBasicAuth("dbt", password) }, 200, "POST /?query=select+2 host=" + host + " key= user= body=select 1"},
		{"a ping", "/ping", func(r *http.Request) { r.SetBasicAuth("dbt", password) }, 200, "POST /ping host=" + host + " key= user= body=select 1"},
		{"another path", "/play", func(r *http.Request) { r.SetBasicAuth("dbt", password) }, 404, "oidc-dbt: only queries are passed on to ClickHouse\n"},
		{"another path in escapes", "/%2e%2e/play", func(r *http.Request) { r.SetBasicAuth("dbt", password) }, 404, "oidc-dbt: only queries are passed on to ClickHouse\n"},
		{"no login", "/", func(*http.Request) {}, 403, wrong},
		{"another password", "/", func(r *http.Request) { r.SetBasicAuth("dbt", password+"x") }, 403, wrong},
		{"the secret as a bearer", "/", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+password) }, 403, wrong},
		{"redirect", "/?redirect=1", func(r *http.Request) { r.SetBasicAuth("dbt", password) }, 502, "oidc-dbt: the warehouse sent a redirect, and redirects are not followed\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequest(http.MethodPost, "http://"+address(b)+tt.target, strings.NewReader("select 1"))
			if err != nil {
				t.Fatal(err)
			}
			tt.login(req)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || string(body) != tt.body {
				t.Errorf("status %d, body %q, want %d, %q", resp.StatusCode, body, tt.status, tt.body)
			}
			if bytes.Contains(body, []byte("marked-token")) {
				t.Error("the credential came back")
			}
		})
	}
}

// TestClickHouseLease: user and password may be new in each request, and hold anything.
func TestClickHouseLease(t *testing.T) {
	t.Parallel()
	var leases atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "%s %q %s %d", user, password, withoutID(r.URL.RawQuery), len(r.Header["Authorization"]))
	}))
	t.Cleanup(server.Close)
	b := start(t, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(t, server)}, func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) {
			return credential.Credential{User: fmt.Sprintf("v-dbt-%d", leases.Add(1)), Password: secret.New("a:b é\n"), Expiry: time.Now().Add(time.Hour)}, nil
		}
	})
	for i := 1; i <= 2; i++ {
		req, err := http.NewRequest(http.MethodPost, "http://"+address(b)+"/?session_id=s", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("dbt", b.Address().Secret.Reveal())
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf(`v-dbt-%d "a:b é\n" session_id=s 1`, i); err != nil || string(body) != want {
			t.Errorf("got %s, %v, want %s", body, err, want)
		}
	}
}

// TestCertificateOfAnotherServer: the credential goes only to the warehouse.
func TestCertificateOfAnotherServer(t *testing.T) {
	t.Parallel()
	_, r := clickHouseServer(t)
	r.Upstream.CAFile = "" // the system's authorities do not know this one
	b := start(t, r)
	req, err := http.NewRequest(http.MethodPost, "http://"+address(b)+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("dbt", b.Address().Secret.Reveal())
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if want := new(tls.CertificateVerificationError); resp.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "tls: failed to verify certificate") {
		t.Errorf("status %d, %s, want a %T", resp.StatusCode, body, want)
	}
}
