//go:build e2e && linux && amd64

package people

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A ring is a session's bus with the Secret Service of GNOME.
type ring struct {
	c   *company
	t   *testing.T
	dir string // also the home of its owner
	env []string
}

const (
	secrets = "/org/freedesktop/secrets"
	login   = secrets + "/collection/login"
	opens   = "the password of the keyring"
)

// bus starts a session's bus with some more of its configuration. Of the services that it may start there is only
// the one that asks for a password, which here never answers.
func (c *company) bus(t *testing.T, more string) *ring {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus-*") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &ring{c: c, t: t, dir: dir}
	r.env = []string{"HOME=" + dir, "XDG_DATA_HOME=", "XDG_RUNTIME_DIR=" + dir, "DISPLAY=", "DBUS_SESSION_BUS_ADDRESS=unix:path=" + dir + "/socket"}
	setup.Write(t, dir, "services/prompter.service", "[D-BUS Service]\nName=org.gnome.keyring.SystemPrompter\nExec=/bin/sleep 60\n")
	config := setup.Write(t, dir, "bus.conf", `<busconfig><type>session</type><listen>unix:path=`+dir+`/socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>`+strings.ReplaceAll(more, "$DIR", dir)+`</busconfig>`)
	setup.StartCommand(t, r.command("dbus-daemon", "--nofork", "--nosyslog", "--config-file="+config), func() error {
		_, err := r.command("dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId").Output()
		return err
	})
	return r
}

// ring starts a bus with an open keyring.
func (c *company) ring(t *testing.T, more string) *ring {
	t.Helper()
	r := c.bus(t, more)
	r.open()
	return r
}

// open starts the keyring, in the place of one that is running, with the password that its owner has entered.
func (r *ring) open() {
	r.t.Helper()
	daemon := r.command("gnome-keyring-daemon", "--foreground", "--components=secrets", "--replace", "--unlock")
	daemon.Stdin = strings.NewReader(opens)
	setup.StartCommand(r.t, daemon, func() error {
		if out := r.ask(login, "org.freedesktop.DBus.Properties.Get", "string:org.freedesktop.Secret.Collection", "string:Locked"); !strings.Contains(out, "boolean false") {
			return fmt.Errorf("the keyring is not open: %s", out)
		}
		return nil
	})
}

// command returns one of Debian's programs, on this bus.
func (r *ring) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(r.c.program("usr", "bin", program), args...)
	cmd.Env = append(os.Environ(), append(r.env, r.c.library)...)
	return cmd
}

// ask calls a method of the Secret Service.
func (r *ring) ask(object, method string, args ...string) (reply string) {
	out, _ := r.command("dbus-send", append([]string{"--session", "--print-reply", "--dest=org.freedesktop.secrets", object, method}, args...)...).CombinedOutput()
	return string(out)
}

// items returns how many entries the keyring has.
func (r *ring) items() int {
	return strings.Count(r.ask(login, "org.freedesktop.DBus.Properties.Get", "string:org.freedesktop.Secret.Collection", "string:Items"), "object path")
}

func (r *ring) lock() {
	r.t.Helper()
	if out := r.ask(secrets, "org.freedesktop.Secret.Service.Lock", "array:objpath:"+login); !strings.Contains(out, login) {
		r.t.Fatalf("lock the keyring: %s", out)
	}
}

// use gives a desk this session, and lets its logins be kept where they are by default.
func (r *ring) use(d *desk) {
	d.store = nil
	d.env = append(d.env, r.env...)
}

// keyring keeps logins in GNOME's.
func keyring(t *testing.T, c *company) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, *company)
	}{{"large", large}, {"locked", locked}, {"locked, and the question stays", unanswered}, {"too large", small}} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, c) })
	}
}

