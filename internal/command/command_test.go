package command_test

import (
	"bytes"
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// call runs the command line in an empty folder, outside GitHub Actions.
func call(t *testing.T, vars map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	status = command.Run(t.Context(), job.Env{
		Getenv: func(name string) string {
			if name == "HOME" {
				return dir
			}
			return vars[name]
		},
		Now: time.Now, Transport: web.NewTransport(), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Dir: dir, TempDir: dir, Executable: "/opt/oidc-dbt/oidc-dbt", Version: "v1.2.3", Commit: "0a1b2c",
	}, args)
	return status, out.String(), errs.String()
}

// TestArguments: the name of the program says whether it is the container action's post step.
func TestArguments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ argv, want []string }{
		{[]string{"/oidc-dbt"}, []string{}},
		{[]string{"oidc-dbt", "exec", "--", "dbt"}, []string{"exec", "--", "dbt"}},
		{[]string{"/oidc-dbt", "container", "/w"}, []string{"container", "/w"}},
		{[]string{"/oidc-dbt-post", "container", "/w"}, []string{"oidc-dbt-post"}},
		{[]string{"/oidc-dbt-post"}, []string{"oidc-dbt-post"}},
	} {
		if got := command.Arguments(tt.argv); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.argv, got, tt.want)
		}
	}
}

