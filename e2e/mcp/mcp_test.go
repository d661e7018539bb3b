//go:build e2e && linux

package mcp

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

const page = "identities/agents.md"

// A server is an MCP server that a client has started, over stdio. Each of its lines is one message.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string // closed at the end of its output
	stderr *said
	ended  chan error
	last   int // the last request
}

// A message is JSON-RPC's. (Model Context Protocol, 2025-06-18: Base Protocol)
type message struct {
	Version string          `json:"jsonrpc"`
	ID      *int            `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

// configured returns the command and the variables that the page gives to MCP clients, for this clone.
func (d *desk) configured() (command, env []string) {
	d.t.Helper()
	var config struct {
		Servers map[string]struct {
			Command string            `json:"command"`
			Args    []string          `json:"args"`
			Env     map[string]string `json:"env"`
		} `json:"mcpServers"`
	}
	text := strings.NewReplacer("/home/ann/analytics/.venv/bin", setup.Python(d.t).Bin, "/home/ann/analytics", d.workspace).
		Replace(block(d.t, page, "json", "mcpServers"))
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		d.t.Fatal(err)
	}
	s := config.Servers["dbt"]
	for name, value := range s.Env {
		env = append(env, name+"="+value)
	}
	return append([]string{s.Command}, s.Args...), env
}

// installed puts a uvx on PATH that starts the pinned dbt-mcp, and only that.
func (d *desk) installed() {
	d.t.Helper()
	requirements, err := os.ReadFile("requirements.txt")
	if err != nil {
		d.t.Fatal(err)
	}
	python, err := pyenv.EnsureSince(d.t.Context(), 12, "mcp", requirements, "", os.Stderr)
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut("\n"+string(requirements), "\ndbt-mcp==")
	version, _, _ := strings.Cut(rest, " ")
	bin := d.t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif test \"$*\" != dbt-mcp@%s; then echo \"uvx: $*\" >&2; exit 64; fi\nexec %s\n", version, python.Program("dbt-mcp"))
	if err := os.WriteFile(filepath.Join(bin, "uvx"), []byte(script), 0o755); err != nil {
		d.t.Fatal(err)
	}
	d.with(bin)
}

// start starts the server as a client does that has the page's configuration: in a folder that is not the clone.
func (d *desk) start(more ...string) *server {
	d.t.Helper()
	command, env := d.configured()
	cmd := d.command(slices.Concat(env, more), command[0], command[1:]...)
	cmd.Dir = d.t.TempDir()
	s := &server{t: d.t, cmd: cmd, lines: make(chan string), stderr: &said{}, ended: make(chan error, 1)}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		d.t.Fatal(err)
	}
	cmd.Stderr = s.stderr
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			s.lines <- lines.Text()
		}
		close(s.lines)
		s.ended <- cmd.Wait()
	}()
	return s
}

func (s *server) send(message map[string]any) {
	s.t.Helper()
	message["jsonrpc"] = "2.0"
	text, err := json.Marshal(message)
	if err == nil {
		_, err = s.stdin.Write(append(text, '\n'))
	}
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.stderr)
	}
}

// request sends a request without waiting for its reply.
func (s *server) request(method string, params any) (id int) {
	s.t.Helper()
	s.last++
	s.send(map[string]any{"id": s.last, "method": method, "params": params})
	return s.last
}

// reply waits for the reply to a request. What is no message of the protocol fails the test.
func (s *server) reply(id int, into any) {
	s.t.Helper()
	timeout := time.After(3 * time.Minute)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the server has ended: %v\n%s", <-s.ended, s.stderr)
			}
			var m message
			if err := json.Unmarshal([]byte(line), &m); err != nil || m.Version != "2.0" {
				s.t.Fatalf("not a message: %q, %v", line, err)
			}
			if m.ID == nil || *m.ID != id {
				continue // a notification
			}
			if err := json.Unmarshal(m.Result, into); err != nil || m.Error != nil {
				s.t.Fatalf("request %d: %s, %v", id, m.Error, err)
			}
			return
		case <-timeout:
			s.t.Fatalf("no reply to request %d\n%s", id, s.stderr)
		}
	}
}

func (s *server) initialize() {
	s.t.Helper()
	var reply struct {
		Server struct {
			Name string `json:"name"`
		} `json:"serverInfo"`
	}
	s.reply(s.request("initialize", map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "test", "version": "1"}}), &reply)
	if reply.Server.Name != "dbt" {
		s.t.Errorf("the server is %q", reply.Server.Name)
	}
	s.send(map[string]any{"method": "notifications/initialized"})
}

// tools returns the names of the tools.
func (s *server) tools() (names []string) {
	s.t.Helper()
	var reply struct {
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	s.reply(s.request("tools/list", map[string]any{}), &reply)
	for _, tool := range reply.Tools {
		names = append(names, tool.Name)
	}
	return names
}

// call calls a tool and returns its text.
func (s *server) call(tool string, arguments map[string]any) string {
	s.t.Helper()
	var reply struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
		IsError bool `json:"isError"`
	}
	s.reply(s.request("tools/call", map[string]any{"name": tool, "arguments": arguments}), &reply)
	if reply.IsError || len(reply.Content) != 1 {
		s.t.Fatalf("%s: %+v\n%s", tool, reply, s.stderr)
	}
	return reply.Content[0].Text
}

// end waits until the server has ended, which says nothing more.
func (s *server) end(within time.Duration) (status int) {
	s.t.Helper()
	timeout := time.After(within)
	for {
		select {
		case line, ok := <-s.lines:
			if ok {
				s.t.Errorf("after the end: %q", line)
				continue
			}
			<-s.ended
			return s.cmd.ProcessState.ExitCode()
		case <-timeout:
			s.t.Fatalf("the server has not ended\n%s", s.stderr)
		}
	}
}

// TestAgent: an agent asks the warehouse and builds, for longer than a credential lives, without a secret in its
// client's configuration; the record says for whom, and that an agent was at work.
func TestAgent(t *testing.T) {
	t.Parallel()
	d := sit(t, page, "dbt-dev")
	d.slow("enabled=true")
	d.installed()
	s := d.start()
	s.initialize()
	if names := s.tools(); !slices.Contains(names, "show") || !slices.Contains(names, "build") {
		t.Errorf("the tools are %q", names)
	}
	if got := s.call("show", map[string]any{"sql_query": "select 6 * 7 as answer"}); !strings.Contains(got, `"answer": 42`) {
		t.Errorf("show: %s", got)
	}
	if got := s.call("build", nil); got != "OK" {
		t.Errorf("build: %s\n%s", got, s.stderr)
	}
	const read = "select sum(amount) as total from read_parquet('s3://lake/dev/orders.parquet')"
	if got := s.call("show", map[string]any{"sql_query": read}); !strings.Contains(got, `"total": 42`) {
		t.Errorf("show: %s\n%s", got, s.stderr)
	}
	if used, refused := d.store.Used(), d.store.Refused(); used < 3 || refused > 0 {
		t.Errorf("%d credentials were used, %d requests refused; want three at least, and none", used, refused)
	}
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if status := s.end(30 * time.Second); status != 0 {
		t.Errorf("status %d\n%s", status, s.stderr)
	}
	d.nothingLeft()
	d.noSecrets("what it prints", s.stderr.String())
	if !strings.Contains(s.stderr.String(), "oidc-dbt: allowed: target dev by rule 1 ") {
		t.Errorf("stderr: %s", s.stderr)
	}
	records := d.audit()
	for _, r := range records {
		if u := r.Unmapped; r.User.Name != "00u1ann" || u.Target != "dev" || u.Identity != "engineers" || u.AgentHint != "AI_AGENT" {
			t.Errorf("record %+v", r)
		}
	}
	if len(records) < 4 {
		t.Errorf("%d records, want a decision and three credentials at least", len(records))
	}
}

// TestAgentIsRefused: a client gets no server by a policy that was not approved, for a target that refuses agents, or
// without a login, and its log says why.
func TestAgentIsRefused(t *testing.T) {
	t.Parallel()
	d := sit(t, page, "dbt-dev")
	d.installed()
	path := filepath.Join(d.workspace, ".github", "oidc-dbt.yml")
	policy, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	guarded := regexp.MustCompile(`(?m)^  dev:.*$`).ReplaceAllString(string(policy), "  dev:\n    agents: refuse")
	if err := os.WriteFile(path, []byte(guarded), 0o644); err != nil {
		t.Fatal(err)
	}
	s := d.start("CLAUDECODE=1")
	if status := s.end(time.Minute); status != 3 || !strings.Contains(s.stderr.String(), "has changed since you approved it") {
		t.Errorf("before the approval: status %d\n%s", status, s.stderr)
	}
	if out, status := d.end(d.command([]string{"CLAUDECODE=1"}, "oidc-dbt", "approve", "--yes")); status != 3 {
		t.Errorf("an agent approves: status %d\n%s", status, out)
	}
	if out, status := d.run("approve", "--yes"); status != 0 {
		t.Fatalf("approve: status %d\n%s", status, out)
	}
	s = d.start("CLAUDECODE=1")
	const want = `target "dev" refuses AI agents, and CLAUDECODE says that one is at work`
	if status := s.end(time.Minute); status != 5 || !strings.Contains(s.stderr.String(), want) {
		t.Errorf("status %d, want 5 and %q\n%s", status, want, s.stderr)
	}
	if out, status := d.run("exec", "--target", "dev", "--", "true"); status != 0 {
		t.Errorf("the person: status %d\n%s", status, out)
	}
	if out, status := d.run("logout"); status != 0 {
		t.Errorf("logout: status %d\n%s", status, out)
	}
	s = d.start() // without a login: nothing signs in in the background
	if status := s.end(time.Minute); status != 3 || !strings.Contains(s.stderr.String(), "oidc-dbt login engineers") {
		t.Errorf("without a login: status %d\n%s", status, s.stderr)
	}
	d.nothingLeft()
	if d.sts.Requests("AssumeRoleWithWebIdentity") != 1 {
		t.Errorf("%d credentials, want the person's only", d.sts.Requests("AssumeRoleWithWebIdentity"))
	}
}

// TestClientGoes: clients end a server by closing its input, and then by a signal, also while it builds.
func TestClientGoes(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*server) error{
		"closes": func(s *server) error { return s.stdin.Close() },
		"signal": func(s *server) error { return s.cmd.Process.Signal(syscall.SIGTERM) },
		"killed": func(s *server) error { return s.cmd.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, page, "dbt-dev")
			d.slow("enabled=true")
			d.installed()
			s := d.start()
			s.initialize()
			s.request("tools/call", map[string]any{"name": "build", "arguments": map[string]any{}})
			for deadline := time.Now().Add(time.Minute); d.store.Served("PUT") == 0; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("nothing is built\n%s", s.stderr)
				}
			}
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			for line := range s.lines {
				if !json.Valid([]byte(line)) {
					t.Errorf("not a message: %q", line)
				}
			}
			<-s.ended
			if name == "killed" { // what is left of its files goes with the next run
				if out, status := d.run("exec", "--target", "dev", "--", "true"); status != 0 {
					t.Errorf("status %d\n%s", status, out)
				}
			}
			d.nothingLeft()
		})
	}
}
