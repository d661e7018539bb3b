package command_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newVaultStep is a step of a job whose target is a lease, by one of the
// roles of vaultConfig.
func newVaultStep(t *testing.T, role string) *step {
	t.Helper()
	s := newStep(t)
	s.policy(`
  prod:
    exchange:
      vault: {address: $VAULT, role: ` + role + `, audience: vault, secret: database/creds/dbt-prod}`)
	s.env["INPUT_TARGET"] = "prod"
	return s
}

// script has the step run a script with the credential.
func (s *step) script(text string) { s.env["INPUT_RUN"], s.env["INPUT_SHELL"] = text, "sh" }

// checkRun runs the step, which must end with a status.
func (s *step) checkRun(want int) (out string) {
	s.t.Helper()
	status, out := s.run()
	if status != want {
		s.t.Fatalf("status is %d, want %d: %s", status, want, out)
	}
	return out
}

// checkLease holds what is left of the step: so many tokens, no folder, and
// the audit log. Nothing that the server gave out is in that, or in what was printed.
func (s *step) checkLease(tokens int, audit string) {
	s.t.Helper()
	if got := s.vault.Tokens(); got != tokens {
		s.t.Errorf("%d tokens are alive, want %d", got, tokens)
	}
	s.checkFolders()
	s.checkAudit(audit)
	seen := s.audit()
	for _, said := range s.printed {
		for line := range strings.Lines(said.String()) {
			if !strings.HasPrefix(line, "::add-mask::") {
				seen += line
			}
		}
	}
	for _, secret := range s.vault.Issued() {
		if strings.Contains(seen, secret) {
			s.t.Errorf("a secret is in the log or the audit log")
		}
	}
}

const (
	recordsOfLease = issued + "Logoff Success prod\n"
	recordsOfNoEnd = issued + "Logoff Failure prod exchange_refused revoke the lease: refused: \"1 error occurred: * permission denied\"\n"
	warningOfNoEnd = "::warning::clean up: revoke the lease: refused: \"1 error occurred: * permission denied\"%0Ahint: a policy of the role must allow `update` on auth/token/revoke-self, as the policy `default` does\n"
)

// TestPostEndsTheLease: until then the login works; then it does not.
func TestPostEndsTheLease(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod")
	s.checkRun(0)
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
	s.checkPost("")
	if s.vault.Login(outputs["user"], outputs["password"]) {
		t.Error("the login works after post")
	}
	s.checkLease(0, recordsOfLease)
}

// TestPostWarns: what cannot be ended is named, and fails no job.
func TestPostWarns(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "endless")
	s.checkRun(0)
	s.checkPost(warningOfNoEnd)
	s.checkLease(1, recordsOfNoEnd)
}

// TestPostReadsNothingElse: neither a folder that is not a step's nor a link
// in one that is.
func TestPostReadsNothingElse(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod")
	s.checkRun(0)
	leases, err := filepath.Glob(filepath.Join(s.folder(), "lease-*.json"))
	if err != nil || len(leases) != 1 {
		t.Fatalf("leases are %q, %v, want one", leases, err)
	}
	lease := leases[0]
	elsewhere := s.write("elsewhere/"+filepath.Base(lease), "")
	if err := os.Rename(lease, elsewhere); err != nil {
		t.Fatal(err)
	}
	s.env["STATE_folder"] = filepath.Dir(elsewhere)
	if status, _ := s.run("post"); status != 0 || s.vault.Tokens() != 1 {
		t.Errorf("status is %d, %d tokens are alive", status, s.vault.Tokens())
	}
	if err := os.Symlink(elsewhere, lease); err != nil {
		t.Fatal(err)
	}
	s.checkPost("::warning::clean up: read " + filepath.Base(lease) + ": is a symbolic link, want a regular file\n")
	s.checkLease(1, issued)
}

// TestRunEndsTheLease: with the command, before post.
func TestRunEndsTheLease(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod")
	s.script("test -n \"$DBT_ENV_SECRET_OIDC_PASSWORD\" && exit 3")
	s.checkRun(3)
	if s.vault.Tokens() != 0 {
		t.Error("the token is alive after the command")
	}
	s.checkPost("")
	s.checkLease(0, recordsOfLease)
}

// TestLeaseIsRenewed: a command that runs for longer than a lease logs in to
// its end, with the one login that it was given; then that is gone.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, dbt, secret string }{
		{name: "credentials only"},
		{name: "spark", dbt: "{type: spark, method: thrift, host: spark.acme.example, use_ssl: true, schema: marts}"},
		{name: "sqlserver", dbt: "{type: sqlserver, backend: mssql-python, host: sql.acme.example, database: marts, schema: dbo}"},
		{name: "sqlserver as a service principal", secret: "azure", dbt: "{type: sqlserver, driver: d, host: acme.database.windows.net, database: marts, schema: dbo}"},
		{name: "fabric", secret: "azure", dbt: "{type: fabric, host: acme.datawarehouse.fabric.microsoft.com, tenant_id: acme.example, database: marts, schema: dbo}"},
		{name: "postgres without the proxy", dbt: "{type: postgres, host: db.acme.example, port: 5432, database: marts, schema: dbo}\n    proxy: false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newVaultStep(t, "brief")
			s.script("sleep 24")
			s.withDBT(tt.dbt, tt.secret)
			p := s.process()
			p.begin(t)
			ended := make(chan error, 1)
			go func() { ended <- p.Wait() }()
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
						t.Errorf("it ended with %v, after %d checks: %s", err, checks, p.said)
					}
				case <-time.After(20 * time.Millisecond):
				}
			}
			s.checkPost("")
			if renewals := s.checkRenewals("Logoff Success prod\n"); renewals < 2 || renewals > 20 {
				t.Errorf("%d renewals of eight seconds in 24", renewals)
			}
		})
	}
}

