//go:build e2e && linux && amd64

package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// leased returns a workspace whose target prod gets its login from OpenBao.
func leased(t *testing.T, issuer *standin.Issuer, bao *setup.OpenBaoServer, server *setup.PostgresServer, schema string) string {
	t.Helper()
	return setup.Project(t, issuer,
		fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: %s, threads: 4, sslmode: verify-full, sslrootcert: %q}", server.Host, server.Port, schema, server.CA),
		fmt.Sprintf("{vault: {address: %q, role: dbt-prod, audience: %q, secret: database/creds/dbt-prod}}", bao.URL, audience))
}

// TestVault: what one run's user builds stays, and another run can build it
// again; `post` removes the user.
func TestVault(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	workspace := leased(t, issuer, bao, server, "marts")
	users := map[string]bool{}
	for range 2 {
		root := t.TempDir()
		step, log := run(t, standin.StepConfig{Root: root, Workspace: workspace, Inputs: map[string]string{"target": "prod"}, Env: issuer.RunnerEnv()})
		if step.Status != 0 {
			t.Fatalf("the step ended with status %d:\n%s", step.Status, log)
		}
		user, password := step.Outputs["user"], step.Outputs["password"]
		users[user] = true
		out := setup.Build(t, setup.Python(t), issuer, workspace, map[string]string{
			"DBT_PROFILES_DIR": step.Outputs["profiles-dir"], "DBT_ENV_SECRET_OIDC_PASSWORD": password,
		})
		if !strings.Contains(out, "PASS=3 WARN=0 ERROR=0") || strings.Contains(out+log+step.Summary, password) {
			t.Errorf("dbt did not build three nodes, or the password is in a log:\n%s\n%s", log, out)
		}
		post, log := run(t, standin.StepConfig{Args: []string{"post"}, Root: root, Workspace: workspace, Env: map[string]string{"STATE_folder": step.State["folder"]}})
		if post.Status != 0 {
			t.Fatalf("post ended with status %d:\n%s", post.Status, log)
		}
		gone(t, server, user, password)
	}
	if len(users) != 2 {
		t.Errorf("two runs had the users %v, want two", users)
	}
	for _, row := range server.SQL(t, "select tableowner from pg_tables where schemaname = 'marts' union all select viewowner from pg_views where schemaname = 'marts'") {
		if row[0] != "dbt" {
			t.Errorf("what dbt built is %s's, want dbt's", row[0])
		}
	}
}

// TestVaultRefuses: OpenBao's role refuses a claim that the policy allows, and
// no user is created.
func TestVaultRefuses(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	claims := standin.GitHubClaims()
	claims["job_workflow_ref"] = "acme/analytics/.github/workflows/own.yml@refs/heads/main"
	issuer.SetClaims(claims)
	step, log := run(t, standin.StepConfig{
		Root: t.TempDir(), Workspace: leased(t, issuer, bao, server, "marts"), Inputs: map[string]string{"target": "prod"}, Env: issuer.RunnerEnv(),
	})
	if step.Status != 6 || !strings.Contains(log, `claim \"job_workflow_ref\" does not match any associated bound claim values`) {
		t.Errorf("the step ended with status %d, want 6 and OpenBao's reason:\n%s", step.Status, log)
	}
	if rows := server.SQL(t, "select rolname from pg_roles where rolname like 'v-%'"); len(rows) > 0 {
		t.Errorf("OpenBao made %v", rows)
	}
}

// TestCELRoleRenews: the token of a CEL role and the lease under it, of six seconds each, are renewed while the command
// runs, and end with it. The step knows what will end them.
func TestCELRoleRenews(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	lendFor(t, bao, "6s", "20m")
	bao.Write(t, "sys/policies/acl/dbt-prod", map[string]any{"policy": `path "database/creds/dbt-prod" { capabilities = ["read"] }`})
	bao.Write(t, "auth/jwt/cel/role/dbt-cel", map[string]any{
		"bound_audiences": []string{audience},
		"cel_program": map[string]any{"expression": "has(claims.environment) && claims.environment == 'production' ? pb.Auth{policies: ['dbt-prod'], " +
			"lease_options: pb.LeaseOptions{TTL: 6000000000, MaxTTL: 600000000000, renewable: true, issue_time: now}} : false"},
	})
	workspace := t.TempDir()
	setup.Write(t, workspace, ".github/oidc-dbt.yml", fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n"+
		"    exchange: {vault: {address: %q, auth: cel, role: dbt-cel, audience: %q, secret: database/creds/dbt-prod}}\n    allow:\n      - %s\n",
		issuer.URL(), bao.URL, audience, setup.Rule))
	script := fmt.Sprintf(`import os, psycopg2, time
for wait in (0, 20):
    time.sleep(wait)
    psycopg2.connect(host=%q, port=%d, dbname="postgres", user=os.environ["OIDC_DBT_USER"], password=os.environ["DBT_ENV_SECRET_OIDC_PASSWORD"],
        sslmode="verify-full", sslrootcert=%q).close()
    print("logged in after", wait)
`, server.Host, server.Port, server.CA)
	step, log := run(t, standin.StepConfig{
		Args: []string{"exec", "--target", "prod", "--", setup.Python(t).Program("python"), "-c", script}, Root: t.TempDir(), Workspace: workspace, Env: issuer.RunnerEnv(),
	})
	if step.Status != 0 || !strings.Contains(log, "logged in after 0\nlogged in after 20\n") || !strings.Contains(log, "hint: raise MaxTTL of auth/jwt/cel/role/dbt-cel, or give it a period\n") {
		t.Fatalf("exec ended with status %d:\n%s", step.Status, log)
	}
	records, err := os.ReadFile(filepath.Join(step.Temp, "oidc-dbt", "audit.jsonl"))
	if err != nil || strings.Count(string(records), `"outcome":"renewed"`) < 3 || strings.Count(string(records), `"outcome":"revoked"`) != 1 {
		t.Errorf("the audit log is %s, %v, want three renewals or more, and the end", records, err)
	}
	bao.Gone(t, server)
}

// run runs the binary as a step.
func run(t *testing.T, config standin.StepConfig) (step *standin.Step, log string) {
	t.Helper()
	config.Binary = setup.Binary(t)
	step, err := standin.RunStep(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	log, _, err = step.Log()
	if err != nil {
		t.Error(err)
	}
	return step, log
}
