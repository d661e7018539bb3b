package job

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// dirPattern names what a step leaves under RUNNER_TEMP, one folder a step.
const dirPattern = "oidc-dbt-step-*"

// A Folder holds what one step writes. It is 0700, its files are 0600, and it
// is never in the workspace, whose files end up in images, commits and sites.
type Folder struct {
	path string
	lock *os.File // held while its process lives, nil where the runner removes it
}

// NewFolder makes a folder below temp.
func NewFolder(temp string) (Folder, error) {
	path, err := os.MkdirTemp(temp, dirPattern) // 0700
	if err != nil {
		return Folder{}, fmt.Errorf("create a folder for the profile: %w", err)
	}
	return Folder{path: path}, nil
}

// Path is the folder's, "" of none.
func (f Folder) Path() string { return f.path }

// Write writes a file of this user's, and returns its path.
func (f Folder) Write(name string, data []byte) (path string, err error) {
	path = filepath.Join(f.path, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

// MaxFile bounds what is read of a small file that a step wrote: of a lease
// tokens are under 4 KiB, certificates under 64.
const MaxFile = 1 << 20

// Remove removes the folder with everything in it.
func (f Folder) Remove() error {
	if f.path == "" {
		return nil
	}
	if f.lock != nil {
		f.lock.Close() // Windows removes no file that is open
	}
	return os.RemoveAll(f.path)
}

// lockFile is held by the process whose folder it is in.
const lockFile = ".oidc-dbt-lock"

// sessionFolder creates a folder among the machine's temporary files, and
// removes those that killed processes have left there.
func sessionFolder(ctx context.Context, env Env) (Folder, error) {
	sweepFolders(ctx, env, func(left Folder) { left.endLeft(ctx, env) })
	f, err := NewFolder(env.TempDir)
	if err != nil {
		return f, err
	}
	// Without the lock, which some file systems do not have, no later start removes it.
	f.lock, _ = disk.Hold(filepath.Join(f.path, lockFile))
	return f, nil
}

// sweepFolders removes the folders of processes that are gone, when endLeft has
// ended the leases in them. One whose leases cannot be ended stays for the next
// start; one without a lock is another version's, a step's, or just being made.
func sweepFolders(ctx context.Context, env Env, endLeft func(Folder)) {
	prefix, _, _ := strings.Cut(dirPattern, "*")
	entries, err := os.ReadDir(env.TempDir)
	if err != nil {
		return // NewFolder says so
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || ctx.Err() != nil {
			continue
		}
		left := Folder{path: filepath.Join(env.TempDir, e.Name())}
		if disk.Own(left.path) != nil {
			continue // another user's
		}
		if left.lock, err = disk.Take(filepath.Join(left.path, lockFile)); err != nil {
			continue
		}
		endLeft(left)
		if leases, err := filepath.Glob(filepath.Join(left.path, leaseFiles)); err != nil || len(leases) > 0 {
			left.lock.Close()
			continue
		}
		_ = left.Remove() // the next start tries again
	}
}

// OwnFolder returns the folder that a state value names, "" unless it is one
// that NewFolder makes: post removes nothing else, even if the state names it.
func OwnFolder(temp, path string) Folder {
	prefix, _, _ := strings.Cut(dirPattern, "*")
	if temp == "" || filepath.Dir(path) != filepath.Clean(temp) || !strings.HasPrefix(filepath.Base(path), prefix) {
		return Folder{}
	}
	return Folder{path: path}
}
