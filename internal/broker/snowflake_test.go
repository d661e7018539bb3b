package broker_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A snowflakeAccount gives sessions for any login, and serves who has one.
type snowflakeAccount struct {
	*httptest.Server
	large []byte // the reply at /large

	mu       sync.Mutex
	bodies   []string // of logins
	requests []string // of logins: request line and headers
	tokens   map[string]bool
}

func startSnowflake(t testing.TB) (*snowflakeAccount, route.Route) {
	t.Helper()
	s := &snowflakeAccount{tokens: map[string]bool{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port := hostPort(t, s.URL)
	return s, route.Route{Kind: route.Snowflake, Upstream: route.Upstream{Host: host, Port: port, CAFile: ca, Account: "acme-prod"}}
}

func hostPort(t testing.TB, rawURL string) (host string, port int) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	if port, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	return u.Hostname(), port
}

func (s *snowflakeAccount) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	open := func(name string) map[string]any {
		data := map[string]any{}
		for _, key := range []string{name, "masterToken"} {
			token := rand.Text()
			s.tokens[token], data[key] = true, token
		}
		return map[string]any{"success": true, "data": data}
	}
	var reply any
	switch token := strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Authorization"), `Snowflake Token="`), `"`); {
	case r.Method == http.MethodPost && r.URL.Path == "/session/v1/login-request":
		if r.URL.Query().Get("redirect") != "" {
			http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
			return
		}
		if r.URL.Query().Get("busy") != "" {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		s.bodies = append(s.bodies, string(body))
		s.requests = append(s.requests, fmt.Sprintf("%s %s authorization=%q encoding=%q agent=%q", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), r.Header.Get("Content-Encoding"), r.UserAgent()))
		reply = open("token")
	case !s.tokens[token]:
		reply = map[string]any{"success": false, "code": "390104"}
	case r.URL.Path == "/session/token-request":
		reply = open("sessionToken")
	case r.URL.Path == "/large":
		_, _ = w.Write(s.large) // the client is gone
		return
	case r.URL.Path == "/redirect":
		http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
		return
	case r.URL.Path == "/forget":
		delete(s.tokens, token)
		reply = map[string]any{"success": true}
	default:
		reply = map[string]any{"success": true, "echo": fmt.Sprintf("%s %s host=%s body=%s", r.Method, r.URL.RequestURI(), r.Host, body)}
	}
	w.Header().Set("Content-Type", "application/json")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		_ = json.NewEncoder(z).Encode(reply) // the client is gone
		return
	}
	_ = json.NewEncoder(w).Encode(reply)
}

// A snowflakeReply is what both Snowflake and the broker answer with.
type snowflakeReply struct {
	Success bool           `json:"success"`
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Echo    string         `json:"echo"`
	Data    map[string]any `json:"data"`
}

// askSnowflake sends a request as the connector does, with a packed body.
func askSnowflake(t testing.TB, b *broker.Broker, method, target, session string, body []byte, header ...string) (status int, reply snowflakeReply) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+address(b)+target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "PythonConnector/4.8.1")
	if session != "" {
		req.Header.Set("Authorization", session)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req) // packs and unpacks as the connector does
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(text, &reply) != nil {
		reply.Message = string(text)
	}
	return resp.StatusCode, reply
}

// idToken has a broker put in the ID token "marked-token".
func idToken(c *broker.Config) {
	c.Current = func(context.Context) (credential.Credential, error) {
		return credential.Credential{Kind: "id_token", Token: secret.New("marked-token"), Expiry: time.Now().Add(time.Hour)}, nil
	}
}

