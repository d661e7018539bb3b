package pyenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets this program stand in for Python, so that the tests need
// neither Python nor a network. The demo runs with the real one.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PYENV_TEST_DIR"); dir != "" {
		os.Exit(fakePython(dir, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// fakePython records how it was called and does what Python would do. Files in
// dir named no-… make it fail.
func fakePython(dir string, args []string) int {
	call := strings.Join(args, " ")
	if strings.HasPrefix(call, "-I -c import platform") {
		version, err := os.ReadFile(filepath.Join(dir, "version"))
		fmt.Printf("%s x86_64 /usr\n", version)
		if err != nil || string(version) == "cpython-314" {
			return 1
		}
		return 0
	}
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "uv" {
		call = "uv " + call
	}
	log, err := os.OpenFile(filepath.Join(dir, "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 99
	}
	defer log.Close()
	fmt.Fprintln(log, call)
	no := func(what string) bool { _, err := os.Stat(filepath.Join(dir, "no-"+what)); return err == nil }
	switch {
	case call == "-I -c import ensurepip" && no("venv"):
		return 1
	case slices.Contains(args, "venv"):
		target := args[len(args)-1]
		if no("venv") && !slices.Contains(args, "--without-pip") {
			fmt.Println("ensurepip is not available")
			_ = os.MkdirAll(filepath.Join(target, "half"), 0o755)
			return 1
		}
		self, err := os.Executable()
		bin := filepath.Dir(Python{Bin: filepath.Join(target, "bin")}.Program("python"))
		if err := errors.Join(err, os.MkdirAll(bin, 0o755), os.Symlink(self, filepath.Join(bin, "python"))); err != nil {
			fmt.Println(err)
			return 1
		}
	case slices.Contains(args, "--version") && no("pip"):
		fmt.Println("No module named pip")
		return 1
	case strings.HasPrefix(call, "uv ") && no("uv"):
		return 1
	case strings.HasSuffix(call, ".tools"):
		self, err := os.Executable()
		python := args[slices.Index(args, "--requirement")+1]
		if err := errors.Join(err, os.Symlink(self, Python{Bin: filepath.Join(filepath.Dir(python), "bin")}.Program("uv"))); err != nil {
			fmt.Println(err)
			return 1
		}
	case slices.Contains(args, "install"):
		if no("network") {
			fmt.Println("ERROR: No matching distribution found for agate==1.9.1")
			return 1
		}
		fmt.Print("Collecting agate==1.9.1 (from -r requirements.txt)\n  Downloading agate.whl\nCollecting attrs==26.1.0\nInstalling collected packages: agate, attrs\n")
	case strings.HasPrefix(call, "-I -c prepare"):
		if err := os.WriteFile(filepath.Join(os.Getenv("HOME"), "prepared"), nil, 0o644); err != nil {
			return 1
		}
	}
	return 0
}

// newMaker returns a maker whose Python is fakePython without the named abilities.
func newMaker(t *testing.T, lacks ...string) (m maker, calls func() []string, log *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("version", "cpython-311")
	for _, what := range lacks {
		write("no-"+what, "")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log = new(bytes.Buffer)
	m = maker{cache: filepath.Join(dir, "cache"), pythons: []string{self}, minor: oldest, newest: newest, environ: []string{"PYENV_TEST_DIR=" + dir}, log: log}
	return m, func() []string {
		text, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(strings.ReplaceAll(string(text), dir, "DIR")), "\n")
	}, log
}

func TestEnsureOnce(t *testing.T) {
	t.Parallel()
	m, calls, log := newMaker(t)
	var wg sync.WaitGroup
	for range 4 {
		m := m
		m.log = io.Discard
		wg.Go(func() {
			p, err := m.ensure(t.Context(), "demo", []byte("agate==1.9.1 --hash=sha256:…"), "prepare()")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(p.Home, "prepared")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made := count(calls(), "-m venv"); made != 1 {
		t.Errorf("four runs made %d environments", made)
	}

	// Other requirements, other code or another interpreter: another environment.
	for _, change := range []struct{ list, prepare string }{{"agate==1.9.2", "prepare()"}, {"agate==1.9.1 --hash=sha256:…", "prepare(2)"}} {
		if _, err := m.ensure(t.Context(), "demo", []byte(change.list), change.prepare); err != nil {
			t.Fatal(err)
		}
	}
	if made := count(calls(), "-m venv"); made != 3 {
		t.Errorf("three kinds made %d environments", made)
	}
	if want := "2 packages fetched and checked; installing them\n"; !strings.Contains(log.String(), want) {
		t.Errorf("log %q does not have %q", log, want)
	}
	want := "-I -m pip install --disable-pip-version-check --no-input --progress-bar off --no-deps --only-binary :all: --no-build-isolation --require-hashes --requirement DIR/"
	if count(calls(), want) != 3 {
		t.Errorf("pip was not called with %q: %q", want, calls())
	}
}

// If the list has uv, uv installs the other packages, or pip if uv fails.
// Build tools are installed before the packages that need them.
func TestEnsureWithUV(t *testing.T) {
	t.Parallel()
	const requirements = "--no-binary thrift\nagate==1.9.1 \\\n    --hash=sha256:…\nsetuptools==80.10.2 \\\n    --hash=sha256:…\nuv==0.13.9 \\\n    --hash=sha256:… \\\n    --hash=sha256:…\nzipp==4.1.2 \\\n    --hash=sha256:…\n"
	for _, lacks := range [][]string{nil, {"uv"}} {
		m, calls, log := newMaker(t, lacks...)
		p, err := m.ensure(t.Context(), "demo", []byte(requirements), "")
		if err != nil {
			t.Fatal(err)
		}
		first, err := os.ReadFile(filepath.Join(filepath.Dir(p.Bin), "requirements.txt.tools"))
		if want := "setuptools==80.10.2 \\\n    --hash=sha256:…\nuv==0.13.9 \\\n    --hash=sha256:… \\\n    --hash=sha256:…\n"; err != nil || string(first) != want {
			t.Errorf("pip was given %q, %v; want %q", first, err, want)
		}
		got := calls()
		if count(got, "uv pip install --quiet --no-config --no-cache --python DIR/") != 1 || count(got, "--no-deps --only-binary :all: --no-build-isolation --require-hashes --requirement DIR/") != 2+len(lacks) {
			t.Errorf("calls are %q", got)
		}
		if got, want := strings.Contains(log.String(), "uv cannot install the packages; trying with pip\n"), lacks != nil; got != want {
			t.Errorf("log is %q", log)
		}
	}
}

func count(calls []string, part string) (n int) {
	for _, c := range calls {
		if strings.Contains(c, part) {
			n++
		}
	}
	return n
}

// An environment whose interpreter is gone is created again.
func TestEnsureBroken(t *testing.T) {
	t.Parallel()
	m, calls, _ := newMaker(t)
	for range 2 {
		p, err := m.ensure(t.Context(), "demo", nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(p.Program("python")); err != nil {
			t.Fatal(err)
		}
	}
	if made := count(calls(), "-m venv"); made != 2 {
		t.Errorf("made %d environments, want 2", made)
	}
}

func TestEnsureWithoutEnsurepip(t *testing.T) {
	t.Parallel()
	m, calls, log := newMaker(t, "venv")
	p, err := m.ensure(t.Context(), "demo", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	got := calls()
	if count(got, "-m venv --without-pip") != 1 || count(got, "-m pip --python ") != 2 {
		t.Errorf("calls are %q", got)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(p.Bin), "half")); err == nil {
		t.Error("what the first try had made is still there")
	}
	if want := "this Python cannot install pip into an environment; trying with the system's pip\n"; !strings.Contains(log.String(), want) {
		t.Errorf("log %q does not have %q", log, want)
	}
}

func TestEnsureErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lacks []string
		err   string
	}{
		{"neither ensurepip nor pip", []string{"venv", "pip"}, "create a virtual environment (on Debian and Ubuntu: apt install python3-venv): exit status 1: ensurepip is not available"},
		{"no network", []string{"network"}, "install Python packages: exit status 1: ERROR: No matching distribution found for agate==1.9.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, _, _ := newMaker(t, tt.lacks...)
			for range 2 { // the second try starts anew
				if _, err := m.ensure(t.Context(), "demo", nil, ""); fmt.Sprint(err) != tt.err {
					t.Errorf("got  %v\nwant %s", err, tt.err)
				}
			}
			left, err := filepath.Glob(filepath.Join(m.cache, "oidc-dbt", "python", "*"))
			if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

func TestEnsureVersion(t *testing.T) {
	t.Parallel()
	m, _, _ := newMaker(t)
	dir := strings.TrimPrefix(m.environ[0], "PYENV_TEST_DIR=")
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte("cpython-314"), 0o644); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "python3")
	m.pythons = append(m.pythons, missing)
	want := fmt.Sprintf("find Python 3.10 to 3.13: %s: cpython-314; %s: %v", m.pythons[0], missing, exec.Command(missing).Run())
	if _, err := m.ensure(t.Context(), "demo", nil, ""); fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestEnsureCancelled(t *testing.T) {
	t.Parallel()
	m, _, _ := newMaker(t)
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := m.ensure(ctx, "demo", nil, ""); err == nil {
		t.Error("a cancelled run made an environment")
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	t.Setenv("PIP_INDEX_URL", "https://pypi.example")
	env := Python{Bin: "bin", Home: "home"}.Environ()
	for entry, want := range map[string]bool{"PYTHONDONTWRITEBYTECODE=1": false, "PIP_INDEX_URL=https://pypi.example": true, "HOME=home": true} {
		if slices.Contains(env, entry) != want {
			t.Errorf("%s is in the environment: %v, want %v", entry, !want, want)
		}
	}
}

// TestSystemsPythonFirst: the system's Python goes first where it can make environments.
func TestSystemsPythonFirst(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("PYENV_TEST_DIR", dir)
	missing := filepath.Join(dir, "missing")
	if got := interpreters(t.Context(), self); got[0] != self || got[1] != "python3" {
		t.Errorf("with all of Python: %q", got)
	}
	if got := interpreters(t.Context(), missing); got[0] != "python3" {
		t.Errorf("with none: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "no-venv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := interpreters(t.Context(), self); got[0] != "python3" {
		t.Errorf("without ensurepip: %q", got)
	}
}
