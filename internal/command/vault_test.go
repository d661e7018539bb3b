package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A vaultStep is a step of a job whose target is a lease.
type vaultStep struct {
	t              *testing.T
	vault          *standin.Vault
	root, temp     string
	env            map[string]string
	stdout, stderr bytes.Buffer
}

func newVaultStep(t *testing.T, role string, inputs map[string]string) *vaultStep {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	s := &vaultStep{t: t, root: t.TempDir()}
	if s.vault, err = standin.StartVault(vaultConfig(issuer)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.vault.Close)
	s.temp = filepath.Join(s.root, "temp")
	if err := os.Mkdir(s.temp, 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("workspace/.github/oidc-dbt.yml", `version: 1
identities:
  github: {issuer: `+issuer.URL()+`, kind: github}
targets:
  prod:
    exchange:
      vault: {address: `+s.vault.URL()+`, role: `+role+`, audience: vault, secret: database/creds/dbt-prod}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`)
	s.env = issuer.RunnerEnv()
	for name, value := range map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_WORKSPACE": filepath.Join(s.root, "workspace"), "RUNNER_TEMP": s.temp,
		"INPUT_TARGET": "prod", "PATH": os.Getenv("PATH"),
	} {
		s.env[name] = value
	}
	for name, value := range inputs {
		s.env["INPUT_"+strings.ToUpper(name)] = value
	}
	for _, name := range commandFiles {
		s.env["GITHUB_"+name] = s.write("commands/"+name, "")
	}
	return s
}

