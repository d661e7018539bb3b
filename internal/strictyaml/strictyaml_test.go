package strictyaml_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// marker is a secret in a test's file: no error may show it.
const marker = "hunter2"

var tokenValue = lazy.MustCompile(`ghp_[a-z0-9]+`)

func format() strictyaml.Format {
	return strictyaml.Format{
		Doing: "parse policy", Noun: "policy", Needs: "a policy has `targets`", MaxSize: 1 << 20,
		SecretKey: func(name string) bool { return name == "password" }, SecretValue: tokenValue,
		Synonyms: strictyaml.Synonyms{"targets": {"outputs"}},
	}
}

func load(name, src string) (root *yaml.Node, err error) {
	d := strictyaml.New(name, []byte(src), format())
	root, err = d.Load(nil)
	return root, errors.Join(err, d.Err())
}

// TestLoad: each fault of the YAML itself, in the words of the caller's format.
func TestLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, src, err string }{
		{"sound", "a: 1\nb: [x, {c: d}]\n", ""},
		{"nothing", " \n", "p.yml: is empty: a policy has `targets`"},
		{"only comments", "# x\n", "p.yml: is empty: a policy has `targets`"},
		{"only null", "~\n", "p.yml: is empty: a policy has `targets`"},
		{"huge", strings.Repeat("# padding\n", 1<<20/10+1), "p.yml: is 1048580 bytes long, want at most 1 MiB"},
		{"two documents", "a: 1\n---\nb: 2\n", "p.yml:3:1: a policy must be a single YAML document\n  b: 2\n  ^"},
		{"a duplicate key", "a: 1\na: 2\n", "p.yml:2:1: duplicate key \"a\", first on line 1\n  a: 2\n  ^"},
		{"a key that is a number", "1: a\n", "p.yml:1:1: a key is a number, want a string\n  1: a\n  ^"},
		{"a tab", "a:\n\tb: 1\n", "p.yml:2:1: is indented with a tab: use spaces\n   b: 1\n  ^"},
		{"deep", strings.Repeat("[", 40) + strings.Repeat("]", 40), "p.yml:1:34: is nested more than 32 levels deep\n  " +
			strings.Repeat("[", 40) + strings.Repeat("]", 40) + "\n  " + strings.Repeat(" ", 33) + "^"},
		{"a secret under its key", "password: &a hunter2\n", "p.yml:1:11: anchors are not allowed; remove the anchor\n  password: …\n            ^"},
		{"a secret value", "a: !x ghp_hunter2\n", "p.yml:1:4: tags are not allowed; remove the tag\n  a: …\n     ^"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load("p.yml", tt.src)
			want := ""
			if tt.err != "" {
				want = "parse policy \"p.yml\": 1 error\n" + tt.err
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("error is\n%v\nwant\n%s", err, want)
			}
			if strings.Contains(got, marker) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// textOf returns the text of an error's first fault.
func textOf(err error) string {
	for _, p := range fault.Places(err) {
		return p.Text
	}
	return ""
}

// TestFirst: what a caller refuses before anything is judged is the only error.
func TestFirst(t *testing.T) {
	t.Parallel()
	refusal := errors.New("written for another program")
	for _, tt := range []struct {
		src       string
		documents int
	}{{"a: 1\na: 2\n", 1}, {"a: 1\n---\nb: 2\n", 2}, {"a: [\n", 0}} {
		d := strictyaml.New("p.yml", []byte(tt.src), format())
		got := -1
		root, err := d.Load(func(documents []*yaml.Node) error { got = len(documents); return refusal })
		if root != nil || !errors.Is(err, refusal) || got != tt.documents || d.Err() != nil {
			t.Errorf("%q: root %v, error %v, %d documents, faults %v", tt.src, root, err, got, d.Err())
		}
	}
}

// TestReaders: each reader returns a value, or reports one fault.
func TestReaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, src string
		read      func(d *strictyaml.Document, n *yaml.Node) any
		want, err string
	}{
		{"a string", "x", func(d *strictyaml.Document, n *yaml.Node) any { return d.Text(n, "key") }, "x", ""},
		{"a number for a string", "7", func(d *strictyaml.Document, n *yaml.Node) any { return d.Text(n, "key") }, "",
			"key is a number, want a string: put it in quotes"},
		{"an empty string", `""`, func(d *strictyaml.Document, n *yaml.Node) any { return d.Text(n, "key") }, "", "key is empty"},
		{"a list for a string", "[x]", func(d *strictyaml.Document, n *yaml.Node) any { return d.Text(n, "key") }, "",
			"key is a list, want a string"},
		{"one of a list", "x", func(d *strictyaml.Document, n *yaml.Node) any { return d.Strings(n, "key") }, "[x]", ""},
		{"a list", "[x, y]", func(d *strictyaml.Document, n *yaml.Node) any { return d.Strings(n, "key") }, "[x y]", ""},
		{"an empty list", "[]", func(d *strictyaml.Document, n *yaml.Node) any { return d.Strings(n, "key") }, "[]", "key is an empty list"},
		{"a boolean", "true", func(d *strictyaml.Document, n *yaml.Node) any { return d.Bool(n, "key") }, "true", ""},
		{"a string for a boolean", "maybe", func(d *strictyaml.Document, n *yaml.Node) any { return d.Bool(n, "key") }, "false",
			`key is "maybe", want true or false`},
		{"a duration", "90d", func(d *strictyaml.Document, n *yaml.Node) any { return d.Duration(n, "key") }, "2160h0m0s", ""},
		{"no duration", "1w", func(d *strictyaml.Document, n *yaml.Node) any { return d.Duration(n, "key") }, "0s",
			`key is "1w", want a duration such as 30m, 1h or 90d`},
		{"a date", "2026-10-01", func(d *strictyaml.Document, n *yaml.Node) any { return d.Date(n, "key").Format("2 Jan 2006") }, "1 Oct 2026", ""},
		{"no date", "{}", func(d *strictyaml.Document, n *yaml.Node) any { return d.Date(n, "key").IsZero() }, "true",
			"key is a mapping, want a date such as 2026-10-01"},
		{"an unknown key", "outputs: 1", func(d *strictyaml.Document, n *yaml.Node) any {
			_, ok := d.Mapping(n, n, "the file", []string{"version", "targets"})
			return ok
		}, "true", `unknown key "outputs" in the file, valid keys are ["version" "targets"]: did you mean "targets"?`},
		{"a missing key", "version: 1", func(d *strictyaml.Document, n *yaml.Node) any {
			m, _ := d.Mapping(n, n, "the file", nil)
			m.Missing("targets, which it needs")
			return m.Get("version").Value
		}, "1", "the file has no targets, which it needs"},
		{"a list for a mapping", "[]", func(d *strictyaml.Document, n *yaml.Node) any {
			_, ok := d.Mapping(n, n, "the file", nil)
			return ok
		}, "false", "the file is a list, want a mapping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := strictyaml.New("p.yml", []byte(tt.src+"\n"), format())
			root, err := d.Load(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(tt.read(d, root)); got != tt.want {
				t.Errorf("value is %q, want %q", got, tt.want)
			}
			if got := textOf(d.Err()); got != tt.err {
				t.Errorf("fault is %q, want %q", got, tt.err)
			}
		})
	}
}

