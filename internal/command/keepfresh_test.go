//go:build linux

package command_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A freshStep is a step with keep-fresh: a ClickHouse that takes bearers of a
// company's authorization server, which live for seconds.
type freshStep struct {
	t         *testing.T
	issuer    *standin.Issuer
	tokens    *standin.TokenService
	root      string
	env       map[string]string
	warehouse *warehouse
	port      string // of the profile
}

// warehouse collects the bearers that it was shown.
type warehouse struct {
	*httptest.Server
	mu      sync.Mutex
	bearers map[string]bool
}

func (w *warehouse) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bearers[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] = true
	_, _ = io.WriteString(rw, "1\n")
}

// used returns how many bearers it was shown.
func (w *warehouse) used() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.bearers)
}

// newFreshStep lays the step out. exchange is "" for the authorization server,
// or where to go instead of it.
func newFreshStep(t *testing.T, life time.Duration, tokenURL string) *freshStep {
	t.Helper()
	return newFreshStepIn(t, t.TempDir(), life, tokenURL)
}

func newFreshStepIn(t *testing.T, root string, life time.Duration, tokenURL string) *freshStep {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	s := &freshStep{t: t, issuer: issuer, root: root, warehouse: &warehouse{bearers: map[string]bool{}}}
	config := authServerConfig(issuer)
	config.Lifetime = life
	if s.tokens, err = standin.StartAuthServer(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.tokens.Close)
	s.warehouse.Server = httptest.NewServer(s.warehouse)
	t.Cleanup(s.warehouse.Close)
	if tokenURL == "" {
		tokenURL = s.tokens.URL() + "/token"
	}
	s.write("workspace/.github/oidc-dbt.yml", fmt.Sprintf(`version: 1
identities:
  github: {issuer: %q, kind: github}
targets:
  prod:
    dbt: {type: clickhouse, host: 127.0.0.1, port: %s, schema: marts}
    exchange:
      token_exchange: {token_url: %q, audience: %q, client_id: dbt, target_audience: trino}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
  alone:
    exchange:
      token_exchange: {token_url: %[3]q, audience: %[4]q, client_id: dbt, target_audience: trino}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`, issuer.URL(), s.warehouse.URL[strings.LastIndex(s.warehouse.URL, ":")+1:], tokenURL, s.tokens.URL()+"/token"))
	s.write("workspace/dbt_project.yml", "name: a\nprofile: a\n")
	temp, tmp := filepath.Join(s.root, "temp"), filepath.Join(s.root, "tmp")
	for _, dir := range []string{temp, tmp} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.env = map[string]string{
		"OIDC_DBT_TEST_BINARY": "1", "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_WORKSPACE": filepath.Join(s.root, "workspace"),
		"RUNNER_TEMP": temp, "TMPDIR": tmp, "PATH": os.Getenv("PATH"), "RUNNER_TRACKING_ID": "github_1", "INPUT_TARGET": "prod", "INPUT_KEEP-FRESH": "true",
	}
	maps.Copy(s.env, issuer.RunnerEnv())
	for _, name := range commandFiles {
		s.env["GITHUB_"+name] = s.write("commands/"+name, "")
	}
	t.Cleanup(func() {
		for _, pid := range s.processes() { // none, unless the test failed
			t.Errorf("process %d is left", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

func (s *freshStep) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *freshStep) file(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.root, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// command is a process of the step.
func (s *freshStep) command(args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	out = &bytes.Buffer{}
	cmd = exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = out, out // by pipes, whose end Wait waits for, as runners do
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd, out
}

// run runs a process of the step to its end, and to that of its output.
func (s *freshStep) run(args ...string) (status int, out string) {
	s.t.Helper()
	cmd, text := s.command(args...)
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), text.String()
}

// begin runs the step, which must succeed, and returns what it set for later steps.
func (s *freshStep) begin() (out string, env map[string]string) {
	s.t.Helper()
	status, out := s.run()
	if status != 0 {
		s.t.Fatalf("status is %d: %s", status, out)
	}
	s.readPort(s.read("OUTPUT")["profiles-dir"])
	return out, s.read("ENV")
}

// readPort reads where the profile leads to; a target without dbt has none.
func (s *freshStep) readPort(dir string) {
	s.t.Helper()
	if profiles, err := os.ReadFile(filepath.Join(dir, "profiles.yml")); err == nil {
		s.port = string(regexp.MustCompile(`port: (\d+)`).FindSubmatch(profiles)[1])
	}
}

func (s *freshStep) read(name string) map[string]string {
	s.t.Helper()
	text, err := os.ReadFile(s.env["GITHUB_"+name])
	if err != nil {
		s.t.Fatal(err)
	}
	return fileCommands(s.t, string(text))
}

// post runs the post step and returns what it printed.
func (s *freshStep) post() string {
	s.t.Helper()
	s.env["STATE_folder"] = s.read("STATE")["folder"]
	status, out := s.run("post")
	if status != 0 {
		s.t.Errorf("post ended with status %d", status)
	}
	return out
}

// query asks the warehouse as dbt does, by the profile.
func (s *freshStep) query(password string) (status int, err error) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:"+s.port+"/?query=SELECT+1", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth("default", password)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// processes are those whose environment has the step's RUNNER_TEMP.
func (s *freshStep) processes() (pids []int) {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended
		if bytes.Contains(text, []byte("RUNNER_TEMP="+s.env["RUNNER_TEMP"]+"\x00")) {
			pid, err := strconv.Atoi(strings.Split(file, "/")[2])
			if err != nil {
				s.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// daemon is the one process that is left.
func (s *freshStep) daemon() int {
	s.t.Helper()
	pids := s.processes()
	if len(pids) != 1 {
		s.t.Fatalf("processes are %v, want one", pids)
	}
	return pids[0]
}

// soon waits until is holds, for minutes at most: how fast the machine is does
// not matter.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come to be", what)
		}
	}
}

// checkEnd holds what is left: no process, no folder, and the audit lines
// that begin like these.
func (s *freshStep) checkEnd(audit string) {
	s.t.Helper()
	if pids := s.processes(); len(pids) > 0 {
		s.t.Errorf("processes are left: %v", pids)
	}
	if left, err := filepath.Glob(filepath.Join(s.root, "t*mp", "oidc-dbt-step-*")); err != nil || len(left) > 0 {
		s.t.Errorf("left behind: %q, %v", left, err)
	}
	if got := s.audit(); !strings.HasPrefix(got, audit) {
		s.t.Errorf("the audit log is\n%s\nwant it to begin\n%s", got, audit)
	}
}

// checkGone holds that nobody knows the password any more: nobody listens, or
// another test's run, which has got the port meanwhile.
func (s *freshStep) checkGone(password string) {
	s.t.Helper()
	if status, err := s.query(password); status != http.StatusForbidden && !errors.Is(err, syscall.ECONNREFUSED) {
		s.t.Errorf("a query behind the end: status %d, %v", status, err)
	}
}

func (s *freshStep) audit() string {
	s.t.Helper()
	log, err := os.ReadFile(filepath.Join(s.env["RUNNER_TEMP"], "oidc-dbt", "audit.jsonl"))
	if err != nil {
		s.t.Fatal(err)
	}
	return auditLines(string(log))
}

// secrets is all that must be seen nowhere.
func (s *freshStep) secrets() []string {
	s.warehouse.mu.Lock()
	defer s.warehouse.mu.Unlock()
	return slices.Concat(s.issuer.Issued(), []string{s.issuer.RequestToken()}, slices.Collect(maps.Keys(s.warehouse.bearers)))
}

// TestKeepFresh: the step ends, and with it its output; what it started serves
// fresh credentials to the next steps; post leaves nothing.
func TestKeepFresh(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, 2*time.Second, "")
	s.env["CLICKHOUSE_PASSWORD"], s.env["DBT_TARGET"] = "mine", "dev"
	out, env := s.begin()
	for _, want := range []string{
		"\n::warning::set in the job's environment, where dbt may obey them before the credential of target \"prod\": DBT_TARGET\n",
		"\nthe credential is kept fresh for about 6 hours, as long as the runner's request token lives\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the step does not say %q: %s", want, out)
		}
	}
	outputs, folder := s.read("OUTPUT"), s.read("STATE")["folder"]
	checkSecrets(t, map[string]string{"stdout": out, "output": fmt.Sprintf("password=%s\nenv=%s\n", outputs["password"], outputs["env"])}, s.secrets()...)
	password := env["DBT_ENV_SECRET_OIDC_PASSWORD"]
	if password == "" || outputs["password"] != password || outputs["token"] != "" {
		t.Errorf("output password is not what the profile reads, or output token is written")
	}
	for name, want := range map[string]string{"DBT_PROFILES_DIR": folder, "DBT_ENGINE_PROFILES_DIR": "", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	expiry, err := time.Parse(time.RFC3339, outputs["expires-at"])
	if left := time.Until(expiry); err != nil || left < 5*time.Hour || left > 6*time.Hour {
		t.Errorf("expires-at is %q, want about 6 hours from now", outputs["expires-at"])
	}

	// Several lives of a bearer.
	soon(t, "the use of three bearers", func() bool {
		if status, err := s.query(password); status != 200 || err != nil {
			t.Fatalf("a query: status %d, %v", status, err)
		}
		return s.warehouse.used() >= 3
	})

	// Whoever has no password gets nothing, and two knocks are one record.
	for range 2 {
		if status, err := s.query("another"); status != http.StatusForbidden || err != nil {
			t.Errorf("a query with another password: status %d, %v", status, err)
		}
	}

	s.checkDaemon(folder)
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkGone(password)
	s.checkEnd("Preauth Success prod\nLogon Success prod\nPreauth Success prod\nLogon Success prod\n")
	if n := strings.Count(s.audit(), "Refused"); n > 2 {
		t.Errorf("%d records of refused callers: %s", n, s.audit())
	}
}

// checkDaemon looks at the background process from outside: what a second
// user sees, and what is on the disk.
func (s *freshStep) checkDaemon(folder string) {
	s.t.Helper()
	pid := s.daemon()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, args, _ := strings.Cut(string(line), "\x00"); args != "keep-fresh\x00"+folder+"\x00" {
		s.t.Errorf("its arguments are %q", args)
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !strings.Contains("\x00"+string(environ), "\x00RUNNER_TRACKING_ID=github_1\x00") {
		s.t.Errorf("the runner would not find it by its tracking id: %v", err)
	}
	if got, want := listeners(s.t, pid), []string{"127.0.0.1", "127.0.0.1"}; !slices.Equal(got, want) {
		s.t.Errorf("it listens on %v, want %v: the route and the control", got, want)
	}
	for fd := range 3 {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		if fd == 2 && to != filepath.Join(folder, "notes.log") {
			s.t.Errorf("its standard error is %q, %v", to, err)
		}
	}
	err = filepath.WalkDir(s.env["RUNNER_TEMP"], func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == s.env["RUNNER_TEMP"] {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			s.t.Errorf("%s is %v", path, info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, secret := range s.secrets() {
			if strings.Contains(string(text), secret) {
				s.t.Errorf("a secret is in %s", path)
			}
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

// listeners are the addresses on which a process listens, without their ports.
func listeners(t *testing.T, pid int) (addresses []string) {
	t.Helper()
	sockets := map[string]bool{} // inodes
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink(fd) // it may be closed by now
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// sl, local_address, rem_address, st, …, inode: proc_pid_net(5); 0A is LISTEN.
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !sockets[f[9]] {
				continue
			}
			address := f[1]
			if strings.HasPrefix(address, "0100007F:") {
				address = "127.0.0.1"
			}
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// TestKeepFreshFails: a failure is the step's own, with its words and its
// status, and nothing is left.
func TestKeepFreshFails(t *testing.T) {
	t.Parallel()
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hang(r) }))
	t.Cleanup(hanging.Close)
	t.Cleanup(hanging.CloseClientConnections)
	for _, tt := range []struct {
		name     string
		change   func(s *freshStep)
		tokenURL string
		status   int
		says     string
		audit    string
	}{{
		name: "denied", status: 5, audit: "Preauth Failure prod denied",
		change: func(s *freshStep) {
			claims := standin.GitHubClaims()
			claims["environment"] = "staging"
			s.issuer.SetClaims(claims)
		},
		says: `environment: got "staging", want "production"`,
	}, {
		name: "too slow", status: 7, tokenURL: hanging.URL, audit: "Preauth Success prod\nLogon Failure prod unreachable",
		change: func(s *freshStep) { s.env["INPUT_TIMEOUT"] = "1s" },
		says:   "::error::exchange ID token with \"token_exchange\": not done after 1s, the time that `timeout` allows",
	}, {
		name: "no summary", status: 1, audit: "Preauth Success prod\nLogon Success prod\n",
		change: func(s *freshStep) { s.env["GITHUB_STEP_SUMMARY"] = filepath.Join(s.root, "no", "such") },
		says:   "::error::write to the runner: ",
	}, {
		name: "wrong input", status: 2,
		change: func(s *freshStep) { s.env["INPUT_TIMEOUT"] = "soon" },
		says:   `::error::input timeout: got "soon", want a duration such as 90s or 2m`,
	}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, time.Minute, tt.tokenURL)
			tt.change(s)
			status, out := s.run()
			if status != tt.status || !strings.Contains(out, tt.says) || strings.Count(out, "::error::") != 1 || strings.Contains(out, "::warning::") {
				t.Errorf("status is %d, want %d; it says %s", status, tt.status, out)
			}
			if tt.audit != "" {
				s.checkEnd(tt.audit)
			}
			if got := s.post(); got != "" {
				t.Errorf("post says %s", got)
			}
		})
	}
}

// TestKeepFreshIsInterrupted: while the exchange hangs the runner cancels the
// step, or the step is killed. In neither case does the background process go on.
func TestKeepFreshIsInterrupted(t *testing.T) {
	t.Parallel()
	for sig, status := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130, syscall.SIGKILL: -1} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			asked := make(chan struct{}, 8)
			hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				hang(r)
			}))
			t.Cleanup(hanging.Close)
			t.Cleanup(hanging.CloseClientConnections)
			s := newFreshStep(t, time.Minute, hanging.URL)
			cmd, out := s.command()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-asked:
			case <-time.After(5 * time.Minute):
				t.Fatal("the exchange did not begin")
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != status {
				t.Errorf("exit status is %d, want %d", got, status)
			}
			if want := fmt.Sprintf("::error::stopped by signal: %s: nothing was published", sig); sig != syscall.SIGKILL && !strings.Contains(out.String(), want) {
				t.Errorf("it says %s, want %s", out.String(), want)
			}
			soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
			if got := s.post(); got != "" {
				t.Errorf("post says %s", got)
			}
			s.checkEnd("Preauth Success prod\nLogon Failure prod unreachable ")
		})
	}
}

