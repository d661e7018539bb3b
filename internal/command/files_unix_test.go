//go:build unix

package command_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newOutsideStep is a step without an identity, in a world of files that a
// test may replace.
func newOutsideStep(t *testing.T) *step {
	t.Helper()
	s := newStep(t)
	delete(s.env, "ACTIONS_ID_TOKEN_REQUEST_URL")
	s.env["INPUT_TARGET"], s.env["INPUT_TIMEOUT"] = "prod", "5m"
	s.write("workspace/dbt_project.yml", "name: a\nprofile: a\n")
	s.write("workspace/profiles.yml", "a: {outputs: {prod: {type: duckdb, path: \":memory:\"}}}\n")
	s.write(policyFile, `version: 1
targets:
  prod:
    dbt: {from: profiles.yml, output: prod}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`)
	return s
}

// pipe replaces a file by a pipe that no process opens.
func (s *step) pipe(name string) {
	s.t.Helper()
	if err := os.Remove(s.at(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	if err := syscall.Mkfifo(s.at(name), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// errorOf runs the step and returns its status and its error, without the hint.
func (s *step) errorOf() (status int, said string) {
	s.t.Helper()
	status, out := s.run()
	// An annotation's properties, where it has some, name the place.
	_, said, _ = strings.Cut(out, "::error")
	_, said, _ = strings.Cut(said, "::")
	said, _, _ = strings.Cut(said, "%0Ahint: ")
	return status, strings.TrimSpace(said)
}

// TestPipesInPlaceOfFiles: a pipe in place of any file that the program reads
// or writes ends the run at once, and is named.
func TestPipesInPlaceOfFiles(t *testing.T) {
	t.Parallel()
	const pipe = "is a named pipe, want a regular file"
	for _, tt := range []struct {
		name   string
		with   func(s *step)
		status int
		err    string // $ROOT is the step's folder
	}{
		{"policy", func(s *step) { s.pipe(policyFile) }, 2, `read policy ".github/oidc-dbt.yml": ` + pipe},
		{"policy elsewhere", func(s *step) { s.pipe("policy"); s.env["INPUT_POLICY"] = s.at("policy") }, 2, `read policy "$ROOT/policy": ` + pipe},
		{"policy that never ends", func(s *step) { s.env["INPUT_POLICY"] = "/dev/zero" }, 2, `read policy "/dev/zero": is a device, want a regular file`},
		{"policy, a folder", func(s *step) { s.env["INPUT_POLICY"] = ".github" }, 2, `read policy ".github": is a directory, want a regular file`},
		{"project", func(s *step) { s.pipe("workspace/dbt_project.yml") }, 2, `read dbt_project.yml in ".": ` + pipe},
		{"profiles", func(s *step) { s.pipe("workspace/profiles.yml") }, 2, `read profiles "profiles.yml": ` + pipe},
		{"audit log", func(s *step) { s.pipe("log"); s.env["INPUT_AUDIT-LOG"] = s.at("log") }, 2, `open audit log: "$ROOT/log" ` + pipe},
		{"audit log that keeps nothing", func(s *step) { s.env["INPUT_AUDIT-LOG"] = "/dev/null" }, 2, `open audit log: "/dev/null" is a device, want a regular file`},
		{"certificates", func(s *step) { s.pipe("ca.pem"); s.env["SSL_CERT_FILE"] = s.at("ca.pem") }, 2, `read SSL_CERT_FILE: "$ROOT/ca.pem" ` + pipe},
		{"output", func(s *step) { s.pipe("commands/OUTPUT") }, 1, `write to the runner: GITHUB_OUTPUT: open $ROOT/commands/OUTPUT: ` + pipe},
		{"environment", func(s *step) { s.pipe("commands/ENV") }, 1, `write to the runner: GITHUB_ENV: open $ROOT/commands/ENV: ` + pipe},
		{"state", func(s *step) { s.pipe("commands/STATE") }, 1, `write to the runner: GITHUB_STATE: open $ROOT/commands/STATE: ` + pipe},
		{"path", func(s *step) { s.pipe("commands/PATH") }, 1, `write to the runner: GITHUB_PATH: open $ROOT/commands/PATH: ` + pipe},
		{"summary", func(s *step) { s.pipe("commands/STEP_SUMMARY") }, 1, `write to the runner: GITHUB_STEP_SUMMARY ` + pipe},
		{"summary, in the background", func(s *step) { s.pipe("commands/STEP_SUMMARY"); s.env["INPUT_KEEP-FRESH"] = "true" }, 1, `write to the runner: GITHUB_STEP_SUMMARY ` + pipe},
		{"event", func(s *step) {
			s.pipe("event.json")
			s.env["GITHUB_EVENT_PATH"], s.env["GITHUB_EVENT_NAME"] = s.at("event.json"), "pull_request"
		}, 3, "request ID token: the job has no permission to request one (ACTIONS_ID_TOKEN_REQUEST_URL is not set)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newOutsideStep(t)
			tt.with(s)
			status, said := s.errorOf()
			if want := strings.ReplaceAll(tt.err, "$ROOT", s.root); status != tt.status || said != want {
				t.Errorf("status is %d, it says\n%s\nwant %d\n%s", status, said, tt.status, want)
			}
		})
	}
}

// TestOrigin: where other authors may have filled the workspace, it supplies no
// policy, profile or certificates, under any name.
func TestOrigin(t *testing.T) {
	t.Parallel()
	const (
		foreign = `on event "issue_comment" files of the workspace are not trusted, want one of ["push" "schedule" "workflow_dispatch" "merge_group" "release" "pull_request"]`
		inline  = "with an inline policy it must be outside the workspace"
		trusted = "request ID token: the job has no permission to request one (ACTIONS_ID_TOKEN_REQUEST_URL is not set)" // the run goes on
		output  = `dbt output of type "postgres": sslrootcert `
	)
	policyWith := func(ca string) string {
		return fmt.Sprintf(`version: 1
targets:
  prod:
    dbt: {type: postgres, host: db.acme.example, port: 5432, database: lake, schema: marts, sslmode: verify-full, sslrootcert: %q}
    exchange:
      vault: {address: "https://vault.acme.example", audience: vault, role: dbt-prod, secret: database/creds/dbt-prod}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main, event_name: [push, issue_comment]}
`, ca)
	}
	comment := func(s *step) { s.env["GITHUB_EVENT_NAME"] = "issue_comment" }
	link := func(s *step, from, to string) {
		if err := os.Link(s.at(from), s.at(to)); err != nil {
			s.t.Fatal(err)
		}
	}
	symlink := func(s *step, from, to string) {
		if err := os.Symlink(s.at(from), s.at(to)); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		with func(s *step)
		err  string
	}{
		{"a file of the workspace, on a push", func(*step) {}, trusted},
		{"a file of the workspace", func(s *step) { comment(s) }, `read policy ".github/oidc-dbt.yml": ` + foreign},
		{"by a symbolic link", func(s *step) {
			comment(s)
			symlink(s, policyFile, "policy")
			s.env["INPUT_POLICY"] = s.at("policy")
		}, `read policy "$ROOT/policy": ` + foreign},
		{"by a hard link", func(s *step) {
			comment(s)
			link(s, policyFile, "policy")
			s.env["INPUT_POLICY"] = s.at("policy")
		}, `read policy "$ROOT/policy": ` + foreign},
		{"by another name of the workspace", func(s *step) {
			comment(s)
			symlink(s, "workspace", "second")
			s.env["INPUT_POLICY"] = s.at("second/.github/oidc-dbt.yml")
		}, `read policy "$ROOT/second/.github/oidc-dbt.yml": ` + foreign},
		{"the job's own file, by a link of the workspace's", func(s *step) {
			comment(s)
			s.write("policy", policyWith(s.at("ca.pem")))
			symlink(s, "policy", "workspace/policy.yml")
			s.env["INPUT_POLICY"] = "policy.yml"
		}, `read policy "policy.yml": ` + foreign},
		{"the job's own file", func(s *step) {
			comment(s)
			s.write("policy", policyWith(s.at("ca.pem")))
			s.write("ca.pem", "")
			s.env["INPUT_POLICY"] = s.at("policy")
		}, trusted},
		{"the job's own file, and the workspace's certificates", func(s *step) {
			comment(s)
			s.write("workspace/ca.pem", "")
			s.write("policy", policyWith("workspace/ca.pem"))
			s.env["INPUT_POLICY"] = s.at("policy")
		}, output + `"$ROOT/workspace/ca.pem": ` + foreign},
		{"an inline policy, and the workspace's profile", func(s *step) {
			comment(s)
			s.env["INPUT_POLICY"] = s.file(policyFile)
		}, `read profiles "profiles.yml": ` + foreign},
		{"certificates next to the policy, on a push", func(s *step) {
			s.write("workspace/.github/ca.pem", "")
			s.write(policyFile, policyWith("ca.pem"))
		}, trusted},
		{"certificates that never end", func(s *step) {
			s.pipe("workspace/.github/ca.pem")
			s.write(policyFile, policyWith("ca.pem"))
		}, output + `"$ROOT/workspace/.github/ca.pem": is a named pipe, want a regular file`},
		{"an inline policy, and its own certificates", func(s *step) {
			s.write("ca.pem", "")
			s.env["INPUT_POLICY"] = policyWith(s.at("ca.pem"))
		}, trusted},
		{"an inline policy, and certificates that are relative to nothing", func(s *step) {
			s.env["INPUT_POLICY"] = policyWith("certs/ca.pem")
		}, output + `"$ROOT/workspace/certs/ca.pem": ` + inline},
		{"an inline policy, and the workspace's certificates", func(s *step) {
			s.write("workspace/ca.pem", "")
			s.env["INPUT_POLICY"] = policyWith(s.at("workspace/ca.pem"))
		}, output + `"$ROOT/workspace/ca.pem": ` + inline},
		{"an inline policy, and the workspace's certificates by a hard link", func(s *step) {
			s.write("workspace/ca.pem", "")
			link(s, "workspace/ca.pem", "ca.pem")
			s.env["INPUT_POLICY"] = policyWith(s.at("ca.pem"))
		}, output + `"$ROOT/ca.pem": ` + inline},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newOutsideStep(t)
			tt.with(s)
			status, said := s.errorOf()
			want := 2
			if tt.err == trusted {
				want = 3
			}
			if tt := strings.ReplaceAll(tt.err, "$ROOT", s.root); status != want || said != tt {
				t.Errorf("status is %d, it says\n%s\nwant %d\n%s", status, said, want, tt)
			}
		})
	}
}

// TestSIGTERMWithoutAReader: a call that never returns, here a write to a
// pipe that is full, does not keep the process from ending.
func TestSIGTERMWithoutAReader(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 8)
	runner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(runner.Close)
	s := newOutsideStep(t)
	s.env["ACTIONS_ID_TOKEN_REQUEST_URL"], s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = runner.URL+"?v=1", "request-token"
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	full := make(chan struct{})
	go func() {
		defer close(full)
		_ = writer.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = writer.Write(make([]byte, 1<<20)) // more than it holds: it ends with the deadline
	}()
	<-full
	p := s.process()
	p.Stdout = writer
	p.begin(t)
	select {
	case <-asked:
	case <-time.After(2 * time.Minute):
		t.Fatalf("the token was not asked for: %s", p.said)
	}
	if status := p.end(t, syscall.SIGTERM); status != 143 {
		t.Errorf("status is %d, want 143", status)
	}
	if got, want := p.said.String(), fmt.Sprintln("oidc-dbt: stopped by signal: terminated: gave up after 10s because a file or stream does not respond"); got != want {
		t.Errorf("says %q, want %q", got, want)
	}
}
