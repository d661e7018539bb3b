package login_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// ring is a keyring in memory.
type ring struct {
	sync.Map
	full func() error // where not nil, nothing is stored
}

func (r *ring) Get(service, name string) (string, error) {
	text, ok := r.Load(service + " " + name)
	if !ok {
		return "", keyring.ErrNotFound
	}
	return text.(string), nil
}

func (r *ring) Set(service, name, text string) error {
	if r.full != nil {
		return r.full()
	}
	r.Store(service+" "+name, text)
	return nil
}

func (r *ring) Delete(service, name string) error {
	if _, ok := r.LoadAndDelete(service + " " + name); !ok {
		return keyring.ErrNotFound
	}
	return nil
}

const client = "dbt-cli"

// A desk is a person at a terminal, with a browser and a clock of her own.
type desk struct {
	t     *testing.T
	idp   *standin.People
	state string
	ring  ring

	secret    string            // of the client
	scopes    []string          // of the policy
	transport http.RoundTripper // of the person's processes; nil for the machine's

	mu    sync.Mutex
	now   time.Time
	said  []string
	waits []time.Duration
	shown chan string // what the browser shows at the end
	// browse is what the browser does with the address that is opened.
	browse func(address string) (page string)
	waited func(n int) // is called after each pause
}

func sit(t *testing.T, change func(*standin.PeopleConfig)) *desk {
	t.Helper()
	d := &desk{t: t, state: t.TempDir(), now: time.Now(), shown: make(chan string, 8), scopes: []string{"groups"}}
	config := standin.PeopleConfig{ClientID: client, Now: d.clock, Claims: map[string]any{"sub": "ann", "groups": []string{"analysts"}}}
	if change != nil {
		change(&config)
	}
	var err error
	if d.idp, err = standin.StartPeople(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.idp.Close)
	d.browse = d.visit
	return d
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// later moves the clock.
func (d *desk) later(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func (d *desk) tell(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = append(d.said, text)
}

// verifier is that of every run.
func (d *desk) verifier() *idtoken.Verifier {
	return idtoken.NewVerifier(web.NewClient(web.NewTransport()), d.clock, idtoken.Issuer{URL: d.idp.URL()})
}

// account is what one process has.
func (d *desk) account() *login.Account {
	return login.New(d.env(), policy.Identity{Name: "engineers", Issuer: d.idp.URL(), Kind: "people", ClientID: client, Audience: client,
		ClientSecret: d.secret, Scopes: d.scopes})
}

// env is the world of the person's processes.
func (d *desk) env() login.Env {
	transport := d.transport
	if transport == nil {
		transport = web.NewTransport()
	}
	return login.Env{
		HTTP: web.NewClient(transport), Now: d.clock, State: d.state, Say: d.tell, Keys: &d.ring,
		Open: func(address string) error {
			go func() { d.shown <- d.browse(address) }()
			return nil
		},
		Wait: func(ctx context.Context, pause time.Duration) error {
			d.later(pause)
			d.mu.Lock()
			d.waits = append(d.waits, pause)
			n := len(d.waits)
			d.mu.Unlock()
			if d.waited != nil {
				d.waited(n)
			}
			return ctx.Err()
		},
	}
}

// visit follows an address to its end, as a browser does.
func (d *desk) visit(address string) string {
	resp, err := http.Get(address)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, text)
}

// stop follows an address until it leads back to loopback, and returns where to.
func (d *desk) stop(address string) *url.URL {
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range 2 {
		resp, err := c.Get(address)
		if err != nil {
			d.t.Error(err)
			return &url.URL{}
		}
		resp.Body.Close()
		address = resp.Header.Get("Location")
	}
	u, err := url.Parse(address)
	if err != nil {
		d.t.Error(err)
	}
	return u
}

// signIn signs in, and compares what comes of it.
func (d *desk) signIn(device bool, store, want string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Minute)
	defer cancel()
	claims, err := d.account().SignIn(ctx, d.verifier(), device, store)
	d.compare("sign in", claims.Subject(), err, want)
}

// token asks for one as a new process.
func (d *desk) token(want string) {
	d.t.Helper()
	token, err := d.account().Token(d.t.Context())
	subject := ""
	if err == nil {
		subject = subjectOf(token.Reveal())
	}
	d.compare("token", subject, err, want)
}

