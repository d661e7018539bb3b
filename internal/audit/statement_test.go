package audit_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

// statements are one of each decision, and one with all there is.
func statements() map[string]audit.Statement {
	return map[string]audit.Statement{
		"allowed": {Time: noon, Session: "1", Decision: "allowed", Class: "read", Count: 1, Head: "SELECT", Length: 8,
			SHA256: strings.Repeat("ab", 32)},
		"denied": {Time: noon, Session: "1", Decision: "denied", Class: "define", Count: 2, Head: "DROP TABLE", Length: 31,
			SHA256: strings.Repeat("cd", 32)},
		"observed": {Time: noon, Session: "2", Decision: "observed", Class: "unknown", Count: 1, Why: "unterminated string", Length: 12,
			SHA256: strings.Repeat("ef", 32), Text: "select 'abc ##[group] eyJhbGciOiJub25lIn0.e30."},
		"unread": {Time: noon, Session: "2", Decision: "denied", Class: "unknown", Count: 1, Why: "the frame is malformed", Length: 7},
	}
}

// statementLines returns the lines that the statements become, one file each.
func statementLines(t *testing.T, r audit.Run, list ...audit.Statement) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.OpenStatements(path, r, 1, 17, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if _, err := log.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// TestStatementsAreOCSF holds every record to the JSON Schema of OCSF's class
// 6005, with the run that knows everything and the one that knows nothing. The
// schema was made as that of TestOCSF, of the class "datastore_activity".
func TestStatementsAreOCSF(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("testdata/ocsf/datastore_activity.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, known := range map[string]audit.Run{"full": run(), "empty": {ID: "RUN1", Target: "prod"}} {
		for kind, s := range statements() {
			line := statementLines(t, known, s)[0]
			if strings.Contains(line, "##[") || strings.Contains(line, "eyJ") {
				t.Errorf("%s, %s: %s", name, kind, line)
			}
			var o map[string]any
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(o); err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
		}
	}
}

// TestStatementGolden holds the lines as the warehouse's own tools read them:
// the dbt package and `audit show`.
func TestStatementGolden(t *testing.T) {
	t.Parallel()
	r := run()
	r.Claims = verified(t, map[string]any{"jti": "4a57"})
	r.ActorKind, r.ActorKindSource = "user", "name"
	for kind, s := range statements() {
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(statementLines(t, r, s)[0]), "", "  "); err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, filepath.Join("testdata", "statements", kind+".json"), b.String()+"\n")
	}
}

// TestStatementsOfManySessions: each has its own number, on a line of its own.
func TestStatementsOfManySessions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.OpenStatements(path, run(), 0, 1, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if _, err := log.Append(statements()["allowed"]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	uids := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		var o struct{ Metadata struct{ UID string } }
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		uids[o.Metadata.UID] = true
	}
	if len(uids) != 400 || !uids["RUN1-statement-1"] || !uids["RUN1-statement-400"] {
		t.Errorf("got %d uids, want 400 that count from 1", len(uids))
	}
	const want = "append audit record: the run is over"
	if _, err := log.Append(statements()["allowed"]); err == nil || err.Error() != want {
		t.Errorf("after the end: got %v, want %q", err, want)
	}
}

// TestDecisionInALogWithStatements: they are of a run that was decided.
func TestDecisionInALogWithStatements(t *testing.T) {
	t.Parallel()
	r := run()
	r.Claims = verified(t, map[string]any{"jti": "4a57"})
	lines := statementLines(t, r, statements()["allowed"], statements()["denied"])
	kept := func(string) audit.Identity { return r.Identity }
	log := text(t, r.Allowed(noon, 1, 17)) + "\n" + strings.Join(lines, "\n")
	if past, ok, err := audit.ReadDecision([]byte(log), kept); err != nil || !ok || past.Rule != 2 {
		t.Errorf("got %+v, %v, %v", past, ok, err)
	}
	if _, ok, err := audit.ReadDecision([]byte(lines[0]), kept); ok || err != nil {
		t.Errorf("a statement only: got %v, %v", ok, err)
	}
}

// TestStatementText: what a line may hold is bounded.
func TestStatementText(t *testing.T) {
	t.Parallel()
	s := statements()["observed"]
	s.Text = strings.Repeat("\x01", 1<<20)
	if line := statementLines(t, run(), s)[0]; len(line) > 256<<10 {
		t.Errorf("a line has %d bytes, want 256 KiB at most", len(line))
	}
}

func BenchmarkStatement(b *testing.B) {
	log, err := audit.OpenStatements(filepath.Join(b.TempDir(), "audit.jsonl"), run(), 1, 17, "postgres")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	s := statements()["allowed"]
	s.Time = time.Now()
	for b.Loop() {
		if _, err := log.Append(s); err != nil {
			b.Fatal(err)
		}
	}
}