func (s *vaultStep) write(name, text string) string {
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

func (s *vaultStep) run(args ...string) int {
	return command.Run(context.Background(), job.Env{
		Getenv: func(name string) string { return s.env[name] }, Environ: []string{"PATH=" + s.env["PATH"]},
		Now: time.Now, Transport: web.NewTransport(), Stdin: strings.NewReader(""), Stdout: &s.stdout, Stderr: &s.stderr,
		Dir: s.env["GITHUB_WORKSPACE"], TempDir: s.temp, Executable: "/opt/oidc-dbt/oidc-dbt", Version: "test",
		Masks: func() io.Writer { return &s.stderr },
	}, args)
}

// process is the step as a process of its own: its command writes beside it.
func (s *vaultStep) process(further ...string) *exec.Cmd {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Stdout, cmd.Stderr = &s.stdout, &s.stderr
	cmd.Env = append(append(os.Environ(), "OIDC_DBT_TEST_BINARY=1"), further...)
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// read returns what the step wrote to one of the runner's files.
func (s *vaultStep) read(name string) map[string]string {
	s.t.Helper()
	text, err := os.ReadFile(s.env["GITHUB_"+name])
	if err != nil {
		s.t.Fatal(err)
	}
	return fileCommands(s.t, string(text))
}

// post runs the post step, which is another process with its own output.
func (s *vaultStep) post() string {
	s.t.Helper()
	s.env["STATE_folder"] = s.read("STATE")["folder"]
	s.stdout.Reset()
	if status := s.run("post"); status != 0 {
		s.t.Errorf("post ended with status %d", status)
	}
	return s.stdout.String()
}

// checkEnd holds what is left of the step: no lease, no folder, and the
// audit lines. Nothing that the server gave out is in what was printed or kept.
func (s *vaultStep) checkEnd(tokens int, audit string) {
	s.t.Helper()
	if got := s.vault.Tokens(); got != tokens {
		s.t.Errorf("%d tokens are alive, want %d", got, tokens)
	}
	if left, err := filepath.Glob(filepath.Join(s.temp, "oidc-dbt-step-*")); err != nil || len(left) > 0 {
		s.t.Errorf("left behind: %q, %v", left, err)
	}
	log, err := os.ReadFile(filepath.Join(s.temp, "oidc-dbt", "audit.jsonl"))
	if err != nil {
		s.t.Fatal(err)
	}
	if got := auditLines(string(log)); got != audit {
		s.t.Errorf("the audit log is\n%s\nwant\n%s", got, audit)
	}
	printed := s.stderr.String()
	for line := range strings.Lines(s.stdout.String()) {
		if !strings.HasPrefix(line, "::add-mask::") {
			printed += line
		}
	}
	for _, secret := range s.vault.Issued() {
		if strings.Contains(printed+string(log), secret) {
			s.t.Errorf("a secret is in the log or the audit log")
		}
	}
}

const (
	recordsOfLease  = "Preauth Success prod\nLogon Success prod\nLogoff Success prod\n"
	recordsOfNoEnd  = "Preauth Success prod\nLogon Success prod\nLogoff Failure prod exchange_refused revoke the lease: refused: \"1 error occurred: * permission denied\"\n"
	warningOfNoEnd  = "::warning::clean up: revoke the lease: refused: \"1 error occurred: * permission denied\"%0Ahint: a policy of the role must allow `update` on auth/token/revoke-self, as the policy `default` does\n"
	recordsOfNobody = "Preauth Success prod\nLogon Success prod\n"
)

// TestPostEndsTheLease: until then the login works; then it does not.
func TestPostEndsTheLease(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod", nil)
	if status := s.run(); status != 0 {
		t.Fatalf("status is %d: %s", status, s.stdout.String())
	}
	outputs := s.read("OUTPUT")
	if !s.vault.Login(outputs["user"], outputs["password"]) {
		t.Error("the login does not work after the step")
	}
	for _, name := range []string{"STATE", "ENV", "OUTPUT"} {
		for key, value := range s.read(name) {
			if strings.HasPrefix(value, "s.") {
				t.Errorf("%s has the server's token, as %s", name, key)
			}
		}
	}
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	if s.vault.Login(outputs["user"], outputs["password"]) {
		t.Error("the login works after post")
	}
	s.checkEnd(0, recordsOfLease)
}

// TestPostWarns: what cannot be ended is named, and fails no job.
func TestPostWarns(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "endless", nil)
	if status := s.run(); status != 0 {
		t.Fatalf("status is %d: %s", status, s.stdout.String())
	}
	if got := s.post(); got != warningOfNoEnd {
		t.Errorf("post says\n%swant\n%s", got, warningOfNoEnd)
	}
	s.checkEnd(1, recordsOfNoEnd)
}

// TestPostReadsNothingElse: neither a folder that is not a step's nor a link
// in one that is.
func TestPostReadsNothingElse(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod", nil)
	if status := s.run(); status != 0 {
		t.Fatalf("status is %d: %s", status, s.stdout.String())
	}
	folder := s.read("STATE")["folder"]
	leases, err := filepath.Glob(filepath.Join(folder, "lease-*.json"))
	if err != nil || len(leases) != 1 {
		t.Fatalf("leases are %q, %v, want one", leases, err)
	}
	lease := leases[0]
	elsewhere := s.write("elsewhere/"+filepath.Base(lease), "")
	if err := os.Rename(lease, elsewhere); err != nil {
		t.Fatal(err)
	}
	s.env["STATE_folder"] = filepath.Dir(elsewhere)
	if status := s.run("post"); status != 0 || s.vault.Tokens() != 1 {
		t.Errorf("status is %d, %d tokens are alive", status, s.vault.Tokens())
	}
	if err := os.Symlink(elsewhere, lease); err != nil {
		t.Fatal(err)
	}
	if got, want := s.post(), "::warning::clean up: read "+filepath.Base(lease)+": is a symbolic link, want a regular file\n"; got != want {
		t.Errorf("post says %q, want %q", got, want)
	}
	s.checkEnd(1, recordsOfNobody)
}

// TestRunEndsTheLease: with the command, before post.
func TestRunEndsTheLease(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod", map[string]string{"run": "test -n \"$DBT_ENV_SECRET_OIDC_PASSWORD\" && exit 3", "shell": "sh"})
	if status := s.run(); status != 3 {
		t.Fatalf("status is %d: %s", status, s.stdout.String())
	}
	if s.vault.Tokens() != 0 {
		t.Error("the token is alive after the command")
	}
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkEnd(0, recordsOfLease)
}

