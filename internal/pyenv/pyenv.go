// Package pyenv makes Python environments for the demo and the end-to-end tests: pinned,
// verified by hash, once per machine. The product does not link it.
package pyenv

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

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

// Environ returns the process's environment with Home as home directory and
// Bin in front of PATH. It removes PYTHONDONTWRITEBYTECODE, with which each run
// of dbt would spend seconds on compiling its adapter again.
func (p Python) Environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PYTHONDONTWRITEBYTECODE=") })
	return append(env, "HOME="+p.Home, "USERPROFILE="+p.Home, "PATH="+p.Bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// Ensure returns the environment with the requirements, which must be
// complete, pinned and have hashes (as `uv pip compile --generate-hashes`
// writes them). If it does not exist yet, it is created in the user's cache
// directory; prepare is Python code that runs once at the end of that, with Home
// as home directory. Progress goes to log. Concurrent runs wait for each other.
func Ensure(ctx context.Context, name string, requirements []byte, prepare string, log io.Writer) (Python, error) {
	return EnsureSince(ctx, oldest, name, requirements, prepare, log)
}

// EnsureSince is Ensure for packages that need Python 3.minor or newer.
func EnsureSince(ctx context.Context, minor int, name string, requirements []byte, prepare string, log io.Writer) (Python, error) {
	return ensure(ctx, minor, newest, name, requirements, prepare, log)
}

// EnsureOn is Ensure for packages that have hashes for Python 3.minor only.
func EnsureOn(ctx context.Context, minor int, name string, requirements []byte, log io.Writer) (Python, error) {
	return ensure(ctx, minor, minor, name, requirements, "", log)
}

func ensure(ctx context.Context, oldest, newest int, name string, requirements []byte, prepare string, log io.Writer) (Python, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Python{}, fmt.Errorf("find the cache directory: %w", err)
	}
	m := maker{cache: cache, pythons: interpreters(ctx, system), minor: oldest, newest: newest, log: log}
	return m.ensure(ctx, name, requirements, prepare)
}

// system is the distribution's Python. It is built with profile-guided
// optimization, which others often are not: dbt takes a third longer with them.
const system = "/usr/bin/python3"

// interpreters returns the names to look for, with system first if that can make environments.
func interpreters(ctx context.Context, system string) []string {
	names := []string{"python3", "python", "python3.13", "python3.12", "python3.11", "python3.10"}
	if exec.CommandContext(ctx, system, "-I", "-c", "import ensurepip").Run() == nil {
		names = slices.Insert(names, 0, system)
	}
	return names
}

// A maker creates environments in a cache directory with one of the interpreters.
type maker struct {
	cache   string
	pythons []string // the first that fits is used
	minor   int      // the oldest of Python 3 that fits
	newest  int      // and the newest
	environ []string // in addition to the process's
	log     io.Writer
}

func (m maker) ensure(ctx context.Context, name string, requirements []byte, prepare string) (p Python, err error) {
	python, version, err := m.find(ctx)
	if err != nil {
		return Python{}, err
	}
	sum := sha256.Sum256([]byte(version + "\x00" + prepare + "\x00" + string(requirements)))
	dir := filepath.Join(m.cache, "oidc-dbt", "python", name+"-"+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Python{}, fmt.Errorf("create the cache directory: %w", err)
	}
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock()
	if err != nil {
		return Python{}, fmt.Errorf("lock the cache directory: %w", err)
	}
	defer unlock()

	p = Python{Bin: filepath.Join(dir, "bin"), Home: filepath.Join(dir, "home")}
	if runtime.GOOS == "windows" {
		p.Bin = filepath.Join(dir, "Scripts")
	}
	// A virtual environment cannot be renamed into place, since its programs
	// contain its path. So it is created in place, and this file, written last,
	// marks it as complete. If its interpreter has gone, it is created again.
	whole := filepath.Join(dir, "whole")
	if _, err := os.Stat(whole); err == nil && m.run(ctx, nil, p.Program("python"), "-I", "-c", "") == nil {
		return p, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return Python{}, fmt.Errorf("remove a broken environment: %w", err)
	}
	fmt.Fprintf(m.log, "creating a Python environment in %s\n", dir)
	if err := m.make(ctx, python, dir, p, requirements, prepare); err != nil {
		return Python{}, errors.Join(err, os.RemoveAll(dir))
	}
	return p, os.WriteFile(whole, nil, 0o644)
}

func (m maker) make(ctx context.Context, python, dir string, p Python, requirements []byte, prepare string) error {
	pip := []string{p.Program("python"), "-I", "-m", "pip"}
	if err := m.run(ctx, nil, python, "-I", "-m", "venv", dir); err != nil {
		// Debian and Ubuntu have ensurepip in a separate package. The system's
		// pip can install into the environment instead, from pip 22.3 on.
		fmt.Fprintln(m.log, "this Python cannot install pip into an environment; trying with the system's pip")
		again := errors.Join(os.RemoveAll(dir), m.run(ctx, nil, python, "-I", "-m", "venv", "--without-pip", dir))
		pip = []string{python, "-I", "-m", "pip", "--python", p.Program("python")}
		if again = errors.Join(again, m.run(ctx, nil, pip[0], append(pip[1:], "--version")...)); again != nil {
			return fmt.Errorf("create a virtual environment (on Debian and Ubuntu: apt install python3-venv): %w", err)
		}
	}
	if err := os.MkdirAll(p.Home, 0o755); err != nil {
		return err
	}
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return err
	}
	if err := m.install(ctx, pip, p, list, requirements); err != nil {
		return fmt.Errorf("install Python packages: %w", err)
	}
	if prepare != "" {
		m.environ = append(slices.Clip(m.environ), "HOME="+p.Home, "USERPROFILE="+p.Home)
		if err := m.run(ctx, nil, p.Program("python"), "-I", "-c", prepare); err != nil {
			return fmt.Errorf("prepare the Python environment: %w", err)
		}
	}
	return nil
}

