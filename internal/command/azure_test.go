package command_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
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
