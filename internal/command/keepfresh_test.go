//go:build linux

package command_test

import (
	"bytes"
	"encoding/json"
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
	"syscall"
	"testing"
	"time"
)

// newFreshStep is a step with keep-fresh: a ClickHouse that takes bearers of a
// company's authorization server, which live for so long.
func newFreshStep(t *testing.T, life time.Duration) *step {
	t.Helper()
	return freshStepIn(t, t.TempDir(), life)
}

func freshStepIn(t *testing.T, root string, life time.Duration) *step {
	t.Helper()
	s := newStepIn(t, root)
	s.startTokens(life)
	s.freshPolicy("$TOKENS/token")
	s.write("workspace/dbt_project.yml", "name: a\nprofile: a\n")
	s.env["RUNNER_TRACKING_ID"], s.env["INPUT_TARGET"], s.env["INPUT_KEEP-FRESH"] = "github_1", "prod", "true"
	t.Cleanup(func() {
		for _, pid := range s.processes() { // none, unless the test failed
			t.Errorf("process %d is left", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

// freshPolicy has two targets, with dbt and without, whose tokens are from tokenURL.
func (s *step) freshPolicy(tokenURL string) {
	s.t.Helper()
	exchange := `    exchange:
      token_exchange: {token_url: "` + tokenURL + `", audience: $TOKENS/token, client_id: dbt, target_audience: trino}`
	s.policy("  prod:\n    dbt: {type: clickhouse, host: 127.0.0.1, port: $CLICKHOUSE_PORT, schema: marts}\n"+exchange, "  alone:\n"+exchange)
}

// handOver runs the step, which must succeed, and returns what it set for later steps.
func (s *step) handOver() (out string, env map[string]string) {
	s.t.Helper()
	status, out := s.run()
	if status != 0 {
		s.t.Fatalf("status is %d: %s", status, out)
	}
	return out, s.read("ENV")
}

var profilePort = regexp.MustCompile(`port: (\d+)`)

// broker returns the address that a profile leads to.
func (s *step) broker(folder string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "profiles.yml"))
	if err != nil {
		s.t.Fatal(err)
	}
	return "http://127.0.0.1:" + string(profilePort.FindSubmatch(text)[1])
}

// query asks the warehouse as dbt does.
func query(t *testing.T, broker, password string) (status int, err error) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, broker+"/?query=SELECT+1", nil)
	if err != nil {
		t.Fatal(err)
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
func (s *step) processes() (pids []int) {
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
func (s *step) daemon() int {
	s.t.Helper()
	pids := s.processes()
	if len(pids) != 1 {
		s.t.Fatalf("processes are %v, want one", pids)
	}
	return pids[0]
}

// checkEnd holds what is left: no process, no folder, and an audit log whose
// short form begins like this.
func (s *step) checkEnd(audit string) {
	s.t.Helper()
	if pids := s.processes(); len(pids) > 0 {
		s.t.Errorf("processes are left: %v", pids)
	}
	s.checkFolders()
	checkRecords(s.t, s.audit())
	// Another test may still ask at a port that this run has been given meanwhile.
	if got := strangersLine.ReplaceAllString(auditLines(s.audit()), ""); !strings.HasPrefix(got, audit) {
		s.t.Errorf("the audit log is\n%s\nwant it to begin\n%s", got, audit)
	}
}

// strangers is what the log says of callers without the run's secret.
const strangers = "the broker was asked without this run's secret"

var strangersLine = regexp.MustCompile(`(?m)^.*` + strangers + `.*\n`)

// TestKeepFresh: the step ends, and with it its output; what it started serves
// fresh credentials to the next steps; post leaves nothing.
func TestKeepFresh(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, 2*time.Second)
	s.env["CLICKHOUSE_PASSWORD"], s.env["DBT_TARGET"] = "mine", "dev"
	out, env := s.handOver()
	for _, want := range []string{
		"\n::warning::set in the job's environment, where they may take precedence over the credential of target \"prod\": DBT_TARGET\n",
		"\nthe credential is kept fresh for about 6 hours, until the runner's request token expires\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the step does not say %q: %s", want, out)
		}
	}
	outputs, folder := s.read("OUTPUT"), s.folder()
	checkSecrets(t, map[string]string{"stdout": out, "output": fmt.Sprintf("password=%s\nenv=%s\n", outputs["password"], outputs["env"])}, s.secrets()...)
	broker, password := s.broker(folder), env["DBT_ENV_SECRET_OIDC_PASSWORD"]
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
		if status, err := query(t, broker, password); status != 200 || err != nil {
			t.Fatalf("a query: status %d, %v", status, err)
		}
		return len(s.warehouse.shown()) >= 3
	})

	// A caller without the password gets nothing, and two calls are one record.
	for range 2 {
		if status, err := query(t, broker, "another"); status != http.StatusForbidden || err != nil {
			t.Errorf("a query with another password: status %d, %v", status, err)
		}
	}

	s.checkDaemon(folder)
	s.checkPost("")
	s.checkEnd(issued + issued)
	if n := strings.Count(auditLines(s.audit()), strangers); n < 1 || n > 2 {
		t.Errorf("%d records of refused callers: %s", n, auditLines(s.audit()))
	}
}