// withDBT gives the target a dbt block, and another engine's secret where
// there is one.
func (s *step) withDBT(dbt, engine string) {
	s.t.Helper()
	if dbt == "" {
		return
	}
	text := strings.Replace(s.file(policyFile), "    exchange:", "    dbt: "+dbt+"\n    exchange:", 1)
	if engine != "" {
		text = strings.Replace(text, "secret: database/", "secret: "+engine+"/", 1)
	}
	s.write(policyFile, text)
	s.write("workspace/dbt_project.yml", "name: analytics\nprofile: analytics\n")
}

// checkRenewals holds the audit log to an issue, renewals and an end, and
// returns how many renewals there are.
func (s *step) checkRenewals(end string) int {
	s.t.Helper()
	renewals := strings.Count(s.audit(), `"outcome":"renewed"`)
	s.checkLease(0, fmt.Sprintf("%s%s%d ids\n", strings.Repeat(issued, 1+renewals), end, 1+renewals))
	return renewals
}

// TestLeaseReachesItsMaximum: it is told at the start, and once when it is so;
// the command's own status is kept.
func TestLeaseReachesItsMaximum(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "capped")
	s.script("while [ ! -e reached ]; do sleep 0.1; done; sleep 2; exit 3")
	p := s.process()
	p.begin(t)
	soon(t, "the maximum", func() bool { return strings.Contains(p.said.String(), "warning: renew the credential: ") })
	s.write("workspace/reached", "")
	if _ = p.Wait(); p.ProcessState.ExitCode() != 3 {
		t.Errorf("status is %d, want 3", p.ProcessState.ExitCode())
	}
	moment := regexp.MustCompile(`beyond [0-9TZ:-]+, in [0-9]+s`)
	said := moment.ReplaceAllString(p.said.String(), "beyond TIME")
	const hint = "raise token_max_ttl of auth/jwt/role/capped, or give it a token_period"
	announced := regexp.MustCompile(`the credential is kept fresh until [0-9:]+ UTC \(in 0h00m\), when the lease expires\n`)
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

// TestUnpublishedLeaseEnds: a credential that no step gets must not stay.
func TestUnpublishedLeaseEnds(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod")
	s.env["GITHUB_STEP_SUMMARY"] = s.at("no/such") // the summary, which is last, cannot be written
	s.checkRun(1)
	s.checkLease(0, recordsOfLease)
}

// TestSIGTERMEndsTheLease: the runner cancels a job, the command gets the
// signal, and the lease ends behind it.
func TestSIGTERMEndsTheLease(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod")
	s.script("echo started; exec sleep 60")
	p := s.process()
	p.begin(t)
	soon(t, "the command's start", func() bool { return strings.Contains(p.said.String(), "\nstarted\n") })
	if s.vault.Tokens() != 1 {
		t.Errorf("%d tokens are alive during the command, want 1", s.vault.Tokens())
	}
	if status := p.end(t, syscall.SIGTERM); status != 143 {
		t.Errorf("status is %d, want 143: %s", status, p.said)
	}
	if s.vault.Tokens() != 0 {
		t.Error("the token is alive after the command")
	}
	s.checkPost("")
	s.checkLease(0, recordsOfLease)
}

// TestEnvironmentDoesNotChooseTheVault: nothing of what the library reads
// reaches a request; what it cannot read is an error that says so.
func TestEnvironmentDoesNotChooseTheVault(t *testing.T) {
	t.Parallel()
	s := newVaultStep(t, "dbt-prod")
	maps.Copy(s.env, map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_AGENT_ADDR": "http://127.0.0.1:1", "VAULT_PROXY_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "s.else",
		"VAULT_NAMESPACE": "else", "VAULT_WRAP_TTL": "5m", "VAULT_HEADERS": `{"X-Forwarded-Host":"evil.example"}`, "VAULT_SKIP_VERIFY": "true", "VAULT_SRV_LOOKUP": "true",
	})
	if status, out := s.run(); status != 0 || s.vault.Tokens() != 1 {
		t.Errorf("status is %d, %d tokens are alive: %s", status, s.vault.Tokens(), out)
	}
	s = newVaultStep(t, "dbt-prod")
	s.env["VAULT_CACERT"] = "/nowhere"
	const want = "::error::exchange ID token with \"vault\": create a Vault client: a VAULT_ environment variable is malformed%0Ahint: unset it: these variables are not used, but a malformed one stops the client\n"
	if status, out := s.run(); status != 2 || !strings.HasSuffix(out, want) {
		t.Errorf("status is %d: %s\nwant %s", status, out, want)
	}
}
