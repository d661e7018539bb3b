package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
)

const architecture = "ARCHITECTURE.md"

// around are the packages that the product does not link and that the table
// of rooms therefore does not have.
var around = []string{
	"bench", "bench/bare", "demo", "docs", "e2e/setup", "internal/golden", "internal/pyenv", "internal/sampling", "internal/standin",
	"internal/standin/wall", "release", "release/image",
}

// TestArchitecture holds the page to the code: the lists of packages to their
// comments and to the table of rooms, and every declaration that it sends a
// reader to, to the file that has it.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	want := golden.Splice(t, string(text), "rooms", roomsTable(t))
	want = golden.Splice(t, want, "around", aroundTable(t))
	golden.Compare(t, architecture, located(t, want))
}

// named are declarations that the page names with their file, as `NAME` in `FILE`.
var named = regexp.MustCompile("`(\\w+)` in `([\\w./-]+)`")

// located corrects the file of each declaration that the page names: it may
// have moved within its package.
func located(t *testing.T, page string) string {
	t.Helper()
	files := map[string][]string{} // by the name that they declare at package level
	walkGo(t, func(path string, file *ast.File) {
		for _, name := range declared(file) {
			files[name] = append(files[name], path)
		}
	})
	count := 0
	page = named.ReplaceAllStringFunc(page, func(text string) string {
		count++
		m := named.FindStringSubmatch(text)
		for _, file := range files[m[1]] {
			if filepath.Dir(file) == filepath.Dir(m[2]) {
				return fmt.Sprintf("`%s` in `%s`", m[1], file)
			}
		}
		t.Errorf("%s names %s in %s, where it is not declared; it is in %q", architecture, m[1], m[2], files[m[1]])
		return text
	})
	if count < 20 {
		t.Errorf("%s names %d declarations, want at least 20", architecture, count)
	}
	return page
}

// roomsTable lists the product's packages from the top floor down. A room is
// one floor above the highest room that it imports.
func roomsTable(t *testing.T) string {
	t.Helper()
	floors := map[string]int{}
	var floor func(room string, below []string) int
	floor = func(room string, above []string) int {
		if slices.Contains(above, room) {
			t.Fatalf("the table of rooms goes in a circle: %q", append(above, room))
		}
		if _, known := floors[room]; !known {
			n := 0
			for _, to := range rooms[room] {
				n = max(n, floor(to, append(above, room))+1)
			}
			floors[room] = n
		}
		return floors[room]
	}
	for room := range rooms {
		floor(room, nil)
	}
	names := slices.SortedFunc(maps.Keys(rooms), func(a, b string) int {
		return cmp.Or(cmp.Compare(floors[b], floors[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	b.WriteString("| floor | package | what it does |\n| --- | --- | --- |\n")
	for _, room := range names {
		link := "[" + room + "](internal/" + room + ")"
		dir := "internal/" + room
		if room == "." {
			link, dir = "[main](main.go)", "."
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", floors[room], link, sentence(t, dir))
	}
	return b.String()
}

func aroundTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| package | what it does |\n| --- | --- |\n")
	for _, dir := range around {
		fmt.Fprintf(&b, "| [%s](%s) | %s |\n", dir, dir, sentence(t, dir))
	}
	for _, name := range outside {
		if !slices.Contains(around, "internal/"+name) {
			t.Errorf("internal/%s is not among the packages around the product", name)
		}
	}
	return b.String()
}

// sentence returns the first sentence of a package's comment without its
// first words, "Package NAME".
func sentence(t *testing.T, dir string) string {
	t.Helper()
	var comments []string
	for _, file := range parseDir(t, dir) {
		if file.Doc != nil {
			comments = append(comments, file.Doc.Text())
		}
	}
	if len(comments) != 1 {
		t.Fatalf("%s has %d package comments, want one", dir, len(comments))
	}
	first := new(doc.Package).Synopsis(comments[0])
	words := strings.SplitN(first, " ", 3)
	if len(words) < 3 || words[0] != "Package" && words[0] != "Command" || !strings.HasSuffix(first, ".") {
		t.Fatalf("%s: the package comment begins with %q, want a sentence that begins with Package or Command and the name", dir, first)
	}
	return strings.ReplaceAll(words[2], "|", `\|`)
}

// parseDir returns a folder's files, by their paths.
func parseDir(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	paths, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s has no Go files: %v", dir, err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.ToSlash(path)] = file
	}
	return files
}

// walkGo visits the product's files, and the tests and stand-ins that have tables of their own.
func walkGo(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	walkProduct(t, visit)
	for _, dir := range []string{".", "docs", "internal/standin"} {
		for path, file := range parseDir(t, dir) {
			if path != "main.go" { // the product's
				visit(path, file)
			}
		}
	}
}

// declared returns the names of a file's functions, types, variables and constants.
func declared(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

// TestGlossaryHasTheCodesWords: a word that no code uses explains nothing.
// The words that users meet are held by docs TestGlossary.
func TestGlossaryHasTheCodesWords(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	_, glossary, ok := strings.Cut(string(page), "\n## Glossary\n")
	glossary, _, _ = strings.Cut(glossary, "\n## ")
	terms := regexp.MustCompile(`(?m)^\| ([^|]+?) \|`).FindAllStringSubmatch(glossary, -1)
	if !ok || len(terms) < 10 {
		t.Fatalf("%s has %d words, want at least 10 under \"Glossary\"", architecture, len(terms))
	}
	names := map[string]bool{}
	walkGo(t, func(_ string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				names[strings.ToLower(id.Name)] = true
			}
			return true
		})
		names[file.Name.Name] = true
	})
	for _, term := range terms[2:] { // the table's head
		if name := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(term[1])); !names[name] && !names[name+"s"] {
			t.Errorf("%s explains %q, which is no name in the code", architecture, term[1])
		}
	}
}
