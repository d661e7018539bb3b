//go:build e2e && linux && amd64

package people

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// page does what the page says, at a screen.
func page(t *testing.T, c *company) {
	d := sit(t, c, usual)
	if out, status := d.run("login"); status != 3 || !strings.Contains(out, "is not approved") {
		t.Fatalf("before the approval: status %d\n%s", status, out)
	}
	d.approve()
	opened := d.screen(c)
	out, status := d.signIn(inBrowser, func(printed string) {
		address := opened()
		if strings.Contains(address, "state=") || !strings.HasPrefix(address, "http://127.0.0.1:") {
			t.Errorf("others can see in the list of processes: %s", address)
		}
		at := c.browse(t, "You are signed in.", fillIn(address, "ann"))
		back, err := url.Parse(at)
		if err != nil || back.Path != "/callback" || !strings.Contains(printed, url.QueryEscape("http://"+back.Host+"/callback")) {
			t.Errorf("the browser is at %s, %v", at, err)
		}
	})
	if status != 0 || !strings.Contains(out, "the login is kept in a file that only you can read") {
		t.Fatalf("login: status %d\n%s", status, out)
	}
	if subject, groups := d.who(); len(groups) != 1 || groups[0] != "analysts" || subject == "" {
		t.Errorf("signed in as %q in groups %q", subject, groups)
	}
	d.write("seeds/raw_orders.csv", "order_id,amount\n1,10\n2,32\n")
	d.write("models/orders.sql", "{{ config(materialized='external', location='s3://lake/orders.parquet') }}\nselect * from {{ ref('raw_orders') }}\n")
	d.write("models/read_back.sql", "-- depends_on: {{ ref('orders') }}\nselect sum(amount) as total from read_parquet('s3://lake/orders.parquet')\n")
	d.write("target/keep/directory", "")
	if out, status := d.exec("dbt", "build"); status != 0 || !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") {
		t.Errorf("dbt build: status %d\n%s", status, out)
	}
	d.signOut()
}

// signOut ends the login, here and at Keycloak.
func (d *desk) signOut() {
	d.t.Helper()
	last := d.kept()
	if out := d.must("logout"); !strings.Contains(out, "the login is revoked and removed") {
		d.t.Errorf("logout:\n%s", out)
	}
	if calls := d.front.to("revoke", ""); len(calls) != 1 || calls[0].status != http.StatusOK {
		d.t.Errorf("revocations at Keycloak: %+v", calls)
	}
	if page, status := d.replay(last.Refresh); status != http.StatusBadRequest {
		d.t.Errorf("the refresh token after the logout: %d\n%s", status, page)
	}
	if out, status := d.exec("true"); status != 3 || !strings.Contains(out, "not signed in") {
		d.t.Errorf("after logout: status %d\n%s", status, out)
	}
}

// screen lets the desk show addresses: Debian's xdg-open starts the browser, which is a script that notes where to.
// It returns what waits for the next address.
func (d *desk) screen(c *company) (opened func() string) {
	d.t.Helper()
	dir := d.t.TempDir()
	noted := filepath.Join(dir, "address")
	browser := setup.Write(d.t, dir, "browser", "#!/bin/sh\nprintf %s \"$1\" >"+noted+".new && mv "+noted+".new "+noted+"\n")
	if err := os.Chmod(browser, 0o755); err != nil {
		d.t.Fatal(err)
	}
	path := ""
	for _, v := range d.env {
		if rest, ok := strings.CutPrefix(v, "PATH="); ok {
			path = rest
		}
	}
	d.env = append(d.env, "PATH="+c.program("usr", "bin")+string(os.PathListSeparator)+path, "DISPLAY=:99", "BROWSER="+browser)
	return func() string {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			address, err := os.ReadFile(noted)
			if err == nil {
				_ = os.Remove(noted)
				return string(address)
			}
			if time.Now().After(deadline) {
				d.t.Fatalf("no browser was opened: %v", err)
			}
		}
	}
}

