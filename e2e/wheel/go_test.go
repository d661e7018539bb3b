//go:build e2e && unix

package wheel

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestGoInstall installs the module's latest version from a proxy that has this tree as v1.2.3. Other modules are
// those that are on this machine already.
func TestGoInstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	proxy := filepath.Join(dir, "proxy")
	versions := filepath.Join(proxy, "github.com", "oidc-dbt", "oidc-dbt", "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(setup.Repository(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"list": "v1.2.3\n", "v1.2.3.info": `{"Version": "v1.2.3"}`, "v1.2.3.mod": string(mod),
	} {
		setup.Write(t, versions, name, text)
	}
	archive, err := os.Create(filepath.Join(versions, "v1.2.3.zip"))
	if err != nil {
		t.Fatal(err)
	}
	version := module.Version{Path: "github.com/oidc-dbt/oidc-dbt", Version: "v1.2.3"}
	if err := zip.CreateFromDir(archive, version, setup.Repository(t)); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}

	bin, cache := filepath.Join(dir, "bin"), strings.TrimSpace(run(t, exec.Command("go", "env", "GOMODCACHE")))
	install := exec.Command("go", "install", "github.com/oidc-dbt/oidc-dbt@latest")
	install.Dir = dir
	install.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "GONO") || strings.HasPrefix(kv, "GOPRIVATE=") }),
		"CGO_ENABLED=0", "GOBIN="+bin, "GOMODCACHE="+filepath.Join(dir, "modules"), "GOFLAGS=-trimpath -modcacherw", "GOSUMDB=off",
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(cache, "cache", "download"))
	run(t, install)
	if out := run(t, exec.Command(filepath.Join(bin, "oidc-dbt"), "version")); !strings.HasPrefix(out, "oidc-dbt v1.2.3 ") {
		t.Errorf("got %s", out)
	}
}