func (d *desk) compare(what, got string, err error, want string) {
	d.t.Helper()
	if err != nil {
		got = fmt.Sprintf("%s: %v", fault.ClassOf(err), err)
	}
	got = strings.ReplaceAll(got, d.idp.URL(), "$IDP")
	if got != want {
		d.t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

const (
	good = "200 <!doctype html>\n<html lang=\"en\">\n<title>oidc-dbt</title>\n" +
		"<p>You are signed in. You can close this window and go back to the terminal.</p>\n</html>\n"
	bad = "400 <!doctype html>\n<html lang=\"en\">\n<title>oidc-dbt</title>\n<p>The sign-in failed. The terminal says why.</p>\n</html>\n"
)

func TestBrowser(t *testing.T) {
	t.Parallel()
	d := sit(t, nil)
	d.signIn(false, login.Keyring, "ann")
	if page := <-d.shown; page != good {
		t.Errorf("the browser shows\n%s", page)
	}
	d.token("ann")
	if n := d.idp.Refreshes(); n != 0 {
		t.Errorf("%d refreshes, want none: the ID token is young", n)
	}
	d.later(31 * time.Minute)
	d.token("ann")
	d.token("ann")
	if n := d.idp.Refreshes(); n != 1 {
		t.Errorf("%d refreshes in the second half of the token's life, want 1", n)
	}
	said := strings.Join(d.said, "\n")
	for _, secret := range append(d.idp.Issued(), d.idp.Secrets()...) {
		if strings.Contains(said, secret) {
			t.Error("the terminal shows a secret")
		}
	}
	var left []string
	files, _ := filepath.Glob(filepath.Join(d.state, "logins", "*"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Error(err)
		}
		left = append(left, filepath.Ext(f))
		for _, secret := range append(d.idp.Issued(), d.idp.Secrets()...) {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s holds a secret", f)
			}
		}
	}
	if want := []string{".json", ".lock"}; !slices.Equal(left, want) {
		t.Errorf("the state folder has %q, want %q", left, want)
	}
}

// TestRedirectAttacks: what else may come to the address on loopback.
func TestRedirectAttacks(t *testing.T) {
	t.Parallel()
	const failed = "no_identity: sign in: refused: "
	for _, tt := range []struct {
		name     string
		change   func(*standin.PeopleConfig)
		redirect func(q url.Values)
		browse   func(d *desk, address string) string
		page     string // "" for that of success
		err      string
		warned   bool
	}{
		{name: "good", err: "ann"},
		{name: "refused by the person", redirect: func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("error_description", "User denied <script>alert(1)</script>\x1b[2J")
		}, page: bad, err: failed + `"access_denied": "User denied <script>alert(1)</script>\x1b[2J"`},
		{name: "of another issuer", redirect: func(q url.Values) { q.Set("iss", "https://evil.example") }, page: bad,
			err: `token_rejected: sign in: the reply is from issuer "https://evil.example", want "$IDP"`},
		{name: "an error of another issuer", redirect: func(q url.Values) { q.Set("iss", "https://evil.example"); q.Set("error", "x") }, page: bad,
			err: `token_rejected: sign in: the reply is from issuer "https://evil.example", want "$IDP"`},
		{name: "of no issuer", redirect: func(q url.Values) { q.Del("iss") }, page: bad,
			err: `token_rejected: sign in: the reply does not say that it is from issuer "$IDP", as its replies do`},
		{name: "of no issuer, where the provider does not name itself", redirect: func(q url.Values) { q.Del("iss") }, err: "ann",
			change: func(c *standin.PeopleConfig) {
				c.Discovery = map[string]any{"authorization_response_iss_parameter_supported": nil}
			}},
		{name: "no code", redirect: func(q url.Values) { q.Del("code") }, page: bad, err: "unreachable: sign in: the reply has no code"},
		{name: "an injected code", page: bad, err: failed + `"invalid_grant": "PKCE verification failed: Code mismatch"`,
			browse: func(d *desk, address string) string { // the attacker knows the state
				back := d.stop(address)
				q := back.Query()
				q.Set("code", d.idp.Code("http://"+back.Host+back.Path))
				back.RawQuery = q.Encode()
				return d.visit(back.String())
			}},
		{name: "foreign states first", err: "ann", warned: true, browse: func(d *desk, address string) string {
			back := d.stop(address)
			for _, query := range []string{"", "code=x", "code=x&state=", "code=x&state=other", back.RawQuery + "&state=other", back.RawQuery + "&code=x", "state=%zz"} {
				if page := d.visit("http://" + back.Host + "/callback?" + query); !strings.Contains(page, "This is not the reply") {
					d.t.Errorf("query %q: %s", query, page)
				}
			}
			return d.visit(back.String())
		}},
		{name: "by another name of loopback", err: "ann", browse: func(d *desk, address string) string {
			back := d.stop(address)
			other := *back
			other.Host = "localhost:" + back.Port()
			if page := d.visit(other.String()); !strings.HasPrefix(page, "404 ") {
				d.t.Errorf("localhost: %s", page)
			}
			resp, err := http.Post(back.String(), "text/plain", nil)
			if err != nil || resp.StatusCode != http.StatusNotFound {
				d.t.Errorf("POST: %v, %v", resp, err)
			}
			return d.visit(back.String())
		}},
		{name: "the first address twice", err: "ann", browse: func(d *desk, address string) string {
			back := d.stop(address)
			if page := d.visit(address); !strings.HasPrefix(page, "404 ") {
				d.t.Errorf("again: %s", page)
			}
			return d.visit(back.String())
		}},
		{name: "another nonce", page: bad, change: func(c *standin.PeopleConfig) { c.Claims["nonce"] = "of another sign-in" },
			err: "token_rejected: verify ID token: its nonce is not that of this sign-in"},
		{name: "another party", page: bad, change: func(c *standin.PeopleConfig) { c.Claims["azp"] = "other" },
			err: `token_rejected: verify ID token: authorized party (azp) is "other", want "dbt-cli"`},
		{name: "a token of another issuer", page: bad, change: func(c *standin.PeopleConfig) { c.Claims["iss"] = "https://evil.example" },
			err: `token_rejected: verify ID token: issuer is "https://evil.example", want "$IDP"`},
		{name: "no refresh token", page: bad, change: func(c *standin.PeopleConfig) { c.NoRefresh = true },
			err: "no_identity: sign in: the provider gave no refresh token, so nothing can be kept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, func(c *standin.PeopleConfig) {
				c.Redirect = tt.redirect
				if tt.change != nil {
					tt.change(c)
				}
			})
			if tt.browse != nil {
				d.browse = func(address string) string { return tt.browse(d, address) }
			}
			d.signIn(false, login.File, tt.err)
			want := tt.page
			if want == "" {
				want = good
			}
			if page := <-d.shown; page != want {
				t.Errorf("the browser shows\n%s\nwant\n%s", page, want)
			}
			if warned := strings.Contains(strings.Join(d.said, "\n"), "a reply to another sign-in"); warned != tt.warned {
				t.Errorf("warned of a foreign reply: %v, want %v", warned, tt.warned)
			}
		})
	}
}