// TestLeaseIsRenewed: a command that runs for longer than a lease logs in to
// its end, with the one login that it was given; then that is gone.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, dbt, secret string }{
		{name: "credentials alone"},
		{name: "spark", dbt: "{type: spark, method: thrift, host: spark.acme.example, use_ssl: true, schema: marts}"},
		{name: "sqlserver", dbt: "{type: sqlserver, backend: mssql-python, host: sql.acme.example, database: marts, schema: dbo}"},
		{name: "sqlserver as a service principal", secret: "azure", dbt: "{type: sqlserver, driver: d, host: acme.database.windows.net, database: marts, schema: dbo}"},
		{name: "fabric", secret: "azure", dbt: "{type: fabric, host: acme.datawarehouse.fabric.microsoft.com, tenant_id: acme.example, database: marts, schema: dbo}"},
		{name: "postgres without the proxy", dbt: "{type: postgres, host: db.acme.example, port: 5432, database: marts, schema: dbo}\n    proxy: false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newVaultStep(t, "brief", map[string]string{"run": "sleep 24", "shell": "sh"})
			s.warehouse(tt.dbt, tt.secret)
			cmd := s.process()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			var outputs map[string]string
			for running, checks := true, 0; running; {
				if outputs == nil || outputs["password"] == "" {
					outputs = s.read("OUTPUT")
				} else if works := s.vault.Login(outputs["user"], outputs["password"]); works {
					checks++
				} else if s.vault.Tokens() > 0 {
					t.Fatalf("the login does not work any more after %d checks", checks)
				}
				select {
				case err := <-ended:
					if running = false; err != nil || checks < 10 {
						t.Errorf("it ended with %v, after %d checks: %s", err, checks, s.stdout.String())
					}
				case <-time.After(20 * time.Millisecond):
				}
			}
			if got := s.post(); got != "" {
				t.Errorf("post says %s", got)
			}
			if renewals := s.checkRenewals("Logoff Success prod\n"); renewals < 2 || renewals > 20 {
				t.Errorf("%d renewals of eight seconds in 24", renewals)
			}
		})
	}
}

// warehouse gives the target a dbt block, and another engine's secret where
// there is one.
func (s *vaultStep) warehouse(dbt, engine string) {
	s.t.Helper()
	if dbt == "" {
		return
	}
	path := filepath.Join(s.root, "workspace", ".github", "oidc-dbt.yml")
	policy, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.Replace(string(policy), "    exchange:", "    dbt: "+dbt+"\n    exchange:", 1)
	if engine != "" {
		text = strings.Replace(text, "secret: database/", "secret: "+engine+"/", 1)
	}
	s.write("workspace/.github/oidc-dbt.yml", text)
	s.write("workspace/dbt_project.yml", "name: analytics\nprofile: analytics\n")
}

// checkRenewals holds the audit log to an issue, renewals and an end, and
// returns how many renewals there are.
func (s *vaultStep) checkRenewals(end string) int {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.temp, "oidc-dbt", "audit.jsonl"))
	if err != nil {
		s.t.Fatal(err)
	}
	renewals := strings.Count(string(text), `"outcome":"renewed"`)
	const pair = "Preauth Success prod\nLogon Success prod\n"
	s.checkEnd(0, fmt.Sprintf("%s%s%d ids\n", strings.Repeat(pair, 1+renewals), end, 1+renewals))
	return renewals
}

