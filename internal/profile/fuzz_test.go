package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
)

// FuzzFrom rewrites arbitrary files: the result must read as the original, except
// for secrets, the chosen output and its profile's target. The end-to-end tests
// check that this reader agrees with dbt's own.
func FuzzFrom(f *testing.F) {
	paths, err := filepath.Glob("testdata/from/*.txtar")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if strings.HasSuffix(file.Name, "/profiles.yml") {
				f.Add(file.Data)
			}
		}
	}
	out := adapter.Output{
		Remove: []string{"password"},
		Keys:   []adapter.Key{{Name: "token", Value: text("{{ env_var('DBT_ENV_SECRET_OIDC_TOKEN') }}")}},
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		s, err := ReadFrom("profiles.yml", source)
		if err != nil {
			return
		}
		for _, name := range keys(s.root) {
			p := get(s.root, name)
			if p == nil || get(p, "outputs") == nil {
				continue
			}
			for _, output := range keys(get(p, "outputs")) {
				written, err := s.Render([]string{name}, output, out)
				if err != nil {
					continue
				}
				again, err := ReadFrom("written", written)
				if err != nil {
					t.Fatalf("%v:\n%s", err, written)
				}
				block, _, err := again.Output(name, output)
				if err != nil {
					t.Fatalf("%v:\n%s", err, written)
				}
				if v := get(block, "token"); v == nil || v.Value != out.Keys[0].Value.Value || get(block, "password") != nil {
					t.Errorf("the chosen output has more or less than the credential:\n%s", written)
				}
				if before, after := dump(without(withoutSecrets(s.root), name, output)), dump(without(again.root, name, output)); before != after {
					t.Errorf("not as it was (-before +after):\n%s", cmp.Diff(before, after))
				}
			}
		}
	})
}

// without returns the tree without an output and its profile's target.
func without(root *yaml.Node, name, output string) *yaml.Node {
	p := get(root, name)
	p = with(p, "outputs", with(get(p, "outputs"), output, text("")))
	return with(root, name, with(p, "target", text("")))
}

// dump writes a tree, one node per line: it is a thousand times faster than cmp.
func dump(n *yaml.Node) string {
	var out strings.Builder
	var walk func(n *yaml.Node, depth int)
	walk = func(n *yaml.Node, depth int) {
		value := n.Value
		if n.Tag == "!!null" && value == "" {
			value = "null" // as it is written
		}
		fmt.Fprintf(&out, "%*s%d %s %q\n", depth, "", n.Kind, n.Tag, value)
		for _, c := range n.Content {
			walk(c, depth+1)
		}
	}
	walk(n, 0)
	return out.String()
}

// TestTag11 compares the resolver with PyYAML 6.0.3.
func TestTag11(t *testing.T) {
	t.Parallel()
	for tag, words := range map[string]string{
		"!!bool":      "yes No ON off TRUE false",
		"!!int":       "0 00 0123 -0 +5 8 1_000 0x1F 0x_ 0b10 12:30 1:2 190:20:30 0_7",
		"!!float":     "1. .5 1.5 -1.5 1.0e+3 1_000.5 .inf -.INF .nan 190:20:30.15",
		"!!timestamp": "2026-10-01 2026-10-01T12:30:00Z",
		"!!null":      "~ null Null NULL",
		"!!merge":     "<<",
		"!!value":     "=",
		"!!str":       "y n Yes! yEs 08 09 0o17 1e3 1.0e3 -.5 0b 0x -.nan 12:60 12:3a 2026-1-1 nULL x {{",
	} {
		for _, word := range strings.Fields(words) {
			if got := tag11(word); got != tag {
				t.Errorf("%s is %s, want %s", word, got, tag)
			}
		}
	}
}

// TestSeeds checks that the checked-in seeds exist.
func TestSeeds(t *testing.T) {
	t.Parallel()
	seeds, err := os.ReadDir("testdata/fuzz/FuzzFrom")
	if err != nil || len(seeds) == 0 {
		t.Fatalf("no seeds: %v", err)
	}
}