// TestOnce: a reply counts once, and the port is closed afterwards.
func TestOnce(t *testing.T) {
	t.Parallel()
	d := sit(t, nil)
	var back *url.URL
	d.browse = func(address string) string {
		back = d.stop(address)
		return d.visit(back.String())
	}
	d.signIn(false, login.File, "ann")
	<-d.shown
	if page := d.visit(back.String()); strings.Contains(page, "200") {
		t.Errorf("a second time: %s", page)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change map[string]any
		want   string
	}{
		{"another issuer", map[string]any{"issuer": "https://evil.example"},
			`token_rejected: discover identity provider "$IDP": its discovery document names issuer "https://evil.example"`},
		{"no token endpoint", map[string]any{"token_endpoint": nil},
			`unreachable: discover identity provider "$IDP": token_endpoint of its discovery document: has no host, want https://HOST`},
		{"a plain endpoint", map[string]any{"token_endpoint": "http://evil.example/token"},
			`unreachable: discover identity provider "$IDP": token_endpoint of its discovery document: scheme is "http", want https (http is for loopback only)`},
		{"an address that is an option", map[string]any{"authorization_endpoint": "--help"},
			`unreachable: discover identity provider "$IDP": authorization_endpoint of its discovery document: has no host, want https://HOST`},
		{"no S256", map[string]any{"code_challenge_methods_supported": []string{"plain"}},
			`unreachable: discover identity provider "$IDP": it offers no PKCE with S256, without which a code could be stolen`},
		{"no authorization", map[string]any{"authorization_endpoint": nil}, `no_identity: sign in: $IDP has no authorization endpoint`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sit(t, func(c *standin.PeopleConfig) { c.Discovery = tt.change }).signIn(false, login.File, tt.want)
		})
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	second := time.Second
	for _, tt := range []struct {
		name   string
		change func(*standin.PeopleConfig)
		waited func(d *desk, n int)
		want   string
		waits  []time.Duration
	}{
		{"approved at the third time", func(c *standin.PeopleConfig) { c.Interval = 2 }, func(d *desk, n int) {
			if n == 3 {
				d.idp.Decide(true)
			}
		}, "ann", []time.Duration{2 * second, 2 * second, 2 * second}},
		{"without an interval", nil, func(d *desk, n int) { d.idp.Decide(true) }, "ann", []time.Duration{5 * second}},
		{"denied", nil, func(d *desk, n int) { d.idp.Decide(false) },
			`no_identity: sign in: refused: "access_denied": "The end user denied the authorization request"`, []time.Duration{5 * second}},
		{"closed without an answer", func(c *standin.PeopleConfig) { c.CodeLife = 8 * time.Second }, nil,
			"no_identity: sign in: the code has expired before it was used", []time.Duration{5 * second, 5 * second}},
		{"expired", func(c *standin.PeopleConfig) { c.CodeLife = 12 * time.Second }, nil,
			"no_identity: sign in: the code has expired before it was used", []time.Duration{5 * second, 5 * second, 5 * second}},
		{"slowed", func(c *standin.PeopleConfig) { c.Interval = 2 }, func(d *desk, n int) {
			switch n {
			case 2:
				d.later(-2 * time.Second) // the provider's clock saw less
			case 3:
				d.idp.Decide(true)
			}
		}, "ann", []time.Duration{2 * second, 2 * second, 7 * second}},
		{"a network that fails", func(c *standin.PeopleConfig) { c.Interval = 2 }, func(d *desk, n int) {
			if n == 1 {
				d.idp.Fail("/token", 503, 502)
				d.idp.Decide(true)
			}
		}, "ann", []time.Duration{2 * second, 4 * second, 8 * second}},
		{"not offered", func(c *standin.PeopleConfig) { c.Discovery = map[string]any{"device_authorization_endpoint": nil} }, nil,
			"no_identity: sign in: $IDP does not offer the device flow", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, tt.change)
			if tt.waited != nil {
				d.waited = func(n int) { tt.waited(d, n) }
			}
			d.signIn(true, login.File, tt.want)
			if !slices.Equal(d.waits, tt.waits) {
				t.Errorf("the pauses are %v, want %v", d.waits, tt.waits)
			}
		})
	}
}

