//go:build e2e && linux && wide

package mcp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"golang.org/x/sys/unix"
)

// lines returns the commands of a block of the guide.
func lines(t *testing.T, with string) []string {
	t.Helper()
	return strings.Split(strings.TrimSpace(block(t, guide, "sh", with)), "\n")
}

// shell returns a command line of the guide.
func (d *desk) shell(line string) *exec.Cmd { return d.command(nil, "bash", "-c", line) }

// served waits until a page can be had.
func (d *desk) served(address string, ended chan error, text *said) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(address)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ended:
			d.t.Fatalf("it has ended\n%s", text)
		default:
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("nothing is served: %v\n%s", err, text)
		}
	}
}

// terminal gives a command a terminal of its own as its standard input, and returns the keyboard.
func terminal(t *testing.T, cmd *exec.Cmd) (keyboard *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	cmd.Stdin = tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return keyboard
}

// TestSideBySide: two targets at once have their own credentials, and the end of one does not touch the other, whose
// build takes several lives of a credential longer.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	d := sit(t, guide, "dbt-dev", "dbt-staging")
	d.slow("enabled=(target.name == 'staging')")
	var wg sync.WaitGroup
	ended := map[string]time.Time{}
	var mu sync.Mutex
	for _, line := range lines(t, "--target staging") {
		wg.Go(func() {
			out, status := d.end(d.shell(line))
			want, target := "PASS=2 ", "dev"
			if strings.Contains(line, "--target staging") {
				want, target = "PASS=5 ", "staging"
			}
			mu.Lock()
			ended[target] = time.Now()
			mu.Unlock()
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: status %d, want %q\n%s", line, status, want, out)
			}
			d.noSecrets("what it prints", out)
		})
	}
	wg.Wait()
	if len(ended) != 2 || !ended["dev"].Before(ended["staging"].Add(-life)) {
		t.Errorf("they ended at %v", ended)
	}
	sessions := map[string]int{}
	for _, s := range d.sts.Sessions() {
		sessions[s.RoleARN[strings.LastIndex(s.RoleARN, "/")+1:]]++
	}
	if sessions["dbt-dev"] == 0 || sessions["dbt-staging"] < 3 || d.store.Refused() > 0 {
		t.Errorf("credentials by role: %v; %d requests were refused", sessions, d.store.Refused())
	}
	for _, r := range d.audit() {
		if u := r.Unmapped; r.User.Name != "00u1ann" || u.Target != "dev" && u.Target != "staging" || u.AgentHint != "" {
			t.Errorf("record %+v", r)
		}
	}
	d.nothingLeft()
}

// TestTerminalProfile: the shell that an editor's terminal starts has the credential.
func TestTerminalProfile(t *testing.T) {
	t.Parallel()
	d := sit(t, guide, "dbt-dev")
	var config struct {
		Profiles map[string]struct {
			Path string   `json:"path"`
			Args []string `json:"args"`
		} `json:"terminal.integrated.profiles.linux"`
	}
	if err := json.Unmarshal([]byte(block(t, guide, "json", "profiles.linux")), &config); err != nil {
		t.Fatal(err)
	}
	profile := config.Profiles["dbt dev"]
	if line := strings.Join(append([]string{profile.Path}, profile.Args...), " "); line != lines(t, "-- bash")[0] {
		t.Errorf("the editor starts %q", line)
	}
	cmd := d.command(nil, profile.Path, profile.Args...)
	cmd.Stdin = strings.NewReader("dbt build\ndbt show --inline \"select sum(amount) as total from read_parquet('s3://lake/dev/orders.parquet')\"\n")
	out, status := d.end(cmd)
	if status != 0 || !strings.Contains(out, "PASS=2 ") || !strings.Contains(out, "|    42 |") {
		t.Errorf("status %d\n%s", status, out)
	}
	d.nothingLeft()
}

// TestDocs: the documentation is generated with a credential, and served without one until Ctrl-C.
func TestDocs(t *testing.T) {
	t.Parallel()
	d := sit(t, guide, "dbt-dev")
	commands := lines(t, "dbt docs serve")
	if out, status := d.end(d.shell(commands[0])); status != 0 {
		t.Fatalf("%s: status %d\n%s", commands[0], status, out)
	}
	credentials, port := len(d.sts.Sessions()), setup.Port(t)
	cmd := d.shell(fmt.Sprintf("exec %s --port %d --no-browser", commands[1], port))
	keyboard := terminal(t, cmd)
	text := &said{}
	cmd.Stdout, cmd.Stderr = text, text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	d.served(fmt.Sprintf("http://127.0.0.1:%d/catalog.json", port), ended, text)
	if _, err := keyboard.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("Ctrl-C does not end it\n%s", text)
	}
	// dbt does not catch the interrupt, of which it must get one only.
	if said := text.String(); cmd.ProcessState.ExitCode() != 2 || strings.Count(said, "\nKeyboardInterrupt") != 1 || strings.Contains(said, "oidc-dbt: warning") {
		t.Errorf("status %d\n%s", cmd.ProcessState.ExitCode(), said)
	}
	if n := len(d.sts.Sessions()); n != credentials {
		t.Errorf("serving got %d credentials", n-credentials)
	}
	d.nothingLeft()
}
