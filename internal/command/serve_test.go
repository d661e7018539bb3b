//go:build linux

package command_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A sidecar is a running `oidc-dbt serve`.
type sidecar struct {
	*step
	*program
	ready struct {
		ProfilesDir string `json:"profiles_dir"`
		Env         string `json:"env"`
		Health      string `json:"health"`
	}
}

// serve starts it, and waits for its ready file.
func (s *step) serve(args ...string) *sidecar {
	s.t.Helper()
	side := &sidecar{step: s}
	file := s.at("ready")
	side.program = s.process(append([]string{"serve", "--target", "prod", "--ready-file", file}, args...)...)
	side.begin(s.t)
	soon(s.t, "the ready file", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &side.ready) == nil
	})
	return side
}

// health asks as a probe does.
func (s *sidecar) health() (status int, fields map[string]string) {
	s.t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(s.ready.Health)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&fields); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, fields
}

// TestServe: a shell next to it reads the variables in, and is served longer
// than a credential lives; a signal leaves nothing.
func TestServe(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, 2*time.Second)
			s.env["NO_PROXY"] = "it's.example,$HOME,`id`"
			dir := s.at("shared")
			side := s.serve("--dir", dir)
			if side.ready.ProfilesDir != dir || side.ready.Env != filepath.Join(dir, "env") {
				t.Errorf("the ready file says %+v", side.ready)
			}
			shell := exec.Command("sh", "-c", `set -eu; set -a; . "$0"; set +a; printf '%s\n' "$NO_PROXY" "$DBT_PROFILES_DIR" "$DBT_ENV_SECRET_OIDC_PASSWORD"`, side.ready.Env)
			out, err := shell.CombinedOutput()
			lines := strings.Split(string(out), "\n")
			if err != nil || len(lines) != 4 || lines[0] != s.env["NO_PROXY"]+",127.0.0.1" || lines[1] != dir {
				t.Fatalf("the shell reads %q, %v", out, err)
			}
			broker := s.broker(dir)
			soon(t, "the use of three bearers", func() bool {
				if status, err := query(t, broker, lines[2]); status != 200 || err != nil {
					t.Fatalf("a query: status %d, %v", status, err)
				}
				return len(s.warehouse.shown()) >= 3
			})
			var fields map[string]string
			soon(t, "status 200", func() bool { // not while a renewal comes late
				var status int
				status, fields = side.health()
				return status == 200
			})
			probe := []string{"health", "--port", strings.Split(side.ready.Health, "/")[2][len("127.0.0.1:"):]}
			soon(t, "the probe's status 0", func() bool {
				status, said := s.run(probe...)
				return status == 0 && strings.HasPrefix(said, "the credential is valid until 2")
			})
			if expiry, err := time.Parse(time.RFC3339, fields["expires_at"]); fields["status"] != "ok" || len(fields) != 2 || err != nil || time.Until(expiry) > 2*time.Second {
				t.Errorf("healthz: %v", fields)
			}
			if status := side.end(t, sig); status != 0 {
				t.Errorf("status is %d: %s", status, side.said.String())
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("the folder is left: %v", err)
			}
			if _, err := os.Stat(s.at("ready")); !os.IsNotExist(err) {
				t.Errorf("the ready file is left: %v", err)
			}
			if status, said := s.run(probe...); status != 1 || !strings.Contains(said, "connection refused\nhint: start `oidc-dbt serve --health-port ") {
				t.Errorf("after the end the probe's status is %d: %s", status, said)
			}
			for _, secret := range append(s.secrets(), lines[2]) {
				for line := range strings.Lines(side.said.String()) {
					if !strings.HasPrefix(line, "::add-mask::") && strings.Contains(line, secret) {
						t.Errorf("a secret is in the output: %s", line)
					}
				}
			}
			s.checkEnd(issued + issued)
		})
	}
}

// TestServeIsNotHealthy while there is no credential that lives.
func TestServeIsNotHealthy(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, 2*time.Second)
	side := s.serve()
	s.claims(map[string]any{"ref": "refs/heads/other"})
	soon(t, "status 503", func() bool {
		status, fields := side.health()
		return status == 503 && fields["status"] == "failing" && strings.Contains(fields["reason"], `ref: got "refs/heads/other"`)
	})
	if status := side.end(t, syscall.SIGTERM); status != 0 || !strings.Contains(side.said.String(), "oidc-dbt: warning: renew the credential: ") {
		t.Errorf("status is %d: %s", status, side.said.String())
	}
	s.checkEnd(issued)
}

