//go:build e2e && linux && amd64

package act

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// command runs this program in the repository, and returns what it printed.
func (r *runner) command(args ...string) string {
	r.t.Helper()
	c := exec.CommandContext(r.t.Context(), setup.Binary(r.t), args...)
	c.Dir, c.Env = r.dir, r.env
	out, err := c.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// replace replaces texts of a file, each of which must be there.
func (r *runner) replace(name string, oldnew ...string) {
	r.t.Helper()
	src, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	text := string(src)
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			r.t.Fatalf("%s has no %q:\n%s", name, oldnew[i], text)
		}
		text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
	}
	setup.Write(r.t, r.dir, name, text)
}
