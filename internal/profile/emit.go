package profile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// An emitter writes a tree in which each scalar has its YAML 1.1 tag, so that
// PyYAML reads the same tree: every string is double-quoted.
type emitter struct{ out bytes.Buffer }

// value writes n after a key or a dash, with its content at indent.
func (e *emitter) value(n *yaml.Node, indent int) error {
	if tag := n.Tag; tag == "!!set" || tag == "!!omap" || tag == "!!pairs" {
		e.out.WriteString(" " + tag)
	}
	switch {
	case n.Kind == yaml.ScalarNode:
		text, err := scalarText(n)
		e.out.WriteString(" " + text + "\n")
		return err
	case n.Kind == yaml.MappingNode && len(n.Content) == 0:
		e.out.WriteString(" {}\n")
	case n.Kind == yaml.MappingNode:
		e.out.WriteByte('\n')
		return e.mapping(n, indent, indent)
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		e.out.WriteString(" []\n")
	case n.Kind == yaml.SequenceNode:
		e.out.WriteByte('\n')
		for _, c := range n.Content {
			e.out.WriteString(strings.Repeat(" ", indent) + "-")
			var err error
			if c.Kind == yaml.MappingNode && c.Tag == "!!map" && len(c.Content) > 0 {
				err = e.mapping(c, 1, indent+2) // its first key follows the dash
			} else {
				err = e.value(c, indent+2)
			}
			if err != nil {
				return err
			}
		}
	default:
		return errors.New("has a value that is neither scalar, list nor mapping")
	}
	return nil
}

// maxKey bounds a key: PyYAML accepts keys of up to 1024 characters on a line.
const maxKey = 1000

// mapping writes the pairs of n: the first one after that many spaces, the
// others at indent.
func (e *emitter) mapping(n *yaml.Node, spaces, indent int) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := keyText(n.Content[i])
		if err != nil {
			return err
		}
		if len(key) > maxKey {
			return fmt.Errorf("has a key of more than %d characters", maxKey)
		}
		e.out.WriteString(strings.Repeat(" ", spaces) + key + ":")
		spaces = indent
		if err := e.value(n.Content[i+1], indent+2); err != nil {
			return err
		}
	}
	return nil
}

var plainKey = lazy.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

func keyText(n *yaml.Node) (string, error) {
	if n.Tag == "!!str" && len(n.Value) > 1 && plainKey.MatchString(n.Value) && tag11(n.Value) == "!!str" {
		return n.Value, nil // longer than one letter: y and n are booleans to other readers of YAML 1.1
	}
	return scalarText(n)
}

var plainScalar = lazy.MustCompile(`^[A-Za-z0-9+._~-]+$`)

func scalarText(n *yaml.Node) (string, error) {
	switch {
	case n.Tag == "!!str":
		return quoted(n.Value), nil
	case n.Tag == "!!null" && n.Value == "":
		return "null", nil
	case n.Tag == "!!merge", n.Tag == "!!value":
		return "", fmt.Errorf("line %d: contains %q, which dbt does not support", n.Line, n.Value)
	case plainScalar.MatchString(n.Value) && tag11(n.Value) == n.Tag:
		return n.Value, nil
	}
	return n.Tag + " " + quoted(n.Value), nil // a plain 12:30 is not valid everywhere, `!!int "12:30"` is
}

// quoted returns a double-quoted scalar. (YAML 1.1, 5.6: escape sequences)
func quoted(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"', r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case r == ' ', unicode.IsLetter(r), unicode.IsNumber(r), r < unicode.MaxASCII && unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	out.WriteByte('"')
	return out.String()
}