// TestServeInAPodsVolume: an emptyDir is root's, and everyone may write in it.
// Other flags come from variables, which the probe of the container has, too.
func TestServeInAPodsVolume(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	volume := s.at("volume")
	if err := errors.Join(os.Mkdir(volume, 0o777), os.Chmod(volume, 0o777|fs.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(volume, "oidc-dbt")
	s.env["OIDC_DBT_DIR"], s.env["OIDC_DBT_POD_VOLUME"], s.env["OIDC_DBT_HEALTH_PORT"] = dir, "true", port(t)
	side := s.serve()
	for name, want := range map[string]fs.FileMode{dir: 0o700 | fs.ModeDir, dir + "/env": 0o600, dir + "/profiles.yml": 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode()&^fs.ModeSetgid != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if status, said := s.run("health"); status != 0 {
		t.Errorf("health: status is %d: %s", status, said)
	}
	if status := side.end(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status is %d: %s", status, side.said.String())
	}
	if left, err := os.ReadDir(volume); err != nil || len(left) > 0 {
		t.Errorf("left in the volume: %v, %v", left, err)
	}
	s.checkEnd(issued)
}

// TestServeTellsADescriptor, as systemd's and s6's children do.
func TestServeTellsADescriptor(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := s.process("serve", "--target", "prod", "--ready-fd", "3")
	p.ExtraFiles = []*os.File{w}
	p.begin(t)
	w.Close()
	var told map[string]string
	if err := json.NewDecoder(r).Decode(&told); err != nil || told["env"] == "" {
		t.Errorf("told %v, %v: %s", told, err, p.said)
	}
	if n, err := r.Read(make([]byte, 16)); n > 1 || n == 0 && err == nil { // the line's end, then the descriptor's
		t.Errorf("%d bytes more, %v", n, err)
	}
	if status := p.end(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status is %d: %s", status, p.said)
	}
	s.checkEnd(issued)
}

// TestSweepAfterAKill: the folder of a process that was killed goes with the
// next start of its user's, and not while it lives.
func TestSweepAfterAKill(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	side := s.serve()
	left := side.ready.ProfilesDir
	_ = os.Remove(s.at("ready"))
	other := s.serve()
	if _, err := os.Stat(filepath.Join(left, "profiles.yml")); err != nil {
		t.Errorf("that of a process that lives: %v", err)
	}
	if status := other.end(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status is %d: %s", status, other.said.String())
	}
	if status := side.end(t, syscall.SIGKILL); status != -1 {
		t.Errorf("status is %d", status)
	}
	if _, err := os.Stat(left); err != nil {
		t.Errorf("a killed process leaves it: %v", err)
	}
	_ = os.Remove(s.at("ready"))
	next := s.serve()
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is left: %v", err)
	}
	if status := next.end(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status is %d: %s", status, next.said.String())
	}
	s.checkEnd("Preauth Success prod\n")
}

// TestServeAfterAKill: what an earlier process could not clear is cleared.
func TestServeAfterAKill(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	dir := s.at("shared")
	side := s.serve("--dir", dir)
	if status := side.end(t, syscall.SIGKILL); status != -1 {
		t.Errorf("status is %d", status)
	}
	left := s.write("shared/left", "")
	_ = os.Remove(s.at("ready"))
	side = s.serve("--dir", dir)
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", left, err)
	}
	if status := side.end(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status is %d: %s", status, side.said.String())
	}
	s.checkEnd("Preauth Success prod\n")
}

// TestServeIsNotReadyYet: the ready file of a run that was killed is gone as
// soon as the next one starts, even if that one fails.
func TestServeIsNotReadyYet(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	left := s.write("ready", "{}")
	if status, out := s.run("serve", "--target", "none", "--policy", s.at(policyFile), "--ready-file", left); status != 2 {
		t.Errorf("status is %d: %s", status, out)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is left: %v", err)
	}
}

func TestServeEndsAtTheCeiling(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Hour)
	end := time.Now().Add(20 * time.Second) // it must be ready by then
	s.issuer.EndRequests(end)
	s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = s.issuer.RequestToken()
	side := s.serve()
	_ = side.Wait()
	want := "oidc-dbt: keep the credential fresh: the runner's request token has expired\nhint: the runner's request token expired at " +
		end.UTC().Format("15:04") + " UTC: split a job that needs longer\n"
	if status := side.ProcessState.ExitCode(); status != 3 || !strings.HasSuffix(side.said.String(), want) {
		t.Errorf("status is %d: %s, want %s", status, side.said.String(), want)
	}
	s.checkEnd(issued)
}

