package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// warners are functions whose messages are all warnings, by their files; what
// other functions give to one of telling is a warning, too.
var warners = map[string]map[string]bool{
	"action/publish.go":   words("handOverWarnings"),
	"adapter/settle.go":   words("Notes"),
	"broker/gate.go":      words("turnAway"),
	"job/misleading.go":   words("option variable other"),
	"job/project.go":      words("identities"),
	"policy/outputs.go":   words("ask"),
	"policy/rules.go":     words("warnings"),
	"profile/secrets.go":  words("Kept"),
	"policy/authorize.go": {}, // d.warnings
}

// telling are functions that print their arguments as warnings.
var telling = words("warn Warning Tell")

// TestRunbookHasEveryWarning: who is told of something by a run finds out what
// to do about it. The page names nothing that the code does not print.
func TestRunbookHasEveryWarning(t *testing.T) {
	t.Parallel()
	_, page, _ := strings.Cut(pages(t)["../docs/guides/runbook.md"], "\n## Warnings\n")
	entries := entriesOf(t, "guides/runbook.md", page)
	known := func(text string) bool {
		for _, entry := range entries {
			if entry.MatchString(text) {
				return true
			}
		}
		return false
	}
	warnings := warningsOfCode(t)
	if len(warnings) < 20 {
		t.Fatalf("found %d warnings in the code, want at least 20", len(warnings))
	}
	for _, w := range warnings {
		if !known(w.text) {
			t.Errorf("%s: docs/guides/runbook.md has no entry for the warning %q", w.place, w.text)
		}
	}
	for _, text := range warningsOfRuns(t) {
		if !known(text) {
			t.Errorf("docs/guides/runbook.md has no entry for %q, which a run prints", text)
		}
	}
	all := messages(t)
	for text, entry := range entries {
		printed := false
		for _, m := range all {
			printed = printed || entry.MatchString(m.text)
		}
		if !printed {
			t.Errorf("docs/guides/runbook.md has an entry for %q, which the code does not print", text)
		}
	}
}

// warningsOfCode returns the texts that the code prints as warnings.
func warningsOfCode(t *testing.T) (list []message) {
	t.Helper()
	seen := map[string]bool{}
	for _, pattern := range speaking {
		files, err := filepath.Glob("../internal/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			name := strings.TrimPrefix(filepath.ToSlash(path), "../internal/")
			if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "explain/") {
				continue // explain's own are about its claims, not about a run
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if warners[name][n.Name.Name] {
						seen[name+" "+n.Name.Name] = true
						list = append(list, textsIn(set, n.Body, name)...)
					}
				case *ast.CallExpr:
					if telling[called(n)] || called(n) == "append" && strings.HasSuffix(nameOf(n.Args[0]), "arnings") {
						for _, argument := range n.Args {
							list = append(list, textsIn(set, argument, name)...)
						}
					}
				}
				return true
			})
		}
	}
	for file, functions := range warners {
		for function := range functions {
			if !seen[file+" "+function] {
				t.Errorf("internal/%s has no function %s", file, function)
			}
		}
	}
	return list
}

// nameOf returns the last name of a variable or field.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// textsIn returns the messages below a node.
func textsIn(set *token.FileSet, n ast.Node, file string) (list []message) {
	ast.Inspect(n, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := textOf(e)
		if ok && says(text, 3) {
			list = append(list, message{text, file + ":" + set.Position(n.Pos()).String()})
		}
		return !ok
	})
	return list
}

// warningsOfRuns returns the warnings in the recorded logs of whole runs.
func warningsOfRuns(t *testing.T) (list []string) {
	t.Helper()
	files, err := filepath.Glob("../testdata/runs/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no runs: %v", err)
	}
	line := regexp.MustCompile(`(?m)^(?:::warning[^:\n]*::|oidc-dbt: warning: )(.+)$`)
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(m[0], "title=oidc-dbt") { // a finding of lint, which has a page of its own
				list = append(list, m[1])
			}
		}
	}
	if len(list) < 20 {
		t.Fatalf("found %d warnings in the runs, want at least 20", len(list))
	}
	return list
}

// TestRunbookNamesEveryClass: an alert by class finds its exit status.
func TestRunbookNamesEveryClass(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/guides/runbook.md"]
	for class := fault.Internal; class <= fault.Unreachable; class++ {
		if want := "`" + class.String() + "` " + string(rune('0'+class)); !strings.Contains(page, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
}
