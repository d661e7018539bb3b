package audit_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// appendTo names a variable that turns this test's binary into a process that
// appends records to a file.
const (
	appendTo = "AUDIT_TEST_APPEND_TO"
	records  = 200
)

func TestMain(m *testing.M) {
	if path := os.Getenv(appendTo); path != "" {
		limitFileSize()
		if err := appendRecords(path, records); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(int(fault.ClassOf(err)))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

// long makes a record longer than any buffer on the way, so that a second write would show.
func long(id string) audit.Record {
	run := audit.Run{ID: id, Version: "1.2.3", PolicyOrigin: ".github/oidc-dbt.yml", PolicySHA256: strings.Repeat("a", 64), Target: "prod", Provider: "aws"}
	var mismatches []audit.Mismatch
	for i := range 90 {
		mismatches = append(mismatches, audit.Mismatch{Rule: i, Claim: "ref", Got: strings.Repeat("x", 300), Want: "refs/heads/main"})
	}
	return run.Denied(noon, "no rule matches", mismatches)
}

func appendRecords(path string, n int) error {
	log, err := audit.Open(path)
	if err != nil {
		return err
	}
	defer log.Close()
	for i := range n {
		if err := log.Append(long(fmt.Sprint(os.Getpid(), "-", i))); err != nil {
			return err
		}
	}
	return nil
}

// readAll returns the lines of a log, each of which must be a JSON object.
func readAll(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line map[string]any
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("line %d: %v: %.100q", len(lines)+1, err, s.Text())
		}
		lines = append(lines, line)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestAppendFromManyProcessesKeepsLinesWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var running []*exec.Cmd
	for range 3 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), appendTo+"="+path)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	seen := map[any]bool{}
	for _, line := range readAll(t, path) {
		seen[line["metadata"].(map[string]any)["correlation_uid"]] = true
	}
	if len(seen) != 3*records {
		t.Errorf("%d different records, want %d", len(seen), 3*records)
	}
}

func TestAppendStartsAFreshLineAfterATornOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte("{\"whole\":1}\n{\"torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := appendRecords(path, 2); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 4 || lines[1] != `{"torn` || !json.Valid([]byte(lines[2])) || !json.Valid([]byte(lines[3])) {
		t.Errorf("%d lines, the second %.20q, want 4 of which only the second is torn", len(lines), lines[1])
	}
}

func TestCheckPath(t *testing.T) {
	t.Parallel()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(p string) string { return filepath.Join(base, filepath.FromSlash(p)) }
	for _, dir := range []string{"work/repo/logs", "work/repo-two", "temp"} {
		if err := os.MkdirAll(at(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{
		"temp/to-repo":      at("work/repo"),
		"temp/to-file":      at("work/repo/later.jsonl"), // that is yet to be made
		"temp/relative":     filepath.FromSlash("../work/repo/later.jsonl"),
		"temp/twice":        at("temp/to-file"),
		"temp/out":          at("temp"),
		"work/repo/outward": at("temp"),
		"workspace":         at("work/repo"),
	}
	for name, to := range links {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	inside := func(path, workspace string) string {
		return fmt.Sprintf("audit log %q is inside the workspace %q", at(path), at(workspace))
	}
	tests := []struct {
		path, workspace string
		err             string
	}{
		{"temp/oidc-dbt/audit.jsonl", "work/repo", ""},
		{"work/repo-two/audit.jsonl", "work/repo", ""},
		{"temp/out/audit.jsonl", "work/repo", ""},
		{"work/repo/outward/audit.jsonl", "work/repo", ""}, // a link out of it: the file is elsewhere
		{"temp/audit.jsonl", "work/none", ""},
		{"work/repo/audit.jsonl", "work/repo", inside("work/repo/audit.jsonl", "work/repo")},
		{"work/repo/a/b/c.jsonl", "work/repo", inside("work/repo/a/b/c.jsonl", "work/repo")},
		{"work/repo", "work/repo", inside("work/repo", "work/repo")},
		{"temp/to-repo/audit.jsonl", "work/repo", inside("temp/to-repo/audit.jsonl", "work/repo")},
		{"temp/to-repo/a/b.jsonl", "work/repo", inside("temp/to-repo/a/b.jsonl", "work/repo")},
		{"temp/to-file", "work/repo", inside("temp/to-file", "work/repo")},
		{"temp/relative", "work/repo", inside("temp/relative", "work/repo")},
		{"temp/twice", "work/repo", inside("temp/twice", "work/repo")},
		{"work/repo/audit.jsonl", "workspace", inside("work/repo/audit.jsonl", "workspace")},
	}
	for _, tt := range tests {
		got := ""
		if err := audit.CheckPath(at(tt.path), at(tt.workspace)); err != nil {
			got = err.Error()
			if class := fault.ClassOf(err); class != fault.Usage {
				t.Errorf("%s: class %v, want %v", tt.path, class, fault.Usage)
			}
		}
		if got != tt.err {
			t.Errorf("CheckPath(%s, %s)\n got %q\nwant %q", tt.path, tt.workspace, got, tt.err)
		}
	}
	if err := audit.CheckPath(at("work/repo/audit.jsonl"), ""); err != nil {
		t.Errorf("without a workspace: %v", err)
	}
	if err := audit.CheckPath(at("work/repo")+"/x/../../repo/audit.jsonl", at("work/repo")); err == nil {
		t.Error("a path with .. in it: no error")
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path, err string
		class     fault.Class
	}{
		{dir, fmt.Sprintf("open audit log: %q is a directory, want a regular file", dir), fault.Usage},
		{filepath.Join(dir, "file", "audit.jsonl"), fmt.Sprintf("open audit log: mkdir %s: not a directory", filepath.Join(dir, "file")), fault.Internal},
	}
	for _, tt := range tests {
		_, err := audit.Open(tt.path)
		if err == nil || err.Error() != tt.err || fault.ClassOf(err) != tt.class || fault.Hint(err) == "" {
			t.Errorf("Open(%q)\n got %v, of class %v\nwant %s, of class %v with a hint", tt.path, err, fault.ClassOf(err), tt.err, tt.class)
		}
	}
}
