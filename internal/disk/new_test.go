package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// TestNew: a file is made once, whole, readable for all, and nothing else is left.
func TestNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yml")
	var made atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			switch err := disk.New(path, []byte("whole")); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	group.Wait()
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "whole" || made.Load() != 1 {
		t.Errorf("made %d times, it holds %q: %v", made.Load(), text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o444 != 0o444 {
		t.Errorf("mode is %v: %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder has %d entries: %v", len(entries), err)
	}
	if err := disk.New(path, nil); err == nil || err.Error() != "write policy.yml: file already exists" {
		t.Errorf("error is %v", err)
	}
	if err := disk.New(filepath.Join(dir, "no", "x"), nil); err == nil || err.Error() != "write x: no such file or directory" {
		t.Errorf("error is %v", err)
	}
}
