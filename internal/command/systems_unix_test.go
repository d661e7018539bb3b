//go:build unix

package command_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

const azureAudience = "api://AzureADTokenExchange"

// newAzureJob makes the step a job of Azure Pipelines, with the service that
// gives the pipeline's own tokens.
func newAzureJob(t *testing.T) *step {
	t.Helper()
	s := newStep(t)
	s.leaveGitHub("UNUSED", azureAudience, map[string]any{
		"sub": "p://acme/data/dbt", "prj_id": "pr-1", "def_id": "12", "rpo_ref": "refs/heads/main", "run_id": "99",
	})
	delete(s.env, "UNUSED")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer job-token" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"oidcToken": %q}`, s.issuer.Sign(azureAudience, nil))
	}))
	t.Cleanup(service.Close)
	s.env["TF_BUILD"], s.env["SYSTEM_OIDCREQUESTURI"], s.env["SYSTEM_ACCESSTOKEN"] = "True", service.URL+"/_apis/oidctoken", "job-token"
	s.env["BUILD_SOURCESDIRECTORY"] = s.at("workspace")
	s.write("workspace/dbt_project.yml", "name: analytics\nprofile: analytics\n")
	return s
}

// TestAzurePipelinesElsewhere: its tokens, of Microsoft's audience, are taken by
// the other vendors where their trust names that audience.
func TestAzurePipelinesElsewhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		start         func(t *testing.T, s *step) (check func(token string) error)
		target, shell string
		ended         string // the last line of the audit log
	}{
		"AWS": {
			target: `exchange: {aws: {role: "` + prodRole + `", region: eu-central-1, endpoint: $STS, audience: "` + azureAudience + `"}}`,
			start: func(_ *testing.T, s *step) func(string) error {
				s.startSTS(standin.STSConfig{IssuerURL: s.issuer.URL(), Roles: map[string]standin.Role{prodRole: {Audience: azureAudience}}})
				return nil
			},
			shell: `test -n "$AWS_CONTAINER_CREDENTIALS_FULL_URI"`,
		},
		"Google": {
			target: `exchange: {gcp: {workload_identity_provider: ` + pool + `, sts_endpoint: $GOOGLE, audience: "` + azureAudience + `"}}`,
			start: func(_ *testing.T, s *step) func(string) error {
				google, err := standin.StartGoogle(standin.GoogleConfig{IssuerURL: s.issuer.URL(), Provider: pool, AllowedAudiences: []string{azureAudience}})
				s.started("$GOOGLE", google, err)
				return nil
			},
			shell: `test -n "$GOOGLE_APPLICATION_CREDENTIALS"`,
		},
		"Vault": {
			target: `exchange: {vault: {address: $VAULT, role: dbt, secret: database/creds/dbt, audience: "` + azureAudience + `"}}`,
			start: func(_ *testing.T, s *step) func(string) error {
				vault, err := standin.StartVault(standin.VaultConfig{
					IssuerURL: s.issuer.URL(), Secrets: map[string]standin.VaultSecret{"database/creds/dbt": {TTL: time.Hour}},
					Roles: map[string]standin.VaultRole{"dbt": {BoundAudiences: []string{azureAudience},
						BoundClaims: map[string][]string{"def_id": {"12"}}, Policies: []string{"database/creds/dbt"}}},
				})
				s.started("$VAULT", vault, err)
				return nil
			},
			shell: `test -n "$DBT_ENV_SECRET_OIDC_PASSWORD"`,
			ended: "Logoff Success prod\n",
		},
		"Snowflake": {
			target: "proxy: false\n    dbt: {type: snowflake, account: acme-prod, user: DBT, database: d, schema: s}\n    " +
				`exchange: {oidc: {audience: "` + azureAudience + `"}}`,
			start: startSnowflakeFor,
			shell: `printf %s "$DBT_ENV_SECRET_OIDC_TOKEN" >"$HELD"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAzureJob(t)
			check := tt.start(t, s)
			s.env["HELD"] = s.at("held")
			s.write(policyFile, "version: 1\nidentities:\n  azure: {issuer: $ISSUER, kind: azure_pipelines}\ntargets:\n  prod:\n    "+tt.target+
				"\n    allow:\n      - {identity: azure, prj_id: pr-1, def_id: \"12\", rpo_ref: refs/heads/main}\n")
			r := s.here("exec", "--target", "prod", "--", "sh", "-c", tt.shell)
			const warning = `target "prod": tokens of identity "azure" always have the audience "api://AzureADTokenExchange": everyone who receives such a token could use it here`
			if r.status != 0 || !strings.Contains(r.stdout+r.stderr, warning) {
				t.Fatalf("status is %d: %s%s", r.status, r.stdout, r.stderr)
			}
			s.checkAudit(issued + tt.ended)
			if check == nil {
				return
			}
			if err := check(s.file("held")); err != nil {
				t.Error(err)
			}
		})
	}
}

// startSnowflakeFor starts an account whose user takes the audience, and
// returns a login there.
func startSnowflakeFor(t *testing.T, s *step) func(token string) error {
	t.Helper()
	behind := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(behind.Close)
	next, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	account, err := standin.StartSnowflake(standin.SnowflakeConfig{
		IssuerURL: s.issuer.URL(), Subject: "p://acme/data/dbt", Audience: azureAudience, Next: next,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(account.Close)
	return func(token string) error {
		body := fmt.Sprintf(`{"data": {"AUTHENTICATOR": "WORKLOAD_IDENTITY", "PROVIDER": "OIDC", "TOKEN": %q}}`, token)
		resp, err := http.Post(account.URL()+"/session/v1/login-request", "application/json", strings.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		logins := account.Logins()
		if len(logins) != 1 {
			return fmt.Errorf("%d logins, want 1", len(logins))
		}
		return logins[0].Err
	}
}

// azureSnowflake is a target that gives the command the ID token.
const azureSnowflake = `version: 1
identities:
  azure: {issuer: $ISSUER, kind: azure_pipelines}
targets:
  prod:
    proxy: false
    dbt: {type: snowflake, account: acme-prod, user: DBT, database: d, schema: s}
    exchange: {oidc: {audience: "api://AzureADTokenExchange"}}
    allow:
      - {identity: azure, prj_id: pr-1, def_id: "12", rpo_ref: refs/heads/main}
`

// TestAzurePipelinesLog: the agent gets masks and issues, wherever the script
// sends what the command prints.
func TestAzurePipelinesLog(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Log("only Linux tells which stream the agent reads")
	}
	s := newAzureJob(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.env["SYSTEM_JOBID"], s.env["EXE"], s.env["HELD"], s.env["LOG"] = "12f1170f-54f2-53f3-20dd-22fc7dff55f9", exe, s.at("held"), s.at("out.log")
	s.write(policyFile, azureSnowflake)
	script := s.write("step.sh", `"$EXE" exec --target prod -- sh -c 'printf %s "$DBT_ENV_SECRET_OIDC_TOKEN" >"$HELD"' 2>"$LOG"`+"\n")
	cmd := exec.Command("bash", script)
	cmd.Dir, cmd.Env = s.at("workspace"), s.environ()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr // by two pipes, as the agent has it
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s%s", err, stdout.String(), stderr.String(), s.file("out.log"))
	}
	log, token := s.file("out.log"), s.file("held")
	const said = "##vso[task.logissue type=warning]oidc-dbt: target \"prod\": tokens of identity \"azure\" always have the audience"
	const unmasked = "not masked in the job's log, since no stream was found that only the runner reads: DBT_ENV_SECRET_OIDC_TOKEN; do not print them"
	switch mask := "\n##vso[task.setsecret]" + token + "\n"; {
	case !strings.Contains(log, said) || strings.Contains(log, token):
		t.Errorf("it says %s", log)
	case runtime.GOOS == "linux" && stdout.String()+stderr.String() != mask:
		t.Errorf("the agent gets %q, want %q", stdout.String()+stderr.String(), mask)
	case runtime.GOOS != "linux" && !strings.Contains(log, unmasked):
		t.Errorf("it says %s", log)
	}
}

// TestBuildkiteLog: the agent's program gets each secret on its standard input.
func TestBuildkiteLog(t *testing.T) {
	t.Parallel()
	s := newStep(t)
	s.leaveGitHub("BK_TOKEN", "snowflakecomputing.com", map[string]any{"sub": "organization:acme", "pipeline_id": "p-1"})
	s.env["BUILDKITE"], s.env["BUILDKITE_BUILD_CHECKOUT_PATH"] = "true", s.at("workspace")
	s.write("workspace/dbt_project.yml", "name: analytics\nprofile: analytics\n")
	policyText := `version: 1
identities:
  bk: {issuer: $ISSUER, kind: buildkite, source: {env: BK_TOKEN}}
targets:
  prod:
    proxy: false
    dbt: {type: snowflake, account: acme-prod, user: DBT, database: d, schema: s}
    exchange: {oidc: {audience: snowflakecomputing.com}}
    allow:
      - {identity: bk, pipeline_id: %s}
`
	s.write(policyFile, fmt.Sprintf(policyText, "p-1"))
	r := s.here("exec", "--target", "prod", "--", "true")
	const unmasked = "oidc-dbt: warning: not masked in the job's log, since the program buildkite-agent is not on PATH: DBT_ENV_SECRET_OIDC_TOKEN; do not print them\n"
	if r.status != 0 || !strings.Contains(r.stderr, unmasked) {
		t.Errorf("without the program: status %d: %s", r.status, r.stderr)
	}
	agent := s.write("bin/buildkite-agent", "#!/bin/sh\n{ echo \"$@\"; cat; echo; } >>\"$HELD\"\n")
	if err := os.Chmod(agent, 0o755); err != nil {
		t.Fatal(err)
	}
	s.env["HELD"], s.env["PATH"] = s.at("held"), s.at("bin")+string(os.PathListSeparator)+s.env["PATH"]
	r = s.here("exec", "--target", "prod", "--", "true")
	if r.status != 0 || strings.Contains(r.stderr, "not masked") || s.file("held") != "redactor add\n"+s.env["BK_TOKEN"]+"\n" {
		t.Errorf("status %d: %s; the agent was given %s", r.status, r.stderr, s.file("held"))
	}
	s.write(policyFile, fmt.Sprintf(policyText, "p-2"))
	r = s.here("exec", "--target", "prod", "--", "true")
	if r.status != 5 || !strings.HasPrefix(r.stderr, "^^^ +++\noidc-dbt: denied by policy: ") {
		t.Errorf("denied: status %d: %s", r.status, r.stderr)
	}
}
