package policy

import (
	"cmp"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// defaults are the keys that each target has unless it says otherwise.
type defaults struct {
	node  *yaml.Node          // their mapping
	taken map[*yaml.Node]bool // keys of it, at any depth, whose value a target has
	mixed map[*yaml.Node]bool // keys whose mapping was merged with a target's own
}

// defaults reads the mapping. What its values may be is checked in each target,
// with the rest of it: faults are reported where the value is, once for all
// targets.
func (d *document) defaults(n *yaml.Node) {
	known := targetKeys
	if valueOf(n, "allow") == nil {
		known = slices.DeleteFunc(slices.Clone(targetKeys), func(key string) bool { return key == "allow" })
	}
	m, ok := d.Mapping(n, n, "defaults", known)
	if !ok {
		return
	}
	if len(n.Content) == 0 {
		d.Report(n, "defaults is empty: leave it out")
	}
	for key := range m.Pairs {
		if key.Value == "allow" {
			d.Report(key, "allow cannot be a default: each target says who may have it")
		}
	}
	d.common = &defaults{node: n, taken: map[*yaml.Node]bool{}, mixed: map[*yaml.Node]bool{}}
	d.Share(n)
}

// withDefaults returns a target's mapping with the keys that it leaves to
// `defaults`.
func (d *document) withDefaults(n *yaml.Node) *yaml.Node {
	if d.common == nil {
		return n
	}
	merged := d.overlay(n, d.common.node, overlays{skip: func(key string) bool {
		has := func(name string) bool { return valueOf(n, name) != nil }
		switch key {
		case "allow":
			return true
		case "dbt": // of a target for other clients there is none
			return has("client")
		case "client":
			return has("dbt")
		case "profiles":
			return has("client") || !has("dbt") && valueOf(d.common.node, "dbt") == nil
		}
		return !slices.Contains(targetKeys, key)
	}, below: map[string]func(own, common *yaml.Node) *yaml.Node{
		"exchange": d.exchangeOver, "dbt": d.blockOver, "client": d.blockOver,
	}})
	return merged
}

// overlays says how the pairs of a mapping are merged.
type overlays struct {
	skip  func(key string) bool // keys of the defaults that are left out; nil for none
	below map[string]func(own, common *yaml.Node) *yaml.Node
	name  func(key string) string // what a key is also called; nil for nothing
}

// overlay returns a mapping with own's pairs, and those of common whose keys it
// does not have, in the order of the file: secrets are kept out of shown lines
// by their order. Mappings in both are merged in turn.
func (d *document) overlay(own, common *yaml.Node, how overlays) *yaml.Node {
	out := *own
	out.Content = slices.Clone(own.Content)
	place := map[string]int{} // of an own value
	name := func(key string) string {
		if how.name == nil {
			return key
		}
		return how.name(key)
	}
	for i := 0; i+1 < len(own.Content); i += 2 {
		place[name(own.Content[i].Value)] = i + 1
	}
	for key, value := range d.Pairs(common) {
		if how.skip != nil && how.skip(key.Value) {
			continue
		}
		i, has := place[name(key.Value)]
		switch {
		case !has:
			d.common.taken[key] = true
			out.Content = append(out.Content, key, value)
		case out.Content[i].Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			merge := how.below[key.Value]
			if merge == nil {
				merge = func(own, common *yaml.Node) *yaml.Node { return d.overlay(own, common, overlays{}) }
			}
			if merged := merge(out.Content[i], value); merged != nil {
				out.Content[i] = merged
				d.common.mixed[key] = true
			}
		}
	}
	inOrder(&out)
	d.Derive(&out, own)
	return &out
}

// inOrder sorts the pairs of a mapping by their places.
func inOrder(n *yaml.Node) {
	pairs := slices.Collect(slices.Chunk(n.Content, 2))
	slices.SortStableFunc(pairs, func(a, b []*yaml.Node) int {
		return cmp.Or(a[0].Line-b[0].Line, a[0].Column-b[0].Column)
	})
	n.Content = slices.Concat(pairs...)
}

// exchangeOver merges a target's provider with the default's, nil where it is
// another one.
func (d *document) exchangeOver(own, common *yaml.Node) *yaml.Node {
	if len(own.Content) != 2 || len(common.Content) != 2 || own.Content[0].Value != common.Content[0].Value {
		return nil
	}
	block := own.Content[1]
	if strictyaml.IsNull(block) { // `aws:` with nothing behind it
		block = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: block.Line, Column: block.Column}
	}
	if block.Kind != yaml.MappingNode || common.Content[1].Kind != yaml.MappingNode {
		return nil
	}
	out := *own
	out.Content = []*yaml.Node{own.Content[0], d.overlay(block, common.Content[1], overlays{})}
	d.common.mixed[common.Content[0]] = true
	d.Derive(&out, own)
	return &out
}

// blockOver merges a target's block with the default's, nil where it is of
// another form: of another type, or read from a file where the other is not.
func (d *document) blockOver(own, common *yaml.Node) *yaml.Node {
	ownType, commonType := valueOf(own, "type"), valueOf(common, "type")
	ownFrom, commonFrom := valueOf(own, "from"), valueOf(common, "from")
	switch {
	case ownFrom != nil && commonFrom == nil, ownType != nil && ownFrom == nil && commonFrom != nil,
		ownType != nil && commonType != nil && ownType.Value != commonType.Value:
		return nil
	}
	dbtType := cmp.Or(ownType, commonType)
	if with := cmp.Or(valueOf(own, "with"), valueOf(common, "with")); dbtType == nil && with != nil {
		dbtType = valueOf(with, "type")
	}
	how := overlays{}
	if dbtType != nil {
		how.name = d.catalog.Adapters[dbtType.Value].Canonical
		how.below = map[string]func(own, common *yaml.Node) *yaml.Node{
			"with": func(own, common *yaml.Node) *yaml.Node { return d.overlay(own, common, overlays{name: how.name}) },
		}
	}
	return d.overlay(own, common, how)
}

// checkDefaults reports what no target has: it was not checked with any.
func (d *document) checkDefaults() {
	if d.common == nil || d.Count() > 0 {
		return
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for key, value := range d.Pairs(n) {
			switch {
			case d.common.taken[key]:
			case d.common.mixed[key]:
				walk(value)
			default:
				d.Report(key, "%s is used by no target: remove it from the defaults", key.Value)
			}
		}
	}
	walk(d.common.node)
}
