package adapter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// settle returns a block as the adapters' functions see it: keys by their own
// names, without a login of its own at any depth, and with what the adapter
// itself makes of settings. What has not changed is the user's own node. The
// error joins what is wrong with a block that dbt would refuse, or whose login the
// credential cannot replace.
func (a adapter) settle(p pair, block *yaml.Node) (*yaml.Node, error) {
	if block == nil || block.Kind != yaml.MappingNode {
		return block, nil
	}
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: block.Tag, Line: block.Line, Column: block.Column}
	names := map[string]string{}
	var f faults
	for i := 0; i+1 < len(block.Content); i += 2 {
		key, v := block.Content[i], block.Content[i+1]
		if name := a.spec.Canonical(key.Value); key.Tag == "!!str" {
			if other, ok := names[name]; ok {
				f.duplicate(other, key.Value)
				continue
			}
			names[name] = key.Value
			if name != key.Value {
				key = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Line: key.Line, Column: key.Column}
			}
		}
		own := top(block.Content[i].Value)
		own.keys = []string{a.spec.Canonical(key.Value)}
		f.join(a.misshapen(own, v))
		if v = a.without(top(key.Value), v); v != nil {
			out.Content = append(out.Content, key, v)
		}
	}
	if p.complete != nil {
		out = p.complete(out)
	}
	for _, e := range entries(out) {
		f.join(a.refuse(e))
	}
	f.join(a.pairedLogins(block))
	return out, f.err()
}

// misshapen returns what has another shape than dbt takes there. A text that
// only dbt will know is dbt's to judge.
func (a adapter) misshapen(p place, v *yaml.Node) error {
	var f faults
	name := strings.Join(p.keys, ".")
	switch {
	case v.Tag == "!!null", v.Kind == yaml.ScalarNode && policy.IsJinja(v.Value):
		return nil
	case slices.Contains(a.mappings, name) && v.Kind != yaml.MappingNode:
		f.join(p.misshapen(v, "a mapping"))
	case slices.Contains(a.lists, name) && v.Kind != yaml.SequenceNode:
		f.join(p.misshapen(v, "a list of mappings"))
	case v.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(v.Content); i += 2 {
			f.join(a.misshapen(p.at(v.Content[i].Value), v.Content[i+1]))
		}
	case slices.Contains(a.lists, name):
		for i, e := range v.Content {
			if e.Kind != yaml.MappingNode {
				f.join(p.index(i).misshapen(e, "a mapping"))
				continue
			}
			for j := 0; j+1 < len(e.Content); j += 2 {
				f.join(a.misshapen(p.index(i).at(e.Content[j].Value), e.Content[j+1]))
			}
		}
	}
	return f.err()
}

// pairedLogins returns the logins that are in lists next to their names:
// [X-Api-Key, …], {name: X-Api-Key, value: …}.
func (a adapter) pairedLogins(block *yaml.Node) error {
	var f faults
	var walk func(p place, v *yaml.Node)
	walk = func(p place, v *yaml.Node) {
		if at := policy.PairedLogin(v); at != nil && !policy.IsJinja(at.Value) && !a.elsewhere(p) {
			f.join(p.fault(" holds a secret (…): remove it"))
			return
		}
		for i, e := range v.Content {
			switch {
			case v.Kind == yaml.SequenceNode:
				walk(p.index(i), e)
			case v.Kind == yaml.MappingNode && i%2 == 1:
				walk(p.at(v.Content[i-1].Value), e)
			}
		}
	}
	for i := 0; i+1 < len(block.Content); i += 2 {
		walk(top(block.Content[i].Value), block.Content[i+1])
	}
	return f.err()
}

func shape(v *yaml.Node) string {
	switch v.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// A place is where a value is in a block.
type place struct {
	keys  []string // from the block's own down
	path  []string // the same with the places in lists: policy.BlockError's
	shown string   // the same for people: secrets[0].endpoint
}

// top is the place of a block's own key.
func top(key string) place { return place{[]string{key}, []string{key}, key} }

func (p place) at(key string) place {
	return place{append(slices.Clone(p.keys), key), append(slices.Clone(p.path), key), p.shown + "." + key}
}

func (p place) index(i int) place {
	return place{p.keys, append(slices.Clone(p.path), strconv.Itoa(i)), fmt.Sprintf("%s[%d]", p.shown, i)}
}

// isLogin reports whether a value is a login by its place. A switch such as
// client_request_mfa_token is none.
func (a adapter) isLogin(p place, v *yaml.Node) bool {
	return a.spec.IsLogin(p.keys...) && v.Tag != "!!bool" && v.Tag != "!!null"
}

// elsewhere reports whether what is at a place is for something that the
// credential is not for.
func (a adapter) elsewhere(p place) bool {
	return slices.ContainsFunc(a.others, func(other string) bool {
		return other == p.keys[0] || other == p.keys[0]+"."+p.keys[len(p.keys)-1]
	})
}

// without returns a value without the logins in it that the credential
// replaces, nil where the value itself is one.
func (a adapter) without(p place, v *yaml.Node) *yaml.Node {
	if a.elsewhere(p) {
		return v
	}
	if a.isLogin(p, v) {
		return nil
	}
	var content []*yaml.Node
	changed := false
	switch v.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(v.Content); i += 2 {
			inner := a.without(p.at(v.Content[i].Value), v.Content[i+1])
			changed = changed || inner != v.Content[i+1]
			if inner != nil {
				content = append(content, v.Content[i], inner)
			}
		}
	case yaml.SequenceNode:
		for i, e := range v.Content {
			inner := a.without(p.index(i), e)
			changed = changed || inner != e
			if inner != nil {
				content = append(content, inner)
			}
		}
	}
	if !changed {
		return v
	}
	out := *v
	out.Content = content
	return &out
}