func pack(t testing.TB, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func loginBody(token string) string {
	return fmt.Sprintf(`{"data": {"CLIENT_APP_ID": "PythonConnector", "ACCOUNT_NAME": "acme-prod", "LOGIN_NAME": "DBT_PROD", "AUTHENTICATOR": "OAUTH", "TOKEN": %q, "SESSION_PARAMETERS": {"QUERY_TAG": "t", "CLIENT_N": 1.50}}, "inFlightCtx": null}`, token)
}

// logIn returns the headers by which the session and its master token are shown.
func logIn(t testing.TB, b *broker.Broker) (session, master string) {
	t.Helper()
	_, reply := askSnowflake(t, b, http.MethodPost, "/session/v1/login-request", "", pack(t, loginBody(b.Address().Secret.Reveal())), "Content-Encoding", "gzip")
	if !reply.Success {
		t.Fatalf("log in: %+v", reply)
	}
	return fmt.Sprintf("Snowflake Token=%q", reply.Data["token"]), fmt.Sprintf("Snowflake Token=%q", reply.Data["masterToken"])
}

// rsaKey is one for all tests of the package: making it takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func keyPair(t testing.TB, key any) secret.Value {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(base64.StdEncoding.EncodeToString(der))
}

// TestSnowflakeLogin: of a login nothing changes but the credential.
func TestSnowflakeLogin(t *testing.T) {
	t.Parallel()
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name    string
		c       credential.Credential
		packed  bool
		changed map[string]any // in data; nil for a key that is gone
	}{
		{"the ID token", credential.Credential{Kind: "id_token", Token: secret.New("marked-token"), Expiry: hour}, true, map[string]any{"AUTHENTICATOR": "WORKLOAD_IDENTITY", "PROVIDER": "OIDC", "TOKEN": "marked-token"}},
		{"the ID token, not packed", credential.Credential{Kind: "id_token", Token: secret.New("marked-token"), Expiry: hour}, false, map[string]any{"AUTHENTICATOR": "WORKLOAD_IDENTITY", "PROVIDER": "OIDC", "TOKEN": "marked-token"}},
		{"an access token", credential.Credential{Kind: "access_token", Token: secret.New("marked-token"), Expiry: hour}, true, map[string]any{"AUTHENTICATOR": "OAUTH", "TOKEN": "marked-token"}},
		{"a key pair", credential.Credential{Kind: "key_pair", User: `v_dbt_1`, PrivateKey: keyPair(t, rsaKey()), Expiry: hour}, true, map[string]any{"AUTHENTICATOR": "SNOWFLAKE_JWT", "LOGIN_NAME": "v_dbt_1", "TOKEN": "signed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			account, r := startSnowflake(t)
			b := start(t, r, func(c *broker.Config) {
				c.Current = func(context.Context) (credential.Credential, error) { return tt.c, nil }
			})
			text := loginBody(b.Address().Secret.Reveal())
			body, header := []byte(text), []string(nil)
			if tt.packed {
				body, header = pack(t, text), []string{"Content-Encoding", "gzip"}
			}
			status, reply := askSnowflake(t, b, http.MethodPost, "/session/v1/login-request?request_id=1&databaseName=A%20B", "", body, header...)
			if status != http.StatusOK || !reply.Success || reply.Data["token"] == "" {
				t.Fatalf("status %d, %+v", status, reply)
			}
			want := `POST /session/v1/login-request?request_id=1&databaseName=A%20B authorization="" encoding="" agent="PythonConnector/4.8.1"`
			if account.requests[0] != want {
				t.Errorf("Snowflake got\n%s, want\n%s", account.requests[0], want)
			}
			var sent, before map[string]any
			if err := json.Unmarshal([]byte(account.bodies[0]), &sent); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(text), &before); err != nil {
				t.Fatal(err)
			}
			data := sent["data"].(map[string]any)
			if tt.c.Kind == "key_pair" {
				checkSigned(t, data["TOKEN"].(string))
				data["TOKEN"] = "signed"
			}
			for key, v := range tt.changed {
				before["data"].(map[string]any)[key] = v
			}
			if diff := cmp.Diff(before, sent); diff != "" {
				t.Errorf("the login became (-want +got)\n%s", diff)
			}
			if !strings.Contains(account.bodies[0], `"CLIENT_N":1.50`) {
				t.Errorf("a number changed: %s", account.bodies[0])
			}
			if strings.Contains(account.bodies[0], b.Address().Secret.Reveal()) {
				t.Error("the route's secret went to Snowflake")
			}
		})
	}
}

