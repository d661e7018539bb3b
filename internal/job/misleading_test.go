package job

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMisleading: what leads dbt away from the profile that holds the
// credential is named, in a command's arguments and in scripts of all shells.
func TestMisleading(t *testing.T) {
	t.Parallel()
	res := Result{
		Profile: []byte("{}"), ProfileNames: []string{"shop", "elementary"}, output: "prod",
		leases: &leases{dir: Folder{path: "/tmp/oidc-dbt-step-1"}},
	}
	const (
		dir       = "--profiles-dir in the command hides the profile that holds the credential"
		variable  = "DBT_PROFILES_DIR in the command hides the profile that holds the credential"
		engine    = "DBT_ENGINE_PROFILES_DIR in the command hides the profile that holds the credential"
		target    = `--target in the command selects the output "dev", but the credential is in "prod"`
		short     = `-t in the command selects the output "dev", but the credential is in "prod"`
		profile   = `--profile in the command selects the profile "other", but the credential is in "shop"`
		dbtTarget = `DBT_TARGET in the command selects the output "dev", but the credential is in "prod"`
	)
	for _, tt := range []struct {
		script string
		want   []string
	}{
		{"dbt build --profiles-dir .", []string{dir}},
		{"dbt build --profiles-dir=.", []string{dir}},
		{"dbt --profiles-dir . build", []string{dir}},
		{"dbt build --profiles-dir", []string{dir}},
		{"edr monitor --profiles-dir ~/.dbt", []string{dir}},
		{"set -e\ndbt deps\n\ndbt build \\\n  --select marts \\\n  --profiles-dir ./profiles\n", []string{dir}},
		{"dbt build `\r\n  --profiles-dir .\r\n", []string{dir}},
		{"dbt build ^\r\n  --profiles-dir .\r\n", []string{dir}},
		{"if true; then dbt build --profiles-dir .; fi", []string{dir}},
		{"x=$(dbt ls --profiles-dir .)", []string{dir}},
		{`x="$(dbt ls --profiles-dir .)"`, []string{dir}},
		{`bash -c 'dbt build --profiles-dir .'`, []string{dir}},
		{`bash -c "sh -c 'dbt build --profiles-dir .'"`, []string{dir}},
		{`dbt build "--profiles-dir" '.'`, []string{dir}},
		{`dbt build --profiles-dir "a b"`, []string{dir}},
		{`dbt build --profiles-dir="a b"`, []string{dir}},
		{"import subprocess\nsubprocess.run([\"dbt\", \"build\", \"--profiles-dir\", \".\", \"--target\", \"dev\"])\n", []string{dir, target}},
		{"dbt build --profiles-dir . && dbt test --profiles-dir .", []string{dir}},
		{"dbt run --profiles-dir . --target dev --profile other", []string{dir, target, profile}},

		{"DBT_PROFILES_DIR=. dbt build", []string{variable}},
		{"DBT_PROFILES_DIR='a b' dbt build", []string{variable}},
		{"env DBT_PROFILES_DIR=. dbt build", []string{variable}},
		{"export DBT_PROFILES_DIR=$PWD\ndbt build", []string{variable}},
		{"export DBT_PROFILES_DIR\nDBT_PROFILES_DIR=$GITHUB_WORKSPACE\ndbt build", []string{variable}},
		{"DBT_ENGINE_PROFILES_DIR=. dbt build", []string{engine}},
		{"unset DBT_PROFILES_DIR; dbt build", []string{variable}},
		{"env -u DBT_PROFILES_DIR dbt build", []string{variable}},
		{"env --unset=DBT_PROFILES_DIR dbt build", []string{variable}},
		{"$env:DBT_PROFILES_DIR = '.'\ndbt build", []string{variable}},
		{"$Env:DBT_PROFILES_DIR='.'\ndbt build", []string{variable}},
		{"Remove-Item Env:DBT_PROFILES_DIR\ndbt build", []string{variable}},
		{"set DBT_PROFILES_DIR=.\r\ndbt build", []string{variable}},
		{`set "DBT_PROFILES_DIR=." & dbt build`, []string{variable}},
		{"import os\nos.environ[\"DBT_PROFILES_DIR\"] = \".\"\n", []string{variable}},
		{"DBT_TARGET=dev dbt build", []string{dbtTarget}},
		{"export DBT_TARGET=dev", []string{dbtTarget}},

		{"dbt build --target dev", []string{target}},
		{"dbt build --target=dev", []string{target}},
		{"dbt build -t dev", []string{short}},
		{"dbt build -tdev", []string{short}},
		{"dbt --target dev build", []string{target}},
		{"uv run dbt build -t dev", []string{short}},
		{"python -m dbt.cli.main run -t dev", []string{short}},
		{`.venv\Scripts\dbt.exe build -t dev`, []string{short}},
		{"/opt/venv/bin/dbt build -t dev", []string{short}},
		{"dbt build --profile other", []string{profile}},

		{"dbt build", nil},
		{"dbt build --target prod --profile shop", nil},
		{"dbt build --profile elementary -t prod", nil},
		{"dbt build --target-path target --profiles prod", nil},
		{`dbt build --profiles-dir "$DBT_PROFILES_DIR"`, nil},
		{`dbt build --profiles-dir=${DBT_PROFILES_DIR}`, nil},
		{`dbt build --profiles-dir $env:DBT_PROFILES_DIR`, nil},
		{`dbt build --profiles-dir %DBT_PROFILES_DIR%`, nil},
		{`dbt build --profiles-dir /tmp/oidc-dbt-step-1/`, nil},
		{`DBT_PROFILES_DIR="$DBT_PROFILES_DIR" dbt build`, nil},
		{`dbt build --target "$TARGET"`, nil},
		{"# dbt build --profiles-dir .\ndbt build", nil},
		{"dbt build # not --profiles-dir .", nil},
		{"test -t 0 && dbt build", nil},
		{"docker run -t image dbt build", nil},
		{"aws s3 ls --profile other; dbt build", nil},
		{"pip install --target vendor dbt-duckdb", nil},
		{`echo "$DBT_PROFILES_DIR"; test -n "$DBT_TARGET" = x`, nil},
		{"cp profiles.yml $DBT_PROFILES_DIR/", nil},
		{"dbt build --vars '{\"a\": \"it''s", nil},
		{"", nil},
	} {
		if got := res.Misleading(tt.script); !slices.Equal(got, tt.want) {
			t.Errorf("script %q:\ngot  %q\nwant %q", tt.script, got, tt.want)
		}
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"dbt", "build", "--profiles-dir", "."}, []string{dir}},
		{[]string{"dbt", "build", "--profiles-dir=."}, []string{dir}},
		{[]string{"sh", "-c", "dbt deps\ndbt build --profiles-dir ."}, []string{dir}},
		{[]string{"env", "DBT_PROFILES_DIR=.", "dbt", "build"}, []string{variable}},
		{[]string{"dbt", "build", "-t", "dev"}, []string{short}},
		{[]string{"dbt", "build", "--target", "prod"}, nil},
		{[]string{"sh", "-c", "test -t 0"}, nil},
	} {
		if got := res.Misleading(tt.args...); !slices.Equal(got, tt.want) {
			t.Errorf("arguments %q:\ngot  %q\nwant %q", tt.args, got, tt.want)
		}
	}
	if got := (Result{}).Misleading("dbt build --profiles-dir ."); got != nil {
		t.Errorf("a target without a profile: got %q", got)
	}
}

