package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A document is a policy on its way from YAML, with what is wrong with it so far.
type document struct {
	faults
	catalog Catalog
	// reported are nodes whose YAML is a fault already: what they hold is not
	// judged a second time.
	reported map[*yaml.Node]bool
	// merged are mappings with a merge key: nothing is missing in them.
	merged   map[*yaml.Node]bool
	comments map[int]int     // by line: the column from which a reader of it alone sees a comment
	older    error           // the policy is for a newer build than this one
	roots    []*yaml.Node    // of the documents
	names    map[string]bool // claims' names that were found well-formed: a policy has few, each in every rule
}

func newDocument(name string, src []byte, cat Catalog) *document {
	d := &document{catalog: cat, reported: map[*yaml.Node]bool{}, merged: map[*yaml.Node]bool{}, names: map[string]bool{}}
	d.doing, d.name, d.src, d.hidden = "parse policy", name, src, map[int]int{}
	return d
}

// load returns the root of the one YAML document, nil where there is none or
// where another build must read it.
func (d *document) load(src []byte) *yaml.Node {
	switch {
	case len(src) > maxSize:
		d.add(0, 0, "is %d bytes long, want at most %d MiB", len(src), maxSize>>20)
		return nil
	case len(bytes.TrimSpace(src)) == 0:
		d.empty()
		return nil
	}
	sound := d.inText(src)
	var documents []*yaml.Node
	loader, err := yaml.NewLoader(bytes.NewReader(src))
	for err == nil && len(documents) < 2 {
		var n yaml.Node
		if err = loader.Load(&n); err == nil {
			documents = append(documents, &n)
		}
	}
	malformed := err != nil && !errors.Is(err, io.EOF)
	if d.requires(documents, malformed); d.older != nil {
		return nil // what else seems wrong may be right for that build
	}
	switch {
	case !sound && (malformed || bytes.ContainsAny(src, "\r\u0085\u2028\u2029")):
		d.hideSecrets() // the library may count lines otherwise: there are no nodes to go by
		return nil
	case !sound:
		d.roots = documents
		return nil
	case malformed:
		d.malformed(err)
		return nil
	case len(documents) == 0:
		d.empty() // comments alone
		return nil
	}
	root := documents[0]
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" && len(documents) == 1 {
		d.empty()
		return nil
	}
	d.roots = append(d.roots, root)
	if bytes.IndexByte(src, '#') >= 0 {
		d.comments = comments(d.lines())
	}
	d.plain(root, 0)
	if len(documents) > 1 {
		second := documents[1]
		if len(second.Content) == 1 {
			second = second.Content[0]
		}
		d.roots = append(d.roots, second)
		d.add(second.Line, second.Column, "a policy must be a single YAML document")
	}
	return root
}

func (d *document) empty() { d.add(0, 0, "is empty: a policy has `version` and `targets`") }

// hideSecrets hides, where there are no keys yet, what looks like a secret and
// everything after it.
func (d *document) hideSecrets() {
	lines := d.lines()
	for i, line := range lines {
		end := -1
		if m := secretText.FindStringIndex(line); m != nil {
			end = m[1]
		}
		if m := secretValue.FindStringIndex(line); m != nil && (end < 0 || m[0] < end) {
			end = m[0]
		}
		if end < 0 {
			continue
		}
		d.hideFrom(i+1, utf8.RuneCountInString(line[:end])+1)
		for later := i + 2; later <= len(lines); later++ {
			d.hideFrom(later, 1)
		}
		return
	}
}

