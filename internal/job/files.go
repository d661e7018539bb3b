package job

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// dirPattern names what a step leaves under RUNNER_TEMP, one folder a step.
const dirPattern = "oidc-dbt-step-*"

// A folder holds what one step writes. It is 0700, its files are 0600, and it
// is never in the workspace, whose files end up in images, commits and sites.
type folder struct{ path string }

func newFolder(temp string) (folder, error) {
	path, err := os.MkdirTemp(temp, dirPattern) // 0700
	if err != nil {
		return folder{}, fmt.Errorf("make a folder for the profile: %w", err)
	}
	return folder{path}, nil
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
	return os.RemoveAll(f.path)
}

// ownFolder returns the folder that a state value names, "" unless it is one
// that newFolder makes: post removes nothing else, whatever the state says.
func ownFolder(temp, path string) folder {
	prefix, _, _ := strings.Cut(dirPattern, "*")
	if temp == "" || filepath.Dir(path) != filepath.Clean(temp) || !strings.HasPrefix(filepath.Base(path), prefix) {
		return folder{}
	}
	return folder{path}
}
