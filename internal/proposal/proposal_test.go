package proposal_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// workflows is a folder for the proposed workflows, so that a linter can read them.
var workflows = flag.String("workflows", "", "a folder into which the proposed workflows are written")

// A checkout is a repository of a case, on disk. The case is an archive:
//
//	-- args --    arguments of init
//	-- repo/… --  the repository; the case `crlf` has Windows line ends
//	-- home/… --  the user's home
//	-- platform/… --  a checkout of the platform's repository
//	-- want/… --  what init prints, and its status where that is not 0
type checkout struct {
	t    *testing.T
	root string
	args []string
}

func newCheckout(t *testing.T, a *txtar.Archive, crlf bool) checkout {
	t.Helper()
	c := checkout{t: t, root: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(c.root, "repo"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		switch {
		case f.Name == "args":
			c.args = strings.Fields(string(f.Data))
		case strings.HasPrefix(f.Name, "repo/"), strings.HasPrefix(f.Name, "home/"), strings.HasPrefix(f.Name, "platform/"):
			if crlf {
				f.Data = bytes.ReplaceAll(f.Data, []byte("\n"), []byte("\r\n"))
			}
			c.write(f.Name, string(f.Data))
		case !strings.HasPrefix(f.Name, "want/"):
			t.Fatalf("the case has a part %q", f.Name)
		}
	}
	return c
}

func (c checkout) write(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c checkout) read(name string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root, "repo", filepath.FromSlash(name)))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// run runs the command in the repository, outside GitHub Actions.
func (c checkout) run(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = command.Run(c.t.Context(), job.Env{
		Getenv: func(name string) string {
			return map[string]string{"HOME": filepath.Join(c.root, "home"), "PATH": os.Getenv("PATH"),
				"OIDC_DBT_POLICY": "version: 1\nnonsense: yes\n", "OIDC_DBT_TARGET": "nonsense"}[name]
		},
		Environ: []string{"PATH=" + os.Getenv("PATH")}, Now: time.Now, Transport: web.NewTransport(), Stdin: strings.NewReader(""),
		Stdout: &out, Stderr: &errs, Dir: filepath.Join(c.root, "repo"), TempDir: c.t.TempDir(), Executable: "/opt/oidc-dbt/oidc-dbt", Version: "v1.2.3",
	}, args)
	said := strings.NewReplacer(c.root, "$ROOT")
	return status, said.Replace(out.String()), said.Replace(errs.String())
}

// A proposed is the JSON of init.
type proposed struct {
	Version    int
	Repository string
	Files      []struct{ Path, Text string }
	Diffs      []struct{ Path, Diff string }
	Entry      string
	Left       []struct {
		Text, Page        string
		Details, Commands []string
	}
	Written []string
}

func (c checkout) propose(args ...string) (p proposed) {
	c.t.Helper()
	status, out, errs := c.run(append(append([]string{"init", "--json"}, c.args...), args...)...)
	if status != 0 {
		c.t.Fatalf("status %d: %s", status, errs)
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil || p.Version != 1 {
		c.t.Fatalf("%v in %s", err, out)
	}
	return p
}

func eachRepository(t *testing.T, check func(t *testing.T, file string, a *txtar.Archive)) {
	t.Helper()
	files, err := filepath.Glob("testdata/repositories/*.txtar")
	if err != nil || len(files) < 25 {
		t.Fatalf("found %d cases: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			check(t, file, a)
		})
	}
}

func isCRLF(file string) bool { return filepath.Base(file) == "crlf.txtar" }

// marker is in every secret of the cases.
const marker = "s3cr3t"

// TestRepositories holds what is printed for each shape of repository. Nothing
// of it is a secret, and nothing is changed.
func TestRepositories(t *testing.T) {
	t.Parallel()
	eachRepository(t, func(t *testing.T, file string, a *txtar.Archive) {
		c := newCheckout(t, a, isCRLF(file))
		before := tree(t, c.root)
		status, out, errs := c.run(append([]string{"init"}, c.args...)...)
		if strings.Contains(out+errs, marker) {
			t.Error("a secret is printed")
		}
		if !maps.Equal(before, tree(t, c.root)) {
			t.Error("something is changed without --write")
		}
		want := []txtar.File{{Name: "want/stdout", Data: []byte(strings.ReplaceAll(out, "\r", "␍"))}, {Name: "want/stderr", Data: []byte(errs)}, {Name: "want/status"}}
		if status != 0 {
			want[2].Data = []byte(strconv.Itoa(status) + "\n")
		}
		golden.Case(t, file, a, want...)
	})
}

