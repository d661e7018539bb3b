package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// What a plain scalar is in YAML 1.1: the resolvers of PyYAML's SafeLoader,
// which is how dbt reads its files (yaml/resolver.py), in its order. As there, a
// pattern is tried only on scalars that begin with one of its first characters.
var yaml11 = []struct {
	tag     string
	first   string
	pattern *lazy.Regexp
}{
	{"!!bool", "yYnNtTfFoO", lazy.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)},
	{"!!float", "-+0123456789.", lazy.MustCompile(`^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|` +
		`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)},
	{"!!int", "-+0123456789", lazy.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|` +
		`[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)},
	{"!!merge", "<", lazy.MustCompile(`^<<$`)},
	{"!!null", "~nN", lazy.MustCompile(`^(?:~|null|Null|NULL|)$`)},
	{"!!timestamp", "0123456789", lazy.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}` +
		`(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$`)},
	{"!!value", "=", lazy.MustCompile(`^=$`)},
}

func tag11(plain string) string {
	for _, r := range yaml11 {
		begins := plain != "" && strings.IndexByte(r.first, plain[0]) >= 0
		if (begins || plain == "" && r.tag == "!!null") && r.pattern.MatchString(plain) {
			return r.tag
		}
	}
	return "!!str"
}

// maxFile bounds dbt_project.yml and profiles.yml; real ones are under 64 KiB.
const maxFile = 1 << 20

// maxNodes bounds a file with its aliases expanded: a few lines can expand to
// billions of nodes. Real files have under 1,000.
const maxNodes = 100_000

// maxDepth bounds nesting, which also stops aliases that contain themselves. An
// output needs six levels.
const maxDepth = 64

// parse returns the root mapping of a file as dbt reads it: YAML 1.1, aliases
// and merge keys expanded, each scalar with the tag that PyYAML gives it.
func parse(text []byte) (*yaml.Node, error) {
	root, err := load(text)
	if err != nil {
		return nil, err
	}
	return expand(root)
}

// load returns the root of a file of one document, as written.
func load(text []byte) (*yaml.Node, error) {
	switch {
	case len(text) > maxFile:
		return nil, fmt.Errorf("is larger than %d KiB", maxFile>>10)
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return nil, errors.New("is not valid UTF-8")
	}
	if err := breaks(string(text)); err != nil {
		return nil, err
	}
	// libyaml does not count spaces after the last line break as a line of a block scalar.
	loader, err := yaml.NewLoader(bytes.NewReader(bytes.TrimRight(text, " ")))
	if err != nil {
		return nil, err
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New("is empty")
	} else if err != nil {
		return nil, notYAML(err)
	}
	if err := loader.Load(&second); err == nil {
		return nil, fmt.Errorf("line %d: contains a second document", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, notYAML(err)
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	return root, nil
}

func expand(root *yaml.Node) (*yaml.Node, error) {
	x := expansion{left: maxNodes}
	root, err := x.expand(root, 0)
	if err != nil {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("is not a mapping")
	}
	return root, nil
}

// breaks refuses characters that end a line for PyYAML but not in an editor:
// within a comment they would start an invisible line.
func breaks(text string) error {
	for i, r := range text {
		name := ""
		switch r {
		case '\r':
			if !strings.HasPrefix(text[i+1:], "\n") {
				name = "U+000D CARRIAGE RETURN"
			}
		case '\u0085':
			name = "U+0085 NEXT LINE"
		case '\u2028':
			name = "U+2028 LINE SEPARATOR"
		case '\u2029':
			name = "U+2029 PARAGRAPH SEPARATOR"
		}
		if name != "" {
			before := text[:i]
			return fmt.Errorf("line %d, column %d: %s: dbt treats it as a line break and other programs do not: "+
				"remove it, and end lines with LF or CRLF",
				strings.Count(before, "\n")+1, utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:])+1, name)
		}
	}
	return nil
}

func notYAML(err error) error {
	var le *yaml.LoadError
	if errors.As(err, &le) && le.Mark.Line > 0 {
		return fmt.Errorf("line %d, column %d: invalid YAML: %s", le.Mark.Line, le.Mark.Column, le.Message)
	}
	return errors.New("is not valid YAML")
}

// An expansion expands aliases and merge keys.
type expansion struct{ left int }

func (x *expansion) expand(n *yaml.Node, depth int) (*yaml.Node, error) {
	if x.left--; x.left < 0 {
		return nil, fmt.Errorf("has more than %d values with its aliases expanded", maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: is nested more than %d levels deep", n.Line, maxDepth)
	}
	out := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Line: n.Line, Column: n.Column}
	switch {
	case n.Tag == "!" && n.Kind == yaml.SequenceNode:
		out.Tag = "!!seq"
	case n.Tag == "!" && n.Kind == yaml.MappingNode:
		out.Tag = "!!map"
	}
	switch n.Kind {
	case yaml.AliasNode:
		return x.expand(n.Alias, depth+1)
	case yaml.ScalarNode:
		return out, scalar(out, n)
	case yaml.SequenceNode:
		for _, c := range n.Content {
			c, err := x.expand(c, depth+1)
			if err != nil {
				return nil, err
			}
			out.Content = append(out.Content, c)
		}
		return out, known(out, "!!seq", "!!omap", "!!pairs")
	case yaml.MappingNode:
		if err := known(out, "!!map", "!!set"); err != nil {
			return nil, err
		}
		return out, x.mapping(out, n, depth)
	}
	return nil, fmt.Errorf("line %d: has a value that is neither scalar, list nor mapping", n.Line)
}

