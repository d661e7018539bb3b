//go:build e2e && wide

// Package newpair follows docs/adding-a-warehouse.md for an invented pair, in a
// copy of the tree: the page names all files that must change, and each test
// that it names fails until its file is right.
package newpair

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// checks are the packages whose tests the page names.
var checks = []string{"./internal/adapter", "./internal/profile", "./internal/job", "./docs", "."}

// A step is one row of the page: it changes a file, by hand or by a test's
// -update.
type step struct {
	file   string
	change func(t *testing.T, tree string)
}

func TestThePageIsEnough(t *testing.T) {
	repository, tree := setup.Repository(t), t.TempDir()
	copyTree(t, repository, tree)
	a, err := txtar.ParseFile("testdata/exasol.txtar")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "internal/profile/testdata/inline/exasol-vault.txtar"
	text, err := os.ReadFile("testdata/exasol-vault.txtar") // a txtar file cannot contain another one
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]string{golden: string(text)}
	for _, f := range a.Files {
		written[f.Name] = string(f.Data)
	}
	create := func(file string) step {
		return step{file, func(t *testing.T, tree string) { setup.Write(t, tree, file, written[file]) }}
	}
	insert := func(file, before, line string) step {
		return step{file, func(t *testing.T, tree string) { insertLine(t, filepath.Join(tree, file), before, line) }}
	}
	update := func(file, pkg string) step {
		return step{file, func(t *testing.T, tree string) { _, _ = goTest(t, tree, pkg, "-update") }}
	}
	const proof = "made up | `internal/adapter` TestEveryPair |\n"

	create("internal/adapter/exasol.go").change(t, tree)
	insert("internal/adapter/adapter.go", `	"fabric":     fabric,`, "\t\"exasol\":     exasol,\n").change(t, tree)
	out, err := goTest(t, tree, checks...)
	if err == nil {
		t.Fatal("all tests pass with only an adapter")
	}
	page := pageOf(t, repository)
	for _, name := range page.tests {
		if !strings.Contains(out, "--- FAIL: "+name+" ") {
			t.Errorf("%s, which the page names, asks for nothing:\n%s", name, out)
		}
	}
	for _, want := range []string{
		"exasol × vault lacks a line of blocks in internal/standin/fixtures.go",
		"exasol × vault lacks a golden profile in internal/profile/testdata/inline",
		"exasol × vault lacks a row in docs/evidence.md",
		`exasol × vault lacks a row under "Runs that outlive their credential" in docs/evidence.md`,
		"exasol × vault lacks a row in docs/warehouses/README.md",
		"exasol × vault lacks a page in docs/warehouses",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if strings.Contains(out, "panic:") {
		t.Errorf("a test panics:\n%s", out)
	}

	for _, s := range []step{
		insert("internal/standin/fixtures.go", "\t\"fabric\": `", "\t\"exasol\": `{type: exasol, dsn: \"exa.acme.example:8563\", database: analytics, schema: marts}`,\n"),
		insert("internal/adapter/testdata/credentials.json", ` "fabric": {`, ` "exasol": {"aliases": {}, "fields": ["database", "dsn", "encryption", "password", "schema", "user"], "required": ["database", "dsn", "schema"]},`+"\n"),
		create(golden),
		update(golden, "./internal/profile"),
		create("docs/warehouses/exasol.md"),
		insert("docs/warehouses/README.md", "| spark | `vault`", "| exasol | `vault` | the lease | [exasol](exasol.md) |\n"),
		insert("docs/evidence.md", "| trino × `oidc` | real server", "| exasol × `vault` | recorded request | "+proof),
		insert("docs/evidence.md", "| trino × `oidc` | `dbt build`", "| exasol × `vault` | "+proof),
		insert("docs/troubleshooting.md", "| `works only through the proxy`", "| `is …, want HOST:PORT`<br>`is …, want TLS` | Correct the key of the block. |\n"),
		update("docs/long-runs.md", "./docs"),
		update("policy.schema.json", "."),
	} {
		s.change(t, tree)
	}
	if out, err := goTest(t, tree, checks...); err != nil {
		t.Errorf("after all steps of the page: %v\n%s", err, out)
	}
	if got := changed(t, repository, tree); !slices.Equal(got, page.files) {
		t.Errorf("files touched:\n%s\nthe page has:\n%s", strings.Join(got, "\n"), strings.Join(page.files, "\n"))
	}
	if want := fmt.Sprintf("%d files", len(page.files)); !strings.Contains(page.text, want) {
		t.Errorf("the page does not say %q", want)
	}
}

// goTest runs the tests of packages of the copy.
func goTest(t *testing.T, tree string, args ...string) (out string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"test"}, args...)...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath -mod=readonly") // so that unchanged packages come from the cache
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// A page is the part of docs/adding-a-warehouse.md that applies to this pair.
type page struct {
	text         string
	files, tests []string
}

var (
	fileName = regexp.MustCompile("`([A-Za-z0-9_./-]+\\.[a-z]+)`")
	testName = regexp.MustCompile(`Test[A-Za-z]+`)
)

func pageOf(t *testing.T, repository string) (p page) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs/adding-a-warehouse.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## An adapter\n")
	p.text, _, _ = strings.Cut(rest, "\n## ")
	files, tests := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(p.text) {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 || !ok {
			continue
		}
		for _, m := range fileName.FindAllStringSubmatch(cells[1], -1) {
			files[strings.NewReplacer("TYPE", "exasol", "PROVIDER", "vault").Replace(m[1])] = true
		}
		for _, name := range testName.FindAllString(cells[2], -1) {
			tests[name] = true
		}
	}
	p.files, p.tests = slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(tests))
	if len(p.files) < 5 || len(p.tests) < 3 {
		t.Fatalf("the page's table has the files %q and the tests %q", p.files, p.tests)
	}
	return p
}

func insertLine(t *testing.T, path, before, line string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, tail, ok := strings.Cut(string(text), "\n"+before)
	if !ok {
		t.Fatalf("%s has no line that begins with %q", path, before)
	}
	if err := os.WriteFile(path, []byte(head+"\n"+line+before+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listed returns the files of the tree that a commit would contain.
func listed(t *testing.T, repository string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-C", repository, "ls-files", "-co", "--exclude-standard", "-z").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	return slices.DeleteFunc(strings.Split(string(out), "\x00"), func(name string) bool {
		_, err := os.Lstat(filepath.Join(repository, name))
		return name == "" || err != nil // deleted, but not committed yet
	})
}

func copyTree(t *testing.T, repository, tree string) {
	t.Helper()
	for _, name := range listed(t, repository) {
		info, err := os.Lstat(filepath.Join(repository, name))
		if err != nil {
			t.Fatal(err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

// changed returns the files of the copy that differ from the repository, sorted.
func changed(t *testing.T, repository, tree string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		now, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if before, err := os.ReadFile(filepath.Join(repository, name)); err != nil || !bytes.Equal(before, now) {
			list = append(list, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}
