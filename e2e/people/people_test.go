//go:build e2e

// Package people signs a person in at a real Keycloak as docs/identities/people.md says, and runs dbt with what
// comes of it.
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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const password = "correct-horse-battery"

// A desk is a person's machine: a clone, a state folder, a browser.
type desk struct {
	t         *testing.T
	realm     setup.Realm
	workspace string
	env       []string
	browser   *http.Client
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

func sit(t *testing.T) *desk {
	t.Helper()
	realm, admin := setup.EmptyKeycloak(t)
	users := `
kcadm.sh create groups -r acme -s name=analysts
for user in ann eve; do
  kcadm.sh create users -r acme -s username=$user -s enabled=true -s emailVerified=true -s email=$user@acme.example -s firstName=A -s lastName=B
  kcadm.sh set-password -r acme --username $user --new-password ` + password + `
done
group=$(kcadm.sh get groups -r acme --fields id --format csv --noquotes)
user=$(kcadm.sh get users -r acme -q username=ann --fields id --format csv --noquotes)
kcadm.sh update "users/$user/groups/$group" -r acme -s realm=acme -s userId="$user" -s groupId="$group" -n
`
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	script := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail\n"+block(t, "sh", "kcadm.sh create clients")+users)
	script.Env = admin
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: realm.URL, Roles: map[string]standin.Role{setup.Role: {Audience: "dbt-cli"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)

	d := &desk{t: t, realm: realm, workspace: t.TempDir()}
	state := t.TempDir()
	python := setup.Python(t)
	d.env = append(python.Environ(), "XDG_STATE_HOME="+state, "NO_COLOR=1")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.browser = &http.Client{Jar: jar, Timeout: time.Minute}
	policy := strings.NewReplacer(
		"https://id.acme.example/realms/acme", realm.URL, "endpoint: s3.eu-central-1.amazonaws.com", `endpoint: "`+store.Host()+`", url_style: path, use_ssl: false`,
		"region: eu-central-1", "region: eu-central-1\n        endpoint: "+sts.URL(),
	).Replace(block(t, "yaml", "kind: people"))
	for name, text := range map[string]string{
		".github/oidc-dbt.yml":  policy,
		"dbt_project.yml":       "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
		"seeds/raw_orders.csv":  "order_id,amount\n1,10\n2,32\n",
		"models/orders.sql":     "{{ config(materialized='external', location='s3://lake/orders.parquet') }}\nselect * from {{ ref('raw_orders') }}\n",
		"models/read_back.sql":  "-- depends_on: {{ ref('orders') }}\nselect sum(amount) as total from read_parquet('s3://lake/orders.parquet')\n",
		"target/keep/directory": "",
	} {
		setup.Write(t, d.workspace, name, text)
	}
	return d
}

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
	cmd := d.command(append([]string{"login", "--token-store", "file"}, args...)...)
	said := &watched{found: make(chan string, 1), pattern: address}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case at := <-said.found:
		use(at)
	case <-ended:
		d.t.Fatalf("login ended before it printed an address:\n%s", said)
	}
	<-ended
	return said.String(), cmd.ProcessState.ExitCode()
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

// open opens a page, and posts its form.
func (d *desk) open(address string, forms ...url.Values) (page string) {
	d.t.Helper()
	resp, err := d.browser.Get(address)
	for _, form := range forms {
		page = d.body(resp, err)
		m := action.FindStringSubmatch(page)
		if m == nil {
			d.t.Fatalf("the page has no form:\n%s", page)
		}
		to, perr := resp.Request.URL.Parse(html.UnescapeString(m[1]))
		if perr != nil {
			d.t.Fatal(perr)
		}
		resp, err = d.browser.PostForm(to.String(), form)
	}
	return d.body(resp, err)
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

func TestPeople(t *testing.T) {
	t.Parallel()
	d := sit(t)
	if out, status := d.run("login"); status != 3 || !strings.Contains(out, "is not approved") {
		t.Fatalf("before the approval: status %d\n%s", status, out)
	}
	d.must("approve", "--yes")

	out, status := d.signIn(inBrowser, func(address string) {
		if page := d.open(address, credentials("ann")); !strings.Contains(page, "You are signed in.") {
			t.Errorf("the browser shows\n%s", page)
		}
	})
	if status != 0 {
		t.Fatalf("login: status %d\n%s", status, out)
	}
	subject, groups := d.who()
	if len(groups) != 1 || groups[0] != "analysts" || subject == "" {
		t.Errorf("signed in as %q in groups %q", subject, groups)
	}
	if out := d.must("exec", "--target", "dev", "--", "dbt", "build"); !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") {
		t.Errorf("dbt build:\n%s", out)
	}
	d.rotation(subject)

	out = d.must("logout")
	if !strings.Contains(out, "the login is revoked and removed") {
		t.Errorf("logout:\n%s", out)
	}
	if out, status := d.run("exec", "--target", "dev", "--", "true"); status != 3 || !strings.Contains(out, "not signed in") {
		t.Errorf("after logout: status %d\n%s", status, out)
	}
	d.device()
}

// rotation holds that each refresh gives another refresh token, and that the
// server ends a login whose old one comes again.
func (d *desk) rotation(subject string) {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join(stateOf(d.env), "oidc-dbt", "logins", "*.token"))
	if err != nil || len(files) != 1 {
		d.t.Fatalf("files %q, %v", files, err)
	}
	stored := func() (kept struct {
		Refresh string `json:"refresh_token"`
		ID      string `json:"id_token"`
	}) {
		text, err := os.ReadFile(files[0])
		if err == nil {
			err = json.Unmarshal(text, &kept)
		}
		if err != nil {
			d.t.Fatal(err)
		}
		return kept
	}
	first := stored()
	// Without the ID token the next command must refresh.
	text, err := json.Marshal(map[string]string{"refresh_token": first.Refresh, "id_token": ""})
	if err == nil {
		err = os.WriteFile(files[0], text, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	if got, _ := d.who(); got != subject {
		d.t.Errorf("after a refresh: %q, want %q", got, subject)
	}
	if next := stored(); next.Refresh == first.Refresh || next.ID == "" {
		d.t.Error("the refresh token was not rotated, or no ID token was kept")
	}
	resp, err := http.PostForm(d.realm.TokenURL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.Refresh}, "client_id": {"dbt-cli"}})
	if page := d.body(resp, err); resp.StatusCode != http.StatusBadRequest {
		d.t.Errorf("the old refresh token again: %s\n%s", resp.Status, page)
	}
}

func stateOf(env []string) (dir string) {
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, "XDG_STATE_HOME="); ok {
			dir = rest
		}
	}
	return dir
}

// device signs in another person with a browser of another machine.
func (d *desk) device() {
	d.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.browser.Jar = jar // another machine's
	out, status := d.signIn(onDevice, func(address string) {
		d.open(address, credentials("eve"), url.Values{"accept": {"Yes"}})
	}, "--device")
	if status != 0 {
		d.t.Fatalf("login --device: status %d\n%s", status, out)
	}
	if _, groups := d.who(); len(groups) != 0 {
		d.t.Errorf("eve is in groups %q", groups)
	}
	if out, status := d.run("exec", "--target", "dev", "--", "true"); status != 5 {
		d.t.Errorf("eve: status %d, want 5\n%s", status, out)
	}
	d.must("logout")
}