// TestLeaseReachesItsMaximum: it is told at the start, and once when it is so;
// the command's own status stands.
func TestLeaseReachesItsMaximum(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "capped", map[string]string{"run": "sleep 6; exit 3", "shell": "sh"})
	cmd := s.process()
	if _ = cmd.Run(); cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("it ended with %s: %s", cmd.ProcessState, s.stdout.String())
	}
	moment := regexp.MustCompile(`beyond [0-9TZ:-]+, in [0-9]s`)
	said := moment.ReplaceAllString(s.stdout.String(), "beyond TIME")
	const hint = "raise token_max_ttl of auth/jwt/role/capped, or give it a token_period"
	announced := regexp.MustCompile(`the credential is kept fresh until [0-9:]+ UTC \(in 0h00m\), when the lease ends\n`)
	if !announced.MatchString(said) {
		t.Errorf("it says\n%s\nwant %s", said, announced)
	}
	for _, want := range []string{
		"::warning::target \"prod\": the lease cannot be renewed beyond TIME: logins fail after that%0Ahint: " + hint + "\n",
		"warning: renew the credential: the lease cannot be renewed beyond TIME: logins fail after that\nhint: " + hint + "\n",
	} {
		if strings.Count(said, want) != 1 {
			t.Errorf("it says\n%s\nwant once\n%s", said, want)
		}
	}
	outputs := s.read("OUTPUT")
	if s.vault.Login(outputs["user"], outputs["password"]) {
		t.Error("the login outlives the command")
	}
	_ = s.post()
}

// TestUnpublishedLeaseEnds: a credential that nobody gets must not stay.
func TestUnpublishedLeaseEnds(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod", nil)
	s.env["GITHUB_STEP_SUMMARY"] = filepath.Join(s.root, "no", "such") // the summary, which is last, cannot be written
	if status := s.run(); status != 1 {
		t.Fatalf("status is %d: %s", status, s.stdout.String())
	}
	s.checkEnd(0, recordsOfLease)
}

// TestSIGTERMEndsTheLease: the runner cancels a job, the command gets the
// signal, and the lease ends behind it.
func TestSIGTERMEndsTheLease(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod", map[string]string{"run": "echo started; exec sleep 60", "shell": "sh"})
	cmd := s.process()
	cmd.Stdout = nil
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // has ended, unless the test failed
	for piece := make([]byte, 4096); !strings.Contains(s.stdout.String(), "started"); {
		n, err := stdout.Read(piece)
		if err != nil {
			t.Fatalf("the command did not start: %v: %s%s", err, s.stdout.String(), s.stderr.String())
		}
		s.stdout.Write(piece[:n])
	}
	if s.vault.Tokens() != 1 {
		t.Errorf("%d tokens are alive during the command, want 1", s.vault.Tokens())
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := s.stdout.ReadFrom(stdout); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 143 {
		t.Errorf("ended with %v, want exit status 143: %s", err, s.stdout.String())
	}
	if s.vault.Tokens() != 0 {
		t.Error("the token is alive after the command")
	}
	if got := s.post(); got != "" {
		t.Errorf("post says %s", got)
	}
	s.checkEnd(0, recordsOfLease)
}

// TestEnvironmentDoesNotChooseTheVault: nothing of what the library reads
// reaches a request; what it cannot read is an error that says so.
func TestEnvironmentDoesNotChooseTheVault(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, further ...string) (s *vaultStep, status int) {
		t.Helper()
		s = newVaultStep(t, "dbt-prod", nil)
		cmd := s.process(further...)
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return s, cmd.ProcessState.ExitCode()
	}
	s, status := run(t, "VAULT_ADDR=http://127.0.0.1:1", "VAULT_AGENT_ADDR=http://127.0.0.1:1", "VAULT_PROXY_ADDR=http://127.0.0.1:1", "VAULT_TOKEN=s.else", "VAULT_NAMESPACE=else",
		"VAULT_WRAP_TTL=5m", `VAULT_HEADERS={"X-Forwarded-Host":"evil.example"}`, "VAULT_SKIP_VERIFY=true", "VAULT_SRV_LOOKUP=true")
	if status != 0 || s.vault.Tokens() != 1 {
		t.Errorf("status is %d, %d tokens are alive: %s", status, s.vault.Tokens(), s.stdout.String())
	}
	s, status = run(t, "VAULT_CACERT=/nowhere")
	if want := "::error::exchange ID token with \"vault\": create a Vault client: a VAULT_ environment variable is malformed%0Ahint: unset it: these variables are not used, but a malformed one stops the client\n"; status != 2 || !strings.HasSuffix(s.stdout.String(), want) {
		t.Errorf("status is %d: %s\nwant %s", status, s.stdout.String(), want)
	}
}