// TestParallel: twenty processes of one person refresh once, and the login
// survives, though the provider ends a login whose refresh token is used twice.
func TestParallel(t *testing.T) {
	t.Parallel()
	for _, store := range []string{login.File, login.Keyring} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			d := sit(t, nil)
			d.signIn(false, store, "ann")
			for round := range 3 {
				d.later(40 * time.Minute)
				var all sync.WaitGroup
				for range 20 {
					all.Go(func() { d.token("ann") })
				}
				all.Wait()
				if n := d.idp.Refreshes(); n != round+1 {
					t.Errorf("%d refreshes in round %d, want %d", n, round+1, round+1)
				}
			}
		})
	}
}

// TestNotStored: a login that cannot be stored does not stay at the provider.
func TestNotStored(t *testing.T) {
	t.Parallel()
	const (
		full = "no_identity: store the login in the keyring: data passed to Set was too big"
		left = full + "; the new refresh token is valid until the provider ends it, because it could not be revoked: " +
			"ask the identity provider: status is 400, want 200"
	)
	for _, tt := range []struct {
		name    string
		device  bool
		change  map[string]any // of the provider's discovery document
		status  int            // of the revocation; 0 for the provider's own
		slow    bool           // the keyring, and the person interrupts
		want    string
		revoked int
	}{
		{name: "browser", want: full, revoked: 1},
		{name: "device", device: true, want: full, revoked: 1},
		{name: "interrupted", slow: true, want: "no_identity: store the login in the keyring: the keyring does not answer; is it locked?", revoked: 1},
		{name: "revocation is not offered", change: map[string]any{"revocation_endpoint": nil}, want: full},
		{name: "revocation fails", status: 400, want: left},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, func(c *standin.PeopleConfig) { c.Discovery, c.Approves = tt.change, true })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			d.ring.full = func() error {
				if tt.slow {
					cancel()
					<-t.Context().Done()
				}
				return keyring.ErrSetDataTooBig
			}
			if tt.status != 0 {
				d.idp.Fail("/revoke", tt.status)
			}
			claims, err := d.account().SignIn(ctx, d.verifier(), tt.device, login.Keyring)
			d.compare("sign in", claims.Subject(), err, tt.want)
			if got := d.idp.Revoked(); len(got) != tt.revoked || tt.revoked > 0 && !slices.Equal(got, d.idp.Secrets()) {
				t.Errorf("revoked %q, want %d", got, tt.revoked)
			}
			d.token(`no_identity: request ID token: not signed in as identity "engineers" ($IDP)`)
		})
	}
}

