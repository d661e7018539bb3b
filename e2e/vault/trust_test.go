//go:build e2e

package vault

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestTrust sets an empty server up by the script that `trust generate` prints. The server then refuses what the policy
// refuses, and `trust check` finds no difference in what the server says that it has.
func TestTrust(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, keys, cli, role, login string }{
		{"bound claims", "", "vault", "role", "auth/jwt/login"},
		{"CEL", "auth: cel, ", "bao", "cel/role", "auth/jwt/cel/login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuer := setup.Issuer(t)
			bao := setup.OpenBao(t)
			dir := t.TempDir()
			policy := fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    exchange:\n"+
				"      vault: {%saddress: %q, role: dbt-prod, audience: %q, secret: secret/data/dbt, static: true}\n    allow:\n      - %s\n",
				issuer.URL(), tt.keys, bao.URL, celAudience, setup.Rule)
			setup.Write(t, dir, "policy.yml", policy)
			cli := baoAs(t, tt.cli)
			run(t, dir, nil, setup.Binary(t), "trust", "generate", "--policy", "policy.yml", "--out", "trust")
			env := []string{"PATH=" + cli + ":" + os.Getenv("PATH"), "VAULT_TOKEN=" + bao.Token, "BAO_TOKEN=" + bao.Token, "HOME=" + dir}
			run(t, dir, env, "bash", filepath.Join("trust", "prod.sh"))
			run(t, dir, env, "bash", filepath.Join("trust", "prod.sh")) // again: it takes what is there

			bao.Write(t, "secret/data/dbt", map[string]any{"data": map[string]string{"username": "dbt", "password": "hunter2-static"}})
			s, log := trustStep(t, issuer, policy, nil)
			if s.Status != 0 || s.Outputs["user"] != "dbt" {
				t.Fatalf("the step ended with status %d and user %q:\n%s", s.Status, s.Outputs["user"], log)
			}
			staging := map[string]any{"environment": "staging", "sub": "repo:acme/analytics:environment:staging"}
			if s, log := trustStep(t, issuer, policy, staging); s.Status != 5 {
				t.Errorf("the policy: the step ended with status %d, want 5:\n%s", s.Status, log)
			}
			for name, claims := range map[string]map[string]any{
				"staging": staging, "a pull request": {"event_name": "pull_request_target"}, "another repository": {"repository_id": "1"},
			} {
				_, err := bao.Request(t.Context(), "", http.MethodPost, tt.login, map[string]string{"role": "dbt-prod", "jwt": issuer.Sign(celAudience, claims)})
				if err == nil || !strings.Contains(err.Error(), "400 Bad Request: ") {
					t.Errorf("the server, %s: got %v, want a refusal", name, err)
				}
			}
			exported := run(t, dir, append(env, "VAULT_ADDR="+bao.URL, "BAO_ADDR="+bao.URL), filepath.Join(cli, tt.cli), "read", "-format=json",
				"auth/jwt/"+tt.role+"/dbt-prod")
			setup.Write(t, dir, "role.json", exported)
			run(t, dir, nil, setup.Binary(t), "trust", "check", "--policy", "policy.yml", "role.json")
		})
	}
}

// baoAs returns a folder that has OpenBao's command by a name.
func baoAs(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(setup.Python(t).Program("bao"), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a command, which must succeed, and returns what it prints.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, env
	var out, errors strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, &out, &errors)
	}
	return out.String()
}

// trustStep runs the action for a token with changed claims.
func trustStep(t *testing.T, issuer *standin.Issuer, policy string, changes map[string]any) (*standin.Step, string) {
	t.Helper()
	claims := standin.GitHubClaims()
	for name, value := range changes {
		claims[name] = value
	}
	issuer.SetClaims(claims)
	return step(t, t.TempDir(), nil, issuer.RunnerEnv(), policy)
}
