package strictyaml

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// malformed reports a syntax error.
func (d *Document) malformed(err error) {
	d.hideSecrets()
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		d.add(0, 0, "is not YAML")
		return
	}
	switch {
	case d.indentation(): // the library's words for the first of them say less
	case d.indicator(le):
	case strings.Contains(d.line(le.Mark.Line), "${{"):
		line := d.line(le.Mark.Line)
		d.add(le.Mark.Line, utf8.RuneCountInString(line[:strings.Index(line, "${{")])+1, noExpression, d.format.Noun)
	case strings.HasPrefix(le.Message, "mapping values are not allowed"):
		d.add(le.Mark.Line, max(le.Mark.Column, 1),
			"is not YAML: %s; quote a value that has a colon and a space in it", le.Message)
	case strings.Contains(le.Message, "depth"):
		d.add(le.Mark.Line, le.Mark.Column, "is nested more than %d levels deep", maxDepth)
	default:
		d.add(le.Mark.Line, max(le.Mark.Column, 1), "is not YAML: %s", le.Message)
	}
}

// indentation reports the lines that are not indented with spaces; found is
// false when there is none.
func (d *Document) indentation() (found bool) {
	before := d.Count()
	for i, line := range d.faults.lines() {
		text := strings.TrimLeft(line, " \t")
		if text == "" {
			continue
		}
		indent := line[:len(line)-len(text)]
		if r, _ := utf8.DecodeRuneInString(text); wideSpace(r) {
			d.add(i+1, utf8.RuneCountInString(indent)+1, "is indented with %s: use spaces", characterName(r))
		} else if tab := strings.Index(indent, "\t"); tab >= 0 {
			d.add(i+1, tab+1, "is indented with a tab: use spaces")
		}
	}
	return d.Count() > before
}

// indicator reports a value that starts with a character that YAML keeps for
// itself. What follows it is not printed: it may be a secret.
func (d *Document) indicator(le *yaml.LoadError) bool {
	at := le.Mark.Column - 1
	if !strings.HasPrefix(le.Message, "unknown anchor") && !strings.Contains(le.Message, "cannot start any token") {
		at-- // the library is past it
	}
	line := []rune(d.line(le.Mark.Line))
	if at < 0 || at >= len(line) {
		return false
	}
	text := ""
	switch c := line[at]; {
	case strings.HasPrefix(le.Message, "unknown anchor"), strings.Contains(le.Message, "alphabetic or numeric") && c == '*':
		text = valueAlias
	case strings.Contains(le.Message, "alphabetic or numeric") && c == '&':
		text = valueAnchor
	case strings.Contains(le.Message, "cannot start any token") && strings.ContainsRune("@`%", c):
		text = fmt.Sprintf("a value cannot start with %c in YAML: quote it", c)
	case strings.Contains(le.Message, "comment or line break") && (c == '|' || c == '>'):
		text = fmt.Sprintf("an unquoted %c starts a text of several lines in YAML: quote it", c)
	default:
		return false
	}
	d.add(le.Mark.Line, at+1, "%s", text)
	return true
}

// line returns a line of the text, "" where there is none.
func (d *Document) line(number int) string {
	if lines := d.faults.lines(); number >= 1 && number <= len(lines) {
		return lines[number-1]
	}
	return ""
}

const (
	valueAlias   = "an unquoted * starts an alias in YAML: quote it"
	valueAnchor  = "an unquoted & starts an anchor in YAML: quote it"
	valueTag     = "an unquoted ! starts a tag in YAML: quote it"
	valueJinja   = "{{ … }} without quotes is a mapping in YAML: quote it"
	noExpression = "${{ … }} is an expression of GitHub's workflows, and is not evaluated in a %s: " +
		"write its value"

	noAlias  = "aliases are not allowed; write the value out"
	noMerge  = "merge keys are not allowed; write the keys out"
	noAnchor = "anchors are not allowed; remove the anchor"
	noTag    = "tags are not allowed; remove the tag"
)

// maxDepth bounds nesting; a policy has seven levels.
const maxDepth = 32

// plain refuses what makes a file mean something else than it shows:
// aliases, anchors, merge keys, tags, duplicate keys. The names of
// anchors and tags are not printed: a secret may start with & or !.
func (d *Document) plain(n *yaml.Node, depth int) {
	if start, ok := d.comments[n.Line]; ok && n.Column > start {
		d.reject(n, "follows a # that looks like a comment but is in a quoted text of several lines: "+
			"write that text on one line")
		return
	}
	if n.Kind == yaml.AliasNode {
		d.reject(n, noAlias)
		return
	}
	if depth > maxDepth {
		d.reject(n, "is nested more than %d levels deep", maxDepth)
		return
	}
	d.unmarked(n)
	if n.Kind == yaml.MappingNode {
		d.plainPairs(n, depth)
		return
	}
	d.inScalar(n)
	for _, c := range n.Content {
		d.plain(c, depth+1)
	}
}

// unmarked refuses a value's anchor and tag.
func (d *Document) unmarked(n *yaml.Node) {
	bare := n.Kind == yaml.ScalarNode && n.Value == "" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0
	switch {
	case n.Anchor != "" && bare:
		d.reject(n, valueAnchor)
	case n.Anchor != "":
		d.add(n.Line, n.Column, noAnchor) // what it marks is judged all the same
	}
	switch {
	case bare && (n.Style&yaml.TaggedStyle != 0 || n.Tag == "!"):
		d.reject(n, valueTag)
	case n.Style&yaml.TaggedStyle != 0:
		d.reject(n, noTag)
	}
}

// plainPairs judges the keys and values of a mapping.
func (d *Document) plainPairs(n *yaml.Node, depth int) {
	var index map[string]int // of the lines of the keys so far; short mappings are searched
	if len(n.Content) > 32 {
		index = make(map[string]int, len(n.Content)/2)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.AliasNode:
			d.reject(key, noAlias)
		case key.Tag == "!!merge":
			d.reject(key, noMerge)
			d.merged[n] = true
			continue
		case key.Kind == yaml.MappingNode && key.Style&n.Style&yaml.FlowStyle != 0 && IsNull(value):
			d.reject(key, valueJinja)
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str":
			d.reject(key, "a key is %s, want a string", KindOf(key))
		case key.Style&yaml.TaggedStyle != 0:
			d.reject(key, noTag)
		case key.Anchor != "":
			d.add(key.Line, key.Column, noAnchor)
			fallthrough
		default:
			d.inScalar(key)
			if first := firstLine(n.Content[:i], key.Value, index); first > 0 {
				d.reject(key, "duplicate key %q, first on line %d", key.Value, first)
			} else if index != nil {
				index[key.Value] = key.Line
			}
		}
		d.plain(value, depth+1)
	}
}

// firstLine returns the line on which a key is among those before, 0 for none.
func firstLine(before []*yaml.Node, key string, index map[string]int) int {
	if index != nil {
		return index[key]
	}
	for i := 0; i < len(before); i += 2 {
		if k := before[i]; k.Value == key && k.Kind == yaml.ScalarNode && k.Tag == "!!str" {
			return k.Line
		}
	}
	return 0
}