// consent is of a client that asks the person whether it may.
func consent(t *testing.T, c *company) {
	d := sit(t, c, asks)
	d.approve()
	out, status := d.signIn(inBrowser, func(address string) {
		c.browse(t, "The sign-in failed. The terminal says why.", fillIn(address, "ann"), decide(false))
	})
	if status != 3 || !strings.Contains(out, `sign in: refused: "access_denied"`) || !strings.Contains(out, "hint: you or an administrator have refused it") {
		t.Errorf("refused: status %d\n%s", status, out)
	}
	out, status = d.signIn(inBrowser, func(address string) {
		c.browse(t, "You are signed in.", fillIn(address, "ann"), decide(true))
	})
	if status != 0 {
		t.Errorf("agreed: status %d\n%s", status, out)
	}
}

// A deviceCase is a person at a browser of another machine, or at none.
type deviceCase struct {
	name    string
	client  string
	pattern *regexp.Regexp             // of what the command prints
	change  func(reply map[string]any) // what Keycloak says of the code
	use     func(t *testing.T, printed string)
	status  int
	says    string
	replies []string // Keycloak's, but for those at the start that the person has not decided yet
}

// deviceCases are what may come of a code.
func deviceCases(c *company) []deviceCase {
	code := regexp.MustCompile(`(?s)(open (http://\S+) and enter the code (\S+))\n`)
	away := func(*testing.T, string) {}
	const late = "sign in: the code has expired before it was used"
	return []deviceCase{
		{"approved", usual, onDevice, nil, func(t *testing.T, address string) {
			c.browse(t, "Device Login Successful", fillIn(address, "eve"), decide(true))
		}, 0, "signed in as ", []string{""}},
		{"by the code", usual, code, nil, func(t *testing.T, text string) {
			said := code.FindStringSubmatch(text + "\n")
			enter := chromedp.Steps(chromedp.Navigate(said[2]), chromedp.WaitVisible(chromedp.CSS("[name=device_user_code]")),
				chromedp.SendKeys(chromedp.CSS("[name=device_user_code]"), said[3]), chromedp.Click(chromedp.CSS("#kc-login")))
			c.browse(t, "Device Login Successful", enter, fillIn("", "eve"), decide(true))
		}, 0, "signed in as ", []string{""}},
		{"refused", usual, onDevice, nil, func(t *testing.T, address string) {
			c.browse(t, "Consent denied", fillIn(address, "eve"), decide(false))
		}, 3, `sign in: refused: "access_denied": "The end user denied the authorization request"`, []string{"access_denied"}},
		{"expired", hurries, onDevice, nil, away, 3, late, nil},
		{"expired by Keycloak's clock", hurries, onDevice, func(reply map[string]any) { reply["expires_in"] = 600 }, away, 3, late,
			[]string{"expired_token"}},
		{"slowed down", hurries, onDevice, func(reply map[string]any) { reply["interval"], reply["expires_in"] = 1, 600 }, away, 3, late,
			[]string{"slow_down", "expired_token"}},
	}
}

// device has people sign in with a browser of another machine.
func device(t *testing.T, c *company) {
	for _, tt := range deviceCases(c) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, c, tt.client)
			d.front.device = tt.change
			d.approve()
			out, status := d.signIn(tt.pattern, func(printed string) { tt.use(t, printed) }, "--device")
			if status != tt.status || !strings.Contains(out, tt.says) {
				t.Errorf("status %d, want %d and %q\n%s", status, tt.status, tt.says, out)
			}
			d.polled(tt.replies)
			if status != 0 {
				return
			}
			if _, groups := d.who(); len(groups) != 0 {
				t.Errorf("eve is in groups %q", groups)
			}
			if out, status := d.exec("true"); status != 5 {
				t.Errorf("eve: status %d, want 5\n%s", status, out)
			}
		})
	}
}

// polled compares what Keycloak has answered to the questions for a device code's tokens.
func (d *desk) polled(want []string) {
	d.t.Helper()
	var replies []string
	polls := d.front.to("token", "urn:ietf:params:oauth:grant-type:device_code")
	for i, poll := range polls {
		if poll.refusal != "authorization_pending" {
			replies = append(replies, poll.refusal)
		}
		if i > 0 && polls[i-1].refusal == "slow_down" && poll.at.Sub(polls[i-1].at) < 5*time.Second {
			d.t.Errorf("asked again %v after it was told to slow down by 5 s", poll.at.Sub(polls[i-1].at))
		}
	}
	if !slices.Equal(replies, want) {
		d.t.Errorf("Keycloak replies %q, want %q", replies, want)
	}
}
