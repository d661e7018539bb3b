//go:build e2e && linux

// Package image builds the container images from real binaries, pushes them to a registry, pulls them for each architecture and runs what is in them.
package image

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/release/image"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// TestPushAndPull does what a release does, and then what a runtime does.
func TestPushAndPull(t *testing.T) {
	t.Parallel()
	repository := push(t)
	for _, goarch := range image.Architectures() {
		for _, tag := range []string{"v1.2.3", "v1.2.3-busybox"} {
			root := pull(t, repository+":"+tag, goarch)
			checkMachine(t, filepath.Join(root, "oidc-dbt"), goarch)
			if goarch == runtime.GOARCH {
				if got := strings.TrimSpace(inside(t, root, "/oidc-dbt", "version")); !strings.HasPrefix(got, "oidc-dbt v1.2.3 ") {
					t.Errorf("%s: the binary says %q", tag, got)
				}
			}
			if tag == "v1.2.3" {
				continue
			}
			checkMachine(t, filepath.Join(root, "bin/busybox"), goarch)
			if goarch == runtime.GOARCH {
				checkShell(t, root)
			}
		}
	}
}

// push builds the images and pushes them to a registry of the test's.
func push(t *testing.T) (repository string) {
	t.Helper()
	dir := t.TempDir()
	binary := func(goarch string) string { return filepath.Join(dir, "oidc-dbt-linux-"+goarch) }
	for _, goarch := range image.Architectures() {
		build := exec.Command("go", "build", "-ldflags=-s -w -X main.version=v1.2.3", "-o", binary(goarch), ".")
		build.Dir = setup.Repository(t)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build for %s: %v\n%s", goarch, err, out)
		}
	}
	err := image.Write(filepath.Join(dir, "image"), image.Contents{
		Version: "v1.2.3", Binary: binary, License: filepath.Join(setup.Repository(t), "LICENSE"),
		Shell: func(goarch string) ([]byte, error) { return setup.Busybox(t, goarch), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository = strings.TrimPrefix(server.URL, "http://") + "/acme/oidc-dbt"
	if err := image.Push(t.Context(), filepath.Join(dir, "image"), repository, func(text string) { t.Log(text) }); err != nil {
		t.Fatal(err)
	}
	return repository
}

// pull unpacks an image as a runtime does.
func pull(t *testing.T, ref, goarch string) (root string) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(tag, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: goarch}), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	root = t.TempDir()
	r := mutate.Extract(img)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err == nil {
			err = unpack(root, h, tr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func unpack(root string, h *tar.Header, r io.Reader) error {
	path := filepath.Join(root, h.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		return os.Chmod(path, h.FileInfo().Mode())
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, path)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, h.FileInfo().Mode())
}

func checkMachine(t *testing.T, path, goarch string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[goarch]; f.Machine != want {
		t.Errorf("%s is for %s, want %s", path, f.Machine, want)
	}
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("%s needs the libraries %q: %v", path, libraries, err)
	}
}

// inside runs a program of an unpacked image, which sees nothing else of the machine.
func inside(t *testing.T, root string, command ...string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil { // every runtime makes it
		t.Fatal(err)
	}
	namespaces := []string{"--mount", "--pid", "--fork", "--root=" + root, "--mount-proc"}
	cmd := exec.CommandContext(t.Context(), "unshare", append(namespaces, command...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", command, err, out)
	}
	return string(out)
}

// checkShell looks for what runners in Kubernetes mode and other CI systems start: a shell, env, and tail.
func checkShell(t *testing.T, root string) {
	t.Helper()
	setup.Write(t, root, "tmp/step.sh", "#!/bin/sh -l\nexport PATH=/opt/tools:$PATH\ncd /tmp && \\\n"+
		"exec env \"GREETING=hello world\" sh -e -c 'echo $GREETING; pwd; oidc-dbt version'\n")
	want := []string{"hello world", "/tmp"}
	lines := strings.Split(inside(t, root, "sh", "-e", "/tmp/step.sh"), "\n")
	if len(lines) < 3 || !slices.Equal(lines[:2], want) || !strings.HasPrefix(lines[2], "oidc-dbt v1.2.3 ") {
		t.Errorf("a step of a runner in Kubernetes mode printed %q", lines)
	}
	if got := inside(t, root, "tail", "-n", "1", "/tmp/step.sh"); !strings.HasPrefix(got, "exec env ") {
		t.Errorf("tail printed %q", got)
	}
	// Each link is to a program that this BusyBox has.
	have := strings.Fields(inside(t, root, "/bin/busybox", "--list"))
	links, err := os.ReadDir(filepath.Join(root, "bin"))
	if err != nil || len(links) < 50 {
		t.Fatalf("%d programs: %v", len(links), err)
	}
	for _, l := range links {
		if !slices.Contains(have, l.Name()) {
			t.Errorf("BusyBox has no %s", l.Name())
		}
	}
}