// An entry is one scalar of a block.
type entry struct {
	place
	value *yaml.Node
}

// entries returns the scalars of a mapping, from top to bottom.
func entries(block *yaml.Node) (list []entry) {
	var walk func(p place, v *yaml.Node)
	walk = func(p place, v *yaml.Node) {
		switch v.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(v.Content); i += 2 {
				walk(p.at(v.Content[i].Value), v.Content[i+1])
			}
		case yaml.SequenceNode:
			for i, e := range v.Content {
				walk(p.index(i), e)
			}
		default:
			list = append(list, entry{place: p, value: v})
		}
	}
	for i := 0; block != nil && i+1 < len(block.Content); i += 2 {
		walk(top(block.Content[i].Value), block.Content[i+1])
	}
	return list
}

// refuse returns what is wrong with a login that is still there. One for
// somewhere else may be read from a variable, and is not ours to write down.
func (a adapter) refuse(e entry) error {
	v := textOf(e.value)
	switch {
	case v == "":
	case a.loginOnTheWay(e) && !policy.IsJinja(v):
		return e.fault(" is a login that the credential does not replace: read it from a variable, " +
			"as in {{ env_var('NAME') }}, or remove it")
	case (policy.SecretValue(v) || strings.HasSuffix(e.shown, "]") && policy.NamedLogin(v)) && !policy.IsJinja(v):
		return e.fault(" holds a secret (…): remove it")
	}
	return nil
}

// loginOnTheWay reports whether a key on the way to an entry is that of a login.
func (a adapter) loginOnTheWay(e entry) bool {
	for n := range e.keys {
		if a.isLogin(place{keys: e.keys[:n+1]}, e.value) {
			return true
		}
	}
	return false
}

// A Note is what a user should know of a value of a block.
type Note struct {
	At   *yaml.Node // the value
	Text string     // begins with the value's key
}

// Notes returns what a block keeps that is, or looks like, a login of its own,
// and what was removed from within its values.
func Notes(dbtType, provider string, block *yaml.Node) (notes []Note) {
	a := adapters[dbtType]
	settled, err := a.settle(pairOf(dbtType, provider), block)
	if err != nil || block == nil {
		return nil
	}
	left := map[string]bool{}
	add := func(e entry, text string) { notes = append(notes, Note{e.value, e.shown + text}) }
	for _, e := range entries(settled) {
		left[e.shown] = true
		switch v := textOf(e.value); {
		case a.loginOnTheWay(e) && policy.IsJinja(v), policy.SecretValue(v) && policy.IsJinja(v):
			add(e, " is a login that the credential does not replace, and is kept")
		case e.value.Tag == "!!str" && !slices.Contains(a.spec.Written, e.keys[0]) && !a.spec.IsName(e.keys...) &&
			policy.LooksLikeLogin(e.keys[len(e.keys)-1], v):
			add(e, " looks like a login, and is kept")
		case e.keys[0] == "path" && e.value.Tag == "!!str" && strings.HasPrefix(v, "{{") && dbtType == "duckdb":
			add(e, " is only known to dbt: make sure that it does not lead the credential to another store")
		}
	}
	for _, e := range entries(block) {
		e.keys[0] = a.spec.Canonical(e.keys[0])
		// A login under a key of the output's own is what the credential takes the place of.
		if len(e.keys) > 1 && !a.isLogin(place{keys: e.keys[:1]}, e.value) && a.loginOnTheWay(e) && !a.elsewhere(e.place) &&
			textOf(e.value) != "" {
			add(e, " is another login, and was removed")
		}
	}
	return notes
}

// changes adds to an output what settling has changed in the user's block, as
// the profile has its keys.
func (a adapter) changes(out Output, block, settled *yaml.Node) Output {
	written, as := map[string]bool{}, map[string]bool{}
	for _, k := range out.Keys {
		written[a.spec.Canonical(k.Name)], as[k.Name] = true, true
	}
	for i := 0; block != nil && i+1 < len(block.Content); i += 2 {
		key, v := block.Content[i], block.Content[i+1]
		name := a.spec.Canonical(key.Value)
		switch now := value(settled, name); {
		case key.Tag != "!!str":
		case written[name] && !as[key.Value], now == nil && !slices.Contains(out.Remove, key.Value):
			out.Remove = append(out.Remove, key.Value)
		case !written[name] && now != nil && now != v:
			out.Keys = append(out.Keys, Key{key.Value, now})
		}
	}
	for _, name := range slices.Clone(out.Remove) {
		for _, other := range a.spec.NamesOf(name) {
			if !slices.Contains(out.Remove, other) {
				out.Remove = append(out.Remove, other)
			}
		}
	}
	return out
}

// checkProxy returns what is wrong with a proxy: it is not known yet, or has a
// login.
func checkProxy(p place, proxy string) error {
	switch {
	case policy.IsJinja(proxy):
		return p.fault(" must be a literal: the credential passes through it")
	case strings.Contains(proxy, "@"):
		return p.fault(" contains a login, want host:port")
	case proxy != "" && !proxyText.MatchString(proxy):
		return p.fault(" is %q, want host:port", proxy)
	}
	return nil
}

// proxyText is a proxy as the clients take it, with or without a scheme.
var proxyText = lazy.MustCompile(`^(?:https?://)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?$`)
