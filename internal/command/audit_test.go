package command_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestAuditShow(t *testing.T) {
	t.Parallel()
	offlineCases(t, "audit show")
}

func TestAuditVerify(t *testing.T) {
	t.Parallel()
	offlineCases(t, "audit verify")
}

// printed returns the standard output of a command's cases.
func printed(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases %s: %v", pattern, err)
	}
	all := map[string][]byte{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if f.Name == "want/stdout" {
				all[filepath.Base(file)] = f.Data
			}
		}
	}
	return all
}

// TestAuditSchemas: the published schemas accept each line that is printed,
// and no other key.
func TestAuditSchemas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ schema, cases, old, other string }{
		{"audit-show", "testdata/audit-show/[^s]*json.txtar", `"run":`, `"other":1,"run":`},
		{"audit-statements", "testdata/audit-show/statements-as-json.txtar", `"run":`, `"other":1,"run":`},
		{"audit-statements", "testdata/audit-show/statements-as-json.txtar", `"class":"`, `"class":"un`},
		{"audit-show", "testdata/audit-show/[^s]*json.txtar", `"outcomes":`, `"result":`},
		{"audit-verify", "testdata/audit-verify/json.txtar", `"runs":`, `"other":1,"runs":`},
		{"audit-verify", "testdata/audit-verify/json.txtar", `"severity":"high"`, `"severity":"fatal"`},
	} {
		schema, err := jsonschema.NewCompiler().Compile("../../docs/" + tt.schema + ".schema.json")
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range printed(t, tt.cases) {
			for line := range bytes.Lines(text) {
				for _, to := range []string{tt.old, tt.other} {
					changed := bytes.Replace(line, []byte(tt.old), []byte(to), 1)
					document, err := jsonschema.UnmarshalJSON(bytes.NewReader(changed))
					if err != nil {
						t.Fatalf("%s: %v: %s", name, err, changed)
					}
					if err := schema.Validate(document); (err != nil) != (to != tt.old) {
						t.Errorf("%s with %s: %v", name, to, err)
					}
				}
			}
		}
	}
}

// TestFindingsAreOCSF holds each event to the JSON Schema of its class: see
// internal/auditlog's test for how they are made.
func TestFindingsAreOCSF(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for name, text := range printed(t, "testdata/audit-verify/*events.txtar") {
		for line := range bytes.Lines(text) {
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
			if err != nil {
				t.Fatal(err)
			}
			o := document.(map[string]any)
			class := map[string]string{"2004": "detection_finding", "2008": "iam_analysis_finding"}[fmt.Sprint(o["class_uid"])]
			schema, err := jsonschema.NewCompiler().Compile("../auditlog/testdata/ocsf/" + class + ".schema.json")
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(o); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			seen[class] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("found events of %v, want both classes", seen)
	}
}

// TestFindingsFile: the events are in a file of their own, and the text is printed.
func TestFindingsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	status, stdout, stderr := offline(t, dir, "x\n", nil, "audit", "verify", "--findings", "f.jsonl", "-")
	if want := "standard input:1: medium: damaged-line: is no audit record, or a part of one: invalid character 'x' looking for beginning of value\n" +
		"records: 0, runs: 0, denied: 0, issued: 0, failed: 0, not finished: 0, findings: 1\n"; status != 8 || stdout != want || stderr != "" {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	text, err := os.ReadFile(filepath.Join(dir, "f.jsonl"))
	if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"class_uid":2004`) {
		t.Errorf("got %s, %v", text, err)
	}
}

// TestShowIsAStream: of a log with more runs than are kept, each is shown once.
func TestShowIsAStream(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	const runs = 2500
	for i := range runs {
		fmt.Fprintf(&log, `{"class_uid":3002,"time":%d,"metadata":{"correlation_uid":"R%d"},"unmapped":{"decision":"denied","target":"%s"}}`+"\n",
			i*1000, i, strings.Repeat("x", 1+i/1000*8))
	}
	status, stdout, stderr := offline(t, t.TempDir(), log.String(), nil, "audit", "show", "-")
	if lines := strings.Count(stdout, "\n"); status != 0 || stderr != "" || lines != runs+1 {
		t.Errorf("status %d, %d lines, stderr %q", status, lines, stderr)
	}
	for _, run := range []int{0, 999, 1000, runs - 1} {
		if n := strings.Count(stdout, fmt.Sprintf("  R%d  ", run)); n != 1 {
			t.Errorf("run %d is there %d times", run, n)
		}
	}
}
