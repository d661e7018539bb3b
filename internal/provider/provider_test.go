package provider_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// fixtures are the exchanges that every test here runs, by the provider's name
// in the production map. To add one: write `var NAME = []fixture{…}` in
// NAME_test.go, add its line here, run `go test ./internal/provider -update`,
// and read what came into testdata: requests/FIXTURE.http is what goes over
// the wire, bad/FIXTURE.txt what a user is told when a reply is no good.
var fixtures = map[string][]fixture{
	"aws":             aws,
	"databricks":      databricks,
	"entra":           entra,
	"gcp":             gcp,
	"identity_center": identityCenter,
	"login":           login,
	"oidc":            oidc,
	"token_exchange":  tokenExchange,
	"vault":           vault,
}

// A fixture is one exchange: what the policy says, what each server replies,
// and the credential that comes of it.
type fixture struct {
	name   string                 // of its golden files
	target string                 // the target's keys in YAML, indented by four: exchange, dbt, lifetime …; `allow` is added
	claims map[string]any         // changes to those of standin.GitHubClaims; nil removes one
	place  credential.Warehouse   // what the adapter reads from a profiles.yml, where the policy says `from`
	held   *credential.Credential // it is not an exchange, but the renewal of this one
	login  bool                   // what is exchanged is a person's login
	sso    bool                   // that is one at IAM Identity Center
	people bool                   // the ID token is a person's
	hops   []hop
	// end is the request that ends what an exchange had begun when it failed, as
	// request.what has it; "" where nothing is to be ended.
	end  string
	want issued
}

// issued is what a credential is to be.
type issued struct {
	kind, id, user string
	life           time.Duration
}

// A hop is one request and the good reply to it, in JSON or XML. It is 1
// January 2000, 00:00 UTC. The paths name fields of the reply: names divided
// by dots in JSON, elements in XML. Whatever a bad reply does to a named
// field, the exchange must fail.
type hop struct {
	name      string
	reply     string
	secrets   []string // credentials
	expiry    string   // seconds from now, seconds since 1970, or a time: the bad ones follow from the good one
	kind      string   // the token's type, where the provider must look at it
	also      []mutation
	refusal   string    // the form of the vendor's errors, with $STATUS, $CODE and $MESSAGE
	refusals  []refusal // the vendor's own, the first also with what was sent in its words
	passing   []refusal // the vendor's for what is over in a moment
	mediaType string    // "application/json" for JSON and "text/xml" for XML where it is ""
}

// A mutation is a good reply with another value at a path, or without one.
type mutation struct {
	path  string
	value any // nil to leave the field out
}

// A refusal is an error reply of the vendor's.
type refusal struct {
	status        int
	code, message string
}

// start is when every bubble of testing/synctest begins: nothing here waits
// for real, and every message is the same each time.
var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// A run is a fixture with the token and the grant that it starts from.
type run struct {
	fixture
	grant     policy.Grant
	warehouse credential.Warehouse
	idToken   secret.Value
}

// eachFixture calls test for every fixture of every provider of the production map.
func eachFixture(t *testing.T, test func(t *testing.T, r run)) {
	t.Helper()
	issuer, verifier := startIssuer(t)
	if got, want := slices.Sorted(maps.Keys(fixtures)), provider.Names(); !slices.Equal(got, want) {
		t.Errorf("there are fixtures for %q, want %q", got, want)
	}
	for _, name := range provider.Names() {
		if len(fixtures[name]) == 0 {
			t.Errorf("provider %q has no fixture", name)
		}
		for _, f := range fixtures[name] {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				r := f.authorize(t, issuer, verifier)
				if r.grant.Provider() != name {
					t.Fatalf("the policy is one of provider %q, want %q", r.grant.Provider(), name)
				}
				test(t, r)
			})
		}
	}
}

