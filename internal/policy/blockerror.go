package policy

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// A BlockError is a fault of an output's block.
type BlockError struct {
	// Path leads to the value: the block's own key, further keys and, in lists,
	// indices from 0. It is empty for the block as a whole. Where the block has
	// not all of it, the fault is where it ends.
	Path []string
	Kind BlockErrorKind
	Text string // without the block's place, and never with a secret
	// Login is set where the value holds a login that Text leaves out.
	Login bool
}

// A BlockErrorKind says what about a value is wrong.
type BlockErrorKind int

// The kinds of faults.
const (
	Invalid   BlockErrorKind = iota // the value is refused
	Missing                         // the block requires the key
	Duplicate                       // dbt takes two keys of the block for the same one; Path is the first
	Misshapen                       // not the mapping, or list of mappings, that dbt takes: any of it may be a secret
)

func (e *BlockError) Error() string { return e.Text }

// Where is the same for faults of the same value: of those one is enough.
func (e *BlockError) Where() string {
	if len(e.Path) == 0 {
		return e.Text
	}
	return strings.Join(e.Path, ".")
}

// DuplicateKey is the text about two keys that dbt takes for the same one.
func DuplicateKey(first, second string) string {
	return fmt.Sprintf("duplicate key: %s and %s are the same setting, remove one", first, second)
}

// find returns the key of the block that a fault is about, as the block spells
// it, and the value; nil where the block has none.
func (e *BlockError) find(spec Adapter, block *yaml.Node) (key string, at *yaml.Node) {
	if len(e.Path) == 0 {
		return "", nil
	}
	key = e.Path[0]
	for _, name := range spec.NamesOf(key) {
		if v := valueOf(block, name); v != nil {
			return name, below(v, e.Path[1:])
		}
	}
	return key, nil
}

// below returns the value that a path leads to, as far as there is one.
func below(n *yaml.Node, path []string) *yaml.Node {
	for _, step := range path {
		next := valueOf(n, step)
		if i, err := strconv.Atoi(step); err == nil && n.Kind == yaml.SequenceNode && i >= 0 && i < len(n.Content) {
			next = n.Content[i]
		}
		if next == nil {
			break
		}
		n = next
	}
	return n
}

// hideMisshapen keeps the value of such a fault, or one with a login, out of
// shown lines.
func (d *document) hideMisshapen(e *BlockError, n *yaml.Node) {
	if e.Kind != Misshapen && !e.Login {
		return
	}
	var hide func(n *yaml.Node)
	hide = func(n *yaml.Node) {
		d.Hide(n)
		for _, inner := range n.Content {
			hide(inner)
		}
	}
	hide(n)
}

// CheckBlock holds the `dbt:` block to what check returns. The error, of class
// Usage, holds every fault with its place in the policy.
func (t *Target) CheckBlock(check func(block *yaml.Node) []*BlockError) error {
	d := newDocument(parsePolicy, t.origin.name, t.origin.src, t.origin.catalog)
	d.Redact(t.dbt.Block)
	for _, e := range check(t.DBT().Block) {
		_, at := e.find(d.catalog.Adapters[t.dbt.Type], t.dbt.Block)
		if at == nil {
			at = t.dbt.Block
		}
		d.hideMisshapen(e, at)
		d.Report(at, "%s", e)
	}
	if err := d.Err(); err != nil {
		return fault.New(fault.Usage, err, "")
	}
	return nil
}