// malformed reports a syntax error.
func (d *document) malformed(err error) {
	d.hideSecrets()
	lines := d.lines()
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		d.add(0, 0, "is not YAML")
		return
	}
	tabs := 0
	for i, line := range lines {
		if text := strings.TrimLeft(line, " \t"); text != "" {
			if r, _ := utf8.DecodeRuneInString(text); wideSpace(r) {
				d.add(i+1, utf8.RuneCountInString(line[:len(line)-len(text)])+1, "is indented with %s: YAML wants spaces", characterName(r))
				tabs++
				continue
			}
		}
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if tab := strings.Index(indent, "\t"); tab >= 0 && len(indent) < len(line) {
			d.add(i+1, tab+1, "is indented with a tab: YAML wants spaces")
			tabs++
		}
	}
	switch {
	case tabs > 0: // the library's words for the first of them say less
	case d.indicator(le):
	case strings.Contains(d.lineOf(le.Mark.Line), "${{"):
		line := d.lineOf(le.Mark.Line)
		d.add(le.Mark.Line, utf8.RuneCountInString(line[:strings.Index(line, "${{")])+1, noExpression)
	case strings.HasPrefix(le.Message, "mapping values are not allowed"):
		d.add(le.Mark.Line, max(le.Mark.Column, 1), "is not YAML: %s; quote a value that has a colon and a space in it", le.Message)
	case strings.Contains(le.Message, "depth"):
		d.add(le.Mark.Line, le.Mark.Column, "is nested more than %d levels deep", maxDepth)
	default:
		d.add(le.Mark.Line, max(le.Mark.Column, 1), "is not YAML: %s", le.Message)
	}
}

// indicator reports a value that starts with a character that YAML keeps for
// itself. What follows it is not printed: it may be a secret.
func (d *document) indicator(le *yaml.LoadError) bool {
	at := le.Mark.Column - 1
	if !strings.HasPrefix(le.Message, "unknown anchor") && !strings.Contains(le.Message, "cannot start any token") {
		at-- // the library stands behind it
	}
	line := []rune(d.lineOf(le.Mark.Line))
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

// lineOf returns a line of the text, "" where there is none.
func (d *document) lineOf(number int) string {
	if lines := d.lines(); number >= 1 && number <= len(lines) {
		return lines[number-1]
	}
	return ""
}

const (
	valueAlias   = "an unquoted * starts an alias in YAML: quote it"
	valueAnchor  = "an unquoted & starts an anchor in YAML: quote it"
	valueTag     = "an unquoted ! starts a tag in YAML: quote it"
	valueJinja   = "{{ … }} without quotes is a mapping in YAML: quote it"
	noExpression = "${{ … }} is an expression of GitHub's workflows, and is not evaluated in a policy: write what it stands for"

	noAlias  = "aliases are not allowed; write the value out"
	noMerge  = "merge keys are not allowed; write the keys out"
	noAnchor = "anchors are not allowed; remove it"
	noTag    = "a tag: write the value as what it is"
)

// maxDepth bounds nesting; a policy needs seven levels.
const maxDepth = 32

// plain refuses what makes a policy mean something else than it shows:
// aliases, anchors, merge keys, tags, keys that stand twice. The names of
// anchors and tags are not printed: a secret may start with & or !.
func (d *document) plain(n *yaml.Node, depth int) {
	if start, ok := d.comments[n.Line]; ok && n.Column > start {
		d.report(n, "follows a # that starts no comment, because it is in a quoted text of several lines: write that text on one line")
		return
	}
	if n.Kind == yaml.AliasNode {
		d.report(n, noAlias)
		return
	}
	if depth > maxDepth {
		d.report(n, "is nested more than %d levels deep", maxDepth)
		return
	}
	bare := n.Kind == yaml.ScalarNode && n.Value == "" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0
	switch {
	case n.Anchor != "" && bare:
		d.report(n, valueAnchor)
	case n.Anchor != "":
		d.add(n.Line, n.Column, noAnchor) // what it marks is judged all the same
	}
	switch {
	case bare && (n.Style&yaml.TaggedStyle != 0 || n.Tag == "!"):
		d.report(n, valueTag)
	case n.Style&yaml.TaggedStyle != 0:
		d.report(n, noTag)
	}
	if n.Kind != yaml.MappingNode {
		d.inScalar(n)
		for _, c := range n.Content {
			d.plain(c, depth+1)
		}
		return
	}
	var index map[string]int // of the lines of the keys so far; short mappings are searched
	if len(n.Content) > 32 {
		index = make(map[string]int, len(n.Content)/2)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.AliasNode:
			d.report(key, noAlias)
		case key.Tag == "!!merge":
			d.report(key, noMerge)
			d.merged[n] = true
			continue
		case key.Kind == yaml.MappingNode && key.Style&yaml.FlowStyle != 0 && n.Style&yaml.FlowStyle != 0 && isNull(value):
			d.report(key, valueJinja)
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str":
			d.report(key, "a key is %s, want a string", nodeKind(key))
		case key.Style&yaml.TaggedStyle != 0:
			d.report(key, noTag)
		case key.Anchor != "":
			d.add(key.Line, key.Column, noAnchor)
			fallthrough
		default:
			d.inScalar(key)
			if first := firstLine(n.Content[:i], key.Value, index); first > 0 {
				d.report(key, "duplicate key %q, first on line %d", key.Value, first)
			} else if index != nil {
				index[key.Value] = key.Line
			}
		}
		d.plain(value, depth+1)
	}
}

