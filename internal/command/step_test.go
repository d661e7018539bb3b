package command_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A step is one step of a job in a world of its own: a CI issuer and other
// stand-ins, a checkout, the runner's files and variables. Below root are
//
//	workspace  the checkout, the working directory
//	temp       RUNNER_TEMP, and the temporary folder
//	commands   the files by which a step talks to the runner: OUTPUT, ENV, …
//
// Tests write files and change env, run the action or the command (here, or
// as a process), and look at what came out.
type step struct {
	t    *testing.T
	root string
	env  map[string]string

	issuer *standin.Issuer
	// The stand-ins that were started; see servers.
	sts       *standin.STS
	google    *standin.Google
	vault     *standin.Vault
	tokens    *standin.TokenService // an authorization server
	warehouse *warehouse
	bad       *httptest.Server
	addresses map[string]string // by their places

	printed []*said // of every process
}

func newStep(t *testing.T) *step {
	t.Helper()
	return newStepIn(t, t.TempDir())
}

func newStepIn(t *testing.T, root string) *step {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	s := &step{t: t, root: root, issuer: issuer}
	s.addresses = map[string]string{"$ISSUER": issuer.URL(), "$TEMP": s.at("temp"), "$WORKSPACE": s.at("workspace")}
	if err := errors.Join(os.Mkdir(s.at("temp"), 0o755), os.Mkdir(s.at("workspace"), 0o755)); err != nil {
		t.Fatal(err)
	}
	s.env = map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_WORKSPACE": s.at("workspace"), "RUNNER_TEMP": s.at("temp"),
		"GITHUB_REPOSITORY": "acme/analytics", "GITHUB_REPOSITORY_ID": "487920697", "GITHUB_REPOSITORY_OWNER": "acme",
		"PATH": os.Getenv("PATH"), "HOME": root, "TMPDIR": s.at("temp"), "OIDC_DBT_TEST_BINARY": "1", // see TestMain
	}
	maps.Copy(s.env, issuer.RunnerEnv())
	s.newCommandFiles("commands")
	return s
}

// commandFiles are the files by which a step talks to the runner.
var commandFiles = []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"}

// newCommandFiles makes empty ones, as the runner does for each step.
func (s *step) newCommandFiles(dir string) {
	s.t.Helper()
	for _, name := range commandFiles {
		s.env["GITHUB_"+name] = s.write(dir+"/"+name, "")
	}
}

// at returns the path of a file below root.
func (s *step) at(name string) string { return filepath.Join(s.root, filepath.FromSlash(name)) }

// write writes a file below root, with addresses in place of their names.
func (s *step) write(name, text string) (path string) {
	s.t.Helper()
	path = s.at(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(s.expand(text)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *step) file(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.at(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

const policyFile = "workspace/.github/oidc-dbt.yml"

// policy writes a policy with these targets, YAML without `allow`; each allows
// the environment production.
func (s *step) policy(targets ...string) {
	s.t.Helper()
	text := "version: 1\nidentities:\n  github: {issuer: $ISSUER, kind: github}\ntargets:\n"
	for _, target := range targets {
		text += strings.TrimPrefix(target, "\n") + `
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`
	}
	s.write(policyFile, text)
}

// claims changes what the next ID tokens say; nil removes a claim.
func (s *step) claims(changes map[string]any) {
	claims := standin.GitHubClaims()
	for name, v := range changes {
		if v == nil {
			delete(claims, name)
		} else {
			claims[name] = v
		}
	}
	s.issuer.SetClaims(claims)
}

// environ returns env as a process has it.
func (s *step) environ() (list []string) {
	for _, name := range slices.Sorted(maps.Keys(s.env)) {
		list = append(list, name+"="+s.env[name])
	}
	return list
}

// A result is what a run in this process leaves.
type result struct {
	status         int
	stdout, stderr string
}

// here runs the action or, with arguments, the command in this process.
func (s *step) here(args ...string) result {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	getenv := func(name string) string { return s.env[name] }
	status := command.Run(s.t.Context(), job.Env{
		Getenv: getenv, Environ: s.environ(), Now: time.Now, Transport: web.ReadNetwork(getenv).Transport(),
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Masks: func() io.Writer { return &stderr },
		Dir: s.at("workspace"), TempDir: s.at("temp"), Executable: "/opt/oidc-dbt/oidc-dbt", Version: "v0.0.0-test",
	}, args)
	return result{status, stdout.String(), stderr.String()}
}

// A program is the product's binary as a process; both its streams are said.
type program struct {
	*exec.Cmd
	said *said
}

// process returns one that was not started. It does not outlive the test.
func (s *step) process(args ...string) *program {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	p := &program{exec.CommandContext(s.t.Context(), exe, args...), &said{}}
	s.printed = append(s.printed, p.said)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("%v says: %s", args, p.said)
		}
	})
	p.Stdout, p.Stderr = p.said, p.said // by pipes, whose end Wait waits for, as runners do
	p.Dir = s.at("workspace")
	p.Env = s.environ()
	return p
}

// begin starts the process.
func (p *program) begin(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
}

// end sends the process a signal, and returns its exit status.
func (p *program) end(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	return p.ProcessState.ExitCode()
}

// run runs a process of the step to its end, and to that of its output.
func (s *step) run(args ...string) (status int, out string) {
	s.t.Helper()
	p := s.process(args...)
	var exit *exec.ExitError
	if err := p.Run(); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return p.ProcessState.ExitCode(), p.said.String()
}

// said is what a process prints, while it does.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// read returns what the step wrote to one of commandFiles.
func (s *step) read(name string) map[string]string {
	s.t.Helper()
	text, err := os.ReadFile(s.env["GITHUB_"+name])
	if err != nil {
		s.t.Fatal(err)
	}
	return fileCommands(s.t, string(text))
}

// folder is where the step's profile is.
func (s *step) folder() string {
	s.t.Helper()
	return s.read("STATE")["folder"]
}

// post runs the post step as a process, and returns what it prints.
func (s *step) post() string {
	s.t.Helper()
	s.env["STATE_folder"] = s.folder()
	status, out := s.run("post")
	if status != 0 {
		s.t.Errorf("post ended with status %d", status)
	}
	return out
}

// checkPost runs the post step, which prints what is wanted, "" for nothing.
func (s *step) checkPost(want string) {
	s.t.Helper()
	if got := s.post(); got != want {
		s.t.Errorf("post says %q, want %q", got, want)
	}
}

// audit returns the audit log; auditLines has its short form.
func (s *step) audit() string {
	s.t.Helper()
	return s.file("temp/oidc-dbt/audit.jsonl")
}

// The records of one credential, in their short form.
const issued = "Preauth Success prod\nLogon Success prod\n"

// checkAudit holds the audit log to lines in their short form.
func (s *step) checkAudit(want string) {
	s.t.Helper()
	if got := auditLines(s.audit()); got != want {
		s.t.Errorf("the audit log is\n%s\nwant\n%s", got, want)
	}
}

// checkFolders holds that no folder of a step is left.
func (s *step) checkFolders() {
	s.t.Helper()
	if left, err := filepath.Glob(s.at("temp/oidc-dbt-step-*")); err != nil || len(left) > 0 {
		s.t.Errorf("left behind: %q, %v", left, err)
	}
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

// tree lists the files below dir with their modes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&list, "%v %s\n", info.Mode(), filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

// port returns one where nothing listens.
func port(t *testing.T) string {
	t.Helper()
	port, err := standin.Port()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(port)
}
