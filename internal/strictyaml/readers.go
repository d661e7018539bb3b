package strictyaml

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A Mapping is one of a Document's.
type Mapping struct {
	document *Document
	at       *yaml.Node // where what is missing is reported
	node     *yaml.Node
	what     string
}

// Mapping returns n as a mapping whose keys are all among known; any key goes
// where known is nil. ok is false when it is not a mapping. Errors call it
// what, and report at the node at what is missing in it.
func (d *Document) Mapping(at, n *yaml.Node, what string, known []string) (m Mapping, ok bool) {
	if n.Kind != yaml.MappingNode {
		d.Report(n, "%s is %s, want a mapping", what, KindOf(n))
		return m, false
	}
	for key := range d.Pairs(n) {
		if known != nil && !slices.Contains(known, key.Value) {
			d.Report(key, "unknown key %q in %s, valid keys are %q%s",
				key.Value, what, known, d.format.Synonyms.DidYouMean(key.Value, known))
		}
	}
	return Mapping{document: d, at: at, node: n, what: what}, true
}

// Pairs yields the keys and values of a mapping whose keys are sound, in the
// order of the file.
func (d *Document) Pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i]; !d.rejected[key] && !yield(key, n.Content[i+1]) {
				return
			}
		}
	}
}

// Pairs yields the keys and values whose keys are sound, in the order of the file.
func (m Mapping) Pairs(yield func(key, value *yaml.Node) bool) { m.document.Pairs(m.node)(yield) }

// Get returns the value of a key, nil where it was left out.
func (m Mapping) Get(name string) *yaml.Node {
	for key, value := range m.Pairs {
		if key.Value == name {
			return value
		}
	}
	return nil
}

// Missing reports a key that was left out.
func (m Mapping) Missing(format string, args ...any) {
	if !m.document.merged[m.node] {
		m.document.Report(m.at, m.what+" has no "+format, args...)
	}
}

// Text returns a string; "" after a fault.
func (d *Document) Text(n *yaml.Node, what string) string {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value == "":
		d.Report(n, "%s is empty", what)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value
	case IsNull(n) && d.comments[n.Line] > n.Column:
		d.Report(n, "%s is empty, because what follows the # is a comment: quote it", what)
	case n.Kind == yaml.ScalarNode && (n.Tag != "!!null" || n.Value != ""):
		d.Report(n, "%s is %s, want a string: put it in quotes", what, KindOf(n))
	default:
		d.Report(n, "%s is %s, want a string", what, KindOf(n))
	}
	return ""
}

// Bool returns true or false; false after a fault.
func (d *Document) Bool(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		d.Report(n, "%s is %s, want true or false", what, Shown(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// Texts returns a list of strings; a lone string is a list of one. Elements
// keep their nodes, for faults of their own.
func (d *Document) Texts(n *yaml.Node, what string) (nodes []*yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		if d.Text(n, what) == "" {
			return nil
		}
		return []*yaml.Node{n}
	}
	if len(n.Content) == 0 {
		d.Report(n, "%s is an empty list", what)
	}
	for _, e := range n.Content {
		if d.Text(e, what) != "" {
			nodes = append(nodes, e)
		}
	}
	return nodes
}

// Strings is Texts for a list whose elements have no faults of their own.
func (d *Document) Strings(n *yaml.Node, what string) (list []string) {
	for _, e := range d.Texts(n, what) {
		list = append(list, e.Value)
	}
	return list
}

// DurationPattern is what Duration reads.
const DurationPattern = `^[1-9][0-9]{0,4}[smhd]$`

var durationText = lazy.MustCompile(DurationPattern)

// Duration reads 90s, 30m, 1h or 90d; 0 after a fault.
func (d *Document) Duration(n *yaml.Node, what string) time.Duration {
	if n.Kind != yaml.ScalarNode || !durationText.MatchString(n.Value) {
		d.Report(n, "%s is %s, want a duration such as 30m, 1h or 90d", what, Shown(n))
		return 0
	}
	last := len(n.Value) - 1
	count, err := strconv.Atoi(n.Value[:last])
	if err != nil {
		panic(err) // durationText matched: up to five digits
	}
	unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[n.Value[last]]
	return time.Duration(count) * unit
}

// Date reads 2026-10-01; the zero time after a fault.
func (d *Document) Date(n *yaml.Node, what string) time.Time {
	t, err := time.Parse(time.DateOnly, n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.Report(n, "%s is %s, want a date such as 2026-10-01", what, Shown(n))
		return time.Time{}
	}
	return t
}

// Shown is a value of the wrong kind as a fault prints it.
func Shown(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && !IsNull(n) {
		return strconv.Quote(Cut(n.Value))
	}
	return KindOf(n)
}

// KindOf says what a node is, as a fault prints it: "a list".
func KindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!null":
		return "null"
	case "!!timestamp":
		return "a date"
	}
	return "a value with a tag"
}

// IsNull reports whether a node is null: empty, `~` or `null`.
func IsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
