package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// byBrowser has the person sign in with a browser of this machine. (RFC 7636; RFC 9700, 2.1)
func (a *Account) byBrowser(ctx context.Context, p provider, finish func(t tokens, nonce string) error) error {
	if p.Authorize == "" {
		return fault.New(fault.NoIdentity, fmt.Errorf("sign in: %s has no authorization endpoint", a.id.Issuer), "try --device")
	}
	nonce, verifier := rand.Text(), oauth2.GenerateVerifier()
	options := []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("nonce", nonce), oauth2.S256ChallengeOption(verifier)}
	if a.atGoogle() { // its form of offline_access; without prompt only the first sign-in gets a refresh token
		options = append(options, oauth2.AccessTypeOffline, oauth2.SetAuthURLParam("prompt", "consent"))
	}
	v := visit{path: "/callback", issuer: a.id.Issuer, named: p.NamesItself, address: func(redirect, state string) string {
		config := oauth2.Config{
			ClientID: a.id.ClientID, Endpoint: oauth2.Endpoint{AuthURL: p.Authorize}, RedirectURL: redirect, Scopes: scopes(a.id, p),
		}
		return config.AuthCodeURL(state, options...)
	}}
	return a.visit(ctx, v, func(code secret.Value, redirect string) error {
		t, err := a.redeem(ctx, p, code, redirect, verifier)
		if err != nil {
			return err
		}
		return finish(t, nonce)
	})
}

// A visit is to the provider's page on which the person signs in.
type visit struct {
	path   string // of the redirect's address
	issuer string // that the reply may name; "" where replies name none
	named  bool   // replies do
	// address returns the page's, for the redirect and the state of this visit.
	address func(redirect, state string) string
}

// visit opens the page, which brings the code to a port of loopback. The browser
// shows how finish went. (RFC 8252, 7.3)
func (a *Account) visit(ctx context.Context, v visit, finish func(code secret.Value, redirect string) error) (err error) {
	// The literal address: a name may lead elsewhere, and other interfaces are others' (RFC 8252, 8.3).
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("sign in: listen on loopback: %w", err)
	}
	r := &redirect{
		visit: v, host: listener.Addr().String(), start: "/" + rand.Text(), state: rand.Text(),
		tell: a.env.Say, code: make(chan reply, 1), done: make(chan struct{}),
	}
	back := "http://" + r.host + v.path
	r.page = v.address(back, r.state)
	server := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 32 << 10}
	go func() { _ = server.Serve(listener) }()
	defer func() {
		r.end(err == nil)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second) // the page is on its way
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
	}()
	a.show(r)
	select {
	case got := <-r.code:
		if got.err != nil {
			return got.err
		}
		return finish(got.code, back)
	case <-ctx.Done():
		return fault.New(fault.NoIdentity, fmt.Errorf("sign in: the browser has not come back: %w", context.Cause(ctx)),
			"if the browser shows an error of the provider, compare the client's id and its redirect address, "+
				"http://127.0.0.1/callback with any port; on a machine without a browser: oidc-dbt login --device")
	}
}

// show prints the address, and opens a browser. Other users see the arguments
// of a process, so the browser gets an address of loopback that leads on once.
func (a *Account) show(r *redirect) {
	a.env.Say("sign in with a browser of this machine:\n\n    " + r.page + "\n")
	if a.env.Open == nil || a.env.Open("http://"+r.host+r.start) != nil {
		a.env.Say("no browser could be opened: open the address above in one of this machine, " +
			"or press Ctrl-C and sign in with another machine's: oidc-dbt login --device")
	}
}

// A redirect is the server on loopback to which the provider sends the browser
// back. Every page of this machine can send a browser here: only the reply to
// this sign-in counts, once.
type redirect struct {
	visit
	host  string // 127.0.0.1 and the port
	start string // the path that leads to page, once
	page  string // of the provider, with this sign-in's parameters
	state string
	tell  func(string)

	code chan reply
	done chan struct{}

	mu       sync.Mutex
	started  bool
	answered bool
	foreign  bool // one was told of
	ended    bool
	good     bool
}

