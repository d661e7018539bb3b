package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/release/image"
)

// Busybox returns Debian's package of BusyBox for an architecture: the pinned one, or today's where Debian has replaced it.
func Busybox(t testing.TB, goarch string) []byte {
	t.Helper()
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	dir := Cached(t, "debian-13-busybox", func(dir string) {
		Write(t, dir, "sources.list", "deb [arch=amd64,arm64 signed-by="+keyring+"] http://deb.debian.org/debian trixie main\n")
		for _, folder := range []string{"state/lists/partial", "cache/archives/partial"} {
			if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		// The machine's own lists and architectures stay as they are.
		options := []string{"-qq", "-o", "Dir::State=" + dir + "/state", "-o", "Dir::Cache=" + dir + "/cache",
			"-o", "Dir::Etc::SourceList=" + dir + "/sources.list", "-o", "Dir::Etc::SourceParts=-",
			"-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=arm64", "-o", "APT::Sandbox::User=root"}
		for _, args := range [][]string{{"update"}, {"download", "busybox-static:amd64", "busybox-static:arm64"}} {
			cmd := exec.Command("apt-get", append(options, args...)...)
			cmd.Dir = dir
			run(t, cmd)
		}
		for _, folder := range []string{"state", "cache"} {
			if err := os.RemoveAll(filepath.Join(dir, folder)); err != nil {
				t.Fatal(err)
			}
		}
	})
	deb, err := image.Debian{Folder: dir}.Busybox(t.Context(), goarch)
	if err == nil {
		return deb
	}
	files, _ := filepath.Glob(filepath.Join(dir, "busybox-static_*_"+goarch+".deb"))
	if len(files) != 1 {
		t.Fatalf("%v, and there are %q", err, files)
	}
	t.Logf("%v; Debian has %s now", err, files[0])
	deb, err = os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return deb
}

// patternSigns are not in names of packages, and have a meaning in patterns of paths.
var patternSigns = regexp.MustCompile(`[^a-z0-9.+-]`)

// Debian returns a folder with the files of the distribution's packages, and of those that they depend on and this
// machine lacks, and the variable that leads programs to their libraries. Nothing is installed. A package may be a
// regular expression, as for apt-get.
func Debian(t testing.TB, packages ...string) (dir, libraries string) {
	t.Helper()
	release, err := os.ReadFile("/etc/debian_version")
	if err != nil {
		t.Fatalf("the packages %q are those of Debian: %v", packages, err)
	}
	name := "debian-" + strings.ReplaceAll(strings.TrimSpace(string(release)), "/", "-") + "-" +
		patternSigns.ReplaceAllString(strings.Join(packages, "-"), "")
	dir = Cached(t, name, func(dir string) {
		apt := filepath.Join(dir, "apt")
		for _, folder := range []string{"lists/partial", "archives/partial"} {
			if err := os.MkdirAll(filepath.Join(apt, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		// The machine's own lists stay as they are; what is installed is read.
		options := []string{"-qq", "-o", "Dir::State::Lists=" + apt + "/lists", "-o", "Dir::Cache=" + apt, "-o", "Debug::NoLocking=1",
			"-o", "APT::Sandbox::User=root"}
		install := append([]string{"install", "-y", "--download-only", "--reinstall", "--no-install-recommends"}, packages...)
		for _, args := range [][]string{{"update"}, install} {
			run(t, exec.Command("apt-get", append(options, args...)...))
		}
		run(t, exec.Command("sh", "-ec", `for f in "$1"/archives/*.deb; do dpkg-deb -x "$f" "$2"; done`, "sh", apt, dir))
		if err := os.RemoveAll(apt); err != nil {
			t.Fatal(err)
		}
	})
	found, err := filepath.Glob(filepath.Join(dir, "usr", "lib", "*-linux-gnu"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the packages %q have the folders of libraries %q, %v", packages, found, err)
	}
	// Some libraries have others in a folder of their own, to which they lead by an absolute path.
	private, err := filepath.Glob(filepath.Join(found[0], "*", "lib*.so*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range private {
		if folder := filepath.Dir(library); !slices.Contains(found, folder) {
			found = append(found, folder)
		}
	}
	return dir, "LD_LIBRARY_PATH=" + strings.Join(found, string(filepath.ListSeparator))
}