// checkSigned verifies what the broker signed, as Snowflake does, with another library.
func checkSigned(t *testing.T, token string) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&rsaKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := sha256.Sum256(der)
	var claims jwt.RegisteredClaims
	_, err = jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithSubject("ACME-PROD.V_DBT_1"),
		jwt.WithIssuer("ACME-PROD.V_DBT_1.SHA256:"+base64.StdEncoding.EncodeToString(fingerprint[:]))).
		ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return &rsaKey().PublicKey, nil })
	if err != nil {
		t.Fatal(err)
	}
	if life := claims.ExpiresAt.Sub(claims.IssuedAt.Time); life != time.Minute {
		t.Errorf("what is signed lives %s", life)
	}
}

// TestSnowflakeLoginRefused: a login without the run's secret never leaves the
// broker, and the client is told why in the way that it shows.
func TestSnowflakeLoginRefused(t *testing.T) {
	t.Parallel()
	var told refusals
	account, r := startSnowflake(t)
	b := start(t, r, func(c *broker.Config) { c.Refused = told.add })
	own := b.Address().Secret.Reveal()
	good := loginBody(own)
	const notThisRuns = "oidc-dbt: the token does not belong to this run"
	const notAnObject = "oidc-dbt: read login: want a JSON object with an object data"
	for _, tt := range []struct {
		name, body, encoding, message string
		raw                           []byte // in place of body
	}{
		{name: "another token", body: loginBody(own + "x"), message: notThisRuns},
		{name: "no token", body: `{"data": {"ACCOUNT_NAME": "acme-prod"}}`, message: notThisRuns},
		{name: "an empty token", body: loginBody(""), message: notThisRuns},
		{name: "a token that is no text", body: `{"data": {"TOKEN": ["` + own + `"]}}`, message: notThisRuns},
		{name: "a token elsewhere", body: `{"TOKEN": "` + own + `", "data": {}}`, message: notThisRuns},
		{name: "a token in another case", body: strings.Replace(good, `"TOKEN"`, `"Token"`, 1), message: notThisRuns},
		{name: "a token that is overwritten", body: strings.Replace(good, `"SESSION_PARAMETERS"`, `"TOKEN": "x", "SESSION_PARAMETERS"`, 1), message: notThisRuns},
		{name: "data that is overwritten", body: strings.Replace(good, `"inFlightCtx"`, `"data": {"TOKEN": "x"}, "inFlightCtx"`, 1), message: notThisRuns},
		{name: "a password", body: `{"data": {"ACCOUNT_NAME": "acme-prod", "PASSWORD": "` + own + `"}}`, message: notThisRuns},
		{name: "another account", body: strings.Replace(good, "acme-prod", "evil", 1), message: `oidc-dbt: account is "evil", want "acme-prod"`},
		{name: "no account", body: strings.Replace(good, "ACCOUNT_NAME", "ACCOUNT", 1), message: `oidc-dbt: account is "", want "acme-prod"`},
		{name: "nothing", message: notAnObject},
		{name: "a list", body: "[" + good + "]", message: notAnObject},
		{name: "null", body: "null", message: notAnObject},
		{name: "data null", body: `{"data": null}`, message: notAnObject},
		{name: "data a text", body: `{"data": "` + own + `"}`, message: notAnObject},
		{name: "two of them", body: good + good, message: notAnObject},
		{name: "half of it", body: good[:len(good)/2], message: notAnObject},
		{name: "large", body: strings.Replace(good, "DBT_PROD", strings.Repeat("D", 1<<20), 1), message: "oidc-dbt: read login: larger than 1048576 bytes"},
		{name: "a bomb", raw: pack(t, strings.Replace(good, "DBT_PROD", strings.Repeat("D", 8<<20), 1)), encoding: "gzip", message: "oidc-dbt: read login: larger than 1048576 bytes"},
		{name: "not gzip", body: good, encoding: "gzip", message: "oidc-dbt: read login: gzip: invalid header"},
		{name: "half of gzip", raw: pack(t, good)[:60], encoding: "gzip", message: "oidc-dbt: read login: unexpected EOF"},
		{name: "another encoding", body: good, encoding: "br", message: `oidc-dbt: read login: content encoding is "br", want gzip`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.raw == nil {
				tt.raw = []byte(tt.body)
			}
			var header []string
			if tt.encoding != "" {
				header = []string{"Content-Encoding", tt.encoding}
			}
			status, reply := askSnowflake(t, b, http.MethodPost, "/session/v1/login-request", "", tt.raw, header...)
			if status != http.StatusOK || reply.Success || reply.Code != "390303" || reply.Message != tt.message {
				t.Errorf("status %d, %+v, want %s", status, reply, tt.message)
			}
		})
	}
	if len(account.bodies) > 0 {
		t.Errorf("Snowflake got %q", account.bodies)
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 8]" {
		t.Errorf("told of %s callers, want [1 8]", got)
	}
}