// TestUsage: errors of the command line end in status 2, ours and the
// library's, and help in 0.
func TestUsage(t *testing.T) {
	t.Parallel()
	const valid = `, valid commands are ["exec" "serve" "health" "stop" "explain" "test-policy" "lint" "init" "trust" "audit" "login" "logout" "whoami" "approve" "version" "help"]` + "\n"
	version := "oidc-dbt v1.2.3 (commit 0a1b2c, " + runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version() + ")\n"
	const rootHelp, execHelp, versionHelp = "NAME:\n   oidc-dbt - ", "NAME:\n   oidc-dbt exec - ", "NAME:\n   oidc-dbt version - "
	const trustHelp = "NAME:\n   oidc-dbt trust - "
	for _, tt := range []struct {
		args string
		env  string // a variable
		out  string // the beginning of standard output
		err  string // standard error; "" for success
	}{
		{args: "help", out: rootHelp},
		{args: "h", out: rootHelp},
		{args: "--help", out: rootHelp},
		{args: "-h", out: rootHelp},
		{args: "help exec", out: execHelp},
		{args: "exec --help", out: execHelp},
		{args: "exec -h --nope", out: execHelp},
		{args: "exec --help dbt", out: execHelp},
		{args: "exec --help -- dbt build", out: execHelp},
		{args: "help exec --help", out: execHelp},
		{args: "--help exec", out: execHelp},
		{args: "help --help", out: "NAME:\n   oidc-dbt help - "},
		{args: "help trust due", out: "NAME:\n   oidc-dbt trust due - "},
		{args: "trust due --help", out: "NAME:\n   oidc-dbt trust due - "},
		{args: "trust --help", out: trustHelp},
		{args: "trust", out: trustHelp, err: "no command given\nhint: name one of the commands of `oidc-dbt trust`\n"},
		{args: "trust do", err: `unknown command "do", valid commands are ["generate" "check" "due" "rotate" "revoke"]` + "\n"},
		{args: "trust do --help", err: `unknown command "do", valid commands are ["generate" "check" "due" "rotate" "revoke"]` + "\n"},
		{args: "version --help more", out: versionHelp},
		{args: "version", out: version},
		{args: "--version", out: version},
		{args: "-v", out: version},
		{args: "completion bash", out: "# "},

		{args: "nonsense", err: `unknown command "nonsense"` + valid},
		{args: "check", err: `unknown command "check"` + valid + "hint: the command is called `oidc-dbt lint`\n"},
		{args: "validate .", err: `unknown command "validate"` + valid + "hint: the command is called `oidc-dbt lint`\n"},
		{args: "nonsense --help", err: `unknown command "nonsense"` + valid},
		{args: "run --help", err: `unknown command "run"` + valid},
		{args: "--help nonsense", err: `unknown command "nonsense"` + valid},
		{args: "help nonsense", err: `unknown command "nonsense"` + valid},
		{args: "h nonsense", err: `unknown command "nonsense"` + valid},
		{args: "help nonsense --help", err: `unknown command "nonsense"` + valid},
		{args: "help exec nonsense", err: `unknown command "nonsense": "oidc-dbt exec" has no commands` + "\n"},
		{args: "completion nonsense", err: "No help topic for 'nonsense'\n"},
		{args: "post more", err: `unknown command "post"` + valid},
		{args: "keep-fresh", err: `unknown command "keep-fresh"` + valid},
		{args: "--nope", err: "flag provided but not defined: -nope\n"},
		{args: "--nope exec", err: "flag provided but not defined: -nope\n"},
		{args: "exec --nope", err: "flag provided but not defined: -nope\n"},
		{args: "serve --nope", err: "flag provided but not defined: -nope\n"},
		{args: "help --nope", err: "flag provided but not defined: -nope\n"},
		{args: "exec --version", err: "flag provided but not defined: -version\n"},
		{args: "version more", err: `unexpected argument "more"` + "\n"},
		{args: "--version more", err: `unexpected argument "more"` + "\n"},
		{args: "version help", err: `unexpected argument "help"` + "\n"},
		{args: "serve help", err: `unexpected argument "help"` + "\nhint: to run a command with the credential: oidc-dbt exec -- COMMAND\n"},
		{args: "exec", err: "no command given\nhint: put it after `--`: oidc-dbt exec -- dbt build\n"},
		{args: "lint --help", out: "NAME:\n   oidc-dbt lint - "},
		{args: "lint", env: "OIDC_DBT_POLICY=/nowhere", err: "nothing to lint: found no .github/oidc-dbt.yml, no workflow and no dbt project\n"},
		{args: "lint --format xml", err: `flag --format: unknown format "xml", valid formats are ["github" "json" "sarif" "text"]` + "\n"},
		{args: "lint --fail-on all", err: `flag --fail-on: unknown severity "all", valid severities are ["error" "warning" "note"]` + "\n"},
		{args: "lint nowhere.yml", err: `read "nowhere.yml": no such file or directory` + "\n"},
		{args: "exec --timeout abc -- true", err: `invalid value "abc" for flag -timeout: time: invalid duration "abc"` + "\n"},
		{args: "exec --timeout -1s -- true", err: "flag --timeout: got -1s, want more than 0\n"},
		{args: "exec --dry-run=maybe -- true", err: `invalid value "maybe" for flag -dry-run: parse error` + "\n"},
		{args: "exec -- true", env: "OIDC_DBT_TIMEOUT=abc", err: `could not parse "abc" as time.Duration value from environment variable OIDC_DBT_TIMEOUT for flag timeout: time: invalid duration "abc"` + "\n"},
		{args: "serve", env: "OIDC_DBT_TIMEOUT=abc", err: `could not parse "abc" as time.Duration value from environment variable OIDC_DBT_TIMEOUT for flag timeout: time: invalid duration "abc"` + "\n"},
		{args: "exec -- true", env: "OIDC_DBT_DRY_RUN=maybe", err: `could not parse "maybe" as bool value from environment variable OIDC_DBT_DRY_RUN for flag dry-run: parse error` + "\n"},
		{args: "exec -- true", env: "OIDC_DBT_PASS_IDENTITY=2", err: `could not parse "2" as bool value from environment variable OIDC_DBT_PASS_IDENTITY for flag pass-identity: parse error` + "\n"},
		{args: "serve", env: "OIDC_DBT_HEALTH_PORT=x", err: `could not parse "x" as int value from environment variable OIDC_DBT_HEALTH_PORT for flag health-port: strconv.ParseInt: parsing "x": invalid syntax` + "\n"},
		{args: "serve", env: "OIDC_DBT_READY_FD=9x", err: `could not parse "9x" as int value from environment variable OIDC_DBT_READY_FD for flag ready-fd: strconv.ParseInt: parsing "9x": invalid syntax` + "\n"},
	} {
		t.Run(tt.env+" "+tt.args, func(t *testing.T) {
			t.Parallel()
			name, value, _ := strings.Cut(tt.env, "=")
			status, out, err := call(t, map[string]string{name: value}, strings.Fields(tt.args)...)
			wantStatus, wantErr := 0, ""
			if tt.err != "" {
				wantStatus, wantErr = 2, "oidc-dbt: "+tt.err
			}
			if status != wantStatus || err != wantErr || !strings.HasPrefix(out, tt.out) || tt.out == "" && out != "" {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, %q, %q", status, out, err, wantStatus, tt.out, wantErr)
			}
		})
	}
}

// TestNoCommand: the help, and status 2.
func TestNoCommand(t *testing.T) {
	t.Parallel()
	const want = "oidc-dbt: no command given\nhint: in a step of GitHub Actions the action runs; elsewhere start with `oidc-dbt exec -- dbt build`\n"
	if status, out, err := call(t, nil); status != 2 || !strings.HasPrefix(out, "NAME:\n   oidc-dbt - ") || err != want {
		t.Errorf("status %d, stdout %q, stderr %q, want %q", status, out, err, want)
	}
}

// TestVersionForMachines holds the JSON's keys, which others read.
func TestVersionForMachines(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version", "--json"}, {"--version", "--json"}} {
		status, out, _ := call(t, nil, args...)
		var got map[string]string
		if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
			t.Fatalf("status %d, %s: %v", status, out, err)
		}
		want := map[string]string{"version": "v1.2.3", "commit": "0a1b2c", "platform": runtime.GOOS + "/" + runtime.GOARCH, "go": runtime.Version()}
		for key, v := range want {
			if got[key] != v {
				t.Errorf("%s is %q, want %q", key, got[key], v)
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v, want the keys of %v", got, want)
		}
	}
}
