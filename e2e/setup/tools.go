package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// Tool returns a program built from a Go package of a pinned version
// (path@version), from the user's cache directory if it is there already.
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
		run(t, install)
	})
	return filepath.Join(dir, name)
}

// Programs returns a folder with programs of one module, from the user's cache
// directory if they are there already. It is for what `go install` does not take:
// a module without a list of versions, or with replacements of its own.
func Programs(t testing.TB, pinned string, packages ...string) (dir string) {
	t.Helper()
	path, version, ok := strings.Cut(pinned, "@")
	if !ok {
		t.Fatalf("module %q has no version", pinned)
	}
	return Cached(t, filepath.Base(path)+"-"+version, func(dir string) {
		for _, args := range [][]string{{"mod", "init", "programs"}, {"get", "-tool"}, {"install"}} {
			if args[0] != "mod" {
				for _, p := range packages {
					args = append(args, path+"/"+p)
					if args[0] == "get" {
						args[len(args)-1] += "@" + version
					}
				}
			}
			command := exec.Command("go", args...)
			command.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-trimpath")
			command.Dir = dir
			run(t, command)
		}
	})
}

// NPM returns the node_modules of a folder of this repository with a
// package.json and a package-lock.json, by which npm checks what it downloads.
// No package's scripts are run; the folder's own script "prepare" is.
func NPM(t testing.TB, folder string) string {
	t.Helper()
	folder = filepath.Join(Repository(t), filepath.FromSlash(folder))
	lock, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	dir := Cached(t, fmt.Sprintf("npm-%s-%x", filepath.Base(folder), sum[:8]), func(dir string) {
		if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"ci", "--ignore-scripts", "--no-audit", "--no-fund"}, {"run", "--if-present", "prepare"}} {
			npm := exec.Command("npm", args...)
			npm.Dir = dir
			run(t, npm)
		}
	})
	return filepath.Join(dir, "node_modules")
}

// Maven returns a folder with the contents of a tar.gz artifact
// (group:name:version), whose SHA-256 must be sum; if there are paths, only those
// of its one folder. Maven downloads it, from the repositories that the user has
// configured. prepare is called once with the folder, unless it is nil.
func Maven(t testing.TB, artifact, sum string, prepare func(dir string), paths ...string) string {
	t.Helper()
	wanted := sha256.Sum256([]byte(strings.Join(paths, "\n")))
	_, version, _ := strings.Cut(artifact, ":")
	return Cached(t, fmt.Sprintf("%s-%x", strings.ReplaceAll(version, ":", "-"), wanted[:4]), func(dir string) {
		archive := download(t, artifact, "tar.gz", sum)
		run(t, exec.Command("tar", append([]string{"-xzf", archive, "-C", dir, "--strip-components=1"}, paths...)...))
		if prepare != nil {
			prepare(dir)
		}
	})
}

// Jar returns the path of an artifact (group:name:version), whose SHA-256 must be sum.
func Jar(t testing.TB, artifact, sum string) string {
	t.Helper()
	dir := Cached(t, strings.ReplaceAll(artifact, ":", "-"), func(dir string) {
		run(t, exec.Command("cp", download(t, artifact, "jar", sum), filepath.Join(dir, "it.jar")))
	})
	return filepath.Join(dir, "it.jar")
}

// download has Maven get a file, and returns its path in a folder of the test's.
func download(t testing.TB, artifact, packaging, sum string) string {
	t.Helper()
	coordinates := strings.Split(artifact, ":")
	if len(coordinates) != 3 {
		t.Fatalf("artifact %q is not group:name:version", artifact)
	}
	group, name, version := coordinates[0], coordinates[1], coordinates[2]
	repository := t.TempDir() // the user's own would keep the archive next to its contents
	run(t, exec.Command("mvn", "--batch-mode", "--quiet", "-Dmaven.repo.local="+repository,
		"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get",
		"-Dartifact="+artifact+":"+packaging, "-Dtransitive=false"))
	path := filepath.Join(repository, filepath.FromSlash(strings.ReplaceAll(group, ".", "/")), name, version, name+"-"+version+"."+packaging)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		t.Fatalf("SHA-256 of %s is %s, want %s", artifact, got, sum)
	}
	return path
}

// Cached returns a folder of the user's cache directory that fill has filled.
// Concurrent runs wait for each other, and see the complete folder or none.
func Cached(t testing.TB, name string, fill func(dir string)) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tools := filepath.Join(cache, "oidc-dbt", "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(tools, name)
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	fresh, err := os.MkdirTemp(tools, name+"-*.tmp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	fill(fresh)
	if err := os.Rename(fresh, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a program that must succeed.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// Main runs a package's tests and removes the binary that they share. It is for
// TestMain.
func Main(m *testing.M) int {
	status := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	return status
}
