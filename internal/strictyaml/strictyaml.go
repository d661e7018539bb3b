// Package strictyaml reads YAML files that mean what a reviewer sees, and reports every fault with its line and a caret, secrets redacted.
//
// Aliases, anchors, merge keys, tags, duplicate keys, invisible characters and
// text that only looks like a comment are faults. The package knows nothing of
// what a file says: its caller reads the nodes, and reports faults at them.
package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A Format is what all files of one kind have in common.
type Format struct {
	Doing   string // what is done with a file, as errors begin: "parse policy"
	Noun    string // what a file is called: "policy"
	Needs   string // what an empty file lacks: "a policy has `version` and `targets`"
	MaxSize int    // in bytes, whole MiB

	SecretKey   func(name string) bool // reports whether the value of a key is a secret
	SecretValue *lazy.Regexp           // matches what is a secret under any key
	Synonyms    Synonyms               // of the files' keys
}

// A Document is a file that is being read, with the faults found so far.
type Document struct {
	faults faults
	format Format
	// rejected are nodes whose YAML is a fault already: what they hold is not
	// judged a second time.
	rejected map[*yaml.Node]bool
	// merged are mappings with a merge key: nothing is missing in them.
	merged   map[*yaml.Node]bool
	comments map[int]int  // by line: the column from which a reader of only that line sees a comment
	roots    []*yaml.Node // below which secrets are found by their keys
	redacted bool         // Show has found them
	shared   shared
}

// New returns a Document of a file's text; errors call the file by name.
func New(name string, src []byte, format Format) *Document {
	return &Document{
		faults:   faults{doing: format.Doing, name: name, src: src, hidden: map[int]int{}},
		format:   format,
		rejected: map[*yaml.Node]bool{}, merged: map[*yaml.Node]bool{},
	}
}

// Load returns the root of the one YAML document, nil where there is none.
// Before anything else is judged, first sees the documents as they were
// written, none where the file is not YAML; Load returns its error. first may
// be nil.
func (d *Document) Load(first func(documents []*yaml.Node) error) (*yaml.Node, error) {
	switch {
	case len(d.faults.src) > d.format.MaxSize:
		d.add(0, 0, "is %d bytes long, want at most %d MiB", len(d.faults.src), d.format.MaxSize>>20)
		return nil, nil
	case len(bytes.TrimSpace(d.faults.src)) == 0:
		d.empty()
		return nil, nil
	}
	sound := d.inText(d.faults.src)
	documents, malformed := decode(d.faults.src)
	if first != nil {
		if err := first(documents); err != nil {
			return nil, err
		}
	}
	switch {
	case !sound && (malformed != nil || bytes.ContainsAny(d.faults.src, "\r\u0085\u2028\u2029")):
		d.hideSecrets() // the library may count lines otherwise: there are no nodes to go by
	case !sound:
		d.roots = documents
	case malformed != nil:
		d.malformed(malformed)
	case len(documents) == 0:
		d.empty() // only comments
	default:
		return d.root(documents), nil
	}
	return nil, nil
}

// root returns the root of the first document, and judges what is YAML in it.
func (d *Document) root(documents []*yaml.Node) *yaml.Node {
	root := documents[0]
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if IsNull(root) && len(documents) == 1 {
		d.empty()
		return nil
	}
	d.Redact(root)
	if bytes.IndexByte(d.faults.src, '#') >= 0 {
		d.comments = comments(d.faults.lines())
	}
	d.plain(root, 0)
	if len(documents) > 1 {
		second := documents[1]
		if len(second.Content) == 1 {
			second = second.Content[0]
		}
		d.Redact(second)
		d.add(second.Line, second.Column, "a %s must be a single YAML document", d.format.Noun)
	}
	return root
}

// decode returns the first two documents of a text, a second being a fault,
// and none with an error.
func decode(src []byte) (documents []*yaml.Node, err error) {
	loader, err := yaml.NewLoader(bytes.NewReader(src))
	for err == nil && len(documents) < 2 {
		var n yaml.Node
		if err = loader.Load(&n); err == nil {
			documents = append(documents, &n)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return documents, nil
}

func (d *Document) empty() { d.add(0, 0, "is empty: %s", d.format.Needs) }

// Report adds a fault at n, unless n is a fault already.
func (d *Document) Report(n *yaml.Node, format string, args ...any) {
	if !d.rejected[n] {
		d.report(n, format, args...)
	}
}

// report adds a fault at n, for the reader of what is shared if n is of that.
func (d *Document) report(n *yaml.Node, format string, args ...any) {
	if d.shared.nodes[n] && d.shared.reader != "" {
		d.faults.addShared(n.Line, n.Column, d.shared.reader, format, args...)
		return
	}
	d.add(n.Line, n.Column, format, args...)
}

// A shared is what several readers read.
type shared struct {
	nodes  map[*yaml.Node]bool
	reader string
}

// Share has a fault at n, or at what is in it, reported once whatever the number
// of readers that report it.
func (d *Document) Share(n *yaml.Node) {
	if d.shared.nodes == nil {
		d.shared.nodes = map[*yaml.Node]bool{}
	}
	d.shared.nodes[n] = true
	for _, c := range n.Content {
		d.Share(c)
	}
}

// ReadBy says who reads from here on, such as `target "prod"`: a fault of what
// is shared names those who report it, unless they are all. "" ends that.
func (d *Document) ReadBy(reader string) {
	if d.shared.reader = reader; reader != "" {
		d.faults.readers++
	}
}

// Derive makes a mapping that was made of another one as faulty as that is.
func (d *Document) Derive(n, from *yaml.Node) {
	if d.rejected[from] {
		d.rejected[n] = true
	}
	if d.merged[from] {
		d.merged[n] = true
	}
}

func (d *Document) add(line, column int, format string, args ...any) {
	d.faults.add(line, column, format, args...)
}

// reject adds a fault at n, and keeps others away from it.
func (d *Document) reject(n *yaml.Node, format string, args ...any) {
	d.Report(n, format, args...)
	d.rejected[n] = true
}

// Count returns the number of faults so far.
func (d *Document) Count() int { return len(d.faults.list) }

// Faulty reports whether the YAML of n, or of something in it, is a fault.
func (d *Document) Faulty(n *yaml.Node) bool {
	return d.rejected[n] || len(d.rejected) > 0 && slices.ContainsFunc(n.Content, d.Faulty)
}

// Merged reports whether a mapping has a merge key, which is a fault: what the
// mapping seems to lack is not another one.
func (d *Document) Merged(n *yaml.Node) bool { return d.merged[n] }

// Err returns an error that holds every fault with its place, nil where there
// is none. The error has a method Places, which fault.Places finds.
func (d *Document) Err() error {
	if len(d.faults.list) > 0 {
		for _, root := range d.roots {
			d.redact(root)
		}
	}
	return d.faults.result()
}
