//go:build unix

package job

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/profile"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// environment makes a Python environment with a version of a package, and
// returns the folders of its programs and packages.
func environment(t *testing.T, distribution, version string) (bin, packages string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bin, packages = filepath.Join(root, "bin"), filepath.Join(root, "lib", "python3.12", "site-packages")
	python := filepath.Join(bin, "python3.12")
	name := fmt.Sprintf("%s-%s.dist-info", strings.ReplaceAll(distribution, "-", "_"), version)
	for path, text := range map[string]string{
		filepath.Join(root, "pyvenv.cfg"):         "",
		python:                                    "",
		filepath.Join(bin, "dbt"):                 "#!" + python + "\nimport sys\nfrom dbt.cli.main import cli\n",
		filepath.Join(packages, name, "METADATA"): "",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin, packages
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	direct, served := Settings{}, Settings{Broker: true}
	for _, tt := range []struct {
		dbtType, provider, version string
		settings                   Settings
		changes                    string
		want                       string // version and what it has; "" for no error
	}{
		{"snowflake", "oidc", "1.11.6", direct, "{}", "1.12.0 or later, which has `workload_identity_provider`"},
		{"snowflake", "oidc", "1.8.4", direct, "{}", "1.12.0 or later, which has `workload_identity_provider`"},
		{"snowflake", "oidc", "1.12.0", direct, "{}", ""},
		{"snowflake", "oidc", "1.11.6", served, "{}", ""},
		{"snowflake", "oidc", "1.8.4", served, "{}", "1.9.0 or later, which has `authenticator: jwt`"},
		{"snowflake", "aws", "1.11.6", direct, "{}", "1.12.0 or later, which has `workload_identity_provider`"},
		{"snowflake", "entra", "1.8.4", direct, "{}", "1.9.0 or later, which has `authenticator: jwt`"},
		{"snowflake", "vault", "1.8.0", direct, "{}", ""},
		{"snowflake", "vault", "1.8.0", served, "{}", "1.9.0 or later, which has `authenticator: jwt`"},
		{"duckdb", "aws", "1.8.1", served, "{}", "1.8.2 or later, which has `secrets`"},
		{"duckdb", "gcp", "1.8.2", direct, "{}", ""},
		{"trino", "oidc", "1.8.2", direct, "{}", "1.8.3 or later, which has `cert: true`"},
		{"trino", "oidc", "1.8.2", direct, "{cert: ca.pem}", ""},
		{"trino", "oidc", "1.8.2", served, "{}", ""},
		{"redshift", "identity_center", "1.9.0", served, "{}", "1.9.1 or later, which has `token_endpoint`"},
		{"redshift", "aws", "1.8.0", direct, "{}", ""},
		{"fabric", "entra", "1.10.0", direct, "{}", "1.10.1 or later, which has a driver of its own, and needs no `driver`"},
		{"fabric", "entra", "1.8.7", direct, "{driver: ODBC Driver 18 for SQL Server}",
			"1.8.8 or later, which has `authentication: ActiveDirectoryAccessToken`"},
		{"fabric", "entra", "1.8.8", direct, "{driver: ODBC Driver 18 for SQL Server}", ""},
		{"fabric", "entra", "1.10.0", served, "{driver: ODBC Driver 18 for SQL Server}",
			"1.10.1 or later, which has `federated_token_url`"},
		{"sqlserver", "entra", "1.8.4", direct, "{driver: ODBC Driver 18 for SQL Server}",
			"1.8.5 or later, which has `authentication: ActiveDirectoryAccessToken`"},
		{"sqlserver", "entra", "1.8.4", served, "{driver: ODBC Driver 18 for SQL Server}", ""},
		{"sqlserver", "vault", "1.10.0", direct, "{}",
			"1.10.1 or later, which has `backend: mssql-python`, and needs no `driver`"},
		{"postgres", "aws", "0.1", direct, "{}", ""},
	} {
		t.Run(fmt.Sprintf("%s %s %s %s %v", tt.dbtType, tt.provider, tt.version, tt.changes, tt.settings.Broker), func(t *testing.T) {
			t.Parallel()
			bin, packages := environment(t, "dbt-"+tt.dbtType, tt.version)
			target, block := outputOf(t, tt.dbtType, tt.provider, tt.changes)
			if tt.changes == "{}" {
				block = without(block, "driver", "cert")
			}
			r, err := routeOf(target, tt.dbtType, block)
			if err != nil {
				t.Fatal(err)
			}
			p := project{dbtType: tt.dbtType, source: new(profile.Source), blocks: []*yaml.Node{block}, route: r}
			want, hint := "", ""
			if tt.want != "" {
				version, _, _ := strings.Cut(tt.want, " ")
				want = fmt.Sprintf("adapter dbt-%s %s in %q is too old for provider %q: want %s",
					tt.dbtType, tt.version, packages, tt.provider, tt.want)
				hint = fmt.Sprintf("run `pip install --upgrade \"dbt-%s>=%s\"` in dbt's environment, before this step",
					tt.dbtType, version)
			}
			checkUsage(t, p.checkInstalled(withPath(bin), tt.settings, target), want, hint)
		})
	}
}

func withPath(bin string) Env {
	return Env{Getenv: func(name string) string { return map[string]string{"PATH": bin}[name] }}
}

func without(block *yaml.Node, keys ...string) *yaml.Node {
	rest := *block
	rest.Content = nil
	for i := 0; i < len(block.Content); i += 2 {
		if !strings.Contains(strings.Join(keys, " "), block.Content[i].Value) {
			rest.Content = append(rest.Content, block.Content[i:i+2]...)
		}
	}
	return &rest
}

func checkUsage(t *testing.T, err error, want, hint string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
		if class := fault.ClassOf(err); class != fault.Usage {
			t.Errorf("the class is %s, want usage", class)
		}
		if h := fault.Hint(err); h != hint {
			t.Errorf("the hint is %q, want %q", h, hint)
		}
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTooOldLease: of a lease nothing is served by a proxy.
func TestTooOldLease(t *testing.T) {
	t.Parallel()
	bin, _ := environment(t, "dbt-snowflake", "1.8.0")
	target, block := outputOf(t, "snowflake", "vault", "{}")
	p := project{
		dbtType: "snowflake", source: new(profile.Source), blocks: []*yaml.Node{block}, route: route.Route{Kind: route.Lease},
	}
	checkUsage(t, p.checkInstalled(withPath(bin), Settings{Broker: true}, target), "", "")
}

func TestDbtProgram(t *testing.T) {
	t.Parallel()
	bin, _ := environment(t, "dbt-snowflake", "1.8.0")
	dbt := filepath.Join(bin, "dbt")
	path := filepath.Join(bin, "none") + ":" + bin
	script := func(text string) Settings { return Settings{Script: text} }
	for name, tt := range map[string]struct {
		settings Settings
		env      map[string]string // in addition to PATH
		certain  bool
	}{
		"a plain step":        {Settings{}, nil, true},
		"exec":                {Settings{dbtArgs: []string{"dbt", "build"}}, nil, true},
		"exec by path":        {Settings{dbtArgs: []string{dbt, "build"}}, map[string]string{"PATH": ""}, true},
		"exec by a path here": {Settings{dbtArgs: []string{"./dbt", "build"}}, nil, false},
		"exec of another":     {Settings{dbtArgs: []string{bin + "/python3.12", "-m", "dbt.cli.main"}}, nil, false},
		"exec of something":   {Settings{dbtArgs: []string{"uv", "run", "dbt", "build"}}, nil, false},

		"a script":                  {script("set -e\ncd shop # there\ndbt deps && DBT_X=1 dbt build --select a/b 'tag:x'"), nil, true},
		"a script that installs":    {script("pip install -U dbt-snowflake\ndbt build"), nil, false},
		"one that does so in words": {script(`echo "$(pip install -U dbt-snowflake)"; dbt build`), nil, false},
		"by an old substitution":    {script("echo \"`pip install -U dbt-snowflake`\"; dbt build"), nil, false},
		"a script that activates":   {script(". .venv/bin/activate; dbt build"), nil, false},
		"a script of another":       {script(".venv/bin/dbt build"), nil, false},
		"a script that calls one":   {script("./build.sh"), nil, false},
		"a script with a function":  {script("dbt() { uv run dbt \"$@\"; }\ndbt build"), nil, false},
		"a script that sets PATH":   {script("PATH=$PWD/bin:$PATH dbt build"), nil, false},
		"a script that exports it":  {script("export DBT_X=1 PYTHONPATH=lib\ndbt build"), nil, false},
		"a script with a home":      {script("export \"HOME=/tmp\"\ndbt build"), nil, false},
		"a script of Python":        {script("python3 -m venv x"), nil, false},
		"bash":                      {Settings{Script: "dbt build", Shell: "bash"}, nil, true},
		"sh":                        {Settings{Script: "dbt build", Shell: "sh"}, nil, true},
		"a login shell":             {Settings{Script: "dbt build", Shell: "bash -l {0}"}, nil, false},
		"a container":               {Settings{Script: "dbt build", Shell: "docker exec -i dbt sh {0}"}, nil, false},
		"BASH_ENV":                  {script("dbt build"), map[string]string{"BASH_ENV": "x"}, false},
		"an exported function":      {script("dbt build"), map[string]string{"BASH_FUNC_dbt%%": "() { x; }"}, false},

		"nothing on PATH": {Settings{}, map[string]string{"PATH": bin + "/none"}, false},
		"a folder here":   {Settings{}, map[string]string{"PATH": "bin:" + path}, false},
		"this folder":     {Settings{}, map[string]string{"PATH": ":" + path}, false},
		"no PATH":         {Settings{}, map[string]string{"PATH": ""}, false},
	} {
		env := map[string]string{"PATH": path}
		maps.Copy(env, tt.env)
		got, want := dbtProgram(Env{Getenv: func(name string) string { return env[name] }}, tt.settings), ""
		if tt.certain {
			want = dbt
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
