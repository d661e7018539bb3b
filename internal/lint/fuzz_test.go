package lint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/lint"
)

// fuzz looks at one file of any content: each finding has a place in it, each
// format can print it, and no line of a log becomes a command.
func fuzz(f *testing.F, name string, seeds ...string) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	schema, err := jsonschema.NewCompiler().Compile("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := lint.Run(t.Context(), env(dir), []string{name})
		if err != nil && len(report.Findings) > 0 {
			t.Fatalf("a file that cannot be read has findings: %v", err)
		}
		lines := strings.Count(text, "\n") + 1
		for _, found := range report.Findings {
			if found.File != name || found.Line < 1 || found.Line > lines || found.Column < 1 || found.Message == "" || found.Fix == "" {
				t.Fatalf("the finding %+v is nowhere in\n%s", found, text)
			}
		}
		for _, format := range lint.Formats() {
			out := in(t, format, report)
			for line := range strings.Lines(out) {
				command := strings.HasPrefix(strings.TrimSpace(line), "::")
				if command != (format == "github" && strings.Contains(line, ",title=oidc-dbt%3A ")) {
					t.Fatalf("%s prints the line %q", format, line)
				}
			}
		}
		if err := validate(t, schema, in(t, "sarif", report)); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzPolicy(f *testing.F) {
	fuzz(f, ".github/oidc-dbt.yml",
		policyOf(`{repository: "acme/*", job_workflow_ref: "acme/w/.github/workflows/x.yml@refs/heads/*", event_name: [push, pull_request]}`),
		policyOf(`{repository_id: "1", sub: ["environment:x", "repo:a@1/b@2:*"], actor: x, enviroment: y} # oidc-dbt: ignore[wide-matcher]`),
		policyOf(`{repository_id: "1"}`, `{repository_id: "1", ref: refs/heads/main}`)+"    trust_reviewed: 2020-01-01\n    trust_max_age: 10d\n",
		"version: 1\nversion: 2\n", "a: [\n", "a: [", "\ufeff::error::x\n")
}

func FuzzWorkflow(f *testing.F) {
	fuzz(f, ".github/workflows/x.yml",
		"on: push\npermissions: {id-token: write}\njobs:\n  a: &a\n    env: {DB_PASSWORD: x}\n    steps:\n      - run: |\n          ::warning::${{ secrets.DB_TOKEN }}\n          dbt build\n  b: *a\n",
		"jobs: &a {x: *a}\npermissions: write-all\n", "jobs: {a: {services: [], steps: {run: dbt run}}}\n", "jobs:\n\t- x\n", "? jobs\n: - a\n")
}

func FuzzEnvFile(f *testing.F) {
	fuzz(f, ".env", "A_TOKEN=x\r\nexport B_PASSWORD='y' # oidc-dbt: ignore[static-secret] z\n", "\xff=\n=\n", "::error::TOKEN=x\n")
}

func FuzzDBTFiles(f *testing.F) {
	fuzz(f, "profiles.yml", "a: {outputs: {b: &b {password: x}, c: *b}}\n", "a: &a {outputs: {b: *a}}\n")
}

func FuzzPackages(f *testing.F) {
	const dir = "packages.yml"
	f.Add("packages: [{package: a/b, version: 1.0.0}, {git: x}, {}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		root := repository(t, map[string]string{"dbt_project.yml": text, dir: text, "package-lock.yml": text})
		report, err := lint.Run(t.Context(), env(root), []string{dir, "dbt_project.yml"})
		if err != nil {
			return
		}
		for _, format := range lint.Formats() {
			in(t, format, report)
		}
	})
}