// TestSnowflakeSession: a client without a session of this run gets nothing.
func TestSnowflakeSession(t *testing.T) {
	t.Parallel()
	account, r := startSnowflake(t)
	b := start(t, r, idToken)
	const query, none = "/queries/v1/query-request?requestId=1", "oidc-dbt: the session does not belong to this run"
	// A session that is good at Snowflake, and was opened elsewhere.
	foreign := rand.Text()
	account.tokens[foreign] = true
	session, master := logIn(t, b)
	other := start(t, r)
	for _, tt := range []struct{ name, method, target, session string }{
		{"no session", http.MethodPost, query, ""},
		{"a made-up one", http.MethodPost, query, `Snowflake Token="x"`},
		{"one of another's", http.MethodPost, query, fmt.Sprintf("Snowflake Token=%q", foreign)},
		{"an empty one", http.MethodPost, query, `Snowflake Token=""`},
		{"the secret", http.MethodPost, query, fmt.Sprintf("Snowflake Token=%q", b.Address().Secret.Reveal())},
		{"as a bearer", http.MethodPost, query, "Bearer " + strings.Trim(strings.TrimPrefix(session, "Snowflake Token="), `"`)},
		{"without quotes", http.MethodPost, query, strings.ReplaceAll(session, `"`, "")},
		{"a login that is none", http.MethodGet, "/session/v1/login-request", ""},
		{"a login elsewhere", http.MethodPost, "/session/authenticator-request", ""},
		{"a path like the login's", http.MethodPost, "/session/v1/login-request/", ""},
		{"telemetry without a login", http.MethodPost, "/telemetry/send", ""},
		{"an OAuth token", http.MethodPost, "/oauth/token-request", ""},
		{"a renewal without the master token", http.MethodPost, "/session/token-request", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status, reply := askSnowflake(t, b, tt.method, tt.target, tt.session, nil); status != http.StatusUnauthorized || reply.Code != "390104" || reply.Message != none {
				t.Errorf("status %d, %+v", status, reply)
			}
		})
	}
	if status, _ := askSnowflake(t, other, http.MethodPost, query, session, nil); status != http.StatusUnauthorized {
		t.Errorf("another run's broker lets the session in, status %d", status)
	}
	host, port := hostPort(t, account.URL)
	for _, tt := range []struct{ method, target string }{
		{http.MethodPost, query}, {http.MethodPost, "/queries/v1/abort-request?requestId=1"}, {http.MethodPost, "/session/heartbeat?requestId=1"},
		{http.MethodPost, "/telemetry/send"}, {http.MethodGet, "/queries/01b2/result"}, {http.MethodPost, "/session?delete=true"}, {http.MethodGet, "/a%2Fb?x=1&y"},
	} {
		body := "select 1"
		status, reply := askSnowflake(t, b, tt.method, tt.target, session, []byte(body))
		if want := fmt.Sprintf("%s %s host=%s body=%s", tt.method, tt.target, net.JoinHostPort(host, strconv.Itoa(port)), body); status != http.StatusOK || reply.Echo != want {
			t.Errorf("status %d, %+v, want %s", status, reply, want)
		}
	}

	// The renewal, for which the client shows the master token.
	_, reply := askSnowflake(t, b, http.MethodPost, "/session/token-request", master, []byte(`{"requestType": "RENEW"}`))
	renewed := fmt.Sprintf("Snowflake Token=%q", reply.Data["sessionToken"])
	for name, session := range map[string]string{"the session": renewed, "the old session": session, "the master token": fmt.Sprintf("Snowflake Token=%q", reply.Data["masterToken"])} {
		if _, reply := askSnowflake(t, b, http.MethodPost, query, session, nil); !reply.Success {
			t.Errorf("after the renewal %s gets %+v", name, reply)
		}
	}
	// What Snowflake has forgotten is for Snowflake to say.
	askSnowflake(t, b, http.MethodPost, "/forget", renewed, nil)
	if status, reply := askSnowflake(t, b, http.MethodPost, query, renewed, nil); status != http.StatusOK || reply.Code != "390104" || reply.Message != "" {
		t.Errorf("a session that ended: status %d, %+v", status, reply)
	}
}

