package profile

import "go.yaml.in/yaml/v4"

// Profiles returns the names of the file's profiles, in its order.
func (s *Source) Profiles() (names []string) {
	for _, name := range keys(s.root) {
		if outputs := get(get(s.root, name), "outputs"); outputs != nil && outputs.Kind == yaml.MappingNode {
			names = append(names, name)
		}
	}
	return names
}

// Targets returns the outputs of a profile in the file's order, and its
// `target`, as it stands there; both are empty where there is no such profile.
func (s *Source) Targets(profile string) (outputs []string, target string) {
	p := get(s.root, profile)
	if p == nil {
		return nil, ""
	}
	if v := get(p, "target"); v != nil {
		target = v.Value
	}
	if list := get(p, "outputs"); list != nil {
		outputs = keys(list)
	}
	return outputs, target
}

// Shared reports whether an output is written with the help of anchors, aliases
// or merge keys, so that a copy of it would not follow what it is made from.
func (s *Source) Shared(profile, output string) bool {
	n := s.file
	for _, key := range []string{profile, "outputs", output} {
		n = get(deref(n), key)
		if n == nil {
			return true // merged from elsewhere
		}
	}
	return shares(n)
}

func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func shares(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Tag == "!!merge" {
		return true
	}
	for _, c := range n.Content {
		if shares(c) {
			return true
		}
	}
	return false
}