// uvEntry is uv's entry in a list of requirements; tools is also setuptools',
// which builds the packages of a list that are published only as source
// (`--no-binary NAME` in the list; an `--only-binary :all:` after it would undo
// it for pip).
var (
	uvEntry = regexp.MustCompile(`(?m)^uv==`)
	tools   = regexp.MustCompile(`(?m)^(?:uv|setuptools)==(?:.*\\\n)*.*\n`)
)

// install installs a list. The list is complete, so there is nothing to resolve,
// and builds use the list's own setuptools, since what a build fetches itself is
// not verified by hash. If the list has uv, that installs the other packages:
// pip takes minutes for hundreds of them. uv ignores pip's configuration, so if
// it fails pip takes over.
func (m maker) install(ctx context.Context, pip []string, p Python, list string, requirements []byte) error {
	checked := []string{"--no-deps", "--only-binary", ":all:", "--no-build-isolation", "--require-hashes", "--requirement"}
	byPip := func(list string) error {
		args := slices.Concat(pip[1:],
			[]string{"install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"}, checked, []string{list})
		return m.run(ctx, &progress{log: m.log, every: 3 * time.Second, last: time.Now()}, pip[0], args...)
	}
	if !uvEntry.Match(requirements) {
		return byPip(list)
	}
	first := list + ".tools"
	if err := os.WriteFile(first, bytes.Join(tools.FindAll(requirements, -1), nil), 0o644); err != nil {
		return err
	}
	if err := byPip(first); err != nil {
		return err
	}
	args := slices.Concat([]string{"pip", "install", "--quiet", "--no-config", "--no-cache", "--python",
		p.Program("python")}, checked, []string{list})
	if err := m.run(ctx, nil, p.Program("uv"), args...); err != nil {
		fmt.Fprintln(m.log, "uv cannot install the packages; trying with pip")
		return byPip(list)
	}
	return nil
}

// oldest and newest are the versions of Python 3 that the pinned packages have wheels for.
const oldest, newest = 10, 13

// find returns the program of a Python that fits.
func (m maker) find(ctx context.Context) (path, version string, err error) {
	ask := fmt.Sprintf("import platform, sys; print(sys.implementation.cache_tag, platform.machine(), sys.base_prefix); "+
		"print(sys.executable); sys.exit(not (3, %d) <= sys.version_info[:2] <= (3, %d))", m.minor, m.newest)
	var tried []string
	for _, name := range m.pythons {
		cmd := exec.CommandContext(ctx, name, "-I", "-c", ask)
		cmd.Env = m.env()
		if _, version, ok := strings.Cut(filepath.Base(name), "python3."); ok {
			cmd.Env = append(cmd.Env, "PYENV_VERSION=3."+version) // otherwise a shim of pyenv knows only the folder's version
		}
		out, err := cmd.Output()
		version, path, _ := strings.Cut(string(out), "\n")
		if err == nil {
			return cmp.Or(strings.TrimSpace(path), name), version + "\n", nil
		}
		found := err.Error()
		if tag, _, ok := strings.Cut(version, " "); ok {
			found = tag
		}
		tried = append(tried, name+": "+found)
	}
	return "", "", fmt.Errorf("find Python 3.%d to 3.%d: %s", m.minor, m.newest, strings.Join(tried, "; "))
}

// env is the environment of Python and pip: it keeps the user's index, proxies
// and certificates, and removes what would put packages elsewhere.
func (m maker) env() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_NO_BINARY", "PIP_PYTHON",
			"PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_DRY_RUN", "PIP_REQUIRE_VIRTUALENV"}, strings.ToUpper(name))
	})
	return append(append(env, "PIP_USER=0"), m.environ...)
}

// run runs a program; its error includes the end of the program's output.
func (m maker) run(ctx context.Context, also io.Writer, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdout = m.env(), &out
	if also != nil {
		cmd.Stdout = io.MultiWriter(&out, also)
	}
	cmd.Stderr = cmd.Stdout
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String())
		if len(text) > 2000 {
			text = "…" + text[len(text)-2000:]
		}
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

// progress periodically logs how far pip is.
type progress struct {
	log     io.Writer
	every   time.Duration
	last    time.Time
	line    []byte
	fetched int
}

func (p *progress) Write(text []byte) (int, error) {
	for _, c := range text {
		if p.line = append(p.line, c); c != '\n' {
			continue
		}
		line := string(p.line)
		p.line = p.line[:0]
		switch {
		case strings.HasPrefix(line, "Collecting "), strings.HasPrefix(line, "Processing "):
			p.fetched++
			if time.Since(p.last) >= p.every {
				p.last = time.Now()
				fmt.Fprintf(p.log, "%d packages fetched and checked\n", p.fetched)
			}
		case strings.HasPrefix(line, "Installing collected packages"):
			fmt.Fprintf(p.log, "%d packages fetched and checked; installing them\n", p.fetched)
		}
	}
	return len(text), nil
}