func startIssuer(t testing.TB) (*standin.Issuer, *idtoken.Verifier) {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer, idtoken.NewVerifier(web.NewClient(web.NewTransport()), func() time.Time { return start }, idtoken.Issuer{URL: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks"})
}

// authorize gets the grant as the product does: the policy is parsed, the
// token verified, and the claims decided upon.
func (f fixture) authorize(t *testing.T, issuer *standin.Issuer, verifier *idtoken.Verifier) run {
	t.Helper()
	kind, rule := standin.Identity("")
	if f.login || f.people {
		kind, rule = standin.Identity("{login: {}}")
	}
	if f.sso {
		kind = `kind: people, audience: oidc-dbt, aws_sso: {start_url: "https://acme.awsapps.com/start", region: eu-central-1, ` +
			`account: "123456789012", role: Analyst}`
	}
	text := fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %s, %s}\ntargets:\n  prod:\n    %s\n    allow:\n      - %s\n",
		issuer.URL(), kind, strings.TrimSpace(f.target), rule)
	p, err := policy.Parse("policy", []byte(text), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
	if err != nil {
		t.Fatal(err)
	}
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]any{"jti": "jti", "iat": start.Unix(), "nbf": start.Unix(), "exp": start.Add(5 * time.Minute).Unix()}
	maps.Copy(changes, f.claims)
	r := run{fixture: f, warehouse: f.place, idToken: secret.New(issuer.Sign(target.Audience(), changes))}
	claims, err := verifier.Verify(t.Context(), r.idToken, target.Audience())
	if err != nil {
		t.Fatal(err)
	}
	if r.grant, err = p.Authorize("prod", claims, start); err != nil {
		t.Fatal(err)
	}
	if dbt := r.grant.DBT(); dbt.Block != nil {
		if r.warehouse, err = adapter.Warehouse(dbt.Type, r.grant.Provider(), dbt.Block); err != nil {
			t.Fatal(err)
		}
	}
	if err := provider.Check(r.grant.Provider(), r.grant.Exchange(), r.warehouse); err != nil {
		t.Fatal(err)
	}
	return r
}

// typed returns the warehouse of a pair.
func typed(dbtType, providerName string, w credential.Warehouse) credential.Warehouse {
	w.Name, w.Asks = fmt.Sprintf("type %q", dbtType), adapter.Asks(dbtType, providerName)
	return w
}

// A result is what came of an exchange.
type result struct {
	credential credential.Credential
	err        error
	requests   []request
}

// A request is one that came to the server.
type request struct {
	*http.Request
	body string
}

// what tells one hop from another.
func (r request) what() string {
	form, _ := url.ParseQuery(r.body) // JSON has no action in it
	return strings.TrimSpace(strings.Join([]string{r.Method, r.Host, r.RequestURI, form.Get("Action"), r.Header.Get("X-Amz-Target")}, " "))
}

// exchange runs the real exchange over the real client. Below the client,
// every host is one server in memory.
func (r run) exchange(t *testing.T, serve func(w http.ResponseWriter, req request)) (res result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		listener := newPipes()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if r.login && !r.sso && req.Method == http.MethodGet {
				fmt.Fprintf(w, `{"issuer": %q, "token_endpoint": "https://id.acme.example/token"}`, r.grant.Claims().Issuer())
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Errorf("read a request: %v", err)
			}
			mu.Lock()
			res.requests = append(res.requests, request{req, string(body)})
			mu.Unlock()
			synctest.Wait() // until the client has sent all, which a reply at once would interrupt
			serve(w, request{req, string(body)})
		})}
		go server.Serve(listener)
		transport := &http.Transport{DialContext: listener.dial, DialTLSContext: listener.dial}
		env := exchange.Env{HTTP: web.NewClient(transport), Now: time.Now}
		if r.login {
			env.Login = r.signedIn(t, env)
		}
		if r.held != nil {
			res.credential, res.err = provider.Renew(t.Context(), env, r.grant, *r.held)
		} else {
			res.credential, res.err = provider.Exchange(t.Context(), env, r.grant, r.warehouse, r.idToken)
		}
		transport.CloseIdleConnections()
		server.Close()
	})
	return res
}

// good runs the exchange with the good replies, one after the other.
func (r run) good(t *testing.T) result {
	t.Helper()
	var next atomic.Int32
	return r.exchange(t, func(w http.ResponseWriter, req request) {
		if n := int(next.Add(1)); n <= len(r.hops) {
			r.hops[n-1].send(w, http.StatusOK, r.hops[n-1].reply)
			return
		}
		t.Errorf("a request too many: %s", req.what())
		w.WriteHeader(http.StatusTeapot)
	})
}

