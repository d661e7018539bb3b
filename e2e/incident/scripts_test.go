//go:build e2e && linux && amd64

// Package incident rehearses docs/incident.md: a job has a credential, and then the scripts of trust revoke are run by
// the tools that they are for, against the stand-ins and real servers. All scripts that trust prints go through the
// linters of their languages.
package incident

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// tools returns the environment that has AWS's command line and shellcheck.
func tools(t *testing.T) pyenv.Python { return setup.Environment(t, "incident", "") }

// printed returns the scripts and statements of SQL in the goldens of the languages, by language and name.
func printed(t *testing.T, suffix string) map[string]string {
	t.Helper()
	cases, err := filepath.Glob(filepath.Join(setup.Repository(t), "internal", "trust", "testdata", "*", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, path := range cases {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			name, ok := strings.CutPrefix(f.Name, "want/")
			if ok && strings.HasSuffix(name, suffix) {
				key := filepath.Base(
					filepath.Dir(path),
				) + "-" + strings.TrimSuffix(
					filepath.Base(path),
					".txtar",
				) + "-" + name
				texts[key] = string(f.Data)
			}
		}
	}
	if len(texts) < 20 {
		t.Fatalf("found %d files %s only", len(texts), suffix)
	}
	return texts
}

// TestShellcheck: every script that trust prints is one that shellcheck finds nothing in. Its only exception is `$` in
// single quotes, which is text of a policy, and must not be interpreted.
func TestShellcheck(t *testing.T) {
	t.Parallel()
	dir, kinds := t.TempDir(), map[string]bool{}
	args := []string{"--shell=bash", "--exclude=SC2016", "--format=gcc"}
	for name, text := range printed(t, ".sh") {
		args = append(args, setup.Write(t, dir, name, text))
		kinds[name[strings.LastIndex(name, "-")+1:]] = true
	}
	for _, kind := range []string{"prod.sh", "prod.github.sh", "rotate.sh", "revoke.sh"} {
		if !kinds[kind] {
			t.Errorf("there is no %s", kind)
		}
	}
	if out, err := exec.Command(tools(t).Program("shellcheck"), args...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// TestSQL: statements in documents and scripts for Snowflake are ones that sqlglot reads in its dialect.
func TestSQL(t *testing.T) {
	t.Parallel()
	statements := map[string]string{}
	for name, text := range printed(t, ".sql") {
		if strings.HasPrefix(name, "snowflake-") {
			statements[name] = text
		}
	}
	for name, text := range printed(t, ".sh") {
		for i, part := range strings.Split(text, "<<'END'\n")[1:] {
			body, _, _ := strings.Cut(part, "\nEND\n")
			if strings.HasPrefix(name, "snowflake-") && !strings.HasPrefix(body, "{") {
				statements[name+"-"+string(rune('a'+i))] = body
			}
		}
	}
	text, err := json.Marshal(statements)
	if err != nil {
		t.Fatal(err)
	}
	const program = `
import json, sys, sqlglot
for name, text in sorted(json.load(sys.stdin).items()):
    try:
        assert [s for s in sqlglot.parse(text, read="snowflake") if s is not None], "no statement"
    except Exception as e:
        print(f"{name}: {e}")
`
	cmd := exec.Command(setup.Python(t).Program("python"), "-W", "ignore", "-c", program)
	cmd.Stdin = strings.NewReader(string(text))
	out, err := cmd.Output()
	if err != nil || len(out) > 0 {
		t.Errorf("sqlglot: %v\n%s", err, out)
	}
}
