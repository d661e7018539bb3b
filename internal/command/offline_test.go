package command_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// explainDay is when policies are judged here.
var explainDay = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// offline runs a command in a folder, outside GitHub Actions.
func offline(t testing.TB, dir, stdin string, vars map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = command.Run(t.Context(), job.Env{
		Getenv: func(name string) string { return vars[name] }, Now: func() time.Time { return explainDay },
		Transport: web.NewTransport(), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
		Dir: dir, TempDir: dir, Executable: "/opt/oidc-dbt/oidc-dbt", Version: "v1.2.3",
	}, args)
	return status, out.String(), errs.String()
}

// offlineCases runs every case in the folder of testdata that has the name of a
// command which asks for no token, with - between its words. Its oidc-dbt.yml is the policy of all. A case
// is a txtar archive:
//
//	-- args --     arguments, one a line
//	-- stdin --    standard input
//	-- env --      variables, NAME=VALUE
//	-- files/… --  files of the working directory
//	-- want/… --   status, stdout, stderr
func offlineCases(t *testing.T, name string) {
	t.Helper()
	folder := "testdata/" + strings.ReplaceAll(name, " ", "-")
	files, err := filepath.Glob(folder + "/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", folder, err)
	}
	common, err := os.ReadFile(folder + "/oidc-dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			put(t, dir, ".github/oidc-dbt.yml", common)
			args := strings.Fields(name)
			var stdin string
			vars := map[string]string{}
			for _, f := range archive.Files {
				path, isFile := strings.CutPrefix(f.Name, "files/")
				switch {
				case isFile:
					put(t, dir, path, f.Data)
				case f.Name == "args":
					args = append(args, strings.Split(strings.TrimSpace(string(f.Data)), "\n")...)
				case f.Name == "stdin":
					stdin = string(f.Data)
				case f.Name == "env":
					for line := range strings.Lines(string(f.Data)) {
						name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
						vars[name] = value
					}
				case !strings.HasPrefix(f.Name, "want/"):
					t.Fatalf("a case has no part %q", f.Name)
				}
			}
			status, stdout, stderr := offline(t, dir, stdin, vars, args...)
			stdout, stderr = strings.ReplaceAll(stdout, dir, "$DIR"), strings.ReplaceAll(stderr, dir, "$DIR")
			golden.Case(t, file, archive, txtar.File{Name: "want/status", Data: []byte(strconv.Itoa(status) + "\n")},
				txtar.File{Name: "want/stdout", Data: []byte(stdout)}, txtar.File{Name: "want/stderr", Data: []byte(stderr)})
		})
	}
}

func put(t testing.TB, dir, name string, text []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
