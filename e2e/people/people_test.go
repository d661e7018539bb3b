//go:build e2e && linux && amd64

// Package people signs people in at a real Keycloak as docs/identities/people.md says, with Debian's Chromium and
// keyring, and runs dbt with what comes of it.
package people

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// TestPeople has one Keycloak and one Chromium for all its cases.
func TestPeople(t *testing.T) {
	t.Parallel()
	c := found(t)
	for name, test := range map[string]func(*testing.T, *company){
		"the page": page, "consent": consent, "device": device, "refresh": refresh, "stolen": stolen, "groups": groups, "attacks": attacks,
		"keyring": keyring, "no keyring": noKeyring, "warehouses": warehouses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

// A desk is a person's machine: a clone, a state folder, a browser.
type desk struct {
	t         *testing.T
	front     *front
	workspace string
	state     string
	env       []string
	store     []string     // the flags by which the login is kept
	browser   *http.Client // one without a screen
}

// block returns a block of the page.
func block(t *testing.T, kind, with string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "identities", "people.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(b[1], with) {
			return b[1]
		}
	}
	t.Fatalf("the page has no block of %s with %q", kind, with)
	return ""
}

// sit gives a person a desk, with the policy of the page for one of the clients.
func sit(t *testing.T, c *company, client string) *desk {
	t.Helper()
	f := before(t, c.realm)
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: f.realm.URL, Roles: map[string]standin.Role{"arn:aws:iam::123456789012:role/dbt-dev": {Audience: client}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)

	d := &desk{t: t, front: f, workspace: t.TempDir(), state: t.TempDir(), store: []string{"--token-store", "file"}}
	bare := t.TempDir() // no keyring, no screen
	d.env = append(setup.AtTerminal(setup.Python(t).Environ()), "XDG_STATE_HOME="+d.state, "NO_COLOR=1", "XDG_RUNTIME_DIR="+bare, "DBUS_SESSION_BUS_ADDRESS=",
		"DISPLAY=", "WAYLAND_DISPLAY=")
	d.browser = another(t)
	d.write(".github/oidc-dbt.yml", strings.NewReplacer(
		"https://id.acme.example/realms/acme", f.realm.URL, "dbt-cli", client,
		"endpoint: s3.eu-central-1.amazonaws.com", `endpoint: "`+store.Host()+`", url_style: path, use_ssl: false`,
		"region: eu-central-1", "region: eu-central-1\n        endpoint: "+sts.URL(),
	).Replace(block(t, "yaml", "kind: people")))
	d.write("dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
	return d
}

// another returns a browser that has no cookies yet.
func another(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: time.Minute}
}

func (d *desk) write(name, text string) {
	d.t.Helper()
	setup.Write(d.t, d.workspace, name, text)
}

// approve approves the policy, as it is now.
func (d *desk) approve() { d.t.Helper(); d.must("approve", "--yes") }

// run runs a command of oidc-dbt to its end.
func (d *desk) run(args ...string) (out string, status int) {
	d.t.Helper()
	cmd := d.command(args...)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	if cmd.ProcessState == nil {
		d.t.Fatal(err)
	}
	return both.String(), cmd.ProcessState.ExitCode()
}

func (d *desk) command(args ...string) *exec.Cmd {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	d.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, setup.Binary(d.t), args...)
	cmd.Dir, cmd.Env = d.workspace, d.env
	return cmd
}

// must is run for a command that must succeed.
func (d *desk) must(args ...string) string {
	d.t.Helper()
	out, status := d.run(args...)
	if status != 0 {
		d.t.Fatalf("%q: status %d\n%s", args, status, out)
	}
	return out
}