// TestSnowflakeFails: what dbt shows when there is no credential or no Snowflake.
func TestSnowflakeFails(t *testing.T) {
	t.Parallel()
	_, good := startSnowflake(t)
	current := func(c credential.Credential, err error) func(*broker.Config) {
		return func(config *broker.Config) {
			config.Current = func(context.Context) (credential.Credential, error) { return c, err }
		}
	}
	elliptic := credential.Credential{Kind: "key_pair", User: "U", PrivateKey: secret.New(base64.StdEncoding.EncodeToString([]byte("marked")))}
	text := credential.Credential{Kind: "key_pair", User: "U", PrivateKey: secret.New("-----BEGIN")}
	gone := good
	gone.Upstream.Port = closedPort(t)
	for _, tt := range []struct {
		name    string
		route   route.Route
		change  func(*broker.Config)
		query   string
		message string
	}{
		{"no credential", good, current(credential.Credential{}, errors.New("request ID token: down")), "", "oidc-dbt: request ID token: down"},
		{"a credential for elsewhere", good, current(credential.Credential{Kind: "aws_session"}, nil), "", `oidc-dbt: a credential of kind "aws_session" is not a login for Snowflake`},
		{"a key that is none", good, current(elliptic, nil), "", "oidc-dbt: sign login: the key is not in PKCS#8"},
		{"a key in PEM", good, current(text, nil), "", "oidc-dbt: sign login: the key is not in base64"},
		{"Snowflake down", gone, idToken, "", fmt.Sprintf("oidc-dbt: log in at 127.0.0.1: dial tcp 127.0.0.1:%d: connect: connection refused", gone.Upstream.Port)},
		{"Snowflake redirects", good, idToken, "?redirect=1", `oidc-dbt: log in at 127.0.0.1: redirected to host "evil.example", redirects are not followed`},
		{"another server's certificate", route.Route{Kind: route.Snowflake, Upstream: route.Upstream{Host: good.Upstream.Host, Port: good.Upstream.Port, Account: "acme-prod"}}, idToken, "",
			"oidc-dbt: log in at 127.0.0.1: tls: failed to verify certificate: x509: certificate signed by unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, tt.route, tt.change, func(c *broker.Config) { c.Hurry(20) })
			status, reply := askSnowflake(t, b, http.MethodPost, "/session/v1/login-request"+tt.query, "", []byte(loginBody(b.Address().Secret.Reveal())))
			if status != http.StatusOK || reply.Success || reply.Code != "390303" || reply.Message != tt.message {
				t.Errorf("status %d, %+v, want %s", status, reply, tt.message)
			}
		})
	}
}

