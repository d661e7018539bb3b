package policy

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// maxProfileName bounds a profile's name. What cannot be seen is refused
// anywhere in a policy.
const maxProfileName = 255

// profiles reads the further profiles that get the output with other keys.
func (d *document) profiles(t *Target, n *yaml.Node) (fills []fill) {
	m, ok := d.Mapping(n, n, "profiles", nil)
	if !ok {
		return nil
	}
	if len(n.Content) == 0 {
		d.Report(n, "profiles is empty: remove it")
	}
	spec := d.catalog.Adapters[t.dbt.Type] // of none where `from` says the type
	for key, value := range m.Pairs {
		if key.Value == "" || utf8.RuneCountInString(key.Value) > maxProfileName {
			d.Report(key, "profile name %q: want 1 to %d characters", strictyaml.Cut(key.Value), maxProfileName)
		}
		keys, filled := d.profile(t, spec, key.Value, value)
		t.dbt.Profiles = append(t.dbt.Profiles, Profile{key.Value, keys})
		fills = append(fills, filled...)
	}
	return fills
}

// profile reads the keys of one: what the credential goes to is the same for
// every profile, so that they cannot say that.
func (d *document) profile(t *Target, spec Adapter, name string, n *yaml.Node) (block *yaml.Node, fills []fill) {
	keys := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}
	what := fmt.Sprintf("profile %q", strictyaml.Cut(name))
	m, ok := d.Mapping(n, n, what, nil)
	if ok && len(n.Content) == 0 {
		d.Report(n, "%s is empty: name it in the input `profiles` instead", what)
	}
	if !ok {
		return keys, nil
	}
	for key, value := range m.Pairs {
		switch name := spec.Canonical(key.Value); {
		case name == "output":
			d.Report(key, "output is the same in every profile: remove it")
		case hostKey.MatchString(name), spec.literal(t.provider, name, name) != "", slices.Contains(spec.NoClaims, name):
			d.Report(key, "%s chooses server or identity, which every profile of the target has in common: remove it", key.Value)
		case value.Kind != yaml.ScalarNode || strictyaml.IsNull(value):
			d.Report(value, "%s is %s, want a string, a number, true or false", key.Value, strictyaml.KindOf(value))
		default:
			keys.Content = append(keys.Content, key, value)
		}
	}
	return d.dbtBlock(t, keys, spec)
}