// firstLine returns the line on which a key stands among those before, 0 for none.
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

// result returns the faults, nil where there is none.
func (d *document) result() error {
	if len(d.list) > 0 {
		for _, root := range d.roots {
			d.hide(root)
		}
	}
	return d.faults.result()
}

// report adds a fault at n, and keeps others away from it.
func (d *document) report(n *yaml.Node, format string, args ...any) {
	d.at(n, format, args...)
	d.reported[n] = true
}

func (d *document) at(n *yaml.Node, format string, args ...any) {
	if !d.reported[n] {
		d.add(n.Line, n.Column, format, args...)
	}
}

// faulty reports whether something in n is a fault already.
func (d *document) faulty(n *yaml.Node) bool {
	return d.reported[n] || len(d.reported) > 0 && slices.ContainsFunc(n.Content, d.faulty)
}

// hide keeps the values of keys that are named like secrets out of shown
// lines: from where such a value starts to the line of the next node.
func (d *document) hide(root *yaml.Node) {
	from := 0 // the line of the hidden value that is open
	var walk func(n *yaml.Node, secret bool)
	walk = func(n *yaml.Node, secret bool) {
		if from > 0 {
			for line := from + 1; line < n.Line; line++ {
				d.hideFrom(line, 1)
			}
			from = 0
		}
		if secret {
			d.hideFrom(n.Line, n.Column)
			from = n.Line
		}
		for i, c := range n.Content {
			inside := secret || n.Kind == yaml.MappingNode && i%2 == 1 && d.isSecret(n.Content[i-1].Value)
			walk(c, inside || secretValue.MatchString(c.Value))
		}
	}
	walk(root, false)
	if from > 0 {
		for line := from + 1; line <= len(d.lines()); line++ {
			d.hideFrom(line, 1)
		}
	}
}

// isSecret reports whether a key is named like a secret, or is one for any adapter.
func (d *document) isSecret(key string) bool {
	if secretName(key) {
		return true
	}
	for _, a := range d.catalog.Adapters {
		if containsFold(a.Secret, key) {
			return true
		}
	}
	return false
}

func nodeKind(n *yaml.Node) string {
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
		return "nothing"
	case "!!timestamp":
		return "a date"
	}
	return "a value with a tag"
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// A mapping is one of the policy's, its keys known.
type mapping struct {
	*document
	at   *yaml.Node // where what is missing is reported
	node *yaml.Node
	what string
}

