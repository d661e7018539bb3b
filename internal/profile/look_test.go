package profile_test

import (
	"slices"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/profile"
)

// TestLook: which profiles and outputs a file has, and which of them are made
// from others.
func TestLook(t *testing.T) {
	t.Parallel()
	s, err := profile.ReadFrom("profiles.yml", []byte("config: {use_colors: true}\nlogin: &login {type: duckdb}\n"+
		"a:\n  target: \"{{ env_var('T') }}\"\n  outputs:\n    plain: {type: duckdb, path: x}\n    merged: {<<: *login, path: x}\n    alias: *login\n"+
		"b: {outputs: &outputs {dev: {type: duckdb}}}\nc: {outputs: *outputs}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Profiles(), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("profiles are %q, want %q", got, want)
	}
	outputs, target := s.Targets("a")
	if want := []string{"plain", "merged", "alias"}; !slices.Equal(outputs, want) || target != "{{ env_var('T') }}" {
		t.Errorf("outputs are %q, target is %q", outputs, target)
	}
	if outputs, target := s.Targets("none"); outputs != nil || target != "" {
		t.Errorf("outputs are %q, target is %q", outputs, target)
	}
	for name, want := range map[[2]string]bool{{"a", "plain"}: false, {"a", "merged"}: true, {"a", "alias"}: true, {"b", "dev"}: false, {"c", "dev"}: false, {"c", "none"}: true} {
		if got := s.Shared(name[0], name[1]); got != want {
			t.Errorf("output %q of profile %q shares: %t", name[1], name[0], got)
		}
	}
}
