//go:build e2e && linux && amd64

// Package engine2 runs dbt's second engine, written in Rust, on the profiles
// that the action writes. It reads profiles with its own code.
package engine2

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// An engine is dbt with the drivers that it would otherwise download.
type engine struct {
	python pyenv.Python
	cache  string
}

// start installs the engine into an environment of its own, since its name is
// dbt, too, and puts drivers into its cache under the names that it expects.
func start(t *testing.T) engine {
	t.Helper()
	python := setup.Engine(t)
	e := engine{python, t.TempDir()}
	drivers := filepath.Join(e.cache, "com.getdbt", "adbc", "x86_64-manylinux_2_17-linux-gnu")
	if err := os.MkdirAll(drivers, 0o755); err != nil {
		t.Fatal(err)
	}
	packages := filepath.Join(filepath.Dir(python.Bin), "lib", "python3*", "site-packages")
	for name, pattern := range map[string]string{
		"libadbc_driver_duckdb-1.5.4.so":                    filepath.Join(setup.NPM(t, "e2e/engine2/duckdb"), "@duckdb", "node-bindings-linux-x64", "libduckdb.so"),
		"libadbc_driver_postgresql-0.21.0+dbt0.21.0.so":     filepath.Join(packages, "adbc_driver_postgresql", "libadbc_driver_postgresql.so"),
		"libadbc_driver_snowflake-0.21.0.dev+dbt0.21.13.so": filepath.Join(packages, "adbc_driver_snowflake", "libadbc_driver_snowflake.so"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) != 1 {
			t.Fatalf("find %s: %q, %v", pattern, found, err)
		}
		if err := os.Symlink(found[0], filepath.Join(drivers, name)); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// variables returns the environment of the engine.
func (e engine) variables() []string {
	return []string{"HOME=" + e.python.Home, "NO_COLOR=1", "XDG_CACHE_HOME=" + e.cache, "DBT_ALLOW_EXPERIMENTAL_ADAPTERS=true"}
}

// dbt runs the engine in the workspace, in an environment with only the variables.
func (e engine) dbt(t *testing.T, workspace string, env map[string]string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.python.Program("dbt"), args...)
	cmd.Dir = workspace
	cmd.Env = append(e.python.Environ(), e.variables()...)
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestDuckDB: a build that writes to the S3 store, and reads from it, with the role's session.
func TestDuckDB(t *testing.T) {
	t.Parallel()
	e, issuer := start(t), setup.Issuer(t)
	sts := setup.STS(t, issuer)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	workspace := setup.Project(t, issuer,
		fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}`, store.Host()),
		fmt.Sprintf(`{aws: {role: %q, region: eu-central-1, endpoint: %q}}`, setup.Role, sts.URL()))
	setup.Write(t, workspace, "models/orders.sql", "{{ config(materialized='table', post_hook=\"copy (select * from {{ this }}) to 's3://lake/orders.parquet'\") }}\nselect * from {{ ref('raw_orders') }}\n")
	setup.Write(t, workspace, "models/read_back.sql", "{{ config(materialized='table') }}\n-- depends_on: {{ ref('orders') }}\nselect count(*) as orders from read_parquet('s3://lake/orders.parquet')\n")
	env, step := setup.Authenticate(t, issuer, workspace)
	out, err := e.dbt(t, workspace, env, "build")
	if err != nil || !strings.Contains(out, "5 success") {
		t.Fatalf("dbt build: %v\n%s", err, out)
	}
	for _, name := range []string{"aws-secret-access-key", "aws-session-token"} {
		if strings.Contains(out, step.Outputs[name]) {
			t.Errorf("output %s is in dbt's output", name)
		}
	}
	if puts := store.Served(http.MethodPut); puts == 0 || store.Refused() > 0 {
		t.Errorf("the store served %d writes and refused %d requests", puts, store.Refused())
	}
	env["DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN"] = "made-up"
	if out, err := e.dbt(t, workspace, env, "build", "--select", "read_back"); err == nil {
		t.Errorf("dbt passed with a session token of its own:\n%s", out)
	}
}
