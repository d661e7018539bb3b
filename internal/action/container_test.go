package action

import (
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// TestOutside: what other steps read has the names of the host's files.
func TestOutside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		container  *container
		path, want string
	}{
		{nil, "/github/runner_temp/oidc-dbt/audit.jsonl", "/github/runner_temp/oidc-dbt/audit.jsonl"},
		{&container{"/github/runner_temp", "/home/runner/work/_temp"}, "/github/runner_temp/oidc-dbt/audit.jsonl", "/home/runner/work/_temp/oidc-dbt/audit.jsonl"},
		{&container{"/github/runner_temp", "/home/runner/work/_temp/"}, "/github/runner_temp/a", "/home/runner/work/_temp/a"},
		{&container{"/github/runner_temp", "/w"}, "/github/runner_temp", "/w"},
		{&container{"/github/runner_temp", "/w"}, "/github/runner_temporary/a", "/github/runner_temporary/a"},
		{&container{"/github/runner_temp", "/w"}, "/github/workspace/a", "/github/workspace/a"},
		{&container{"/github/runner_temp", "/w"}, "", ""},
		{&container{"/github/runner_temp", ""}, "/github/runner_temp/a", "/github/runner_temp/a"},
		{&container{"/tmp", "/home/runner/work/_temp"}, "/tmp/a", "/tmp/a"}, // a runner that mounts nothing there
	} {
		if got := tt.container.outside(tt.path); got != tt.want {
			t.Errorf("%+v: %q is %q outside, want %q", tt.container, tt.path, got, tt.want)
		}
	}
}

func TestVariablesOutside(t *testing.T) {
	t.Parallel()
	c := &container{"/github/runner_temp", "/w"}
	vars := []adapter.Variable{
		{Name: "DBT_PROFILES_DIR", Value: secret.New("/github/runner_temp/oidc-dbt-step-1")},
		{Name: "DBT_ENV_SECRET_OIDC_TOKEN", Value: secret.New("/github/runner_temp/is a token"), Secret: true},
	}
	got := c.variables(vars)
	if dir, token := got[0].Value.Reveal(), got[1].Value.Reveal(); dir != "/w/oidc-dbt-step-1" || token != vars[1].Value.Reveal() {
		t.Errorf("got %q and %q", dir, token)
	}
	if vars[0].Value.Reveal() != "/github/runner_temp/oidc-dbt-step-1" {
		t.Error("the variables of this step are changed")
	}
}

// TestContainerOf: a step may name the image itself, without the action.
func TestContainerOf(t *testing.T) {
	t.Parallel()
	for temp, want := range map[string]bool{"/github/runner_temp": true, "/home/runner/work/_temp": false, "": false} {
		env := job.Env{Getenv: func(string) string { return temp }}
		if got := containerOf(env) != nil; got != want {
			t.Errorf("RUNNER_TEMP %q: in a container: %t, want %t", temp, got, want)
		}
	}
}