// FuzzLoad: nothing makes Load panic, and places are inside the text.
func FuzzLoad(f *testing.F) {
	for _, src := range []string{"a: 1\n", before + after, "a: &x 1\nb: *x\n", "a: {<<: 1}\n", "\ufeffa: \"\\u200b\"\n", "a: [\n"} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		root, err := load("p.yml", src)
		if (root == nil) && err == nil {
			t.Error("there is neither a root nor an error")
		}
		for _, p := range fault.Places(err) {
			if p.Line > strings.Count(src, "\n")+len(src)+1 || p.Line > 0 && p.Column < 1 {
				t.Errorf("a place outside of the text: %+v", p)
			}
		}
	})
}

// TestShare: a fault of what several readers read is reported once, with those
// who report it where they are not all.
func TestShare(t *testing.T) {
	t.Parallel()
	d := strictyaml.New("p.yml", []byte("a: {b: 1, c: 2}\nd: 3\n"), format())
	root, err := d.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	common, own := root.Content[1], root.Content[3]
	d.Share(common)
	for _, reader := range []string{"v", "w", "x", "y", "z"} {
		d.ReadBy(reader)
		d.Report(common.Content[1], "b is odd")
		d.Report(common.Content[1], "b is odd")
		if reader != "z" {
			d.Report(common.Content[3], "c is even")
		}
		if reader == "w" {
			d.Report(common.Content[2], "c is here")
		}
		d.Report(own, "d is own")
	}
	d.ReadBy("")
	d.Report(common.Content[1], "b is odd")
	const shown = "\n  a: {b: 1, c: 2}\n  "
	const want = "parse policy \"p.yml\": 9 errors\n" +
		"p.yml:1:8: b is odd" + shown + "       ^\n" +
		"p.yml:1:8: b is odd" + shown + "       ^\n" +
		"p.yml:1:11: c is here (in w)" + shown + "          ^\n" +
		"p.yml:1:14: c is even (in v, w, x and 1 more)" + shown + "             ^\n" +
		"p.yml:2:4: d is own\n  d: 3\n     ^\n" + "p.yml:2:4: d is own\n  d: 3\n     ^\n" + "p.yml:2:4: d is own\n  d: 3\n     ^\n" +
		"p.yml:2:4: d is own\n  d: 3\n     ^\n" + "p.yml:2:4: d is own\n  d: 3\n     ^"
	if got := d.Err(); got == nil || got.Error() != want {
		t.Errorf("error is\n%v\nwant\n%s", got, want)
	}
}
