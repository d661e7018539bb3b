//go:build e2e && linux && amd64

package dbtpackage

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// git runs git in a folder, with no configuration of the machine's.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@acme.example", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@acme.example")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// release makes a repository like this one, whose last commit is a release's: it
// has binaries in dist.
func release(t *testing.T) (repository, commit, binary string) {
	t.Helper()
	repository = t.TempDir()
	if err := os.CopyFS(filepath.Join(repository, "dbt"), os.DirFS(filepath.Join(setup.Repository(t), "dbt"))); err != nil {
		t.Fatal(err)
	}
	setup.Write(t, repository, "README.md", "# a file of the root\n")
	git(t, repository, "init", "--quiet", "--initial-branch=main")
	git(t, repository, "config", "uploadpack.allowFilter", "true") // as forges have it
	git(t, repository, "config", "uploadpack.allowAnySHA1InWant", "true")
	git(t, repository, "add", "--all")
	git(t, repository, "commit", "--quiet", "--message", "source")
	content := make([]byte, 1<<20)
	_, _ = rand.Read(content)
	setup.Write(t, repository, "dist/oidc-dbt-linux-amd64", string(content))
	git(t, repository, "add", "--all")
	git(t, repository, "commit", "--quiet", "--message", "release")
	return repository, git(t, repository, "rev-parse", "HEAD"), git(t, repository, "rev-parse", "HEAD:dist/oidc-dbt-linux-amd64")
}

// TestInstall installs the package from a git server by commit and sub-directory,
// as its README says: of a release commit, the binaries stay where they are.
func TestInstall(t *testing.T) {
	t.Parallel()
	repository, commit, binary := release(t)
	workspace, downloads := t.TempDir(), t.TempDir()
	setup.Write(t, workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nvars: {oidc_dbt_users: {prod: dbt_prod}}\n")
	setup.Write(t, workspace, "profiles.yml", "shop: {target: prod, outputs: {prod: {type: duckdb, path: shop.duckdb}}}\n")
	setup.Write(t, workspace, "packages.yml", fmt.Sprintf("packages:\n  - git: file://%s\n    revision: %s\n    subdirectory: dbt\n", repository, commit))
	env := map[string]string{"DBT_DOWNLOADS_DIR": downloads, "DBT_PROFILES_DIR": workspace}
	for _, args := range [][]string{{"deps"}, {"parse"}} {
		if out, err := setup.DBT(t, setup.Python(t), workspace, env, args...); err != nil {
			t.Fatalf("dbt %s: %v\n%s", args[0], err, out)
		}
	}
	lock, err := os.ReadFile(filepath.Join(workspace, "package-lock.yml"))
	if err != nil || !strings.Contains(string(lock), "revision: "+commit) {
		t.Errorf("package-lock.yml does not have the commit: %v\n%s", err, lock)
	}
	if _, err := os.Stat(filepath.Join(workspace, "dbt_packages", "oidc_dbt_audit", "models", "oidc_dbt__unmatched_logins.sql")); err != nil {
		t.Error(err)
	}
	clones, err := filepath.Glob(filepath.Join(downloads, "*", ".git"))
	if err != nil || len(clones) != 1 {
		t.Fatalf("what dbt has cloned: %q, %v", clones, err)
	}
	// --missing=print lists what a partial clone has not downloaded, and downloads nothing.
	missing := git(t, filepath.Dir(clones[0]), "rev-list", "--objects", "--missing=print", "HEAD")
	if !strings.Contains(missing, "?"+binary) {
		t.Errorf("the release's binary was downloaded with the package; missing are only\n%s", missing)
	}
}

// TestEngine2 has dbt's second engine read the package.
func TestEngine2(t *testing.T) {
	t.Parallel()
	python, p := setup.Engine(t), newProject(t, nil)
	for _, target := range []string{"snowflake", "bigquery", "redshift", "databricks", "postgres", "duckdb"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		cmd := exec.CommandContext(ctx, python.Program("dbt"), "parse", "--target", target, "--target-path", "engine2-"+target)
		cmd.Dir = p.folder
		cmd.Env = append(python.Environ(), "HOME="+python.Home, "NO_COLOR=1", "DBT_PROFILES_DIR="+p.folder, "DBT_ALLOW_EXPERIMENTAL_ADAPTERS=true", "OIDC_DBT_PASSWORD=none")
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || bytes.Contains(bytes.ToLower(out), []byte("warning")) {
			t.Errorf("dbt parse for %s: %v\n%s", target, err, out)
		}
	}
}
