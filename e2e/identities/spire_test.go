//go:build e2e && spire && linux && amd64

package identities

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// A spire is a SPIRE server with one agent, which join by a token.
type spire struct {
	t       *testing.T
	dir     string // of programs
	home    string
	port    int
	entries map[string]string // by SPIFFE ID, of this user's processes
}

const spireServer = `server {
  bind_address = "127.0.0.1"
  bind_port = "PORT"
  socket_path = "HOME/s"
  trust_domain = "acme.example"
  data_dir = "HOME"
  jwt_issuer = "https://spire.acme.example"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3", connection_string = "HOME/entries.sqlite3" } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
`

const spireAgent = `agent {
  data_dir = "HOME/agent"
  server_address = "127.0.0.1"
  server_port = "PORT"
  socket_path = "HOME/a"
  trust_bundle_path = "HOME/bundle.pem"
  trust_domain = "acme.example"
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`

func startSPIRE(t *testing.T) *spire {
	t.Helper()
	home, err := os.MkdirTemp("", "spire") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	s := &spire{t: t, home: home, port: setup.Port(t), entries: map[string]string{},
		dir: setup.Programs(t, "github.com/spiffe/spire@v1.13.3", "cmd/spire-server", "cmd/spire-agent")}
	write := func(name, text string) string {
		return setup.Write(t, home, name, strings.NewReplacer("HOME", home, "PORT", fmt.Sprint(s.port)).Replace(text))
	}
	server := exec.Command(s.program("spire-server"), "run", "-config", write("server.conf", spireServer))
	setup.StartCommand(t, server, s.healthy("spire-server", "/s"))
	write("bundle.pem", s.server("bundle", "show"))
	out := s.server("token", "generate", "-spiffeID", "spiffe://acme.example/node")
	token := strings.TrimSpace(strings.TrimPrefix(out, "Token:"))
	agent := exec.Command(s.program("spire-agent"), "run", "-config", write("agent.conf", spireAgent), "-joinToken", token)
	setup.StartCommand(t, agent, s.healthy("spire-agent", "/a"))
	return s
}

func (s *spire) healthy(program, socket string) func() error {
	return func() error {
		_, err := s.try(program, "healthcheck", "-socketPath", s.home+socket)
		return err
	}
}

func (s *spire) program(name string) string { return filepath.Join(s.dir, name) }

func (s *spire) try(program string, args ...string) (out string, err error) {
	cmd := exec.CommandContext(s.t.Context(), s.program(program), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%q: %w\n%s", args, err, stderr.String())
	}
	return string(text), err
}

// server asks the server's API.
func (s *spire) server(args ...string) string {
	s.t.Helper()
	out, err := s.try("spire-server", append(args, "-socketPath", s.home+"/s")...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// be gives this user's processes a SPIFFE ID, and only this one, and waits until the agent knows it.
func (s *spire) be(id string) {
	s.t.Helper()
	for other, entry := range s.entries {
		s.server("entry", "delete", "-entryID", entry)
		delete(s.entries, other)
	}
	entry := "entry-" + filepath.Base(id)
	s.server("entry", "create", "-entryID", entry, "-parentID", "spiffe://acme.example/node", "-spiffeID", id,
		"-selector", fmt.Sprintf("unix:uid:%d", os.Getuid()))
	s.entries[id] = entry
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		out, err := s.try("spire-agent", "api", "fetch", "jwt", "-audience", "test", "-socketPath", s.home+"/a")
		if err == nil && strings.Contains(out, "token("+id+")") && strings.Count(out, "token(") == 1 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the agent does not hand out %s: %v\n%s", id, err, out)
		}
	}
}

// TestSPIRE: a real SPIRE's tokens by the program and the keys of the page, and those of another workload.
func TestSPIRE(t *testing.T) {
	t.Parallel()
	s := startSPIRE(t)
	bundle := s.server("bundle", "show", "-format", "spiffe")
	m := newMachine(t, row{
		name: "SPIRE", kind: "workload", page: "workload.md", identity: "spire", command: outside,
		claims:   `{sub: "spiffe://acme.example/dbt"}`,
		stranger: `{sub: "spiffe://acme.example/other"}`,
		system: func(m *machine) []string {
			s.be(m.now["sub"].(string))
			setup.Write(m.t, filepath.Join(m.home, "policy"), "jwks.json", bundle)
			return nil
		},
		keys: func(*machine) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, bundle) })
		},
		run:     `{sub: "spiffe://acme.example/dbt"}`,
		session: "spiffe---acme.example-dbt",
	})
	// The agent's socket is not where it is by default.
	script := fmt.Sprintf("#!/bin/sh\nexec %q \"$@\" -socketPath %s/a\n", s.program("spire-agent"), s.home)
	if err := os.WriteFile(filepath.Join(m.home, "bin", "spire-agent"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	m.holds()
}