func known(n *yaml.Node, tags ...string) error {
	for _, t := range tags {
		if n.Tag == t {
			return nil
		}
	}
	return fmt.Errorf("line %d: contains tag %q, which dbt does not support", n.Line, n.Tag)
}

// scalar fills out with PyYAML's reading of n.
func scalar(out, n *yaml.Node) error {
	out.Value = n.Value
	const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	switch {
	case n.Tag == "!" && n.Value == "" && n.Style&quoted == 0:
		out.Tag = "!!str"
	case n.Tag == "!": // libyaml only ignores the quotes
		out.Tag = tag11(n.Value)
	case n.Style&yaml.TaggedStyle != 0:
	case n.Style&quoted != 0:
		out.Tag = "!!str"
	case strings.HasPrefix(n.Value, "?"): // in a flow collection libyaml parses `?x` as a key
		return fmt.Errorf("line %d: contains a plain %q, which dbt may read differently: put it in quotes", n.Line, n.Value)
	default:
		out.Tag = tag11(n.Value)
	}
	return known(out, "!!str", "!!bool", "!!float", "!!int", "!!null", "!!timestamp", "!!binary", "!!merge", "!!value")
}

// mapping fills out with n's pairs as PyYAML's flatten_mapping does: a mapping's
// own pairs come after, and override, merged ones; of several merged mappings the
// first wins; of duplicate keys the last one wins.
func (x *expansion) mapping(out, n *yaml.Node, depth int) error {
	flat := pairs{out, map[[2]string]int{}}
	merge := func(m *yaml.Node) error {
		m, err := x.expand(m, depth+1)
		if err != nil {
			return err
		}
		if m.Kind != yaml.MappingNode {
			return fmt.Errorf("line %d: merges a value that is not a mapping", n.Line)
		}
		flat.put(m.Content...)
		return nil
	}
	var own []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := x.expand(n.Content[i], depth+1)
		if err != nil {
			return err
		}
		if key.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: has a key that is not a scalar", n.Content[i].Line)
		}
		value := n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		switch {
		case key.Tag == "!!merge" && value.Kind == yaml.SequenceNode:
			for _, m := range slices.Backward(value.Content) {
				if err := merge(m); err != nil {
					return err
				}
			}
		case key.Tag == "!!merge":
			if err := merge(value); err != nil {
				return err
			}
		default:
			v, err := x.expand(value, depth+1)
			if err != nil {
				return err
			}
			own = append(own, key, v)
		}
	}
	flat.put(own...)
	return nil
}

// pairs are a mapping's pairs, indexed by the key's tag and text.
type pairs struct {
	n  *yaml.Node
	at map[[2]string]int
}

// put sets keys and values; an existing key keeps its position.
func (p pairs) put(content ...*yaml.Node) {
	for i := 0; i+1 < len(content); i += 2 {
		id := [2]string{content[i].Tag, content[i].Value}
		if j, ok := p.at[id]; ok {
			p.n.Content[j+1] = content[i+1]
			continue
		}
		p.at[id] = len(p.n.Content)
		p.n.Content = append(p.n.Content, content[i], content[i+1])
	}
}

// get returns the value of a mapping's string key, nil if it has none.
func get(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; k.Tag == "!!str" && k.Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// with returns a copy of a mapping with a key set.
func with(n *yaml.Node, key string, value *yaml.Node) *yaml.Node {
	out := *n
	out.Content = nil
	p := pairs{&out, map[[2]string]int{}}
	p.put(n.Content...)
	p.put(text(key), value)
	return &out
}

// inline converts a block of a policy, which is YAML 1.2, for a reader of YAML
// 1.1: values that both read as the same number, boolean or null keep their type;
// everything else (`no`, `0123`, `12:30`, a date) becomes a string. It drops line
// numbers, which are not those of a profiles.yml.
func inline(n *yaml.Node) *yaml.Node {
	out := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value}
	for _, c := range n.Content {
		out.Content = append(out.Content, inline(c))
	}
	if n.Kind != yaml.ScalarNode {
		return out
	}
	out.Tag = "!!str"
	octal := strings.HasPrefix(strings.TrimLeft(n.Value, "+-"), "0") && len(n.Value) > 1 && tag11(n.Value) == "!!int" &&
		!strings.ContainsAny(n.Value, "bx")
	switch n.Tag {
	case "!!bool", "!!null", "!!int", "!!float":
		if tag11(n.Value) == n.Tag && !octal {
			out.Tag = n.Tag
		}
	}
	return out
}

func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}
