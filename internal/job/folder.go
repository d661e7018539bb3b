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

// A folder holds what one step writes. It is 0700, its files are 0600, and it
// is never in the workspace, whose files end up in images, commits and sites.
type folder struct {
	path string
	lock *os.File // held while its process lives, nil where the runner removes it
}

func newFolder(temp string) (folder, error) {
	path, err := os.MkdirTemp(temp, dirPattern) // 0700
	if err != nil {
		return folder{}, fmt.Errorf("make a folder for the profile: %w", err)
	}
	return folder{path: path}, nil
}

func (f folder) write(name string, data []byte) (path string, err error) {
	path = filepath.Join(f.path, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

// maxOwn bounds what is read of a file of ours: of a lease tokens are under
// 4 KiB, certificates under 64.
const maxOwn = 1 << 20

func (f folder) remove() error {
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

// sessionFolder makes a folder among the machine's temporary files, where
// nobody removes what a process that was killed has left: it does.
func sessionFolder(ctx context.Context, env Env) (folder, error) {
	sweepFolders(ctx, env)
	f, err := newFolder(env.TempDir)
	if err != nil {
		return f, err
	}
	// On a file system without locks nobody will know that it is left.
	f.lock, _ = disk.Hold(filepath.Join(f.path, lockFile))
	return f, nil
}

// sweepFolders removes the folders of processes that are gone, and ends the
// leases in them. One whose leases cannot be ended stays for the next start;
// one without a lock is another version's, a step's, or just being made.
func sweepFolders(ctx context.Context, env Env) {
	prefix, _, _ := strings.Cut(dirPattern, "*")
	temp := env.TempDir
	if temp == "" {
		temp = os.TempDir()
	}
	entries, err := os.ReadDir(temp)
	if err != nil {
		return // newFolder says so
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || ctx.Err() != nil {
			continue
		}
		left := folder{path: filepath.Join(temp, e.Name())}
		if disk.Own(left.path) != nil {
			continue // another user's
		}
		if left.lock, err = disk.Take(filepath.Join(left.path, lockFile)); err != nil {
			continue
		}
		left.endLeft(ctx, env)
		if leases, err := filepath.Glob(filepath.Join(left.path, leaseFiles)); err != nil || len(leases) > 0 {
			left.lock.Close()
			continue
		}
		_ = left.remove() // what is left of it is met again
	}
}

// ownFolder returns the folder that a state value names, "" unless it is one
// that newFolder makes: post removes nothing else, whatever the state says.
func ownFolder(temp, path string) folder {
	prefix, _, _ := strings.Cut(dirPattern, "*")
	if temp == "" || filepath.Dir(path) != filepath.Clean(temp) || !strings.HasPrefix(filepath.Base(path), prefix) {
		return folder{}
	}
	return folder{path: path}
}
