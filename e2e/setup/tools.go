package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Tool returns a program built from a Go package of a pinned version
// (path@version), from the user's cache directory where it is there already.
func Tool(t testing.TB, pinned string) string {
	t.Helper()
	path, version, ok := strings.Cut(pinned, "@")
	if !ok {
		t.Fatalf("tool %q has no version", pinned)
	}
	name := filepath.Base(path)
	dir := Cached(t, name+"-"+version, func(dir string) {
		install := exec.Command("go", "install", pinned)
		install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-trimpath")
		install.Dir = dir // outside this module
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("go install %s: %v\n%s", pinned, err, out)
		}
	})
	return filepath.Join(dir, name)
}

// Cached returns a folder of the user's cache directory, which fill has
// filled. Another process sees all of it or nothing.
func Cached(t testing.TB, name string, fill func(dir string)) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tools := filepath.Join(cache, "oidc-dbt", "tools")
	dir := filepath.Join(tools, name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(tools, name+"-*.tmp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	fill(fresh)
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Main runs a package's tests and removes the binary that they share. A
// TestMain calls it.
func Main(m *testing.M) int {
	status := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	return status
}