// checkDaemon looks at the background process from outside: what a second
// user sees, and what is on the disk.
func (s *step) checkDaemon(folder string) {
	s.t.Helper()
	pid := s.daemon()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	self, err := os.Executable() // after the emulator, if there is one
	if err != nil {
		s.t.Fatal(err)
	}
	if _, args, _ := strings.Cut(string(line), self+"\x00"); args != "keep-fresh\x00"+folder+"\x00" {
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
	for _, tt := range []struct {
		name   string
		change func(s *step)
		status int
		says   string
		audit  string
	}{{
		name: "denied", status: 5, audit: "Preauth Failure prod denied",
		change: func(s *step) { s.claims(map[string]any{"environment": "staging"}) },
		says:   `environment: got "staging", want "production"`,
	}, {
		name: "too slow", status: 7, audit: "Preauth Success prod\nLogon Failure prod unreachable",
		change: func(s *step) {
			s.freshPolicy("$BAD/hang")
			s.env["INPUT_TIMEOUT"] = "1s"
		},
		says: "::error::exchange ID token with \"token_exchange\": not finished after 1s, the limit of `timeout`",
	}, {
		name: "no summary", status: 1, audit: issued,
		change: func(s *step) { s.env["GITHUB_STEP_SUMMARY"] = s.at("no/such") },
		says:   "::error::write to the runner: ",
	}, {
		name: "wrong input", status: 2,
		change: func(s *step) { s.env["INPUT_TIMEOUT"] = "soon" },
		says:   `::error::input timeout: got "soon", want a duration such as 90s or 2m`,
	}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, time.Minute)
			tt.change(s)
			status, out := s.run()
			if status != tt.status || !strings.Contains(out, tt.says) || strings.Count(out, "::error::") != 1 || strings.Contains(out, "::warning::") {
				t.Errorf("status is %d, want %d; it says %s", status, tt.status, out)
			}
			if tt.audit != "" {
				s.checkEnd(tt.audit)
			}
			s.checkPost("")
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
			s := newFreshStep(t, time.Minute)
			s.freshPolicy(hanging.URL)
			p := s.process()
			p.begin(t)
			select {
			case <-asked:
			case <-time.After(5 * time.Minute):
				t.Fatal("the exchange did not begin")
			}
			if got := p.end(t, sig); got != status {
				t.Errorf("exit status is %d, want %d", got, status)
			}
			if want := fmt.Sprintf("::error::stopped by signal: %s: nothing was published", sig); sig != syscall.SIGKILL && !strings.Contains(p.said.String(), want) {
				t.Errorf("it says %s, want %s", p.said, want)
			}
			soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
			s.checkPost("")
			s.checkEnd("Preauth Success prod\nLogon Failure prod unreachable ")
		})
	}
}

// TestKeepFreshEnds by others than post, which then has nothing to end.
func TestKeepFreshEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(s *step)
		says string // post
	}{
		{"told by a signal", func(s *step) { _ = syscall.Kill(s.daemon(), syscall.SIGTERM) }, ""},
		{"killed", func(s *step) { _ = syscall.Kill(s.daemon(), syscall.SIGKILL) }, "::warning::clean up: end the background process: it has already ended, and the credential was not renewed since then\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newFreshStep(t, time.Minute)
			s.handOver()
			tt.end(s)
			soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
			s.checkPost(tt.says)
			s.checkEnd(issued)
		})
	}
}

// TestKeepFreshEndsWithTheRunner: a worker that is killed calls no post.
func TestKeepFreshEndsWithTheRunner(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
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
	step := s.process()
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
	s.checkPost("")
	s.checkEnd(issued)
}

