package job

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHome: where relative paths of a policy start.
func TestHome(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	step := filepath.Join(base, "oidc-dbt-step-1")
	for _, dir := range []string{step, filepath.Join(base, "oidc-dbt-step-2"), filepath.Join(base, "elsewhere")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{step, filepath.Join(base, "elsewhere")} {
		if err := os.WriteFile(filepath.Join(dir, policyFolder), []byte("/srv/repo/.github"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := Env{Getenv: func(name string) string { return map[string]string{"RUNNER_TEMP": base}[name] }}
	for _, tt := range []struct {
		policy, origin, want string
		inline               bool
	}{
		{"version: 1\ntargets: {}\n", "policy", "/srv/repo", true},
		{".github/oidc-dbt.yml", ".github/oidc-dbt.yml", "/srv/repo/.github", false},
		{"", "/srv/up/.github/oidc-dbt.yml", "/srv/up/.github", false},
		{"/etc/policy.yml", "/etc/policy.yml", "/etc", false},
		// A step's copy of its policy, for a later `oidc-dbt exec`.
		{step + "/policy.yml", step + "/policy.yml", "/srv/repo/.github", false},
		{base + "/oidc-dbt-step-2/policy.yml", base + "/oidc-dbt-step-2/policy.yml", base + "/oidc-dbt-step-2", false},
		{base + "/elsewhere/policy.yml", base + "/elsewhere/policy.yml", base + "/elsewhere", false}, // no step's
	} {
		dir, inline := Settings{Policy: tt.policy, Root: "/srv/repo"}.home(env, tt.origin)
		if dir != tt.want || inline != tt.inline {
			t.Errorf("%q: %q, %t, want %q, %t", tt.origin, dir, inline, tt.want, tt.inline)
		}
	}
}