// FuzzMisleading: no script, however torn, stops a run.
func FuzzMisleading(f *testing.F) {
	for _, s := range []string{"dbt build --profiles-dir .", `a "b 'c \" d`, "x\\\r\n#", "\"\\", "`\r", strings.Repeat(`"' `, 50)} {
		f.Add(s)
	}
	res := Result{Profile: []byte("{}"), ProfileNames: []string{"shop"}, output: "prod", leases: &leases{}}
	f.Fuzz(func(t *testing.T, script string) {
		for _, w := range res.Misleading(script, script) {
			if !strings.Contains(w, " in the command ") {
				t.Errorf("warning %q", w)
			}
		}
	})
}

// TestDbtProject: the project is found where dbt finds it.
func TestDbtProject(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	for _, dir := range []string{"shop/models/marts", "other", "none"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "shop", "dbt_project.yml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, from string
		vars       map[string]string
		args       []string
		want       string
	}{
		{name: "here", from: "shop", want: ""},
		{name: "upwards", from: "shop/models/marts", want: "shop"},
		{name: "nowhere", from: "none", want: ""},
		{name: "a variable", from: "none", vars: map[string]string{"DBT_PROJECT_DIR": "../shop"}, want: "shop"},
		{name: "dbt 1.12's variable first", from: "none", vars: map[string]string{"DBT_PROJECT_DIR": "../other", "DBT_ENGINE_PROJECT_DIR": "../shop"}, want: "shop"},
		{name: "an option", from: "none", args: []string{"dbt", "build", "--project-dir", "../shop"}, want: "shop"},
		{name: "an option with =", from: "none", args: []string{"uv", "run", "dbt", "build", "--project-dir=../shop"}, want: "shop"},
		{name: "an option before a variable", from: "none", vars: map[string]string{"DBT_PROJECT_DIR": "../other"}, args: []string{"dbt", "--project-dir", "../shop", "build"}, want: "shop"},
		{name: "an option of another program's", from: "none", args: []string{"uv", "run", "--project-dir", "../shop", "dbt", "build"}, want: ""},
		{name: "an option without a value", from: "none", args: []string{"dbt", "build", "--project-dir"}, want: ""},
	} {
		s := Settings{Root: filepath.Join(top, tt.from), dbtArgs: tt.args}
		want := tt.want
		if want != "" {
			want = filepath.Join(top, want)
		}
		if got := s.dbtProject(Env{Getenv: func(name string) string { return tt.vars[name] }}); got != want {
			t.Errorf("%s: got %q, want %q", tt.name, got, want)
		}
	}
}
