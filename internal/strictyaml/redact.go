package strictyaml

import (
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// secretText matches a key that holds a secret and what is between it and its
// value, where there are no nodes to go by: in a line with a syntax error, in
// a comment. It is wide on purpose.
var secretText = lazy.MustCompile(`(?i)(?:pass(?:word|wd|phrase)?|pwd|token|secret|private_?key|keyfile\w*|access_?key|` +
	`api_?key|credential)\w*["']?\s*[:=]\s*`)

// hideFrom hides a line from a column on, 1 for all of it.
func (e *faults) hideFrom(line, column int) {
	if have, ok := e.hidden[line]; !ok || column < have {
		e.hidden[line] = column
	}
}

// Redact has Err keep the secrets below a root out of shown lines. Load does it
// with its own.
func (d *Document) Redact(root *yaml.Node) { d.roots = append(d.roots, root) }

// Hide keeps n, and what follows it on its line, out of shown lines.
func (d *Document) Hide(n *yaml.Node) { d.faults.hideFrom(n.Line, n.Column) }

// Show returns a line as an error shows it, its secrets redacted, and where the
// caret is below it; "" where there is no such line. Without a root to go by,
// nothing is shown from what looks like the first secret on.
func (d *Document) Show(line, column int) (shown string, caret int) {
	lines := d.faults.lines()
	if line < 1 || line > len(lines) {
		return "", 0
	}
	if !d.redacted {
		d.redacted = true
		for _, root := range d.roots {
			d.redact(root)
		}
		if len(d.roots) == 0 {
			d.hideSecrets()
		}
	}
	return d.faults.show(lines[line-1], line, column)
}

// hideSecrets hides, where there are no keys yet, what looks like a secret and
// everything after it.
func (d *Document) hideSecrets() {
	lines := d.faults.lines()
	for i, line := range lines {
		end := -1
		if m := secretText.FindStringIndex(line); m != nil {
			end = m[1]
		}
		if m := d.format.SecretValue.FindStringIndex(line); m != nil && (end < 0 || m[0] < end) {
			end = m[0]
		}
		if end < 0 {
			continue
		}
		d.faults.hideFrom(i+1, utf8.RuneCountInString(line[:end])+1)
		for later := i + 2; later <= len(lines); later++ {
			d.faults.hideFrom(later, 1)
		}
		return
	}
}

// redact keeps the values of keys that are named like secrets out of shown
// lines: from where such a value starts to the line of the next node.
func (d *Document) redact(root *yaml.Node) {
	from := 0 // the line of the hidden value that is open
	var walk func(n *yaml.Node, secret bool)
	walk = func(n *yaml.Node, secret bool) {
		if from > 0 {
			for line := from + 1; line < n.Line; line++ {
				d.faults.hideFrom(line, 1)
			}
			from = 0
		}
		if secret {
			d.faults.hideFrom(n.Line, n.Column)
			from = n.Line
		}
		for i, c := range n.Content {
			inside := secret || n.Kind == yaml.MappingNode && i%2 == 1 && d.format.SecretKey(n.Content[i-1].Value)
			walk(c, inside || d.format.SecretValue.MatchString(c.Value))
		}
	}
	walk(root, false)
	if from > 0 {
		for line := from + 1; line <= len(d.faults.lines()); line++ {
			d.faults.hideFrom(line, 1)
		}
	}
}
