package git_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/git"
)

// TestAsk: what git prints, and its own first line as an error.
func TestAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		dir  string
		args []string
		out  string
		err  string
	}{
		{name: "an answer", ctx: t.Context(), dir: dir, args: []string{"rev-parse", "--is-inside-work-tree"}, out: "true\n"},
		{name: "an error of git's", ctx: t.Context(), dir: dir, args: []string{"cat-file", "-p", "HEAD:x"}, err: "invalid object name 'HEAD'."},
		{name: "an error without words", ctx: t.Context(), dir: dir, args: []string{"rev-parse", "--verify", "--quiet", "x"}, err: "git ended with status 1"},
		{name: "no repository", ctx: t.Context(), dir: t.TempDir(), args: []string{"rev-parse", "HEAD"},
			err: "not a git repository (or any of the parent directories): .git"},
		{name: "no time", ctx: ended, dir: dir, args: []string{"rev-parse"}, err: "git did not end in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := git.Repository{Dir: tt.dir, Environ: os.Environ()}.Ask(tt.ctx, tt.args...)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if out != tt.out || got != tt.err {
				t.Errorf("got %q, %q; want %q, %q", out, got, tt.out, tt.err)
			}
		})
	}
}
