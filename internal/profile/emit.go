package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxNodes bounds what is written: aliases are written out, and a few lines of
// them can stand for billions of nodes.
const maxNodes = 100_000

// An emitter writes YAML that means to dbt's reader, which knows YAML 1.1,
// what it meant to the one it came from.
//
// Plain scalars of a profiles.yml are copied to the letter, so that `no`,
// `0123` and `12:30` stay what YAML 1.1 takes them for; everything else is
// double-quoted. Plain scalars of a policy, which is YAML 1.2, are quoted too,
// but for plain numbers, booleans and null.
type emitter struct {
	out      bytes.Buffer
	verbatim bool // plain scalars are of YAML 1.1
	nodes    int
}

var plainNumber = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$`)

// value writes n behind a key or a dash, with what is inside it at indent.
func (e *emitter) value(n *yaml.Node, indent int) error {
	if e.nodes++; e.nodes > maxNodes {
		return fmt.Errorf("has more than %d values when its aliases are written out", maxNodes)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return e.value(n.Alias, indent)
	case yaml.ScalarNode:
		e.out.WriteByte(' ')
		e.scalar(n)
		e.out.WriteByte('\n')
		return nil
	case yaml.MappingNode:
		if len(n.Content) == 0 {
			e.out.WriteString(" {}\n")
			return nil
		}
		e.out.WriteByte('\n')
		return e.mapping(n, indent)
	case yaml.SequenceNode:
		if len(n.Content) == 0 {
			e.out.WriteString(" []\n")
			return nil
		}
		e.out.WriteByte('\n')
		for _, c := range n.Content {
			e.out.WriteString(strings.Repeat(" ", indent) + "-")
			if err := e.value(c, indent+2); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("has a value that is neither scalar, list nor mapping")
}

func (e *emitter) mapping(n *yaml.Node, indent int) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return errors.New("has a key that is not a scalar")
		}
		e.out.WriteString(strings.Repeat(" ", indent))
		e.scalar(key)
		e.out.WriteByte(':')
		if err := e.value(n.Content[i+1], indent+2); err != nil {
			return err
		}
	}
	return nil
}

func (e *emitter) scalar(n *yaml.Node) {
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if n.Style&yaml.TaggedStyle != 0 {
		e.out.WriteString(n.Tag + " ")
	}
	switch {
	case plain && n.Tag == "!!null" && n.Value == "":
		e.out.WriteString("null")
	case plain && e.verbatim && !strings.ContainsAny(n.Value, "\n"):
		e.out.WriteString(n.Value)
	case plain && !e.verbatim && (n.Tag == "!!bool" || n.Tag == "!!null" || (n.Tag == "!!int" || n.Tag == "!!float") && plainNumber.MatchString(n.Value)):
		e.out.WriteString(n.Value)
	case plain && !e.verbatim && isKey.MatchString(n.Value) && !ambiguous[strings.ToLower(n.Value)] && n.Style == keyStyle:
		e.out.WriteString(n.Value)
	default:
		e.out.WriteString(quoted(n.Value))
	}
}

// keyStyle marks the keys that this package writes itself.
const keyStyle = yaml.Style(1 << 20)

var isKey = regexp.MustCompile(`^[a-z][a-z_]*$`)

// ambiguous are words that YAML 1.1 takes for booleans or null.
var ambiguous = map[string]bool{"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true, "true": true, "false": true, "null": true}

// quoted returns a double-quoted scalar. JSON's form is YAML's, but for what
// YAML 1.1 does not take raw.
func quoted(s string) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // strings always encode
	}
	var safe strings.Builder
	for _, r := range strings.TrimSuffix(out.String(), "\n") {
		if r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&safe, `\u%04x`, r)
			continue
		}
		safe.WriteRune(r)
	}
	return safe.String()
}

func pair(key string, value *yaml.Node) []*yaml.Node {
	return []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Style: keyStyle}, value}
}

func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
}
