package job

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// TestNoPolicyAtATerminal: outside of the action the hint leads to the policies of people and of other systems, too.
func TestNoPolicyAtATerminal(t *testing.T) {
	t.Parallel()
	env := Env{Getenv: func(string) string { return "" }}
	_, _, err := policyText(t.Context(), env, Settings{Root: t.TempDir(), SearchUpwards: true})
	const want = "policies for people, and for other systems than GitHub Actions, are at " + identitiesPage +
		"; for GitHub Actions start with this policy, and commit it as .github/oidc-dbt.yml:\n\n"
	if !strings.HasPrefix(fault.Hint(err), want) {
		t.Errorf("error is %v, hint %q, want %q", err, fault.Hint(err), want)
	}
}

// TestFindPolicy: the default policy has either of YAML's extensions, not both.
func TestFindPolicy(t *testing.T) {
	t.Parallel()
	const (
		yml, yaml = ".github/oidc-dbt.yml", ".github/oidc-dbt.yaml"
		starter   = "start with this policy, and commit it as .github/oidc-dbt.yml:\n\n"
		both      = `read policy ".github/oidc-dbt.yml": ".github/oidc-dbt.yaml" also exists, and only one of them can be used`
		missing   = `read policy ".github/oidc-dbt.yml": no such file`
		empty     = "the workspace is empty: run actions/checkout before this step, or give the policy itself as the input `policy`"
		noGit     = "the workspace has no .git: run actions/checkout before this step. If there is no policy yet, " + starter
	)
	for _, tt := range []struct {
		name    string
		files   []string // a folder ends in /
		policy  string
		upwards bool   // from dbt/models
		path    string // "" for an error
		err     string
		hint    string // its start
	}{
		{name: ".yml", files: []string{yml}, path: yml},
		{name: ".yaml", files: []string{yaml}, path: yaml},
		{name: "both", files: []string{yml, yaml}, err: both, hint: "remove one of them"},
		{name: "none", files: []string{".git/"}, err: missing, hint: starter},
		{name: "no checkout", err: missing, hint: empty},
		{name: "something, and no checkout", files: []string{"artifact.zip"}, err: missing, hint: noGit},
		{name: "upwards: .yml", files: []string{yml}, upwards: true, path: yml},
		{name: "upwards: .yaml", files: []string{yaml}, upwards: true, path: yaml},
		{name: "upwards: the nearest", files: []string{yml, "dbt/" + yaml}, upwards: true, path: "dbt/" + yaml},
		{name: "upwards: both", files: []string{yml, yaml}, upwards: true, err: both, hint: "remove one of them"},
		{name: "upwards: none", files: []string{".git/"}, upwards: true, err: missing, hint: starter},
		{name: "named", files: []string{"a.yml", yml}, policy: "a.yml", path: "a.yml"},
		{name: "named with the other extension", files: []string{"a.yaml", ".git/"}, policy: "a.yml", err: `read policy "a.yml": no such file`, hint: `did you mean "a.yaml"?`},
		{name: "named with the other extension again", files: []string{"a.yml"}, policy: "a.yaml", err: `read policy "a.yaml": no such file`, hint: `did you mean "a.yml"?`},
		{name: "named, and missing", files: []string{".git/", yml}, policy: "policy", err: `read policy "policy": no such file`, hint: starter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, name := range tt.files {
				path := filepath.Join(root, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(name, "/") {
					if err := os.MkdirAll(path, 0o755); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			env := Env{Getenv: func(name string) string { return map[string]string{"GITHUB_EVENT_NAME": "push"}[name] }}
			s := Settings{Policy: tt.policy, Root: root, Workspace: root, SearchUpwards: tt.upwards}
			if tt.upwards {
				s.Root = filepath.Join(root, "dbt", "models")
				if err := os.MkdirAll(s.Root, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			text, _, err := policyText(t.Context(), env, s)
			if tt.path != "" {
				if err != nil || string(text) != tt.path {
					t.Errorf("read %q, %v, want %q", text, err, tt.path)
				}
				return
			}
			if err == nil || err.Error() != tt.err || !strings.HasPrefix(fault.Hint(err), tt.hint) || fault.ClassOf(err) != fault.Usage {
				t.Errorf("error is %v, hint %q (%s)\nwant %s, hint %q", err, fault.Hint(err), fault.ClassOf(err), tt.err, tt.hint)
			}
			if tt.hint == empty && fault.Hint(err) != empty {
				t.Errorf("hint is %q, want %q", fault.Hint(err), empty)
			}
		})
	}
}