// TestKeepFreshEndsAtTheCeiling: no ID token can be had any more.
func TestKeepFreshEndsAtTheCeiling(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Hour)
	end := time.Now().Add(30 * time.Second) // the step must be through by then
	s.issuer.EndRequests(end)
	s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = s.issuer.RequestToken()
	out, _ := s.handOver()
	if want := "\nthe credential is kept fresh until " + end.UTC().Format("15:04") + " UTC (in 0h00m), when the runner's request token expires\n"; !strings.Contains(out, want) {
		t.Errorf("it says %s, want %s", out, want)
	}
	if got, want := s.read("OUTPUT")["expires-at"], end.UTC().Format(time.RFC3339); got != want {
		t.Errorf("expires-at is %s, want %s", got, want)
	}
	soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
	got := regexp.MustCompile(`\d\d:\d\d:\d\dZ`).ReplaceAllString(s.post(), "TIME")
	if want := "::warning::while the credential was kept fresh:%0ATIME: keep the credential fresh: the runner's request token has expired; hint: the runner's request token expired at " +
		end.UTC().Format("15:04") + " UTC: split a job that needs longer\n"; got != want {
		t.Errorf("post says %q, want %q", got, want)
	}
	s.checkEnd(issued)
}

// TestKeepFreshReportsFailures: the background process's output is not read,
// so post reports its errors.
func TestKeepFreshReportsFailures(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, 2*time.Second)
	_, env := s.handOver()
	s.claims(map[string]any{"ref": "refs/heads/other"})
	broker := s.broker(s.folder())
	soon(t, "a query that fails", func() bool {
		status, err := query(t, broker, env["DBT_ENV_SECRET_OIDC_PASSWORD"])
		return status >= 500 && err == nil
	})
	got := s.post()
	if !strings.HasPrefix(got, "::warning::while the credential was kept fresh:%0A") || !strings.Contains(got, `Z: renew the credential: `) || !strings.Contains(got, `ref: got "refs/heads/other", want "refs/heads/main"`) {
		t.Errorf("post says %q", got)
	}
	s.checkEnd(issued)
}

// TestKeepFreshWithoutARoute is an ordinary step that says so.
func TestKeepFreshWithoutARoute(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	s.env["INPUT_TARGET"] = "alone"
	out, env := s.handOver()
	want := regexp.MustCompile(`::warning::the credential of target "alone" is not kept fresh: clients read it once\. It expires in (1m0s|[1-5]?[0-9]s)`)
	if !want.MatchString(out) {
		t.Errorf("it says %s, want %s", out, want)
	}
	if pids := s.processes(); len(pids) > 0 || env["DBT_ENV_SECRET_OIDC_TOKEN"] == "" {
		t.Errorf("processes are %v, variables %q", pids, slices.Collect(maps.Keys(env)))
	}
	s.checkPost("")
	s.checkEnd("Preauth Success alone\nLogon Success alone\n")
}

// TestKeepFreshOfGoogle: Google's own tools find the file by their variables,
// and other tools by the step's output.
func TestKeepFreshOfGoogle(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	s.policy("  prod:\n    exchange:\n      gcp: {workload_identity_provider: " + pool + ", sts_endpoint: $GOOGLE}")
	_, env := s.handOver()
	path := s.read("OUTPUT")["google-credentials-file"]
	if env["GOOGLE_APPLICATION_CREDENTIALS"] != path || env["CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"] != path || filepath.Dir(path) != s.folder() {
		t.Errorf("the output is %q, the variables are %q", path, env)
	}
	if s.read("OUTPUT")["token"] != "" || env["CLOUDSDK_AUTH_ACCESS_TOKEN"] != "" {
		t.Error("a token that expires is handed over next to the file")
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
	if _, live := s.google.Token(reply.AccessToken); !live {
		t.Errorf("status %d, and no live token", resp.StatusCode)
	}
	s.checkPost("")
	s.checkEnd(issued)
}

// TestKeepFreshOfAWS: two targets of a job are profiles of one file, each of
// which is rewritten ahead of its expiry and goes with its step.
func TestKeepFreshOfAWS(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	config := stsConfig(s.issuer)
	config.Life = 3 * time.Second
	s.startSTS(config)
	const exchange = "    exchange:\n      aws: {role: \"" + prodRole + "\", region: eu-central-1, endpoint: $STS}"
	s.policy("  prod:\n"+exchange, "  lake:\n"+exchange)
	s.handOver()
	first, firstState := s.read("OUTPUT"), s.env["GITHUB_STATE"]
	s.newCommandFiles("second")
	s.env["INPUT_TARGET"] = "lake"
	s.handOver()
	second := s.read("OUTPUT")
	path := s.at("temp/oidc-dbt/aws/credentials")
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
	s.checkPost("")
	if now := keys(); len(now) != 1 || now["prod"] == "" {
		t.Errorf("after the second step's post the profiles are %q", slices.Collect(maps.Keys(now)))
	}
	s.env["GITHUB_STATE"] = firstState
	s.checkPost("")
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	s.checkEnd(issued)
}

// TestKeepFreshTwice: two steps, two processes; each post ends its own.
func TestKeepFreshTwice(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	_, first := s.handOver()
	firstState := s.env["GITHUB_STATE"]
	s.newCommandFiles("second")
	s.env["DBT_ENV_SECRET_OIDC_TOKEN"] = "earlier" // that of another target, say
	out, second := s.handOver()
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
	s.checkPost("")
	s.checkEnd(issued + issued)
}

// TestRenewalsEndAtTheCeiling: a command goes on, and learns why nothing is
// renewed any more.
func TestRenewalsEndAtTheCeiling(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, 2*time.Second)
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
	hint := "hint: the runner's request token expired at " + end.UTC().Format("15:04") + " UTC: split a job that needs longer"
	if status != 4 || !strings.Contains(out, "\n200\n") || !strings.Contains(out, "\n500\n") || !strings.Contains(out, "oidc-dbt: request ID token: status is 401: refused by the runner") ||
		strings.Count(out, "warning: renew the credential: request ID token: ") != 1 || strings.Count(out, hint) != 1 {
		t.Errorf("status is %d: %s", status, out)
	}
	s.checkPost("")
	s.checkEnd(issued)
}

