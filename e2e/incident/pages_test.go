//go:build e2e && linux && amd64

package incident

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// fence is a block of code on a page, also inside a list.
var fence = regexp.MustCompile("(?ms)^( *)```(\\w+)\n(.*?)^ *```$")

// A codeBlock is one of a page, with the text before it.
type codeBlock struct{ page, before, text string }

// codeBlocks returns the blocks of a language on all pages of the documentation.
func codeBlocks(t *testing.T, language string) (list []codeBlock) {
	t.Helper()
	root := filepath.Join(setup.Repository(t), "docs")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		page, _ := filepath.Rel(root, path)
		for _, m := range fence.FindAllStringSubmatchIndex(string(text), -1) {
			indent, name, body := string(text[m[2]:m[3]]), string(text[m[4]:m[5]]), string(text[m[6]:m[7]])
			if name == language {
				body = strings.TrimPrefix(strings.ReplaceAll("\n"+body, "\n"+indent, "\n"), "\n")
				list = append(list, codeBlock{filepath.ToSlash(page), string(text[:m[0]]), body})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// guide is the page of the way from a stored key.
const guide = "guides/from-a-stored-key.md"

// dialects are sqlglot's names, by what a page, its heading or its paragraph says that the statements are for.
var dialects = []struct{ word, name string }{
	{"snowflake", "snowflake"}, {"redshift", "redshift"}, {"bigquery", "bigquery"}, {"databricks", "databricks"}, {"sql server", "tsql"},
	{"sqlserver", "tsql"}, {"fabric", "fabric"}, {"postgresql", "postgres"}, {"postgres", "postgres"}, {"trino", "trino"}, {"clickhouse", "clickhouse"},
	{"aws", "athena"}, {"athena", "athena"}, {"spark", "spark"},
}

// dialect returns the dialect of a block: that of a warehouse's page, else of the last heading or bold word before it.
func (b codeBlock) dialect() string {
	place := b.page
	if !strings.HasPrefix(place, "warehouses/") {
		for _, m := range regexp.MustCompile(`(?m)^##+ (.+)$|^\*\*(.+?)\*\*`).FindAllStringSubmatch(b.before, -1) {
			place = m[1] + m[2]
		}
	}
	for _, d := range dialects {
		if strings.Contains(strings.ToLower(place), d.word) {
			return d.name
		}
	}
	return ""
}

// generated reports whether a block is what trust prints, whose statements TestSQL and e2e/trust read.
func (b codeBlock) generated() bool {
	return strings.Count(b.before, "<!-- trust:start ") > strings.Count(b.before, "<!-- trust:end -->")
}

// TestSQLOnPages: sqlglot reads the statements of every page in the dialect that they are for. Of statements about users
// it knows only the words, so their beginnings are held to a list as well.
func TestSQLOnPages(t *testing.T) {
	t.Parallel()
	type statements struct{ Dialect, Text string }
	all, count := map[string]statements{}, 0
	for i, b := range codeBlocks(t, "sql") {
		dialect := b.dialect()
		if b.generated() || strings.Contains(b.text, "{%") || b.page == guide && dialect == "postgres" {
			continue // a macro of dbt's, or what e2e/postgres runs
		}
		if dialect == "" {
			t.Errorf("%s: for which dialect are these statements?\n%s", b.page, b.text)
		}
		all[fmt.Sprintf("%s %d", b.page, i)] = statements{dialect, b.text}
		if b.page == guide {
			count++
		}
	}
	if count < 10 {
		t.Errorf("%s has %d blocks, want at least 10", guide, count)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	const program = `
import json, re, sys, sqlglot
from sqlglot import exp
known = re.compile(r"(?i)^(ALTER (USER|ROLE|LOGIN|GROUP|DATABASE)|CREATE|COPY|DROP (USER|ROLE|LOGIN|OWNED)|GRANT|REVOKE|SHOW|USE|SET|REASSIGN OWNED|DESCRIBE|CALL|EXEC|SECURITY)\b")
for name, block in sorted(json.load(sys.stdin).items()):
    try:
        trees = [s for s in sqlglot.parse(block["Text"], read=block["Dialect"]) if s is not None]
        assert trees, "no statement"
        for tree in trees:
            if isinstance(tree, exp.Command):
                words = tree.sql(dialect=block["Dialect"], comments=False)
                assert known.match(words), "unknown statement " + words
    except Exception as e:
        print(f"{name} ({block['Dialect']}): {e}")
`
	cmd := exec.Command(setup.Python(t).Program("python"), "-W", "ignore", "-c", program)
	cmd.Stdin = strings.NewReader(string(text))
	out, err := cmd.Output()
	if err != nil || len(out) > 0 {
		t.Errorf("sqlglot: %v\n%s", err, out)
	}
}

// TestCommandsOfAWS: AWS's command line takes the arguments of the pages' commands: it gets as far as the network, where
// there is no one. What trust prints is run by other tests.
func TestCommandsOfAWS(t *testing.T) {
	t.Parallel()
	aws, count := tools(t).Program("aws"), 0
	for _, b := range codeBlocks(t, "sh") {
		for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
			if b.generated() || !strings.HasPrefix(line, "aws ") {
				continue
			}
			count++
			line, _, _ = strings.Cut(line, " | ") // what reads its output
			line, _, _ = strings.Cut(line, " > ")
			cmd := exec.Command("bash", "-euc", strings.TrimSpace(line)+" --endpoint-url http://127.0.0.1:1")
			cmd.Dir = t.TempDir()
			setup.Write(t, cmd.Dir, "permissions.json", "{}")
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + filepath.Dir(aws) + ":" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true",
				"AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none", "AWS_DEFAULT_REGION=eu-central-1", "AWS_MAX_ATTEMPTS=1"}
			if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "Could not connect to the endpoint URL") {
				t.Errorf("%s ends with\n%s", strings.TrimSpace(line), out)
			}
		}
	}
	if count < 20 {
		t.Errorf("found %d commands, want at least 20", count)
	}
}

// TestQueriesOfRunbook runs the page's queries over the records of this repository's tests.
func TestQueriesOfRunbook(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(setup.Repository(t), "internal", "audit", "testdata", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no records: %v", err)
	}
	dir, records := t.TempDir(), ""
	add := func(path, id string, change func(record, unmapped map[string]any)) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var record map[string]any
		if err := json.Unmarshal(text, &record); err != nil {
			t.Fatal(err)
		}
		record["metadata"].(map[string]any)["correlation_uid"] = id
		change(record, record["unmapped"].(map[string]any))
		line, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		records += string(line) + "\n"
	}
	for _, path := range files { // none has the other line of its pair
		add(path, filepath.Base(path), func(_, _ map[string]any) {})
	}
	add(filepath.Join(filepath.Dir(files[0]), "failed.json"), "turned away", func(record, unmapped map[string]any) {
		record["count"], unmapped["outcome"] = 3, "turned_away"
	})
	setup.Write(t, dir, "audit.jsonl", records)
	want := []string{"1 denied\tprod\t", "\tprod\t", "\tprod\t3"} // of each query
	for _, b := range codeBlocks(t, "sh") {
		if b.page != "guides/runbook.md" {
			continue
		}
		for line := range strings.Lines(b.text) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			cmd := exec.Command("bash", "-euo", "pipefail", "-c", line)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if len(want) == 0 {
				t.Fatalf("a query more than is known: %s", line)
			}
			if err != nil || !strings.Contains(string(out), want[0]) {
				t.Errorf("%s: %v, want %q in\n%s", line, err, want[0], out)
			}
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("%d queries are not on the page", len(want))
	}
}