// send writes a reply in the hop's media type.
func (h hop) send(w http.ResponseWriter, status int, body string) {
	mediaType := h.mediaType
	switch {
	case mediaType != "":
	case strings.HasPrefix(h.reply, "<"):
		mediaType = "text/xml"
	default:
		mediaType = "application/json"
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // the client may be gone
}

// pipes is a network in memory, on which testing/synctest can tell that
// everybody waits.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// TestRequests: what goes over the wire, and the credential that comes of it.
func TestRequests(t *testing.T) {
	t.Parallel()
	checkGolden(t, "requests", ".http")
	eachFixture(t, func(t *testing.T, r run) {
		res := r.good(t)
		if res.err != nil {
			t.Fatal(res.err)
		}
		c := res.credential
		if got := (issued{string(c.Kind), c.ID, c.User, c.Expiry.Sub(start)}); got != r.want {
			t.Errorf("issued is %+v, want %+v", got, r.want)
		}
		if len(c.Secrets()) == 0 {
			t.Error("the credential has no secret in it")
		}
		for _, s := range []string{c.ID, c.User} {
			if part := leaked(s, r.secrets(len(r.hops))); part != "" {
				t.Errorf("the audit record would hold %q of a secret", part)
			}
		}
		var text strings.Builder
		if len(res.requests) != len(r.hops) {
			t.Fatalf("there are %d requests, want %d", len(res.requests), len(r.hops))
		}
		for i, req := range res.requests {
			fmt.Fprintf(&text, "### %s\n%s\n", r.hops[i].name, r.show(req))
		}
		golden.Compare(t, filepath.Join("testdata", "requests", r.name+".http"), text.String())
		if got, want := hosts(t, provider.Endpoints(r.grant.Provider(), r.grant.Exchange(), r.warehouse)), requested(res.requests); !r.login && !slices.Equal(got, want) {
			t.Errorf("Endpoints are at %q, the requests went to %q", got, want)
		}
	})
}

// hosts returns the hosts of URLs, each once.
func hosts(t *testing.T, endpoints []string) (list []string) {
	t.Helper()
	for _, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(list, u.Host) {
			list = append(list, u.Host)
		}
	}
	return list
}

func requested(requests []request) (list []string) {
	for _, r := range requests {
		if !slices.Contains(list, r.Host) {
			list = append(list, r.Host)
		}
	}
	return list
}