// TestBrokerDoesNotStart: what was issued is not handed over, and nothing is left.
func TestBrokerDoesNotStart(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	s.write(policyFile, regexp.MustCompile(`dbt: .*`).ReplaceAllString(s.file(policyFile),
		`dbt: {type: trino, host: trino.acme.example, port: 443, user: dbt, database: lake, schema: marts, cert: nowhere.pem}`))
	for name, args := range map[string][]string{"keep-fresh": nil, "exec": {"exec", "--target", "prod", "--", "touch", s.at("ran")}} {
		if status, out := s.run(args...); status != 2 || !strings.Contains(out, "start broker: ") {
			t.Errorf("%s: status is %d, want 2: %s", name, status, out)
		}
	}
	if _, err := os.Stat(s.at("ran")); !os.IsNotExist(err) {
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
			s := newFreshStep(t, time.Minute)
			s.policy(`
  prod:
    dbt: {type: postgres, host: 127.0.0.1, port: 5432, dbname: shop, schema: marts}
    exchange:
      vault: {address: $VAULT, role: dbt-prod, audience: vault, secret: database/creds/dbt-prod}`)
			s.handOver()
			pid := s.daemon()
			if s.vault.Tokens() == 0 {
				t.Error("no token is alive after the step")
			}
			want := ""
			if killed {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				soon(t, "the end of the background process", func() bool { return len(s.processes()) == 0 })
				want = "::warning::clean up: end the background process: it has already ended, and the credential was not renewed since then\n"
			}
			s.checkPost(want)
			if n := s.vault.Tokens(); n != 0 {
				t.Errorf("%d tokens are alive after post", n)
			}
			s.checkEnd(issued + "Logoff Success prod\n")
		})
	}
}

// TestASecondUserGetsNothing: another user of the machine reads no file, no
// environment and no argument of the background process, and is refused
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
	s := freshStepIn(t, root, time.Minute)
	s.handOver()
	folder, pid := s.folder(), s.daemon()
	broker := s.broker(folder)
	other := func(program string, args ...string) (out string, err error) {
		cmd := exec.Command(program, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		text, err := cmd.CombinedOutput()
		return string(text), err
	}
	if out, err := other("ls", filepath.Dir(folder)); err != nil || !strings.Contains(out, filepath.Base(folder)) {
		t.Fatalf("a second user cannot come as far as the folder: %v: %s", err, out)
	}
	paths := []string{folder, s.at("temp/oidc-dbt/audit.jsonl"), fmt.Sprintf("/proc/%d/environ", pid), fmt.Sprintf("/proc/%d/mem", pid), fmt.Sprintf("/proc/%d/fd/2", pid)}
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
		if out, err := other("cat", path); err == nil || !strings.Contains(out, "Permission denied") {
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
		resp, err := http.Post(broker+"/", "text/plain", strings.NewReader("SELECT 1"))
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(out), "the password does not belong to this run") {
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
	s.checkPost("")
	// The first call of each listener is recorded at once, the others at the end.
	if n := strings.Count(auditLines(s.audit()), strangers); n != 4 {
		t.Errorf("%d records of callers without the secret, want 4:\n%s", n, auditLines(s.audit()))
	}
	s.checkEnd(issued)
}

// TestKeepFreshIsForTheAction: by hand it does nothing.
func TestKeepFreshIsForTheAction(t *testing.T) {
	t.Parallel()
	s := newFreshStep(t, time.Minute)
	status, out := s.run("keep-fresh", s.root)
	if want := "::error::keep the credential fresh: not started by a step of the action\n"; status != 1 || out != want {
		t.Errorf("status is %d: %s", status, out)
	}
}
