// Package pyenv makes Python environments for the demo and the end-to-end tests: pinned, checked by hash, once per machine. Nothing of it is linked into the product.
package pyenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// A Python is a virtual environment.
type Python struct {
	Bin  string // the folder of its programs
	Home string // a home directory of its own, where DuckDB's extensions are
}

// Program returns the path of a program in the environment.
func (p Python) Program(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(p.Bin, name)
}

// Ensure returns the environment with the requirements, which must be
// complete, pinned and have hashes (as `uv pip compile --generate-hashes`
// writes them). It is made in the user's cache directory when it is not there
// yet; prepare is Python code that is run once at the end of that, with Home
// as home directory. What happens is told to log.
func Ensure(ctx context.Context, name string, requirements []byte, prepare string, log io.Writer) (Python, error) {
	python, version, err := find(ctx)
	if err != nil {
		return Python{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Python{}, fmt.Errorf("find the cache directory: %w", err)
	}
	sum := sha256.Sum256([]byte(version + "\x00" + prepare + "\x00" + string(requirements)))
	dir := filepath.Join(cache, "oidc-dbt", "python", name+"-"+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Python{}, err
	}
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock()
	if err != nil {
		return Python{}, err
	}
	defer unlock()

	p := Python{Bin: filepath.Join(dir, "bin"), Home: filepath.Join(dir, "home")}
	if runtime.GOOS == "windows" {
		p.Bin = filepath.Join(dir, "Scripts")
	}
	// A virtual environment cannot be moved, so it is made in place; this
	// file says that it is whole.
	whole := filepath.Join(dir, "whole")
	if _, err := os.Stat(whole); err == nil {
		return p, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return p, err
	}
	fmt.Fprintf(log, "making a Python environment in %s\n", dir)
	if err := run(ctx, nil, python, "-m", "venv", dir); err != nil {
		return p, fmt.Errorf("make a virtual environment (on Debian and Ubuntu it needs the package python3-venv): %w", err)
	}
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return p, err
	}
	// The list is complete, so pip has nothing to resolve.
	if err := run(ctx, nil, p.Program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes", "--requirement", list); err != nil {
		return p, fmt.Errorf("install Python packages: %w", err)
	}
	if err := os.MkdirAll(p.Home, 0o755); err != nil {
		return p, err
	}
	if prepare != "" {
		if err := run(ctx, p.Environ(), p.Program("python"), "-c", prepare); err != nil {
			return p, fmt.Errorf("prepare the Python environment: %w", err)
		}
	}
	return p, os.WriteFile(whole, nil, 0o644)
}

// Environ returns the process's environment with Home as home directory and
// Bin in front of PATH.
func (p Python) Environ() []string {
	return append(os.Environ(), "HOME="+p.Home, "USERPROFILE="+p.Home, "PATH="+p.Bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// find returns a Python of version 3.10 or later.
func find(ctx context.Context) (path, version string, err error) {
	var tried []string
	for _, name := range []string{"python3", "python"} {
		out, err := exec.CommandContext(ctx, name, "-c", "import sys; print(sys.implementation.cache_tag, sys.base_prefix); sys.exit(sys.version_info < (3, 10))").Output()
		if err == nil {
			return name, string(out), nil
		}
		tried = append(tried, fmt.Sprintf("%s: %v", name, err))
	}
	return "", "", fmt.Errorf("find Python 3.10 or later: %s", strings.Join(tried, "; "))
}

// run runs a program; its error has the end of what the program printed.
func run(ctx context.Context, env []string, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String())
		if len(text) > 2000 {
			text = "…" + text[len(text)-2000:]
		}
		return errors.Join(err, errors.New(text))
	}
	return nil
}