// large keeps a login that is larger than one entry, and leaves nothing behind.
func large(t *testing.T, c *company) {
	r, d := c.ring(t, ""), sit(t, c, usual)
	r.use(d)
	d.approve()
	d.signedIn("max")
	if _, groups := d.who(); len(groups) != 201 {
		t.Errorf("max is in %d groups, want 201", len(groups))
	}
	if out, status := d.exec("true"); status != 0 {
		t.Errorf("exec: status %d\n%s", status, out)
	}
	before := r.items()
	d.signedIn("max")
	if after := r.items(); before < 4 || after != before {
		t.Errorf("the keyring has %d entries, and %d after another sign-in, want several, and as many", before, after)
	}
	err := filepath.WalkDir(d.state, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			text, rerr := os.ReadFile(path)
			if err = rerr; strings.Contains(string(text), "eyJ") {
				t.Errorf("%s holds a token", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if out := d.must("logout"); !strings.Contains(out, "the login is revoked and removed") || r.items() != 0 {
		t.Errorf("logout leaves %d entries\n%s", r.items(), out)
	}
	if calls := d.front.to("revoke", ""); len(calls) != 1 || calls[0].status != http.StatusOK {
		t.Errorf("revocations: %+v", calls)
	}
}

// locked is of a keyring that is locked, in a session that cannot ask for its password.
func locked(t *testing.T, c *company) {
	r, d := c.ring(t, ""), sit(t, c, usual)
	r.use(d)
	d.approve()
	d.signedIn("ann")
	r.lock()
	for _, args := range [][]string{{"exec", "--target", "dev", "--", "true"}, {"login"}, {"whoami"}} {
		out, status := d.run(args...)
		if status != 3 || !strings.Contains(out, "the keyring: it is locked, and was not unlocked") || !strings.Contains(out, "hint: unlock the keyring") {
			t.Errorf("%s: status %d, want 3\n%s", args, status, out)
		}
	}
	r.open()
	if out, status := d.exec("true"); status != 0 {
		t.Errorf("unlocked: status %d\n%s", status, out)
	}
}

// unanswered is of a session in which the question for the password stays open.
func unanswered(t *testing.T, c *company) {
	r, d := c.ring(t, "<servicedir>$DIR/services</servicedir>"), sit(t, c, usual)
	r.use(d)
	d.approve()
	d.signedIn("ann")
	r.lock()
	out, status := d.run("exec", "--target", "dev", "--timeout", "5s", "--", "true")
	if status != 3 || !strings.Contains(out, "read the login from the keyring: the keyring does not answer; is it locked?") {
		t.Errorf("status %d, want 3\n%s", status, out)
	}
}

// small is of a keyring that takes less than an entry.
func small(t *testing.T, c *company) {
	r, d := c.ring(t, `<limit name="max_message_size">1500</limit>`), sit(t, c, usual)
	r.use(d)
	d.approve()
	out, status := d.signIn(inBrowser, func(address string) { d.open(address, credentials("ann")) })
	if status != 3 || !strings.Contains(out, "store the login in the keyring: ") || !strings.Contains(out, "`oidc-dbt login --token-store file`") {
		t.Errorf("status %d, want 3\n%s", status, out)
	}
	if out, status := d.run("whoami"); status != 3 || !strings.Contains(out, "not signed in") || r.items() != 0 {
		t.Errorf("whoami: status %d, and %d entries are left\n%s", status, r.items(), out)
	}
}

// noKeyring is of machines without a Secret Service, and of those without a session.
func noKeyring(t *testing.T, c *company) {
	for name, use := range map[string]func(*desk){
		"no session":            func(d *desk) { d.store = nil },
		"a session without one": func(d *desk) { c.bus(t, "").use(d) },
	} {
		t.Run(name, func(t *testing.T) {
			d := sit(t, c, usual)
			use(d)
			d.approve()
			out, status := d.run("login")
			if status != 3 || !strings.Contains(out, "store the login in the keyring: ") || !strings.Contains(out, "`oidc-dbt login --token-store file`") {
				t.Errorf("status %d, want 3\n%s", status, out)
			}
			if strings.Contains(out, "sign in with a browser") {
				t.Errorf("the person is asked to sign in for nothing:\n%s", out)
			}
			d.store = []string{"--token-store", "file"}
			d.signedIn("ann")
			if out, status := d.exec("true"); status != 0 {
				t.Errorf("with a file: status %d\n%s", status, out)
			}
		})
	}
}
