//go:build e2e && wide

package trino

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestTrust sets a server up by the script that `trust generate` prints. It then refuses what the policy refuses, as far
// as the subject says it, and `trust check` finds no difference in its files.
func TestTrust(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	dir := t.TempDir()
	home := filepath.Join(dir, "trino")
	setup.Write(t, dir, "policy.yml", fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n"+
		"    dbt: {type: trino, host: 127.0.0.1, port: 443, user: %s, database: memory, schema: marts}\n"+
		"    exchange: {oidc: {audience: %s}}\n    allow:\n      - %s\n", issuer.URL(), user, audience, setup.Rule))
	setup.Write(t, home, "etc/config.properties", "")
	run(t, dir, setup.Binary(t), "trust", "generate", "--policy", "policy.yml", "--out", "trust")
	run(t, dir, "env", "TRINO_HOME="+home, "bash", "trust/prod.sh")
	files := map[string]string{}
	for _, name := range []string{"etc/config.properties", "etc/oidc-dbt-users.json"} {
		text, err := os.ReadFile(filepath.Join(home, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	run(t, dir, setup.Binary(t), "trust", "check", "--policy", "policy.yml", filepath.Join(home, "etc/config.properties"),
		filepath.Join(home, "etc/oidc-dbt-users.json"))

	server := setup.Trino(t, setup.TrinoConfig{Trust: files}, user, func() string { return issuer.Sign(audience, nil) })
	for name, tt := range map[string]struct {
		claims map[string]any
		admits bool
	}{
		"production":          {nil, true},
		"production with ids": {map[string]any{"sub": "repo:acme@9919/analytics@487920697:environment:production"}, true},
		"other ids":           {map[string]any{"sub": "repo:acme@9919/analytics@1:environment:production"}, false},
		"staging":             {map[string]any{"sub": "repo:acme/analytics:environment:staging", "environment": "staging"}, false},
		"another owner":       {map[string]any{"sub": "repo:acme-evil/analytics:environment:production"}, false},
		"longer":              {map[string]any{"sub": "repo:acme/analytics:environment:production2"}, false},
	} {
		rows, err := server.Query(t.Context(), user, issuer.Sign(audience, tt.claims), "select current_user")
		if tt.admits && (err != nil || fmt.Sprint(rows) != "[["+user+"]]") || !tt.admits && err == nil {
			t.Errorf("%s: got %v, %v; admitted: want %t", name, rows, err, tt.admits)
		}
	}
}

// run runs a command, which must succeed.
func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