// TestKeepFreshEnds by others than post, which then has nothing to end.
func TestKeepFreshEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(s *freshStep)
		says string // post
	}{
		{"told by a signal", func(s *freshStep) { _ = syscall.Kill(s.daemon(), syscall.SIGTERM) }, ""},
		{"killed", func(s *freshStep) { _ = syscall.Kill(s.daemon(), syscall.SIGKILL) }, "::warning::clean up: end the background process: it is not there any more, and nothing was kept fresh since it ended\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, time.Minute, "")
			s.begin()
			tt.end(s)
			soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
			if got := s.post(); got != tt.says {
				t.Errorf("post says %q, want %q", got, tt.says)
			}
			s.checkEnd("Preauth Success prod\nLogon Success prod\n")
		})
	}
}

// TestKeepFreshEndsWithTheRunner: a worker that is killed calls no post.
func TestKeepFreshEndsWithTheRunner(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute, "")
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(shell)
	if err != nil {
		t.Fatal(err)
	}
	worker := s.write("Runner.Worker", string(program)) // the name is what counts
	if err := os.Chmod(worker, 0o755); err != nil {
		t.Fatal(err)
	}
	step, _ := s.command()
	cmd := exec.Command(worker, "-c", `sh -c 'env INPUT_KEEP-FRESH=true "$0"; exit $?' "$0" && echo done && read x`, step.Path) // a second shell for node; shells drop such names
	cmd.Env = step.Env
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []byte
	for piece := make([]byte, 4096); !bytes.HasSuffix(said, []byte("done\n")); {
		n, err := out.Read(piece)
		if err != nil {
			t.Fatalf("the step did not end: %v: %s", err, said)
		}
		said = append(said, piece[:n]...)
	}
	time.Sleep(3 * time.Second) // longer than it takes to look for the worker
	if n := len(s.processes()); n != 2 {
		t.Errorf("%d processes, want the worker and the background process", n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\n")
}

// TestKeepFreshEndsAtTheCeiling: no ID token can be had any more.
func TestKeepFreshEndsAtTheCeiling(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Hour, "")
	end := time.Now().Add(30 * time.Second) // the step must be through by then
	s.issuer.EndRequests(end)
	s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = s.issuer.RequestToken()
	out, _ := s.begin()
	if want := "\nthe credential is kept fresh until " + end.UTC().Format("15:04") + " UTC (in 0h00m), when the runner's request token ends\n"; !strings.Contains(out, want) {
		t.Errorf("it says %s, want %s", out, want)
	}
	if got, want := s.read("OUTPUT")["expires-at"], end.UTC().Format(time.RFC3339); got != want {
		t.Errorf("expires-at is %s, want %s", got, want)
	}
	soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
	got := regexp.MustCompile(`\d\d:\d\d:\d\dZ`).ReplaceAllString(s.post(), "TIME")
	if want := "::warning::while the credential was kept fresh:%0ATIME: keep the credential fresh: the runner's request token has ended; hint: the runner's request token ended at " +
		end.UTC().Format("15:04") + " UTC: nothing is kept fresh for longer; split the job\n"; got != want {
		t.Errorf("post says %q, want %q", got, want)
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\n")
}

// TestKeepFreshTellsOfFailures: nobody reads the background process's output,
// so post says what it met.
func TestKeepFreshTellsOfFailures(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, 2*time.Second, "")
	_, env := s.begin()
	claims := standin.GitHubClaims()
	claims["ref"] = "refs/heads/other"
	s.issuer.SetClaims(claims)
	soon(t, "a query that fails", func() bool {
		status, err := s.query(env["DBT_ENV_SECRET_OIDC_PASSWORD"])
		return status >= 500 && err == nil
	})
	got := s.post()
	if !strings.HasPrefix(got, "::warning::while the credential was kept fresh:%0A") || !strings.Contains(got, `Z: renew the credential: `) || !strings.Contains(got, `ref: got "refs/heads/other", want "refs/heads/main"`) {
		t.Errorf("post says %q", got)
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\n")
}

// TestKeepFreshWithoutARoute is an ordinary step that says so.
func TestKeepFreshWithoutARoute(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute, "")
	s.env["INPUT_TARGET"] = "alone"
	out, env := s.begin()
	if want := `::warning::the credential of target "alone" is not kept fresh: clients read it once. It expires in 1m0s`; !strings.Contains(out, want) {
		t.Errorf("it says %s, want %s", out, want)
	}
	if pids := s.processes(); len(pids) > 0 || env["DBT_ENV_SECRET_OIDC_TOKEN"] == "" {
		t.Errorf("processes are %v, variables %q", pids, slices.Collect(maps.Keys(env)))
	}
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkEnd("Preauth Success alone\nLogon Success alone\n")
}