// TestAgain: one process that asks again, as a broker does, gets another token.
func TestAgain(t *testing.T) {
	t.Parallel()
	d := sit(t, nil)
	d.signIn(false, login.File, "ann")
	a := d.account()
	seen := map[string]bool{}
	for range 3 {
		token, err := a.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen[token.SHA256()] = true
		d.later(time.Second)
	}
	if len(seen) != 3 || d.idp.Refreshes() != 2 {
		t.Errorf("%d tokens by %d refreshes, want 3 by 2", len(seen), d.idp.Refreshes())
	}
}

// TestRefreshAttacks: a refresh token that was stolen and used, and an answer for another person.
func TestRefreshAttacks(t *testing.T) {
	t.Parallel()
	const signedOut = `no_identity: refresh the login of identity "engineers": "invalid_grant": `
	t.Run("stolen and used", func(t *testing.T) {
		t.Parallel()
		d := sit(t, nil)
		d.signIn(false, login.File, "ann")
		stolen := d.idp.Secrets()[0]
		if _, err := http.PostForm(d.idp.URL()+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {stolen}, "client_id": {client}}); err != nil {
			t.Fatal(err)
		}
		d.later(31 * time.Minute)
		d.token(signedOut + `"Maximum allowed refresh token reuse exceeded"`)
		d.token(signedOut + `"Token is not active"`) // the thief is out, too
		d.signIn(false, login.File, "ann")
		d.later(time.Minute)
		d.token("ann")
	})
	t.Run("for another person", func(t *testing.T) {
		t.Parallel()
		d := sit(t, nil)
		d.signIn(false, login.File, "ann")
		d.idp.SetClaims(map[string]any{"sub": "mallory"})
		d.later(31 * time.Minute)
		d.token(`token_rejected: refresh the login of identity "engineers": the ID token is for "mallory", want "ann"`)
	})
	t.Run("a provider that is down", func(t *testing.T) {
		t.Parallel()
		d := sit(t, func(c *standin.PeopleConfig) { c.Fixed = true })
		d.signIn(false, login.File, "ann")
		d.later(31 * time.Minute)
		d.idp.Fail("/token", 503)
		d.token("ann")
	})
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		change  func(*standin.PeopleConfig)
		revoked bool
	}{
		{"revoked", nil, true},
		{"not offered", func(c *standin.PeopleConfig) { c.Discovery = map[string]any{"revocation_endpoint": nil} }, false},
	} {
		for _, store := range []string{login.File, login.Keyring} {
			t.Run(tt.name+" "+store, func(t *testing.T) {
				t.Parallel()
				d := sit(t, tt.change)
				if was, _, err := d.account().SignOut(t.Context()); was || err != nil {
					t.Errorf("before: %v, %v", was, err)
				}
				d.signIn(false, store, "ann")
				was, revoked, err := d.account().SignOut(t.Context())
				if !was || revoked != tt.revoked || err != nil {
					t.Errorf("signed in %v, revoked %v, %v", was, revoked, err)
				}
				if got := d.idp.Revoked(); tt.revoked && !slices.Equal(got, d.idp.Secrets()) {
					t.Errorf("revoked %q", got)
				}
				d.token(`no_identity: request ID token: not signed in as identity "engineers" ($IDP)`)
				if files, _ := filepath.Glob(filepath.Join(d.state, "logins", "*.token")); len(files) > 0 {
					t.Errorf("left: %q", files)
				}
			})
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	d := sit(t, nil)
	a := d.account()
	if _, err := a.SignIn(t.Context(), d.verifier(), false, login.Memory); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.Token(t.Context()); err != nil {
			t.Error(err)
		}
	}
	d.token(`no_identity: request ID token: not signed in as identity "engineers" ($IDP)`)
	if files, _ := filepath.Glob(filepath.Join(d.state, "*")); len(files) > 0 {
		t.Errorf("left: %q", files)
	}
}

func TestFileOfOthers(t *testing.T) {
	t.Parallel()
	d := sit(t, nil)
	d.signIn(false, login.File, "ann")
	files, err := filepath.Glob(filepath.Join(d.state, "logins", "*.token"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %q, %v", files, err)
	}
	if err := os.Chmod(files[0], 0o644); err != nil {
		t.Fatal(err)
	}
	d.token(fmt.Sprintf("no_identity: read the login %q: is accessible to other users (-rw-r--r--), want mode 0600", files[0]))
	if err := errors.Join(os.Chmod(files[0], 0o600), os.WriteFile(files[0], []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	d.token(`no_identity: read the login of identity "engineers": it is damaged`)
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	d.token(`no_identity: read the login of identity "engineers": it is gone`)
}

func subjectOf(token string) string {
	claims, err := idtoken.ParseUnverified([]byte(token))
	if err != nil {
		return err.Error()
	}
	return claims.Subject()
}