// TestSnowflakeFailsLater: what clients take for a moment's fault, and ask again.
func TestSnowflakeFailsLater(t *testing.T) {
	t.Parallel()
	account, r := startSnowflake(t)
	b := start(t, r, idToken)
	session, _ := logIn(t, b)
	if status, reply := askSnowflake(t, b, http.MethodPost, "/redirect", session, nil); status != http.StatusBadGateway || reply.Message != "oidc-dbt: the warehouse sent a redirect, and redirects are not followed" {
		t.Errorf("a query that is redirected: status %d, %+v", status, reply)
	}
	login := []byte(loginBody(b.Address().Secret.Reveal()))
	if status, reply := askSnowflake(t, b, http.MethodPost, "/session/v1/login-request?busy=1", "", login); status != http.StatusServiceUnavailable {
		t.Errorf("a login while Snowflake is busy: status %d, %+v", status, reply)
	}
	account.Close()
	if status, _ := askSnowflake(t, b, http.MethodPost, "/queries/v1/query-request", session, nil); status != http.StatusBadGateway {
		t.Errorf("a query without Snowflake: status %d, want one after which clients ask again", status)
	}

	// Somebody else in Snowflake's place: for that no client asks again.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &rsaKey().PublicKey, rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", account.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: account, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: rsaKey()}}}}
	defer other.Close()
	go func() { _ = other.ServeTLS(l, "", "") }() // to Close
	const want = "oidc-dbt: tls: failed to verify certificate: x509: certificate signed by unknown authority"
	if status, reply := askSnowflake(t, b, http.MethodPost, "/queries/v1/query-request", session, nil); status != http.StatusOK || reply.Success || reply.Message != want {
		t.Errorf("a query to another server: status %d, %+v", status, reply)
	}
}

// closedPort is one where nothing listens.
func closedPort(t *testing.T) int {
	t.Helper()
	port, err := standin.Port()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestSnowflakeBehindAProxy: the block's proxy is on the broker's way, and
// sees a tunnel.
func TestSnowflakeBehindAProxy(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Method+" "+r.Host)
		mu.Unlock()
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			there.Close()
			return
		}
		go func() { _, _ = io.Copy(there, here); there.Close() }()
		_, _ = io.Copy(here, there) // to its end
		here.Close()
	}))
	defer proxy.Close()
	account, r := startSnowflake(t)
	r.Upstream.Proxy = proxy.URL
	b := start(t, r, idToken)
	session, _ := logIn(t, b)
	if _, reply := askSnowflake(t, b, http.MethodPost, "/queries/v1/query-request", session, nil); !reply.Success {
		t.Errorf("query: %+v", reply)
	}
	b.Close()
	mu.Lock()
	defer mu.Unlock()
	if want := "CONNECT " + strings.TrimPrefix(account.URL, "https://"); len(seen) == 0 || seen[0] != want {
		t.Errorf("the proxy saw %q, want %q", seen, want)
	}
}

// FuzzSnowflakeLogin: only logins of clients that show the secret reach
// Snowflake.
func FuzzSnowflakeLogin(f *testing.F) {
	account, r := startSnowflake(f)
	b := start(f, r, idToken)
	own := b.Address().Secret.Reveal()
	// The secret is another one in each process: the corpus has a word for it.
	const word = "SECRET"
	for _, seed := range []string{
		loginBody(word), loginBody("x"), `{"data": {"TOKEN": "SECRET", "TOKEN": "x"}}`, `{"data": {"ACCOUNT_NAME": "acme-prod", "TOKEN": "\u0053ECRET"}}`,
		`{"DATA": {"TOKEN": "SECRET"}}`, `[]`, `{"data": {"TOKEN": null}}`, "",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, packed bool) {
		text = bytes.ReplaceAll(text, []byte(word), []byte(own))
		body, header := text, []string(nil)
		if packed {
			body, header = pack(t, string(text)), []string{"Content-Encoding", "gzip"}
		}
		account.mu.Lock()
		account.bodies = nil
		account.mu.Unlock()
		status, reply := askSnowflake(t, b, http.MethodPost, "/session/v1/login-request", "", body, header...)
		if status != http.StatusOK {
			t.Fatalf("status %d, %+v", status, reply)
		}
		account.mu.Lock()
		defer account.mu.Unlock()
		if !reply.Success {
			if len(account.bodies) > 0 {
				t.Fatalf("refused, and Snowflake got %q", account.bodies)
			}
			return
		}
		var sent map[string]json.RawMessage
		var data map[string]any
		if err := json.Unmarshal([]byte(account.bodies[0]), &sent); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(sent["data"], &data); err != nil {
			t.Fatal(err)
		}
		name, _ := data["ACCOUNT_NAME"].(string)
		if !strings.Contains(string(text), own) || !strings.EqualFold(name, "acme-prod") || data["TOKEN"] != "marked-token" {
			t.Errorf("%q became %q", text, account.bodies[0])
		}
	})
}