// tree returns the files below a folder.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// fails reports whether init refuses a case.
func fails(a *txtar.Archive) bool {
	return slices.ContainsFunc(a.Files, func(f txtar.File) bool { return f.Name == "want/status" })
}

// TestProposedFiles: what is written is what was shown, parses, and overwrites nothing.
func TestProposedFiles(t *testing.T) {
	t.Parallel()
	eachRepository(t, func(t *testing.T, file string, a *txtar.Archive) {
		if fails(a) {
			return
		}
		c := newCheckout(t, a, isCRLF(file))
		before := tree(t, c.root)
		p := c.propose("--write")
		after := tree(t, c.root)
		for path, text := range before {
			if after[path] != text {
				t.Errorf("%s is changed", path)
			}
		}
		if len(after)-len(before) != len(p.Written) {
			t.Errorf("%d files are new, want %q", len(after)-len(before), p.Written)
		}
		for _, f := range p.Files {
			if got := c.read(f.Path); got != f.Text {
				t.Errorf("%s is\n%s\nwant\n%s", f.Path, got, f.Text)
			}
			if f.Path == ".github/oidc-dbt.yml" || f.Path == ".github/oidc-dbt.test.yml" {
				if !strings.HasPrefix(f.Text, "# yaml-language-server: $schema=https://") {
					t.Errorf("%s names no schema for editors", f.Path)
				}
			}
			if f.Path == ".github/oidc-dbt.yml" {
				if _, err := policy.Parse(f.Path, []byte(f.Text), job.Catalog()); err != nil {
					t.Error(err)
				}
			}
		}
		if status, _, errs := c.run(append([]string{"init", "--write"}, c.args...)...); status != 2 || !strings.Contains(errs, "overwrites nothing") {
			t.Errorf("the second time: status %d, %s", status, errs)
		}
		if !maps.Equal(after, tree(t, c.root)) {
			t.Error("the second time changed something")
		}
	})
}

// TestProposedPoliciesHold: the proposed tests pass, each rule is covered, and
// lint finds nothing but what is left to do.
func TestProposedPoliciesHold(t *testing.T) {
	t.Parallel()
	eachRepository(t, func(t *testing.T, file string, a *txtar.Archive) {
		c := newCheckout(t, a, isCRLF(file))
		if fails(a) || slices.Contains(c.args, "--platform") {
			return
		}
		p := c.propose("--write")
		for _, d := range p.Diffs {
			c.write("repo/"+d.Path, apply(t, c.read(d.Path), d.Diff))
		}
		if status, out, errs := c.run("test-policy"); status != 0 {
			t.Errorf("test-policy: status %d\n%s%s\n%s", status, out, errs, p.Files[1].Text)
		}
		for _, s := range p.Left {
			for _, line := range s.Commands {
				words, ok := strings.CutPrefix(line, "oidc-dbt trust generate ")
				if !ok {
					continue
				}
				args := append([]string{"trust", "generate"}, strings.Fields(strings.ReplaceAll(words, `"acme=$(gh api users/acme --jq .id)"`, "acme=9919"))...)
				if status, _, errs := c.run(args...); status != 0 {
					t.Errorf("%s: status %d\n%s%s", line, status, errs, p.Files[0].Text)
				}
			}
		}
		_, out, errs := c.run("lint", "--format", "json", ".github/oidc-dbt.yml", ".github/workflows")
		var report struct {
			Findings []struct{ Name, File, Message string }
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v: %s%s", err, out, errs)
		}
		for _, f := range report.Findings {
			left := map[string]bool{
				"name-only-binding":   !slices.Contains(c.args, "--repository-id"),              // the first step of what is left
				"any-runner":          !strings.Contains(p.Files[0].Text, "runner_environment"), // where others run the jobs
				"static-secret":       strings.Contains(fmt.Sprint(p.Left), "dbt no longer reads: remove the step"),
				"overlapping-targets": strings.Contains(p.Files[0].Text, "# guess: the jobs of "),
				"unenforceable-claim": true, // what the provider cannot see, which the list of what is left to do says
			}
			if !left[f.Name] {
				t.Errorf("lint finds %s in %s: %s", f.Name, f.File, f.Message)
			}
		}
	})
}

// pinned matches a pinned action, and a called workflow at the ref that the platform's policy names.
var pinned = regexp.MustCompile(`(?m)uses: (?:[\w./-]+@[0-9a-f]{40} # \S|acme/platform/[\w./-]+@\S+ # (?:guess: )?the ref that )`)