// A reply is what the provider's redirect brought.
type reply struct {
	code secret.Value
	err  error
}

// ServeHTTP implements http.Handler.
func (r *redirect) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch {
	case req.Host != r.host || req.Method != http.MethodGet: // a name that was pointed at loopback
		page(w, http.StatusNotFound, pageNothing)
	case req.URL.Path == r.start && r.once(&r.started):
		head(w)
		w.Header().Set("Location", r.page)
		w.WriteHeader(http.StatusSeeOther)
	case req.URL.Path == r.path:
		r.answer(w, req)
	default:
		page(w, http.StatusNotFound, pageNothing)
	}
}

// once reports whether a flag was not set before, and sets it.
func (r *redirect) once(flag *bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !*flag
	*flag = true
	return first
}

// answer takes the reply to this sign-in, and shows how it went.
func (r *redirect) answer(w http.ResponseWriter, req *http.Request) {
	q, ok := single(req.URL.RawQuery)
	if !ok || subtle.ConstantTimeCompare([]byte(q["state"]), []byte(r.state)) != 1 {
		if r.once(&r.foreign) {
			r.tell("warning: a reply to another sign-in came to this one's address, and was refused (its state is not this one's)")
		}
		page(w, http.StatusBadRequest, pageForeign)
		return
	}
	if !r.once(&r.answered) {
		page(w, http.StatusBadRequest, pageForeign)
		return
	}
	code, err := r.judge(q)
	r.code <- reply{code, err}
	select {
	case <-r.done:
	case <-req.Context().Done():
	}
	r.mu.Lock()
	good := r.good
	r.mu.Unlock()
	if good {
		page(w, http.StatusOK, pageGood)
		return
	}
	page(w, http.StatusBadRequest, pageBad)
}

// single reads a query in which each name occurs once: else two readers could
// see two different replies.
func single(query string) (q map[string]string, ok bool) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, false
	}
	q = map[string]string{}
	for name, list := range values {
		if len(list) != 1 {
			return nil, false
		}
		q[name] = list[0]
	}
	return q, true
}

// judge returns the code of a reply that has this sign-in's state.
func (r *redirect) judge(q map[string]string) (code secret.Value, err error) {
	iss, has := q["iss"]
	switch { // RFC 9207, 2.4: before anything else of the reply is used
	case has && r.issuer != "" && iss != r.issuer:
		return code, fault.New(fault.Rejected, fmt.Errorf("sign in: the reply is from issuer %q, want %q", iss, r.issuer),
			"another identity provider has answered in the place of this one: sign in again, and tell the provider's administrator if it recurs")
	case !has && r.named:
		return code, fault.New(fault.Rejected,
			fmt.Errorf("sign in: the reply does not say that it is from issuer %q, as its replies do", r.issuer),
			"another identity provider may have answered in the place of this one: sign in again")
	case q["error"] != "":
		return code, denied(q["error"], q["error_description"])
	case q["code"] == "" || exchange.IsGarbled(secret.New(q["code"])):
		return code, fault.New(fault.Unreachable, errors.New("sign in: the reply has no code"), "")
	}
	return secret.New(q["code"]), nil
}

// end says how the sign-in went; it counts once.
func (r *redirect) end(good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.ended, r.good = true, good
		close(r.done)
	}
}

// The pages are constants: nothing of a request is shown.
const (
	pageGood    = "You are signed in. You can close this window and go back to the terminal."
	pageBad     = "The sign-in failed. The terminal says why."
	pageForeign = "This is not the reply that the sign-in waits for."
	pageNothing = "There is nothing here."
)

// head forbids scripts, frames, and that the address, which holds the code, is
// sent on or kept.
func head(w http.ResponseWriter) {
	for name, value := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Connection": "close",
	} {
		w.Header().Set(name, value)
	}
}

func page(w http.ResponseWriter, status int, text string) {
	head(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\">\n<title>oidc-dbt</title>\n<p>%s</p>\n</html>\n", text)
}