// signIn runs login while the person uses the address that it prints.
func (d *desk) signIn(address *regexp.Regexp, use func(address string), args ...string) (out string, status int) {
	d.t.Helper()
	cmd := d.command(slices.Concat([]string{"login"}, d.store, args)...)
	said := &watched{found: make(chan string, 1), pattern: address}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case at := <-said.found:
		if use(at); d.t.Failed() { // it would wait for the person
			_ = cmd.Process.Kill()
		}
	case <-ended:
		d.t.Fatalf("login ended before it printed an address:\n%s", said)
	}
	<-ended
	return said.String(), cmd.ProcessState.ExitCode()
}

// signedIn signs a person in by Keycloak's form, which needs no screen.
func (d *desk) signedIn(user string) {
	d.t.Helper()
	out, status := d.signIn(inBrowser, func(address string) { d.open(address, credentials(user)) })
	if status != 0 {
		d.t.Fatalf("login of %s: status %d\n%s", user, status, out)
	}
}

// watched looks for an address in what a command prints.
type watched struct {
	pattern *regexp.Regexp
	found   chan string
	mu      sync.Mutex
	text    bytes.Buffer
	told    bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if m := w.pattern.FindStringSubmatch(w.text.String()); m != nil && !w.told {
		w.told = true
		w.found <- m[1]
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

var action = regexp.MustCompile(`action="([^"]+)"`)

// open has the person's browser open a page, and post its forms.
func (d *desk) open(address string, forms ...url.Values) {
	d.t.Helper()
	d.body(d.follow(d.browser, address, forms...), nil)
}

// follow has a browser open a page, and post its forms, as far as it gets.
func (d *desk) follow(browser *http.Client, address string, forms ...url.Values) *http.Response {
	d.t.Helper()
	resp, err := browser.Get(address)
	for _, form := range forms {
		if err == nil && resp.StatusCode == http.StatusFound { // refused before there is a form
			return resp
		}
		page := d.body(resp, err)
		m := action.FindStringSubmatch(page)
		if m == nil {
			d.t.Fatalf("the page has no form:\n%s", page)
		}
		to, perr := resp.Request.URL.Parse(html.UnescapeString(m[1]))
		if perr != nil {
			d.t.Fatal(perr)
		}
		resp, err = browser.PostForm(to.String(), form)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return resp
}

func (d *desk) body(resp *http.Response, err error) string {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// credentials fill in Keycloak's form.
func credentials(user string) url.Values {
	return url.Values{"username": {user}, "password": {password}}
}

var (
	inBrowser = regexp.MustCompile(`(http://127\.0\.0\.1:\d+/realms/\S+)\n\n`)
	onDevice  = regexp.MustCompile(`or open (http://\S+)\n`)
)

// who returns what whoami says.
func (d *desk) who() (subject string, groups []string) {
	d.t.Helper()
	var person struct {
		Subject string   `json:"subject"`
		Groups  []string `json:"groups"`
	}
	if err := json.Unmarshal([]byte(d.must("whoami", "--json")), &person); err != nil {
		d.t.Fatal(err)
	}
	return person.Subject, person.Groups
}

// A kept is a login as a file has it.
type kept struct {
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

// logins are the files with one.
func (d *desk) logins() []string {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join(d.state, "oidc-dbt", "logins", "*.token"))
	if err != nil {
		d.t.Fatal(err)
	}
	return files
}

func (d *desk) file() string {
	d.t.Helper()
	files := d.logins()
	if len(files) != 1 {
		d.t.Fatalf("the logins are kept in %q, want one file", files)
	}
	return files[0]
}

// kept reads the login.
func (d *desk) kept() (k kept) {
	d.t.Helper()
	text, err := os.ReadFile(d.file())
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return k
}

// forget takes the ID token out of the login, so that the next command must refresh.
func (d *desk) forget() {
	d.t.Helper()
	text, err := json.Marshal(kept{Refresh: d.kept().Refresh})
	if err == nil {
		err = os.WriteFile(d.file(), text, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// exec runs a command with the credential of the target dev.
func (d *desk) exec(command ...string) (out string, status int) {
	d.t.Helper()
	return d.run(append([]string{"exec", "--target", "dev", "--"}, command...)...)
}