// mapping returns n as a mapping whose keys are all among known; any key goes
// where known is nil. ok is false when it is none.
func (d *document) mapping(at, n *yaml.Node, what string, known []string) (m mapping, ok bool) {
	if n.Kind != yaml.MappingNode {
		d.at(n, "%s is %s, want a mapping", what, nodeKind(n))
		return m, false
	}
	m = mapping{document: d, at: at, node: n, what: what}
	if known != nil {
		for key := range m.pairs {
			if !slices.Contains(known, key.Value) {
				d.at(key, "unknown key %q in %s, valid keys are %q%s", key.Value, what, known, didYouMean(key.Value, known))
			}
		}
	}
	return m, true
}

// pairs yields the keys and values whose keys are sound, in the order of the file.
func (m mapping) pairs(yield func(key, value *yaml.Node) bool) {
	for i := 0; i+1 < len(m.node.Content); i += 2 {
		if key := m.node.Content[i]; !m.reported[key] && !yield(key, m.node.Content[i+1]) {
			return
		}
	}
}

// get returns the value of a key, nil where it was left out.
func (m mapping) get(name string) *yaml.Node {
	for key, value := range m.pairs {
		if key.Value == name {
			return value
		}
	}
	return nil
}

// missing reports a key that was left out.
func (m mapping) missing(format string, args ...any) {
	if !m.merged[m.node] {
		m.document.at(m.at, m.what+" has no "+format, args...)
	}
}

// text returns a string; "" after a fault.
func (d *document) text(n *yaml.Node, what string) string {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value == "":
		d.at(n, "%s is empty", what)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value
	case isNull(n) && d.comments[n.Line] > n.Column:
		d.at(n, "%s is nothing, since what follows the # is a comment: quote it", what)
	case n.Kind == yaml.ScalarNode && (n.Tag != "!!null" || n.Value != ""):
		d.at(n, "%s is %s, want a string: put it in quotes", what, nodeKind(n))
	default:
		d.at(n, "%s is %s, want a string", what, nodeKind(n))
	}
	return ""
}

// boolean returns true or false; false after a fault.
func (d *document) boolean(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		d.at(n, "%s is %s, want true or false", what, shown(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// texts returns a list of strings; a lone string is a list of one. Elements
// keep their nodes, for faults of their own.
func (d *document) texts(n *yaml.Node, what string) (nodes []*yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		if d.text(n, what) == "" {
			return nil
		}
		return []*yaml.Node{n}
	}
	if len(n.Content) == 0 {
		d.at(n, "%s is an empty list", what)
	}
	for _, e := range n.Content {
		if d.text(e, what) != "" {
			nodes = append(nodes, e)
		}
	}
	return nodes
}

func (d *document) strings(n *yaml.Node, what string) (list []string) {
	for _, e := range d.texts(n, what) {
		list = append(list, e.Value)
	}
	return list
}

var durationText = lazy.MustCompile(`^[1-9][0-9]{0,4}[smhd]$`)

// duration reads 90s, 30m, 1h or 90d; 0 after a fault.
func (d *document) duration(n *yaml.Node, what string) time.Duration {
	if n.Kind != yaml.ScalarNode || !durationText.MatchString(n.Value) {
		d.at(n, "%s is %s, want a duration such as 30m, 1h or 90d", what, shown(n))
		return 0
	}
	last := len(n.Value) - 1
	count, err := strconv.Atoi(n.Value[:last])
	if err != nil {
		panic(err) // durationText matched: up to five digits
	}
	return time.Duration(count) * map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': day}[n.Value[last]]
}

const day = 24 * time.Hour

// date reads 2026-10-01; the zero time after a fault.
func (d *document) date(n *yaml.Node, what string) time.Time {
	t, err := time.Parse(time.DateOnly, n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.at(n, "%s is %s, want a date such as 2026-10-01", what, shown(n))
		return time.Time{}
	}
	return t
}

// shown is a value of the wrong kind as a fault prints it.
func shown(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		return strconv.Quote(cut(n.Value))
	}
	return nodeKind(n)
}
