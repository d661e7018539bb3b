package lint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// A file is one that was read. Its text never leaves it but through show.
type file struct {
	name  string // as findings call it
	text  []byte
	lines []string
	root  *yaml.Node           // of its first document, nil where it has none
	doc   *strictyaml.Document // shows its lines; nil for a .env file
}

// newFile returns a file of YAML. What is no YAML is an error, with the place
// and without any of the text; the file can still be shown.
func newFile(name string, text []byte) (*file, error) {
	f := &file{name: name, text: text, lines: strings.Split(strings.TrimPrefix(string(text), "\ufeff"), "\n")}
	f.doc = strictyaml.New(name, text, strictyaml.Format{SecretKey: holdsSecret, SecretValue: policy.SecretPattern()})
	var err error
	if f.root, err = decode(text); f.root != nil {
		f.doc.Redact(f.root)
	}
	return f, err
}

// holdsSecret reports whether the value of a key is not to be shown.
func holdsSecret(key string) bool { return policy.SecretName(key) && !isPermission(key) }

// isPermission reports whether a key is that of a workflow's permission to ask
// for ID tokens, which is named like a secret.
func isPermission(key string) bool { return key == "id-token" }

// newEnvFile returns a .env file.
func newEnvFile(name string, text []byte) *file {
	return &file{name: name, text: text, lines: strings.Split(string(text), "\n")}
}

// decode returns the root of the first document of a text, nil for none.
func decode(text []byte) (*yaml.Node, error) {
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, errors.New("is not text in UTF-8")
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("is not YAML")
	}
	var doc yaml.Node
	var le *yaml.LoadError
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case errors.As(err, &le) && le.Mark.Line > 0:
		return nil, fmt.Errorf("line %d, column %d: is not YAML: %s", le.Mark.Line, max(le.Mark.Column, 1), le.Message)
	case err != nil:
		return nil, errors.New("is not YAML")
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return doc.Content[0], nil
	}
	return &doc, nil
}

// show returns a line as it may be printed, and where the caret is below it.
func (f *file) show(line, column int) (shown string, caret int) {
	if f.doc != nil {
		return f.doc.Show(line, column)
	}
	if line < 1 || line > len(f.lines) {
		return "", 0
	}
	name, _, isPair := strings.Cut(strings.TrimRight(f.lines[line-1], "\r"), "=")
	if !isPair || !envName.MatchString(name) {
		return "…", 0
	}
	return name + "=…", min(column-1, len(name))
}

// A place is where in a file something is.
type place struct {
	file         *file
	line, column int
}

// at returns the place of a node, the file's first line for nil.
func (f *file) at(n *yaml.Node) place {
	if n == nil || n.Line == 0 {
		return place{f, 1, 1}
	}
	return place{f, n.Line, n.Column}
}

// finding returns a finding of a check at p.
func (p place) finding(c check, fix, message string) Finding {
	if last := len(p.file.lines); p.line > last { // something is missing at the end
		p.line, p.column = last, utf8.RuneCountInString(p.file.lines[last-1])+1
	}
	f := Finding{
		Name: c.name, Severity: c.severity, File: p.file.name, Line: max(p.line, 1), Column: max(p.column, 1),
		Message: message, Fix: fix,
	}
	f.shown, f.caret = p.file.show(f.Line, f.Column)
	if !c.lasting {
		f.Suppressed, f.Reason = p.file.suppressed(c.name, f.Line)
	}
	return f
}

// get returns the value of a mapping's key, nil where there is none. Workflows
// have aliases, too.
func get(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		_, n = pair(n, key)
	}
	return resolve(n)
}

// pair returns a key of a mapping and its value, nil where there is none.
func pair(n *yaml.Node, name string) (key, value *yaml.Node) {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// resolve returns the node that an alias refers to.
func resolve(n *yaml.Node) *yaml.Node {
	for range maxDepth {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// maxDepth bounds nesting, and aliases of aliases; real files have ten levels.
const maxDepth = 64

// text returns a scalar's value, "" for anything else.
func text(n *yaml.Node) string {
	if n = resolve(n); n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// pairs calls visit with each pair of a mapping.
func pairs(n *yaml.Node, visit func(key, value *yaml.Node)) {
	n = resolve(n)
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		visit(n.Content[i], n.Content[i+1])
	}
}

// items returns the elements of a list, or a single value as a list of one.
func items(n *yaml.Node) []*yaml.Node {
	switch n = resolve(n); {
	case n == nil:
		return nil
	case n.Kind == yaml.SequenceNode:
		return n.Content
	}
	return []*yaml.Node{n}
}

// scalars calls visit with each scalar below a node and its key, nil for an
// element of a list. Aliases are skipped: the node that they refer to is visited once.
func scalars(n *yaml.Node, visit func(key, value *yaml.Node)) {
	var walk func(key, n *yaml.Node, depth int)
	walk = func(key, n *yaml.Node, depth int) {
		if n == nil || depth > maxDepth {
			return
		}
		switch n.Kind {
		case yaml.ScalarNode:
			visit(key, n)
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i], n.Content[i+1], depth+1)
			}
		default:
			for _, c := range n.Content {
				walk(nil, c, depth+1)
			}
		}
	}
	walk(nil, n, 0)
}
