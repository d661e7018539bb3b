// Package docs holds the documentation to the code.
package docs

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/action"
	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// pages returns every Markdown file by its path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(path)] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 8 {
		t.Fatalf("found %d pages only", len(found))
	}
	return found
}

var block = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks returns the code blocks of a language on a page.
func blocks(text, language string) (list []string) {
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			list = append(list, m[2])
		}
	}
	return list
}

func TestPoliciesParse(t *testing.T) {
	t.Parallel()
	count := 0
	for path, text := range pages(t) {
		for _, b := range blocks(text, "yaml") {
			if !strings.HasPrefix(b, "version: 1\n") {
				continue
			}
			count++
			if _, err := policy.Parse(path, []byte(b), job.Catalog()); err != nil {
				t.Error(err)
			}
		}
	}
	if count < 6 {
		t.Errorf("found %d policies, want at least 6", count)
	}
}

// TestStepsUseDeclaredInputs reads every step that uses the action.
func TestStepsUseDeclaredInputs(t *testing.T) {
	t.Parallel()
	var declared []string
	for _, i := range action.Inputs() {
		declared = append(declared, i.Name)
	}
	var outputs []string
	for _, o := range action.Outputs() {
		outputs = append(outputs, o.Name)
	}
	used := regexp.MustCompile(`steps\.\w+\.outputs\.([\w-]+)`)
	count := 0
	for path, text := range pages(t) {
		for _, b := range blocks(text, "yaml") {
			for _, m := range used.FindAllStringSubmatch(b, -1) {
				if !slices.Contains(outputs, m[1]) {
					t.Errorf("%s uses the output %q, which is not declared", path, m[1])
				}
			}
			var doc yaml.Node
			if err := yaml.Load([]byte(b), &doc); err != nil {
				t.Errorf("%s: a block is not YAML: %v", path, err)
				continue
			}
			walk(&doc, func(step map[string]*yaml.Node) {
				uses := step["uses"]
				if uses == nil || !strings.HasPrefix(uses.Value, "oidc-dbt/oidc-dbt@") {
					return
				}
				count++
				with := step["with"]
				for i := 0; with != nil && i+1 < len(with.Content); i += 2 {
					if name := with.Content[i].Value; !slices.Contains(declared, name) {
						t.Errorf("%s uses the input %q, which is not declared", path, name)
					}
				}
			})
		}
	}
	if count < 4 {
		t.Errorf("found %d steps that use the action, want at least 4", count)
	}
}

func walk(n *yaml.Node, visit func(map[string]*yaml.Node)) {
	if n.Kind == yaml.MappingNode {
		m := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = n.Content[i+1]
		}
		visit(m)
	}
	for _, c := range n.Content {
		walk(c, visit)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	for path, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %q, which is not there", path, m[1])
			}
		}
	}
}

// TestEveryWarehouseHasItsPage: a page, a row in the README, and a row of evidence for each pair.
func TestEveryWarehouseHasItsPage(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for name, spec := range adapter.Specs() {
		if _, ok := all["../docs/warehouses/"+name+".md"]; !ok {
			t.Errorf("docs/warehouses/%s.md is not there", name)
		}
		for _, provider := range spec.Providers {
			if row := fmt.Sprintf("| %s | `%s`", name, provider); !strings.Contains(all["../README.md"], row) {
				t.Errorf("README.md has no row %q", row)
			}
			if row := fmt.Sprintf("| %s × `%s` |", name, provider); !strings.Contains(all["../docs/evidence.md"], row) {
				t.Errorf("docs/evidence.md has no row %q", row)
			}
		}
	}
}

// TestEvidenceNamesWhatIsThere: each folder that a proof names.
func TestEvidenceNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	place := regexp.MustCompile("`((?:e2e|testdata|internal|demo|\\.ci)[\\w/]*)`")
	for _, m := range place.FindAllStringSubmatch(pages(t)["../docs/evidence.md"], -1) {
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("docs/evidence.md names %q, which is not there", m[1])
		}
	}
}

func TestDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text := pages(t)["../docs/dependencies.md"]
	direct := 0
	for lines := bufio.NewScanner(bytes.NewReader(mod)); lines.Scan(); {
		line := lines.Text()
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "\t") || len(fields) < 2 || strings.Contains(line, "// indirect") {
			continue
		}
		direct++
		if !strings.Contains(text, "| `"+fields[0]+"` |") {
			t.Errorf("docs/dependencies.md gives no reason for %s", fields[0])
		}
	}
	if rows := strings.Count(text, "| `"); rows != direct {
		t.Errorf("docs/dependencies.md has %d rows, go.mod has %d direct dependencies", rows, direct)
	}
}