// TestServeInAnothersFolder: whose the folder is may replace what dbt reads.
func TestServeInAnothersFolder(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	dir, owner := "/", 0
	if os.Geteuid() == 0 { // who may give a folder away
		dir, owner = s.at("theirs"), 12345
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, owner, owner)); err != nil {
			t.Fatal(err)
		}
	}
	status, out := s.run("serve", "--target", "prod", "--dir", dir)
	want := fmt.Sprintf("oidc-dbt: flag --dir: %q: is owned by user %d, want %d, the user running this program\n", dir, owner, os.Geteuid())
	if status != 2 || !strings.HasPrefix(out, want) {
		t.Errorf("status is %d, want 2; it says %s want %s", status, out, want)
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	for name, tt := range map[string]struct {
		args   []string
		status int
		says   string // the end
	}{
		"an argument":             {[]string{"dbt"}, 2, "oidc-dbt: unexpected argument \"dbt\"\nhint: to run a command with the credential: oidc-dbt exec -- COMMAND\n"},
		"no time":                 {[]string{"--timeout", "0s"}, 2, "oidc-dbt: flag --timeout: got 0s, want more than 0\n"},
		"a file as folder":        {[]string{"--dir", "$ROOT/workspace/dbt_project.yml"}, 2, "oidc-dbt: flag --dir: \"$ROOT/workspace/dbt_project.yml\": not a folder\nhint: name a folder that does not exist yet: it is created, in a folder that only you may write, or that has the sticky bit; in a volume of a pod add --pod-volume\n"},
		"an open folder":          {[]string{"--dir", "$ROOT/temp"}, 2, "oidc-dbt: flag --dir: \"$ROOT/temp\": is accessible to other users (-rwxr-xr-x)\nhint: name a folder that does not exist yet: it is created, in a folder that only you may write, or that has the sticky bit; in a volume of a pod add --pod-volume\n"},
		"a folder in an open one": {[]string{"--dir", "$ROOT/open/own"}, 2, "oidc-dbt: flag --dir: \"$ROOT/open/own\": \"$ROOT/open\" above it is writable by everyone (drwxrwxrwx)\nhint: name a folder that does not exist yet: it is created, in a folder that only you may write, or that has the sticky bit; in a volume of a pod add --pod-volume\n"},
		"a folder with files":     {[]string{"--dir", "$ROOT/full"}, 2, "oidc-dbt: flag --dir: \"$ROOT/full\": the folder contains other files, which would be removed at the end\nhint: name a folder that does not exist yet: it is created\n"},
		"an open pod":             {[]string{"--dir", "$ROOT/open/shared/mine", "--pod-volume"}, 2, "oidc-dbt: flag --dir: \"$ROOT/open/shared/mine\": \"$ROOT/open\" above it is writable by everyone (drwxrwxrwx)\nhint: name a folder that does not exist yet: it is created, in a folder that only you may write, or that has the sticky bit; in a volume of a pod add --pod-volume\n"},
		"below nothing":           {[]string{"--dir", "$ROOT/no/where"}, 2, "oidc-dbt: flag --dir: \"$ROOT/no/where\": no such file or directory\n"},
		"standard output":         {[]string{"--ready-fd", "1"}, 2, "oidc-dbt: flag --ready-fd: got 1, want 3 or more\n"},
		"no descriptor":           {[]string{"--ready-fd", "99"}, 2, "oidc-dbt: flag --ready-fd: 99: bad file descriptor\n"},
		"a port that is taken":    {[]string{"--health-port", port}, 1, "oidc-dbt: listen for /healthz: listen tcp4 127.0.0.1:" + port + ": bind: address already in use\n"},
		"a ready file nowhere":    {[]string{"--ready-file", "$ROOT/no/ready"}, 1, "oidc-dbt: write ready file \"$ROOT/no/ready\": no such file or directory\n"},
		"no route":                {[]string{"--target", "alone"}, 2, "oidc-dbt: serve target \"alone\": clients read its credential once, so it cannot be kept fresh\nhint: use `oidc-dbt exec -- COMMAND`\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, time.Minute)
			s.write("full/mine", "")
			open := s.at("open")
			err := errors.Join(os.Chmod(s.at("full"), 0o700), os.Mkdir(open, 0o777), os.Chmod(open, 0o777), os.Mkdir(s.at("open/shared"), 0o700))
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"serve", "--target", "prod"}
			for _, a := range tt.args {
				args = append(args, strings.ReplaceAll(a, "$ROOT", s.root))
			}
			status, out := s.run(args...)
			want := strings.ReplaceAll(tt.says, "$ROOT", s.root)
			if status != tt.status || !strings.HasSuffix(out, want) && (strings.HasSuffix(want, "\n") || !strings.Contains(out, want)) {
				t.Errorf("status is %d, want %d; it says %s want %s", status, tt.status, out, want)
			}
			s.checkFolders()
			if _, err := os.Stat(s.at("full/mine")); err != nil {
				t.Error(err)
			}
		})
	}
}
