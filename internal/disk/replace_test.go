package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestReplace: what a process that was killed has left goes, and nothing else.
func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	old := time.Now().Add(-time.Hour)
	stay := []string{".ready.7.oidc-dbt", ".other.1.oidc-dbt", ".ready.1.mine", ".ready.x.oidc-dbt", ".ready..oidc-dbt", "ready.1.oidc-dbt", ".ready.oidc-dbt"}
	for _, name := range append([]string{".ready.1.oidc-dbt", ".ready.4294967295.oidc-dbt"}, stay...) {
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if name == ".ready.7.oidc-dbt" {
			continue // of one at work
		}
		if err := os.Chtimes(at(name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at(".ready.2.oidc-dbt"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := disk.Replace(at("ready"), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(at("ready")); err != nil || string(got) != text {
			t.Errorf("got %q, %v, want %q", got, err, text)
		}
	}
	want := append([]string{"ready", ".ready.2.oidc-dbt"}, stay...)
	slices.Sort(want)
	if got := namesIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("the folder has %q, want %q", got, want)
	}
	if err := disk.Replace(at("nowhere/ready"), nil); err == nil || !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "write ready: ") {
		t.Errorf("error is %v", err)
	}
}

// TestReplaceTogether: of several at once each is whole.
func TestReplaceTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credentials")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				// Windows replaces no file that another is just replacing.
				if err := disk.Replace(path, []byte(strings.Repeat(string(rune('a'+i)), 10_000))); err != nil && !errors.Is(err, os.ErrPermission) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(path)
	if err != nil || len(text) != 10_000 || strings.Trim(string(text), string(text[:1])) != "" {
		t.Errorf("it has %d bytes, %v", len(text), err)
	}
	if names := namesIn(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("the folder has %q", names)
	}
}

// TestRoom: what is tried leaves nothing.
func TestRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := disk.Room(filepath.Join(dir, "login"), 100); err != nil {
		t.Error(err)
	}
	if names := namesIn(t, dir); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
	err := disk.Room(filepath.Join(dir, "no", "login"), 100)
	if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "write login: ") {
		t.Errorf("in no folder: %v", err)
	}
}
