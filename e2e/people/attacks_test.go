//go:build e2e && linux && amd64

package people

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// reply signs a person in with a browser of her own, and returns where Keycloak then sends that browser.
func (d *desk) reply(address, user string) *url.URL {
	d.t.Helper()
	browser := another(d.t)
	browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/callback" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	resp := d.follow(browser, address, credentials(user))
	back, err := resp.Location()
	if page := d.body(resp, nil); err != nil {
		d.t.Fatalf("Keycloak does not send the browser back: %s, %v\n%s", resp.Status, err, page)
	}
	return back
}

// visit has the person's browser open an address, and returns the page.
func (d *desk) visit(address string) (page string) {
	d.t.Helper()
	resp, err := d.browser.Get(address)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, d.body(resp, nil))
}

// with returns an address with other parameters; "" removes one.
func with(address *url.URL, change map[string]string) string {
	q := address.Query()
	for name, value := range change {
		if q.Set(name, value); value == "" {
			q.Del(name)
		}
	}
	other := *address
	other.RawQuery = q.Encode()
	return other.String()
}

// An attack is what comes to the address on loopback in the place of Keycloak's reply, or before it.
type attack struct {
	name   string
	do     func(d *desk, address *url.URL) // address is Keycloak's, as the command prints it
	status int
	says   string
}

// attacks are on the way from Keycloak back to the terminal.
func attacks(t *testing.T, c *company) {
	for _, tt := range append(replies(), requests()...) {
		t.Run(tt.name, func(t *testing.T) {
			d := sit(t, c, usual)
			d.approve()
			out, status := d.signIn(inBrowser, func(printed string) {
				address, err := url.Parse(printed)
				if err != nil {
					t.Fatal(err)
				}
				tt.do(d, address)
			})
			if status != tt.status || !strings.Contains(out, tt.says) {
				t.Errorf("status %d, want %d and %q\n%s", status, tt.status, tt.says, out)
			}
			if kept := d.logins(); len(kept) != map[bool]int{true: 1, false: 0}[status == 0] {
				t.Errorf("what is kept: %q", kept)
			}
		})
	}
}

// replies are attacks with another reply.
func replies() []attack {
	changed := func(change map[string]string) func(d *desk, address *url.URL) {
		return func(d *desk, address *url.URL) { d.fails(with(d.reply(address.String(), "ann"), change)) }
	}
	return []attack{
		{"code injection", func(d *desk, address *url.URL) {
			// The attacker has a code of her own for the same client and port, and knows the victim's state.
			hers := d.reply(with(address, map[string]string{"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}), "eve").Query().Get("code")
			d.fails(with(d.reply(address.String(), "ann"), map[string]string{"code": hers}))
		}, 3, `sign in: refused: "invalid_grant": "PKCE verification failed: Code mismatch"`},
		{"a code without PKCE", func(d *desk, address *url.URL) {
			d.fails(d.reply(with(address, map[string]string{"code_challenge": "", "code_challenge_method": ""}), "eve").String())
		}, 3, `sign in: refused: "invalid_request": "Missing parameter: code_challenge_method"`},
		{"iss mix-up", changed(map[string]string{"iss": "https://evil.example"}), 4,
			`sign in: the reply is from issuer "https://evil.example", want "http://127.0.0.1:`},
		{"no iss", changed(map[string]string{"iss": ""}), 4, "sign in: the reply does not say that it is from issuer "},
		{"other nonce", func(d *desk, address *url.URL) {
			d.fails(d.reply(with(address, map[string]string{"nonce": "of-another-sign-in"}), "ann").String())
		}, 4, "verify ID token: its nonce is not that of this sign-in"},
	}
}

// requests are attacks next to the reply, which is not disturbed.
func requests() []attack {
	return []attack{
		{"foreign state", func(d *desk, address *url.URL) {
			back := d.reply(address.String(), "ann")
			for _, state := range []string{"", "of-another-sign-in"} {
				if page := d.visit(with(back, map[string]string{"state": state})); !strings.HasPrefix(page, "400 ") || !strings.Contains(page, "This is not the reply") {
					d.t.Errorf("state %q: %s", state, page)
				}
			}
			d.succeeds(back.String())
		}, 0, "warning: a reply to another sign-in came to this one's address, and was refused"},
		{"second request", func(d *desk, address *url.URL) {
			back := d.reply(address.String(), "ann").String()
			d.succeeds(back)
			if page := d.visit(back); strings.HasPrefix(page, "200 ") || strings.Contains(page, "You are signed in.") {
				d.t.Errorf("a second time: %s", page)
			}
		}, 0, "signed in as "},
		{"another Host header", func(d *desk, address *url.URL) {
			back := d.reply(address.String(), "ann")
			for _, host := range []string{"evil.example", "evil.example:" + back.Port(), "localhost:" + back.Port(), "127.0.0.1"} {
				req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, back.String(), nil)
				if err != nil {
					d.t.Fatal(err)
				}
				req.Host = host
				resp, err := d.browser.Do(req)
				if page := d.body(resp, err); resp.StatusCode != http.StatusNotFound || !strings.Contains(page, "There is nothing here.") {
					d.t.Errorf("Host %q: %s\n%s", host, resp.Status, page)
				}
			}
			d.succeeds(back.String())
		}, 0, "signed in as "},
		{"from another address of the machine", func(d *desk, address *url.URL) {
			back := d.reply(address.String(), "ann")
			for _, host := range addresses(d.t) {
				conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, back.Port()), 5*time.Second)
				if err == nil {
					conn.Close()
					d.t.Errorf("the port is open at %s", host)
				}
			}
			d.succeeds(back.String())
		}, 0, "signed in as "},
	}
}

func (d *desk) succeeds(address string) {
	d.t.Helper()
	if page := d.visit(address); !strings.HasPrefix(page, "200 ") || !strings.Contains(page, "You are signed in.") {
		d.t.Errorf("the browser shows %s", page)
	}
}

func (d *desk) fails(address string) {
	d.t.Helper()
	if page := d.visit(address); !strings.HasPrefix(page, "400 ") || !strings.Contains(page, "The sign-in failed.") {
		d.t.Errorf("the browser shows %s", page)
	}
}

// addresses are those of this machine, but for the one that the port is bound to.
func addresses(t *testing.T) (list []string) {
	t.Helper()
	found, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	list = []string{"127.0.0.2"} // all of 127.0.0.0/8 is this machine
	for _, a := range found {
		if n, ok := a.(*net.IPNet); ok && n.IP.String() != "127.0.0.1" && !n.IP.IsLinkLocalUnicast() {
			list = append(list, n.IP.String())
		}
	}
	return list
}
