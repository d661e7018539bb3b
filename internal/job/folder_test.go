package job

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestSweep: the next start removes what a process that is gone has left, its
// leases first, and nothing of one that lives or that is not its own.
func TestSweep(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	temp := filepath.Dir(l.dir.path)
	var said strings.Builder
	l.env.TempDir, l.env.Stderr = temp, &said
	session := func(count int) Folder {
		t.Helper()
		f, err := sessionFolder(t.Context(), l.env)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write("profiles.yml", []byte("secret")); err != nil {
			t.Fatal(err)
		}
		all := &leases{dir: Folder{path: f.path}}
		for range count {
			c, r := l.lend(t)
			if err := all.add(t.Context(), l.env, c, r); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	live, gone, unreadable := session(1), session(2), session(0)
	if _, err := unreadable.Write("lease-X.json", []byte("{")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Folder{gone, unreadable} {
		f.lock.Close() // as the system does for a process that it killed
	}
	foreign := filepath.Join(temp, "oidc-dbt-steps")
	linked := filepath.Join(temp, "oidc-dbt-step-link")
	open := filepath.Join(temp, "oidc-dbt-step-open")
	for _, dir := range []string{foreign, open} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, lockFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Symlink(foreign, linked) // where the system lets this user

	next := session(0)
	stay := []string{live.path, unreadable.path, next.path, l.dir.path, foreign} // l.dir is a step's: it has no lock
	if runtime.GOOS != "windows" {
		// There are no modes there.
		stay = append(stay, open)
	}
	for _, path := range stay {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%v", err)
		}
	}
	if _, err := os.Stat(gone.path); !os.IsNotExist(err) {
		t.Errorf("the folder of a process that is gone is there: %v", err)
	}
	if n := l.vault.Tokens(); n != 1 {
		t.Errorf("%d tokens are alive, want that of the process that lives", n)
	}
	if want := "oidc-dbt: warning: end the leases of the previous run: read lease-X.json: the file is corrupt\n"; said.String() != want {
		t.Errorf("it says %q, want %q", said.String(), want)
	}
	if got, err := filepath.Glob(filepath.Join(temp, "oidc-dbt-step*", lockFile)); err != nil || !slices.Contains(got, filepath.Join(next.path, lockFile)) {
		t.Errorf("locks are %q, %v", got, err)
	}
	if err := next.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(next.path); !os.IsNotExist(err) {
		t.Errorf("a folder that was removed is there: %v", err)
	}
	live.lock.Close()
}