// TestProposedWorkflows: each is YAML, asks for a token only where dbt runs,
// pins the action, and keeps every step that is not replaced.
func TestProposedWorkflows(t *testing.T) {
	t.Parallel()
	eachRepository(t, func(t *testing.T, file string, a *txtar.Archive) {
		if fails(a) {
			return
		}
		c := newCheckout(t, a, isCRLF(file))
		p := c.propose()
		texts := map[string]string{}
		for _, f := range p.Files {
			if strings.HasPrefix(f.Path, ".github/workflows/") {
				texts[f.Path] = f.Text
				if len(pinned.FindAllString(f.Text, -1)) != strings.Count(f.Text, "uses: ") {
					t.Errorf("%s pins not every action:\n%s", f.Path, f.Text)
				}
			}
		}
		for _, d := range p.Diffs {
			texts[d.Path] = apply(t, c.read(d.Path), d.Diff)
			if crlf := strings.Count(texts[d.Path], "\r\n") == strings.Count(texts[d.Path], "\n"); isCRLF(file) != crlf {
				t.Errorf("%s: line ends are mixed", d.Path)
			}
		}
		if len(texts) == 0 {
			t.Error("there is no workflow")
		}
		for path, text := range texts {
			checkWorkflow(t, path, text)
			if *workflows != "" {
				name := strings.TrimSuffix(filepath.Base(file), ".txtar") + "-" + filepath.Base(path)
				if err := os.WriteFile(filepath.Join(*workflows, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func checkWorkflow(t *testing.T, path, text string) {
	t.Helper()
	type permissions = any
	var w struct {
		Permissions permissions
		Jobs        map[string]struct {
			Permissions permissions
			Uses        string
			Steps       []struct {
				Uses, Run string
				With      map[string]any
			}
		}
	}
	if err := yaml.Load([]byte(text), &w); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, text)
	}
	if top, ok := w.Permissions.(map[string]any); (!ok || len(top) > 0) && len(w.Jobs) < 2 {
		t.Errorf("%s: permissions at the top are %v, want {}", path, w.Permissions)
	}
	for id, j := range w.Jobs {
		uses := strings.Contains(j.Uses, "/dbt.yml@")
		for _, s := range j.Steps {
			if strings.HasPrefix(s.Uses, "oidc-dbt/oidc-dbt@") {
				uses = true
				if s.With["target"] == "" {
					t.Errorf("%s: job %s has no target", path, id)
				}
			}
			if strings.Contains(s.Run, "--profiles-dir") {
				t.Errorf("%s: job %s still has --profiles-dir", path, id)
			}
		}
		mine, _ := j.Permissions.(map[string]any)
		if (mine["id-token"] == "write") != uses {
			t.Errorf("%s: job %s uses the action: %t, and has permissions %v", path, id, uses, j.Permissions)
		}
	}
}

var hunk = regexp.MustCompile(`^@@ -(\d+),(\d+) \+(\d+),(\d+) @@$`)

// apply applies a difference as patch does: every line of it must be there.
func apply(t *testing.T, text, diff string) string {
	t.Helper()
	var out strings.Builder
	lines := strings.SplitAfter(text, "\n")
	at, olds, news := 0, 0, 0
	for line := range strings.Lines(diff) {
		body := line[1:]
		switch {
		case strings.HasPrefix(line, "--- a/"), strings.HasPrefix(line, "+++ b/"):
		case strings.HasPrefix(line, "@@"):
			m := hunk.FindStringSubmatch(strings.TrimSpace(line))
			if m == nil || olds != 0 || news != 0 {
				t.Fatalf("hunk %q, after one with %d and %d lines left", line, olds, news)
			}
			from, _ := strconv.Atoi(m[1])
			olds, _ = strconv.Atoi(m[2])
			news, _ = strconv.Atoi(m[4])
			for ; at < from-1; at++ {
				out.WriteString(lines[at])
			}
			if to, _ := strconv.Atoi(m[3]); strings.Count(out.String(), "\n")+1 != to {
				t.Errorf("hunk %q begins at line %d of the new file", line, strings.Count(out.String(), "\n")+1)
			}
		case line[0] == '+':
			out.WriteString(body)
			news--
		default:
			if lines[at] != body {
				t.Fatalf("line %d is %q, the difference has %q", at+1, lines[at], body)
			}
			if olds, at = olds-1, at+1; line[0] == ' ' {
				out.WriteString(body)
				news--
			}
		}
	}
	if olds != 0 || news != 0 {
		t.Errorf("the last hunk lacks %d and %d lines", olds, news)
	}
	for ; at < len(lines); at++ {
		out.WriteString(lines[at])
	}
	return out.String()
}
