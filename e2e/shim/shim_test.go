//go:build e2e && unix

// Package shim runs main.js and post.js with node, as the runner does, with a binary that reports how it was started.
package shim

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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
	status := m.Run()
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
	node      string
	env       map[string]string
}

// newJob copies the action, without binaries, to where the runner downloads it to.
func newJob(t *testing.T) *job {
	t.Helper()
	work, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	j := &job{
		t: t, work: work, node: node,
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

// release adds a binary and its checksum to the action, as in a release's commit.
func (j *job) release() (binary string) {
	j.t.Helper()
	file, err := fake()
	if err != nil {
		j.t.Fatal(err)
	}
	binary = filepath.Join(j.action, "dist", binaryName())
	j.copy(file, binary, 0o755)
	sum := sha256.Sum256([]byte(j.read(binary)))
	j.write(filepath.Join(j.action, "dist", "SHA256SUMS"),
		strings.Repeat("0", 64)+"  oidc-dbt-other\n"+hex.EncodeToString(sum[:])+"  "+binaryName()+"\n", 0o644)
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
	cmd := exec.Command(j.node, filepath.Join(j.action, script))
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
}

func (j *job) run(script string) result {
	j.t.Helper()
	cmd := j.command(script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		j.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
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
	Args                                   []string
	Executable, Dir, Stdin, Input, Request string
	PID                                    int
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
	j := newJob(t)
	binary := j.release()
	r := j.run("main.js")
	if r.status != 0 || r.stderr != "to stderr\n" {
		t.Fatalf("got %+v", r)
	}
	s := j.started(r)
	if len(s.Args) != 0 || s.Dir != j.workspace || s.Stdin != "from stdin" || s.Input != "dbt" || s.Request != "request-token" {
		t.Errorf("started with %+v", s)
	}
	if filepath.Base(s.Executable) != "oidc-dbt" || filepath.Dir(filepath.Dir(s.Executable)) != j.temp {
		t.Errorf("started as %s, want oidc-dbt in a folder of its own in %s", s.Executable, j.temp)
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
	for _, status := range []string{"1", "2", "7", "255"} {
		j := newJob(t)
		j.release()
		j.env["FAKE_END"] = status
		if r := j.run("main.js"); status != itoa(r.status) {
			t.Errorf("got status %d, want %s", r.status, status)
		}
		p := j.post()
		if p.status != 0 || !strings.HasSuffix(p.stdout, "::warning::clean up: oidc-dbt post exited with status "+status+"\n") {
			t.Errorf("post: got %+v, want status 0 and a warning", p)
		}
	}
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
	for _, tt := range tests {
		t.Run(tt.end+" "+tt.signal.String(), func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			j.release()
			j.env["FAKE_END"] = tt.end
			cmd := j.command("main.js")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var lines []string
			for s := bufio.NewScanner(stdout); s.Scan(); {
				lines = append(lines, s.Text())
				if s.Text() == "ready" {
					if err := cmd.Process.Signal(tt.signal); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait() // the status says it
			if got := cmd.ProcessState.ExitCode(); got != tt.status || len(lines) == 0 || lines[len(lines)-1] != tt.last {
				t.Errorf("got status %d after %q, want %d after %q", got, lines, tt.status, tt.last)
			}
		})
	}
}

// TestKilled: if the binary is killed, the command that it ran ends too. Its
// standard output is this test's, so that run returns when it has ended.
func TestKilled(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	j.release()
	j.env["FAKE_END"] = "killed"
	r := j.run("main.js")
	want := "::error::oidc-dbt was ended by SIGKILL: its command is stopped as well, since its credential can no longer be renewed\n"
	if r.status != 137 || !strings.HasSuffix(r.stdout, want) {
		t.Errorf("got status %d, and %q, want 137 and %q at its end", r.status, r.stdout, want)
	}
}

func TestDamagedDownload(t *testing.T) {
	t.Parallel()
	name := binaryName()
	sum := strings.Repeat("ab", 32)
	tests := []struct {
		name, sums string
		err        string // with "BAD" in place of the file's real checksum
	}{
		{"other sum", sum + "  " + name + "\n", "check the binary: SHA-256 of dist/" + name + " is BAD, dist/SHA256SUMS says " + sum + ": the download is damaged, run the job again"},
		{"not listed", sum + "  oidc-dbt-other\n", "check the binary: dist/SHA256SUMS does not list " + name},
		{"not a list", "<html>", "check the binary: dist/SHA256SUMS does not list " + name},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t)
			binary := j.release()
			j.write(filepath.Join(j.action, "dist", "SHA256SUMS"), tt.sums, 0o644)
			real := sha256.Sum256([]byte(j.read(binary)))
			j.run("main.js").want(t, 1, "::error::"+strings.ReplaceAll(tt.err, "BAD", hex.EncodeToString(real[:]))+"\n")
			j.post().want(t, 0, "")
		})
	}
	t.Run("no list", func(t *testing.T) {
		t.Parallel()
		j := newJob(t)
		j.release()
		if err := os.Remove(filepath.Join(j.action, "dist", "SHA256SUMS")); err != nil {
			t.Fatal(err)
		}
		j.started(j.run("main.js"))
	})
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

func TestNotExecutable(t *testing.T) {
	t.Parallel()
	j := newJob(t)
	if err := os.Chmod(j.release(), 0o644); err != nil {
		t.Fatal(err)
	}
	j.started(j.run("main.js"))
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
	if want := "-trimpath -buildvcs=false -ldflags -s -w -o " + j.temp; !strings.HasPrefix(args, want) {
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
	cmd.Args = []string{j.node, "-e", script}
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