// TestKeepFreshOfGoogle: Google's own tools find the file by their variables,
// and other tools by the step's output.
func TestKeepFreshOfGoogle(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute, "")
	google, err := standin.StartGoogle(googleConfig(s.issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Close)
	s.write("workspace/.github/oidc-dbt.yml", fmt.Sprintf(`version: 1
identities:
  github: {issuer: %q, kind: github}
targets:
  prod:
    exchange:
      gcp: {workload_identity_provider: %s, sts_endpoint: %q}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`, s.issuer.URL(), pool, google.URL()))
	_, env := s.begin()
	path := s.read("OUTPUT")["google-credentials-file"]
	if env["GOOGLE_APPLICATION_CREDENTIALS"] != path || env["CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"] != path || filepath.Dir(path) != s.read("STATE")["folder"] {
		t.Errorf("the output is %q, the variables are %q", path, env)
	}
	if s.read("OUTPUT")["token"] != "" || env["CLOUDSDK_AUTH_ACCESS_TOKEN"] != "" {
		t.Error("a token that dies is handed over beside the file")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TokenURL string `json:"token_url"`
		Source   struct {
			Headers map[string]string `json:"headers"`
		} `json:"credential_source"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	resp, err := http.PostForm(file.TokenURL, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {strings.TrimPrefix(file.Source.Headers["Authorization"], "Bearer ")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var reply struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	if _, live := google.Token(reply.AccessToken); !live {
		t.Errorf("status %d, and no live token", resp.StatusCode)
	}
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\n")
}

// TestKeepFreshOfAWS: two targets of a job are profiles of one file, each of
// which is rewritten ahead of its expiry and goes with its step.
func TestKeepFreshOfAWS(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute, "")
	config := stsConfig(s.issuer)
	config.Life = 3 * time.Second
	sts, err := standin.StartSTS(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	rest := fmt.Sprintf("role: \"arn:aws:iam::123456789012:role/dbt-prod\", region: eu-central-1, endpoint: %q}\n    allow:\n      - {repository: acme/analytics, repository_id: \"487920697\", environment: production, ref: refs/heads/main}\n", sts.URL())
	s.write("workspace/.github/oidc-dbt.yml", fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    exchange:\n      aws: {%s  lake:\n    exchange:\n      aws: {%s", s.issuer.URL(), rest, rest))
	s.begin()
	first, firstState := s.read("OUTPUT"), s.env["GITHUB_STATE"]
	for _, name := range commandFiles {
		s.env["GITHUB_"+name] = s.write("second/"+name, "")
	}
	s.env["INPUT_TARGET"] = "lake"
	s.begin()
	second := s.read("OUTPUT")
	path := filepath.Join(s.env["RUNNER_TEMP"], "oidc-dbt", "aws", "credentials")
	if first["aws-profile"] != "prod" || second["aws-profile"] != "lake" || first["aws-credentials-file"] != path || second["aws-credentials-file"] != path {
		t.Errorf("the outputs are %q of %q and %q of %q", first["aws-profile"], first["aws-credentials-file"], second["aws-profile"], second["aws-credentials-file"])
	}
	keys := func() map[string]string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, m := range regexp.MustCompile(`\[(\w+)\]\naws_access_key_id = (\w+)\n`).FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = m[2]
		}
		return found
	}
	before := keys()
	if len(before) != 2 || before["prod"] == "" || before["lake"] == "" {
		t.Fatalf("the profiles are %q", slices.Collect(maps.Keys(before)))
	}
	soon(t, "a new session in both profiles", func() bool {
		now := keys()
		return now["prod"] != before["prod"] && now["lake"] != before["lake"] && len(now) == 2
	})
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	if now := keys(); len(now) != 1 || now["prod"] == "" {
		t.Errorf("after the second step's post the profiles are %q", slices.Collect(maps.Keys(now)))
	}
	s.env["GITHUB_STATE"] = firstState
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\n")
}

// TestKeepFreshTwice: two steps, two processes; each post ends its own.
func TestKeepFreshTwice(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute, "")
	_, first := s.begin()
	firstState := s.env["GITHUB_STATE"]
	for _, name := range commandFiles {
		s.env["GITHUB_"+name] = s.write("second/"+name, "")
	}
	s.env["DBT_ENV_SECRET_OIDC_TOKEN"] = "earlier" // that of another target, say
	out, second := s.begin()
	if strings.Contains(out, "::warning::") {
		t.Errorf("the second step warns: %s", out)
	}
	if n := len(s.processes()); n != 2 || first["DBT_ENV_SECRET_OIDC_PASSWORD"] == second["DBT_ENV_SECRET_OIDC_PASSWORD"] {
		t.Errorf("%d processes, want two with a password each", n)
	}
	if got := s.post(); got != "" || len(s.processes()) != 1 {
		t.Errorf("post says %s, processes are %v", got, s.processes())
	}
	s.env["GITHUB_STATE"] = firstState
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\nPreauth Success prod\nLogon Success prod\n")
}

// TestRenewalsEndAtTheCeiling: a command goes on, and learns why nothing is
// renewed any more.
func TestRenewalsEndAtTheCeiling(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, 2*time.Second, "")
	end := time.Now().Add(20 * time.Second) // the command must have begun by then
	s.issuer.EndRequests(end)
	s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = s.issuer.RequestToken()
	delete(s.env, "INPUT_KEEP-FRESH")
	s.env["INPUT_RUN"] = `
		url=$(sed -n 's/.*port: //p' "$DBT_PROFILES_DIR/profiles.yml")
		code=
		until [ "$code" = 500 ]; do
			code=$(curl -sS -o answer -w '%{http_code}' --user "default:$DBT_ENV_SECRET_OIDC_PASSWORD" --data 'SELECT 1' "http://127.0.0.1:$url/")
			echo "$code"
			sleep 1
		done
		cat answer; rm answer; exit 4`
	status, out := s.run()
	hint := "hint: the runner's request token ended at " + end.UTC().Format("15:04") + " UTC: nothing is kept fresh for longer; split the job"
	if status != 4 || !strings.Contains(out, "\n200\n") || !strings.Contains(out, "\n500\n") || !strings.Contains(out, "oidc-dbt: request ID token: status is 401: refused by the runner") ||
		strings.Count(out, "warning: renew the credential: request ID token: ") != 1 || strings.Count(out, hint) != 1 {
		t.Errorf("status is %d: %s", status, out)
	}
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\n")
}

// TestBrokerDoesNotStart: what was issued is not handed over, and nothing is left.
func TestBrokerDoesNotStart(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute, "")
	s.write("workspace/.github/oidc-dbt.yml", regexp.MustCompile(`dbt: .*`).ReplaceAllString(s.file("workspace/.github/oidc-dbt.yml"),
		`dbt: {type: trino, host: trino.acme.example, port: 443, user: dbt, database: lake, schema: marts, cert: nowhere.pem}`))
	for name, args := range map[string][]string{"keep-fresh": nil, "exec": {"exec", "--target", "prod", "--", "touch", filepath.Join(s.root, "ran")}} {
		cmd, out := s.command(args...)
		cmd.Dir = s.env["GITHUB_WORKSPACE"]
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != 2 || !strings.Contains(out.String(), "start broker: ") {
			t.Errorf("%s: status is %d, want 2: %s", name, got, out.String())
		}
	}
	if _, err := os.Stat(filepath.Join(s.root, "ran")); !os.IsNotExist(err) {
		t.Errorf("the command ran: %v", err)
	}
	s.checkEnd("Preauth Success prod\nLogon Failure prod usage start broker: ")
}

// TestKeepFreshRenewsALease, and post ends it, with the background process and
// without.
func TestKeepFreshRenewsALease(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed: %t", killed), func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, time.Minute, "")
			config := vaultConfig(s.issuer)
			vault, err := standin.StartVault(config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(vault.Close)
			s.write("workspace/.github/oidc-dbt.yml", fmt.Sprintf(`version: 1
identities:
  github: {issuer: %q, kind: github}
targets:
  prod:
    dbt: {type: postgres, host: 127.0.0.1, port: 5432, dbname: shop, schema: marts}
    exchange:
      vault: {address: %q, role: dbt-prod, audience: vault, secret: database/creds/dbt-prod}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`, s.issuer.URL(), vault.URL()))
			s.begin()
			pid := s.daemon()
			if vault.Tokens() == 0 {
				t.Error("no token is alive after the step")
			}
			want := ""
			if killed {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
				want = "::warning::clean up: end the background process: it is not there any more, and nothing was kept fresh since it ended\n"
			}
			if got := s.post(); got != want {
				t.Errorf("post says %q, want %q", got, want)
			}
			if n := vault.Tokens(); n != 0 {
				t.Errorf("%d tokens are alive after post", n)
			}
			s.checkEnd("Preauth Success prod\nLogon Success prod\nLogoff Success prod\n")
		})
	}
}

// TestASecondUserGetsNothing: another user of the machine reads no file, no
// environment and no argument of the background process, and is turned away
// where it listens. Only root may try that.
func TestASecondUserGetsNothing(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Log("not root: file modes are TestKeepFresh's")
		return
	}
	root, err := os.MkdirTemp("/tmp", "oidc-dbt-test-*") // TMPDIR may be one that others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil { // so that it is our own modes that keep others out
		t.Fatal(err)
	}
	s := newFreshStepIn(t, root, time.Minute, "")
	s.begin()
	folder, pid := s.read("STATE")["folder"], s.daemon()
	nobody := func(program string, args ...string) (out string, err error) {
		cmd := exec.Command(program, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		text, err := cmd.CombinedOutput()
		return string(text), err
	}
	if out, err := nobody("ls", filepath.Dir(folder)); err != nil || !strings.Contains(out, filepath.Base(folder)) {
		t.Fatalf("a second user cannot come as far as the folder: %v: %s", err, out)
	}
	paths := []string{folder, filepath.Join(s.env["RUNNER_TEMP"], "oidc-dbt", "audit.jsonl"), fmt.Sprintf("/proc/%d/environ", pid), fmt.Sprintf("/proc/%d/mem", pid), fmt.Sprintf("/proc/%d/fd/2", pid)}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(folder, e.Name()))
	}
	if len(entries) < 4 {
		t.Errorf("the folder holds %v", entries)
	}
	for _, path := range paths {
		if out, err := nobody("cat", path); err == nil || !strings.Contains(out, "Permission denied") {
			t.Errorf("a second user reads %s: %v: %q", path, err, out)
		}
	}
	address := struct{ Address string }{}
	text, err := os.ReadFile(filepath.Join(folder, "control.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &address); err != nil {
		t.Fatal(err)
	}
	// To a listener all users are one.
	for range 3 {
		resp, err := http.Post("http://127.0.0.1:"+s.port+"/", "text/plain", strings.NewReader("SELECT 1"))
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(out), "the password is not this run's") {
			t.Errorf("the broker says to a second user: %v: %q", err, out)
		}
		if resp, err := http.Get("http://" + address.Address + "/stop"); err == nil {
			t.Errorf("the control says to a second user: %s", resp.Status)
			resp.Body.Close()
		}
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("a second user has ended it: %v", err)
	}
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	// The first knock of each listener is told at once, the others at the end.
	if n := strings.Count(s.audit(), "without this run's secret"); n != 4 {
		t.Errorf("%d records of callers without the secret, want 4:\n%s", n, s.audit())
	}
	s.checkEnd("Preauth Success prod\nLogon Success prod\n")
}

// TestKeepFreshIsForTheAction: by hand it does nothing.
func TestKeepFreshIsForTheAction(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute, "")
	status, out := s.run("keep-fresh", s.root)
	if want := "::error::keep the credential fresh: this is no background process of a step\n"; status != 1 || out != want {
		t.Errorf("status is %d: %s", status, out)
	}
}
