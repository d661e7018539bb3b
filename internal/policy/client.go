package policy

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// client reads what a target has in place of a dbt block for the warehouse's
// other clients: only the type, where they find the place by themselves, or a
// mapping with it.
func (d *document) client(t *Target, n *yaml.Node) (fills []fill) {
	t.dbt.Client = true
	if n.Kind == yaml.ScalarNode {
		if t.dbt.Type = d.Text(n, "client"); t.dbt.Type != "" {
			d.clientType(t, n)
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "type", Line: n.Line, Column: n.Column}
		t.dbt.Block = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column, Content: []*yaml.Node{key, n}}
		return nil
	}
	m, ok := d.Mapping(n, n, "client", nil)
	if !ok {
		return nil
	}
	v := m.Get("type")
	if v == nil {
		m.Missing("type: want one of %q", d.clientNames())
		return nil
	}
	if t.dbt.Type = d.Text(v, "type"); t.dbt.Type == "" {
		return nil
	}
	spec, known := d.clientType(t, v)
	if !known {
		return nil
	}
	d.Mapping(n, n, "client", append([]string{"type"}, spec.Client...))
	t.dbt.Block = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}
	for key, value := range m.Pairs {
		switch {
		case strictyaml.IsNull(value), value.Kind == yaml.ScalarNode && value.Value == "":
			d.Report(value, "%s is empty", key.Value)
		case value.Kind != yaml.ScalarNode:
			d.Report(value, "%s is %s, want a string", key.Value, strictyaml.KindOf(value))
		case key.Value == "type":
		case IsJinja(value.Value):
			d.Report(value, "%s: Jinja is dbt's: want a literal", key.Value)
		case slices.Contains(spec.Given[t.provider], key.Value):
			d.Report(key, "%s comes with the credential of provider %q: remove it", key.Value, t.provider)
		default:
			fills = append(fills, d.dbtValue(t, spec, key, []string{key.Value}, value)...)
		}
		t.dbt.Block.Content = append(t.dbt.Block.Content, key, value)
	}
	if first := spec.Client[0]; m.Get(first) == nil && len(n.Content) > 2 {
		m.Missing("%s: the other keys are of no use without", first)
	}
	return fills
}

// clientType finds the adapter of a client's type, which is at n.
func (d *document) clientType(t *Target, n *yaml.Node) (spec Adapter, known bool) {
	names := d.clientNames()
	if !slices.Contains(names, t.dbt.Type) {
		d.Report(n, "unknown client %q, valid clients are %q%s", t.dbt.Type, names, otherNames.DidYouMean(t.dbt.Type, names))
		return spec, false
	}
	spec = d.catalog.Adapters[t.dbt.Type]
	d.supported(t, n, spec, fmt.Sprintf("client %q", t.dbt.Type))
	return spec, true
}

// clientNames are the types of warehouses that a target may be for without dbt.
func (d *document) clientNames() []string { return clientNames(d.catalog) }

func clientNames(cat Catalog) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(cat.Adapters)) {
		if cat.Adapters[name].Client != nil {
			names = append(names, name)
		}
	}
	return names
}
