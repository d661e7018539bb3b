package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/oidc-dbt/oidc-dbt/release/image"
)

// A platform is one that a release has a binary for.
type platform struct {
	goos, goarch string
	name         string // as the action's shim names it, in the runner's words
}

// platforms are those of all GitHub-hosted runners.
var platforms = []platform{
	{"linux", "amd64", "oidc-dbt-linux-x64"},
	{"linux", "arm64", "oidc-dbt-linux-arm64"},
	{"darwin", "amd64", "oidc-dbt-macos-x64"},
	{"darwin", "arm64", "oidc-dbt-macos-arm64"},
	{"windows", "amd64", "oidc-dbt-windows-x64.exe"},
	{"windows", "arm64", "oidc-dbt-windows-arm64.exe"},
}

// asset is the name of the platform's binary among the assets of a release, and in SHA256SUMS.
func (p platform) asset() string {
	name := "oidc-dbt-" + p.goos + "-" + p.goarch
	if p.goos == "windows" {
		name += ".exe"
	}
	return name
}

// inlining are the flags of main.js: a build of a commit without binaries is inlined as a release is.
var inlining = []string{
	"-tags=grpcnotrace,nethttpomithttp2", "-gcflags=all=-l", "-gcflags=runtime/...=", "-gcflags=internal/...=",
	"-gcflags=crypto/internal/...=", "-gcflags=go.opentelemetry.io/otel/...=", "-gcflags=github.com/oidc-dbt/oidc-dbt/internal/broker=",
}

// A release is what one version consists of.
type release struct {
	source  string        // the folder of the module
	out     string        // the folder that it is built into
	version string        // such as v1.2.3
	environ []string      // further variables of the go command
	debian  *image.Debian // for the image with a shell; nil for none
	// compress packs a file into a new one; base is the file that is its dictionary, or "".
	compress func(ctx context.Context, file, base, out string) error
	fast     bool // what a job downloads may be too large
	log      io.Writer
}

// dist is a file of the release commit.
func (r release) dist(name string) string { return filepath.Join(r.out, "dist", name) }

// asset is a file of the release on GitHub.
func (r release) asset(name string) string { return filepath.Join(r.out, "assets", name) }

// build builds everything into r.out, which must not exist, or be empty.
func (r release) build(ctx context.Context) error {
	if err := checkVersion(r.version); err != nil {
		return err
	}
	old, err := os.ReadDir(r.out)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if len(old) > 0 {
		return fmt.Errorf("%s is not empty: name a new folder with --out", r.out)
	}
	for _, dir := range []string{"dist", "assets"} {
		if err := os.MkdirAll(filepath.Join(r.out, dir), 0o755); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"building binaries", r.binaries},
		{"packing them", r.pack},
		{"writing sums", r.sums},
		{"listing what is linked", r.sbom},
		{"building the container image", r.image},
		{"packing wheels", r.wheels},
		{"copying the policy's schema", r.schema},
	} {
		fmt.Fprintln(r.log, "release:", step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return nil
}

// binaries builds the assets' binaries.
func (r release) binaries(ctx context.Context) error {
	env, err := r.goEnvironment(ctx)
	if err != nil {
		return err
	}
	for _, p := range platforms {
		out, err := filepath.Abs(r.asset(p.asset()))
		if err != nil {
			return err
		}
		args := append([]string{"build", "-trimpath", "-buildvcs=false"}, inlining...)
		cmd := exec.CommandContext(ctx, "go", append(args, "-ldflags", "-s -w -funcalign=16 -X main.version="+r.version, "-o", out, ".")...)
		cmd.Dir = r.source
		cmd.Env = append(slices.Clip(env), "GOOS="+p.goos, "GOARCH="+p.goarch)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s/%s: %w\n%s", p.goos, p.goarch, err, text)
		}
	}
	return nil
}

// schema copies the policy's schema to the assets.
func (r release) schema(context.Context) error {
	text, err := os.ReadFile(filepath.Join(r.source, "policy.schema.json"))
	if err != nil {
		return err
	}
	return os.WriteFile(r.asset("policy.schema.json"), text, 0o644)
}

// goEnvironment is this process's environment with a fixed Go configuration. The user's caches and proxies are kept:
// go.sum verifies what comes from them.
func (r release) goEnvironment(ctx context.Context) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(r.source, "go.mod"))
	if err != nil {
		return nil, err
	}
	mod, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		return nil, err
	}
	if mod.Go == nil {
		return nil, fmt.Errorf("go.mod has no go line")
	}
	kept := []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOAUTH"}
	ask := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, kept...)...)
	// Not in the source, whose go.mod could choose another toolchain for it.
	ask.Dir = os.TempDir()
	ask.Env = append(append(os.Environ(), r.environ...), "GOTOOLCHAIN=local", "GOWORK=off")
	answer, err := ask.Output() // with the user's own configuration (`go env -w`), which GOENV=off then hides
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	var user map[string]string
	if err := json.Unmarshal(answer, &user); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "CGO_")
	})
	for _, name := range kept {
		if user[name] != "" {
			env = append(env, name+"="+user[name])
		}
	}
	return append(env, "CGO_ENABLED=0", "GOENV=off", "GOFLAGS=-mod=readonly", "GOWORK=off",
		"GOTOOLCHAIN=go"+mod.Go.Version), nil
}
