package setup

import (
	"os"
	"os/exec"
	"path/filepath"
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
