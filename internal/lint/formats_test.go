package lint_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/lint"
)

const formatsCase = "testdata/formats/repository.txtar"

// readCase returns the files of the case of all formats.
func readCase(t testing.TB) (*txtar.Archive, map[string]string) {
	t.Helper()
	text, err := os.ReadFile(formatsCase)
	if err != nil {
		t.Fatal(err)
	}
	archive, files := txtar.Parse(text), map[string]string{}
	for _, f := range archive.Files {
		if !strings.HasPrefix(f.Name, "want/") {
			files[f.Name] = string(f.Data)
		}
	}
	return archive, files
}

func run(t testing.TB, files map[string]string) lint.Report {
	t.Helper()
	report, err := lint.Run(t.Context(), env(repository(t, files)), nil)
	if err != nil {
		t.Fatal(err)
	}
	report.Notices = nil // whether the test's folder is in a repository is no matter
	return report
}

func in(t testing.TB, format string, report lint.Report) string {
	t.Helper()
	text, err := lint.In(format)(report)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestHostileNames: a file's name and a file's texts print no line of their own, and
// no command of the runner's or of a terminal's.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	const secret = "shop:\n  outputs:\n    dev: {type: postgres, password: hunter2hunter2}\n"
	report := run(t, map[string]string{
		"a\n::error::x/profiles.yml": secret, "##[error]x/profiles.yml": secret, "\x1b[31mred/profiles.yml": secret,
		"100%0A/profiles.yml": secret, "::add-mask::x/profiles.yml": secret, "größe und mehr/profiles.yml": secret,
		".github/workflows/x.yml": "jobs: {a: {steps: [{run: dbt build, env: {\"A\\n::error::_ ##[error]\": AKIAIOSFODNN7ABCDEFG}}]}}\n",
	})
	if len(report.Findings) != 7 {
		t.Fatalf("%d findings, want 7", len(report.Findings))
	}
	for _, name := range lint.Formats() {
		for line := range strings.Lines(in(t, name, report)) {
			command := strings.HasPrefix(strings.TrimSpace(line), "::") && !strings.HasPrefix(line, "::error file=")
			if command || name != "github" && strings.ContainsAny(line, "\x1b") || !strings.HasPrefix(line, "::error file=") && strings.Contains(line, "##[") {
				t.Errorf("%s: line %q", name, line)
			}
		}
	}
	for format, wants := range map[string][]string{
		"text": {"a\uFFFD:\u200b:error::x/profiles.yml:3:", "##\u200b[error]x/profiles.yml:3:", "\uFFFD[31mred/profiles.yml:3:", ":\u200b:add-mask::x/profiles.yml:3:",
			"error: the workflow contains A\uFFFD:\u200b:error::_ ##\u200b[error] in plain text [static-secret]\n"},
		"github": {"::error file=a%0A%3A%3Aerror%3A%3Ax/profiles.yml,line=3,", "::error file=100%250A/profiles.yml,", "::error file=%3A%3Aadd-mask%3A%3Ax/profiles.yml,",
			"::the workflow contains A%0A::error::_ "},
		"json":  {`"file": "a\n::error::x/profiles.yml"`, `"file": "##\u005berror]x/profiles.yml"`},
		"sarif": {`"uri": "gr%C3%B6%C3%9Fe%20und%20mehr/profiles.yml"`, `"uri": "100%250A/profiles.yml"`, `"uri": "./::add-mask::x/profiles.yml"`, `"uri": "./a%0A::error::x/profiles.yml"`},
	} {
		text := in(t, format, report)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q in\n%s", format, want, text)
			}
		}
	}
}

// TestFormats compares what each format prints, none of it a secret.
func TestFormats(t *testing.T) {
	t.Parallel()
	archive, files := readCase(t)
	report := run(t, files)
	var got []txtar.File
	texts := map[string]string{"colour": lint.Text(report, true)}
	for _, name := range lint.Formats() {
		texts[name] = in(t, name, report)
		got = append(got, txtar.File{Name: "want/" + name, Data: []byte(texts[name])})
	}
	golden.Case(t, formatsCase, archive, got...)
	for name, text := range texts {
		if strings.Contains(text, "SECRET-") {
			t.Errorf("%s shows a secret:\n%s", name, text)
		}
	}
	if !strings.Contains(texts["colour"], "\x1b[33;1mwarning\x1b[0m: ") || strings.Contains(texts["text"], "\x1b") {
		t.Error("colour is not where it was asked for, or somewhere else")
	}
	for line := range strings.Lines(texts["text"]) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			t.Errorf("the runner would take %q for a command", line)
		}
	}
}

// valid reports what is wrong with a JSON document by a schema.
func valid(t testing.TB, schema, document string) error {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	return validate(t, s, document)
}

func validate(t testing.TB, schema *jsonschema.Schema, document string) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(v)
}

// TestSchemas: what is printed for machines is as they expect, also when there
// is nothing to print. The schema of SARIF is that of OASIS
// (https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json).
func TestSchemas(t *testing.T) {
	t.Parallel()
	_, files := readCase(t)
	for name, report := range map[string]lint.Report{"findings": run(t, files), "nothing": {}} {
		for format, schema := range map[string]string{
			"json": "../../docs/lint/findings.schema.json", "sarif": "testdata/sarif-schema-2.1.0.json",
		} {
			if err := valid(t, schema, in(t, format, report)); err != nil {
				t.Errorf("%s, %s: %v", name, format, err)
			}
		}
	}
	if valid(t, "testdata/sarif-schema-2.1.0.json", `{"version": "2.1.0", "runs": [{"results": []}]}`) == nil {
		t.Error("the schema of SARIF finds no fault in a run without a tool")
	}
}

// fingerprints returns those of the results, in their order.
func fingerprints(t testing.TB, sarif string) (list []string) {
	t.Helper()
	var log struct {
		Runs []struct {
			Results []struct {
				PartialFingerprints map[string]string
			}
		}
	}
	if err := json.NewDecoder(bytes.NewReader([]byte(sarif))).Decode(&log); err != nil {
		t.Fatal(err)
	}
	for _, r := range log.Runs[0].Results {
		list = append(list, r.PartialFingerprints["oidcDbtFinding/v1"])
	}
	return list
}

// TestFingerprints: a finding is the same one when its lines move, and no two
// are the same.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	_, files := readCase(t)
	before := fingerprints(t, in(t, "sarif", run(t, files)))
	for name, text := range files {
		files[name] = "# a comment\n\n" + text
	}
	after := fingerprints(t, in(t, "sarif", run(t, files)))
	seen := map[string]bool{}
	for i, f := range before {
		if seen[f] {
			t.Errorf("two findings have the fingerprint %s", f)
		}
		seen[f] = true
		if i >= len(after) || f != after[i] {
			t.Errorf("the fingerprint of finding %d changes when lines move", i)
		}
	}
	if len(before) < 8 {
		t.Errorf("there are %d findings only", len(before))
	}
}