// unstable is what differs from run to run, or from one version of an SDK to the next.
var unstable = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\bSignature=[0-9a-f]{64}\b`), "Signature=SIGNATURE"},
	{regexp.MustCompile(`(?m)^(Amz-Sdk-Invocation-Id: ).*`), "${1}UUID"},
}

// show writes a request as a file of HTTP; each parameter of a form on a line.
func (r run) show(req request) string {
	body := req.body
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s\nHost: %s\n", req.Method, req.RequestURI, req.Host)
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		if name == "User-Agent" || name == "Content-Length" || name == "X-Goog-Api-Client" {
			continue
		}
		for _, v := range req.Header[name] {
			fmt.Fprintf(&out, "%s: %s\n", name, v)
		}
	}
	if strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body = strings.ReplaceAll(body, "&", "\n&")
	}
	if body = strings.TrimSuffix(body, "\n"); body != "" {
		out.WriteString("\n" + body + "\n")
	}
	text := strings.ReplaceAll(out.String(), r.idToken.Reveal(), "$ID_TOKEN")
	for _, u := range unstable {
		text = u.pattern.ReplaceAllString(text, u.with)
	}
	return text
}

// secrets are the ID token, or the credential that is renewed, and every secret of the good replies to the first hops.
func (r run) secrets(hops int) []string {
	list := []string{r.idToken.Reveal()}
	switch {
	case r.sso && hops == 0: // the ID token goes nowhere, and this only to the portal
		list = []string{session}
	case r.sso:
		list = nil
	}
	if r.held != nil { // a renewal sends no ID token
		list = nil
		for _, s := range r.held.Secrets() {
			list = append(list, s.Reveal())
		}
	}
	for _, h := range r.hops[:hops] {
		for _, path := range h.secrets {
			if s, ok := h.at(path).(string); ok {
				list = append(list, s)
			}
		}
	}
	return list
}

// leaked returns a part of a secret that is in text: twelve characters in a row.
func leaked(text string, secrets []string) string {
	for _, s := range secrets {
		size := min(12, len(s))
		for i := 0; i+size <= len(s); i++ {
			if strings.Contains(text, s[i:i+size]) {
				return s[i : i+size]
			}
		}
	}
	return ""
}

// marker is in the body of every bad reply that is not the vendor's own.
const marker = "hunter2-in-the-body"

// A badReply is what no server should say.
type badReply struct {
	name  string
	reply func(w http.ResponseWriter, req request)
	maybe bool // a provider may take it for good
}

// badReplies are the ones to hop number at: the same for every provider, and
// those that follow from the good reply.
func (r run) badReplies(t *testing.T, at int) (list []badReply) {
	t.Helper()
	h := r.hops[at]
	add := func(name string, reply func(http.ResponseWriter, request)) {
		list = append(list, badReply{name: name, reply: reply})
	}
	body := func(name string, status int, mediaType, text string) {
		add(name, func(w http.ResponseWriter, _ request) {
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		})
	}
	const html = "<!DOCTYPE html><html><title>" + marker + "</title><p>Sign in</html>"
	body("empty", 200, "", "")
	body("no content", 204, "", "")
	body("HTML", 200, "text/html", html)
	body("{}", 200, "application/json", "{}")
	body("null", 200, "application/json", "null")
	body("a list", 200, "application/json", `["`+marker+`"]`)
	body("a string", 200, "application/json", `"`+marker+`"`)
	body("JSON of another shape", 200, "application/json", `{"message": "`+marker+`", "data": [1, {"token": "`+marker+`"}]}`)
	body("XML of another shape", 200, "text/xml", `<Other xmlns="urn:other"><Token>`+marker+`</Token></Other>`)
	body("truncated", 200, "application/json", h.reply[:len(h.reply)/2])
	body("not UTF-8", 200, "application/json", "\xff\xfe{\"message\": \""+marker+"\"}")
	add("too large", func(w http.ResponseWriter, _ request) { h.send(w, 200, strings.Repeat(" ", web.MaxBody)+h.reply) })
	list = append(list, badReply{"another media type", func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, h.reply)
	}, true})
	for _, status := range []int{302, 307} {
		add(fmt.Sprintf("%d", status), func(w http.ResponseWriter, req request) {
			w.Header().Set("Location", "https://evil.example/?token="+url.QueryEscape(req.body))
			w.WriteHeader(status)
		})
	}
	body("300 without a place", 300, "text/html", html)
	for _, status := range []int{400, 403, 404} {
		body(fmt.Sprintf("%d HTML", status), status, "text/html", html)
	}
	body("401 empty", 401, "", "")
	body("400 JSON of another shape", 400, "application/json", `{"`+marker+`": {"error": 7}}`)
	for _, status := range []int{405, 407, 410, 501, 511} {
		body(fmt.Sprint(status), status, "text/html", html)
	}
	for _, status := range []int{408, 425} {
		body(fmt.Sprint(status), status, "text/html", html)
	}
	add("429 for ten minutes", func(w http.ResponseWriter, _ request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	body("429 HTML", 429, "text/html", html)
	body("500 HTML", 500, "text/html", html)
	body("503 empty", 503, "", "")
	add("cut off before the reply", cut(""))
	add("cut off in the body", cut(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(h.reply), h.reply[:len(h.reply)/2])))
	add("not HTTP", cut("SSH-2.0-"+marker+"\r\n\r\n"))
	add("silence", func(_ http.ResponseWriter, req request) { <-req.Context().Done() })
	add("silence in the body", func(w http.ResponseWriter, req request) {
		_, _ = io.WriteString(w, h.reply[:1])
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	})

	if len(h.refusals) == 0 {
		t.Errorf("hop %q has no refusal of the vendor's", h.name)
	}
	refuse := func(name string, status int, code, message string) {
		add(name, func(w http.ResponseWriter, _ request) {
			h.send(w, status, strings.NewReplacer("$STATUS", fmt.Sprint(status), "$CODE", code, "$MESSAGE", message).Replace(h.refusal))
		})
	}
	for i, v := range slices.Concat(h.refusals, h.passing) {
		refuse(fmt.Sprintf("%d %s", v.status, v.code), v.status, v.code, v.message)
		if i > 0 {
			continue
		}
		sent, first := strings.Join(r.secrets(at), " "), r.idToken.Reveal()
		if r.sso {
			first = r.secrets(at)[0]
		}
		refuse(fmt.Sprintf("%d %s with what was sent", v.status, v.code), v.status, v.code, "Invalid token: "+sent+".")
		refuse(fmt.Sprintf("%d with what was sent for a code", v.status), v.status, first, v.message)
		refuse(fmt.Sprintf("%d with a long message", v.status), v.status, v.code, strings.Repeat("na ", 400))
		refuse("429 with what was sent", 429, v.code, sent)
		refuse("500 with what was sent", 500, v.code, sent)
	}
	for _, m := range h.mutations(t) {
		name := m.path + " left out"
		if m.value != nil {
			value, err := json.Marshal(m.value)
			if err != nil {
				t.Fatal(err)
			}
			name = fmt.Sprintf("%s: %s", m.path, value)
		}
		text := h.with(t, m)
		add(name, func(w http.ResponseWriter, _ request) { h.send(w, 200, text) })
	}
	return list
}

// cut writes raw bytes and hangs up.
func cut(raw string) func(http.ResponseWriter, request) {
	return func(w http.ResponseWriter, _ request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, raw)
		conn.Close()
	}
}

// mutations are the bad values of the fields that the hop names.
func (h hop) mutations(t *testing.T) (list []mutation) {
	t.Helper()
	for _, path := range h.secrets {
		list = append(list, mutation{path, nil}, mutation{path, ""}, mutation{path, "two\nlines"}, mutation{path, "a b"})
		if !h.isXML() {
			list = append(list, mutation{path, 7}, mutation{path, []string{"token"}})
		}
	}
	if h.kind != "" {
		list = append(list, mutation{h.kind, "mac"}, mutation{h.kind, "N_A"})
	}
	list = append(list, h.also...)
	if h.expiry == "" {
		return list
	}
	var values []any
	switch good := h.at(h.expiry).(type) {
	case json.Number:
		n, err := good.Float64()
		if err != nil {
			t.Fatal(err)
		}
		values = []any{nil, "", "soon", 0, -1, 1e12, int64(1) << 62, 1e300}
		if now := start.Unix(); n > float64(now) { // since 1970
			values = append(values, now, now-3600)
		}
	case string:
		values = []any{nil, "", "soon", "1999-12-31T23:00:00Z", "2000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"}
	default:
		t.Fatalf("hop %q has no field %q", h.name, h.expiry)
	}
	for _, v := range values {
		list = append(list, mutation{h.expiry, v})
	}
	return list
}

func (h hop) isXML() bool { return strings.HasPrefix(h.reply, "<") }

// element matches an element that holds only text.
func element(name string) *regexp.Regexp {
	return regexp.MustCompile("<" + name + ">([^<]*)</" + name + ">")
}

// at returns the value at a path of the good reply, nil where there is none.
func (h hop) at(path string) any {
	if h.isXML() {
		if m := element(path).FindStringSubmatch(h.reply); m != nil {
			return m[1]
		}
		return nil
	}
	v := h.decoded()
	for _, name := range strings.Split(path, ".") {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func (h hop) decoded() (v any) {
	d := json.NewDecoder(strings.NewReader(h.reply))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		panic(fmt.Sprintf("the good reply of %s: %v", h.name, err))
	}
	return v
}

// with returns the good reply changed.
func (h hop) with(t *testing.T, m mutation) string {
	t.Helper()
	if h.at(m.path) == nil {
		t.Errorf("hop %q has no field %q", h.name, m.path)
	}
	if h.isXML() {
		text := ""
		if m.value != nil {
			var escaped strings.Builder
			if err := xml.EscapeText(&escaped, []byte(fmt.Sprint(m.value))); err != nil {
				t.Error(err)
			}
			text = "<" + m.path + ">" + escaped.String() + "</" + m.path + ">"
		}
		return element(m.path).ReplaceAllLiteralString(h.reply, text)
	}
	v := h.decoded()
	object, _ := v.(map[string]any)
	names := strings.Split(m.path, ".")
	for _, name := range names[:len(names)-1] {
		object, _ = object[name].(map[string]any)
	}
	if last := names[len(names)-1]; m.value == nil {
		delete(object, last)
	} else {
		object[last] = m.value
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// TestBadReplies: at every hop of every exchange the same bad replies. What
// comes of each, and after how many tries, is in a golden file; none is taken
// for a credential, and nothing of a body or a secret is in what is said.
func TestBadReplies(t *testing.T) {
	t.Parallel()
	checkGolden(t, "bad", ".txt")
	eachFixture(t, func(t *testing.T, r run) {
		hops := map[string]int{}
		for i, req := range r.good(t).requests {
			if _, twice := hops[req.what()]; twice {
				t.Fatalf("two hops are %q", req.what())
			}
			hops[req.what()] = i
		}
		var text strings.Builder
		for at, h := range r.hops {
			for _, b := range r.badReplies(t, at) {
				fmt.Fprintf(&text, "%s | %s | %s\n", h.name, b.name, r.outcome(t, hops, at, b))
			}
		}
		golden.Compare(t, filepath.Join("testdata", "bad", r.name+".txt"), strings.ReplaceAll(text.String(), r.grant.Claims().Issuer(), "$ISSUER"))
	})
}

// outcome gives hop number at the bad reply, as often as it is asked for, and
// says what came of it.
func (r run) outcome(t *testing.T, hops map[string]int, at int, b badReply) string {
	t.Helper()
	res := r.exchange(t, func(w http.ResponseWriter, req request) {
		switch n, ok := hops[req.what()]; {
		case r.end != "" && req.what() == r.end:
			w.WriteHeader(http.StatusNoContent)
		case !ok:
			t.Errorf("an unknown request: %s", req.what())
		case n == at:
			b.reply(w, req)
		default:
			if n > at && !b.maybe {
				t.Errorf("%s, %s: it went on with %s", r.hops[at].name, b.name, req.what())
			}
			r.hops[n].send(w, http.StatusOK, r.hops[n].reply)
		}
	})
	tries := len(res.requests) - at
	if last := len(res.requests) - 1; r.end != "" && res.requests[last].what() == r.end {
		tries--
	}
	if ended := tries < len(res.requests)-at; res.err == nil && ended || res.err != nil && r.end != "" && at > 0 && !ended {
		t.Errorf("%s, %s: what was begun was ended: %v", r.hops[at].name, b.name, ended)
	}
	if res.err == nil {
		if !b.maybe {
			t.Errorf("%s, %s: a credential came of it", r.hops[at].name, b.name)
		}
		return "issued"
	}
	class, message, hint := fault.ClassOf(res.err), res.err.Error(), fault.Hint(res.err)
	if class != fault.Refused && class != fault.Unreachable && (!r.login || class != fault.NoIdentity) {
		t.Errorf("%s, %s: class is %s", r.hops[at].name, b.name, class)
	}
	if strings.Contains(message+hint, marker) {
		t.Errorf("%s, %s: the body is in %q", r.hops[at].name, b.name, message)
	}
	if part := leaked(message+hint, r.secrets(len(r.hops))); part != "" {
		t.Errorf("%s, %s: a secret's %q is in %q", r.hops[at].name, b.name, part, message)
	}
	short, ok := strings.CutPrefix(message, fmt.Sprintf("exchange ID token with %q: ", r.grant.Provider()))
	if r.held != nil {
		short, ok = message, strings.HasPrefix(message, "renew the ")
	}
	if !ok {
		t.Errorf("%s, %s: the error is %q", r.hops[at].name, b.name, message)
	}
	count := "1" // of more, the jitter decides
	if tries > 1 {
		count = "again and again"
	}
	text := fmt.Sprintf("%s, tries: %s | %s", class, count, short)
	if hint != "" {
		text += " | " + hint
	}
	return text
}

// TestMoments: at every hop of every exchange, what is over within the time
// that is left costs no job. A server is asked again no sooner than it says.
func TestMoments(t *testing.T) {
	t.Parallel()
	status := func(status int, header ...string) func(hop, http.ResponseWriter) {
		return func(_ hop, w http.ResponseWriter) {
			for _, line := range header {
				name, value, _ := strings.Cut(line, ": ")
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
		}
	}
	moments := []struct {
		name  string
		reply func(hop, http.ResponseWriter)
		least time.Duration // between two tries
	}{
		{"503", status(503), 0},
		{"500", status(500), 0},
		{"408", status(408), 0},
		{"425", status(425), 0},
		{"429 for three seconds", status(429, "Retry-After: 3"), 3 * time.Second},
		{"503 until a time", status(503, "Date: Fri, 31 Dec 1999 10:00:00 GMT", "Retry-After: Fri, 31 Dec 1999 10:00:04 GMT"), 4 * time.Second},
		{"hangs up", func(_ hop, w http.ResponseWriter) { cut("")(w, request{}) }, 0},
	}
	eachFixture(t, func(t *testing.T, r run) {
		hops := map[string]int{}
		for i, req := range r.good(t).requests {
			hops[req.what()] = i
		}
		for at, h := range r.hops {
			every := slices.Clone(moments)
			for _, v := range h.passing {
				m := moments[0]
				m.name = v.code + " " + v.message
				m.reply = func(h hop, w http.ResponseWriter) {
					h.send(w, v.status, strings.NewReplacer("$STATUS", fmt.Sprint(v.status), "$CODE", v.code, "$MESSAGE", v.message).Replace(h.refusal))
				}
				every = append(every, m)
			}
			for _, m := range every {
				var times []time.Time
				res := r.exchange(t, func(w http.ResponseWriter, req request) {
					n := hops[req.what()]
					if n == at {
						if times = append(times, time.Now()); len(times) < 5 {
							m.reply(h, w)
							return
						}
					}
					r.hops[n].send(w, http.StatusOK, r.hops[n].reply)
				})
				if res.err != nil || len(times) != 5 {
					t.Errorf("%s, %s: %d tries, %v", h.name, m.name, len(times), res.err)
				}
				for i := 1; i < len(times); i++ {
					// Many that are told the same are spread over as long again, or a second, two, four, eight.
					most := m.least + max(3*time.Second, m.least+time.Second/2, time.Second<<(i-1)+time.Second/2)
					if pause := times[i].Sub(times[i-1]); pause < m.least || pause > most {
						t.Errorf("%s, %s: tried again after %s, want %s or a little more", h.name, m.name, pause, m.least)
					}
				}
			}
		}
	})
}

// checkGolden fails for a file that no fixture writes, and for an empty one.
func checkGolden(t *testing.T, dir, ext string) {
	t.Helper()
	known := map[string]bool{}
	for _, list := range fixtures {
		for _, f := range list {
			if known[f.name+ext] {
				t.Errorf("two fixtures are called %q", f.name)
			}
			known[f.name+ext] = len(f.hops) > 0
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*"))
	if err != nil || len(files) == 0 && !golden.Update() {
		t.Errorf("testdata/%s has no golden files: %v", dir, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 || !known[filepath.Base(file)] {
			t.Errorf("%s is empty, or belongs to no fixture with hops: %v", file, err)
		}
	}
}

// TestExamples: what an editor proposes for a key, the key accepts.
func TestExamples(t *testing.T) {
	t.Parallel()
	var check func(t *testing.T, keys []policy.Key)
	check = func(t *testing.T, keys []policy.Key) {
		t.Helper()
		for _, k := range keys {
			check(t, k.Keys)
			value := k.Example
			if k.Names != nil {
				name, of, _ := strings.Cut(value, ": ")
				if value = of; k.Names(name) != nil {
					t.Errorf("%s: example %q: %v", k.Name, name, k.Names(name))
				}
			}
			value = strings.ReplaceAll(value, "${environment}", "production")
			if k.Keys != nil || k.Bool || k.Choices != nil || k.Check == nil || k.Name == "ca_cert" { // a certificate would be too long
				continue
			}
			if err := k.Check(value); value == "" || err != nil {
				t.Errorf("%s: example %q: %v", k.Name, value, err)
			}
		}
	}
	for name, spec := range provider.Specs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, spec.Keys)
		})
	}
}
