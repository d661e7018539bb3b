//go:build e2e && unix

// Package wheel installs the command as its users do: by pip and uv from an index that has only a release's wheels, and
// by the go command from a module proxy.
package wheel

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/release/wheel"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// installers returns the environment that has pip and uv.
func installers(t *testing.T) pyenv.Python { return setup.Environment(t, "wheel", "") }

// pack packs a binary for a platform.
func pack(t *testing.T, dir, goos, goarch string, binary []byte) {
	t.Helper()
	license, err := os.ReadFile(filepath.Join(setup.Repository(t), "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "release", "pypi.md"))
	if err != nil {
		t.Fatal(err)
	}
	w := wheel.Wheel{Version: "v1.2.3", GOOS: goos, GOARCH: goarch, Binary: binary, License: license, Description: page}
	if _, err := w.Pack(dir); err != nil {
		t.Fatal(err)
	}
}

// index serves the folder's wheels as an index of packages (https://packaging.python.org/en/latest/specifications/simple-repository-api/),
// and has nothing else.
func index(t *testing.T, dir string) (url string) {
	t.Helper()
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) == 0 {
		t.Fatalf("no wheels: %v", err)
	}
	page := "<!DOCTYPE html>\n<title>oidc-dbt</title>\n"
	for _, path := range wheels {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		page += fmt.Sprintf("<a href=\"/files/%s#sha256=%x\">%s</a>\n", name, sha256.Sum256(text), name)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/simple/oidc-dbt/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page)
	})
	mux.Handle("/files/", http.StripPrefix("/files/", http.FileServer(http.Dir(dir))))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/simple/"
}

// environ is the environment of an installer that knows no index but the one.
func environ(p pyenv.Python, t *testing.T, url string) []string {
	t.Helper()
	env := slices.DeleteFunc(p.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(kv), "=")
		return strings.HasPrefix(name, "PIP_") || strings.HasPrefix(name, "UV_") || strings.HasSuffix(name, "_PROXY")
	})
	dir := t.TempDir()
	return append(env, "PIP_CONFIG_FILE="+os.DevNull, "PIP_NO_CACHE_DIR=1", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_INDEX_URL="+url,
		"UV_NO_CONFIG=1", "UV_DEFAULT_INDEX="+url, "UV_CACHE_DIR="+filepath.Join(dir, "cache"), "UV_TOOL_DIR="+filepath.Join(dir, "tools"),
		"UV_PYTHON="+p.Program("python"), "UV_PYTHON_DOWNLOADS=never")
}

// run runs a program that must succeed, and returns what it prints.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// release packs the built binary for this platform, and other bytes for the rest, which no installer may take.
func release(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"} {
		goos, goarch, _ := strings.Cut(platform, "/")
		binary := []byte("for " + platform)
		if platform == runtime.GOOS+"/"+runtime.GOARCH {
			var err error
			if binary, err = os.ReadFile(setup.Binary(t)); err != nil {
				t.Fatal(err)
			}
		}
		pack(t, dir, goos, goarch, binary)
	}
	return dir
}

// TestFormat reads every wheel with Python's own libraries.
func TestFormat(t *testing.T) {
	t.Parallel()
	wheels, err := filepath.Glob(filepath.Join(release(t), "*.whl"))
	if err != nil {
		t.Fatal(err)
	}
	out := run(t, exec.Command(installers(t).Program("python"), append([]string{"check.py"}, wheels...)...))
	if got := strings.Count(out, " ok\n"); got != 6 {
		t.Errorf("%d wheels are right, want 6:\n%s", got, out)
	}
}

// TestPip installs into a new virtual environment.
func TestPip(t *testing.T) {
	t.Parallel()
	p, url, venv := installers(t), index(t, release(t)), filepath.Join(t.TempDir(), "a venv")
	run(t, exec.Command(p.Program("python"), "-m", "venv", "--without-pip", venv))
	pip := exec.Command(p.Program("python"), "-m", "pip", "--python", filepath.Join(venv, "bin", "python"), "install", "oidc-dbt")
	pip.Env = environ(p, t, url)
	if out := run(t, pip); !strings.Contains(out, "Successfully installed oidc-dbt-1.2.3") {
		t.Errorf("got %s", out)
	}
	program := filepath.Join(venv, "bin", "oidc-dbt")
	got, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(setup.Binary(t)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not the binary: %v", program, err)
	}
	if out := run(t, exec.Command(program, "version")); !strings.HasPrefix(out, "oidc-dbt development ") {
		t.Errorf("got %s", out)
	}
}

// TestUvx runs the command without an installation, also with the credential.
func TestUvx(t *testing.T) {
	t.Parallel()
	p, url := installers(t), index(t, release(t))
	env := environ(p, t, url)
	version := exec.Command(p.Program("uvx"), "oidc-dbt", "version")
	version.Env = env
	if out := run(t, version); !strings.Contains(out, "oidc-dbt development ") {
		t.Errorf("got %s", out)
	}

	issuer := setup.Issuer(t)
	workspace := setup.Project(t, issuer, "{type: duckdb, path: shop.duckdb}",
		fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", setup.Role, setup.STS(t, issuer).URL()))
	dbt := exec.Command(p.Program("uvx"), "oidc-dbt", "exec", "--target", "prod", "--", "dbt", "--version")
	dbt.Dir = workspace
	dbt.Env = append(env, "PATH="+setup.Python(t).Bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, value := range issuer.RunnerEnv() {
		dbt.Env = append(dbt.Env, name+"="+value)
	}
	if out := run(t, dbt); !strings.Contains(out, "duckdb: ") || len(issuer.Issued()) == 0 {
		t.Errorf("got %s", out)
	}
}
