package command_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestTrustDue(t *testing.T) {
	t.Parallel()
	offlineCases(t, "trust due")
}

// TestTrustDueInline: a policy that is no file has dates and no history.
func TestTrustDueInline(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/trust-due/oidc-dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := offline(t, t.TempDir(), "", nil, "trust", "due", "--target", "dev", "--policy", string(text))
	const want = "dev     2026-10-20   2027-01-18  in 78 days  unknown: the policy is no file  event_name\n"
	if status != 0 || !strings.Contains(stdout, want) || stderr != "" {
		t.Errorf("status %d, stdout %q, stderr %q, want %q", status, stdout, stderr, want)
	}
}

// TestTrustDueInGit: who changed the rules last, whose name prints no
// workflow command, in every format.
func TestTrustDueInGit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/trust-due/oidc-dbt.yml")
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, ".github/oidc-dbt.yml", text)
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "add the policy"}} {
		git := exec.Command("git", append([]string{"-c", "core.autocrlf=false"}, args...)...)
		git.Dir = dir
		git.Env = append(os.Environ(), "GIT_AUTHOR_NAME=x ::error::x ##[error]y", "GIT_AUTHOR_EMAIL=x@example.com", "GIT_COMMITTER_NAME=x",
			"GIT_COMMITTER_EMAIL=x@example.com", "GIT_AUTHOR_DATE=2026-10-20T12:00:00Z", "GIT_COMMITTER_DATE=2026-10-20T12:00:00Z")
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	for format, want := range map[string]string{
		"text":     "prod     2026-07-01   2026-09-29  overdue by 33 days  2026-10-20 by x ::error::x ##\u200b[error]y in ",
		"markdown": "2026-10-20 by <code>x &#58;&#58;error&#58;&#58;x &#35;&#35;&#91;error&#93;y</code> in ",
		"json":     `"author": "x ::error::x ##` + "\u200b" + `[error]y",`,
		"csv":      ",x ::error::x ##\u200b[error]y,2026-10-20T12:00:00Z,true,,event_name\n",
	} {
		status, stdout, stderr := offline(t, dir, "", nil, "trust", "due", "--format", format)
		if status != 8 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want %q", format, status, stdout, stderr, want)
		}
		for line := range strings.Lines(stdout) {
			if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") {
				t.Errorf("%s prints a command: %q", format, line)
			}
		}
	}
}

// TestTrustDueSchema: the published schema accepts what is printed, and no
// other key.
func TestTrustDueSchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/trust-due.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := txtar.ParseFile("testdata/trust-due/json.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var documents [][]byte
	for _, f := range archive.Files {
		if f.Name == "want/stdout" {
			documents = append(documents, f.Data)
		}
	}
	reports, err := filepath.Glob("../review/testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range reports {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, text)
	}
	if len(documents) != 3 {
		t.Fatalf("found %d documents, want 3", len(documents))
	}
	for i, text := range documents {
		for _, tt := range []struct {
			old, new string
			err      bool
		}{
			{"", "", false}, {`"target":`, `"name": 1, "target":`, true}, {`"version": 1`, `"version": 2`, true},
			{`"state": "never"`, `"state": "none"`, true},
		} {
			text := bytes.Replace(text, []byte(tt.old), []byte(tt.new), 1)
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(document); (err != nil) != tt.err {
				t.Error(fmt.Sprintf("document %d with %q: ", i, tt.new), err)
			}
		}
	}
}
