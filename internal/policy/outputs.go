package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// Outputs are what a target's `from` leads to: one output in each of some profiles.
type Outputs struct {
	Path string     // of the file, as errors name it
	Text []byte     // the file
	Root *yaml.Node // the file as it is, aliases and merge keys not written out
	Name string     // the output's
	List []Output
}

// An Output is the output in one profile.
type Output struct {
	Profile string
	// Block is the output's mapping, aliases and merge keys written out, with
	// the target's `with` in it. A value of the file has its line there,
	// any other none.
	Block *yaml.Node
}

// CheckOutputs holds outputs to the rules of a policy's `dbt:` block, except
// that a login in them is replaced, and nothing is wrong with it. check returns
// what else is wrong with a block. The error, of class Usage, holds every fault
// with its place in the file or, of a key of `with`, in the policy; its hint is
// the `with` that would do. warnings say which keys dbt's Jinja, and so the job,
// chooses, though the policy might.
func (t *Target) CheckOutputs(outs Outputs, dbtType string, check func(block *yaml.Node) []*BlockError) (
	warnings []fault.Warning, err error,
) {
	c := outputCheck{target: t, outs: outs, seen: map[string]bool{}}
	c.file = newDocument("read profiles", outs.Path, outs.Text, t.origin.catalog)
	c.file.Redact(outs.Root)
	c.policy = newDocument(parsePolicy, t.origin.name, t.origin.src, t.origin.catalog)
	spec, suits := c.adapter(dbtType)
	if suits && t.dbt.With != nil {
		c.policy.Redact(t.dbt.With)
		c.policy.dbtBlock(t, t.dbt.With, spec)
	}
	for _, p := range t.dbt.Profiles {
		if suits {
			c.policy.Redact(p.Keys)
			c.policy.profile(t, spec, p.Name, p.Keys)
		}
	}
	sound := c.policy.Count() == 0
	for _, o := range outs.List {
		if !suits {
			break
		}
		before := c.file.Count()
		asked := c.jinja(spec, o)
		if sound && c.file.Count() == before { // every value is known
			for _, e := range check(o.Block) {
				c.blockError(spec, o, e)
			}
		}
		if len(asked) > 0 {
			warnings = append(warnings, c.ask(o, asked))
		}
	}
	if err := errors.Join(c.policy.Err(), c.file.Err()); err != nil {
		return nil, fault.New(fault.Usage, err, c.hint())
	}
	return warnings, nil
}

// An outputCheck is CheckOutputs on its way.
type outputCheck struct {
	target       *Target
	outs         Outputs
	file, policy *document
	seen         map[string]bool // faults: profiles share mappings
	keys         []string        // that `with` would have to give
	twice        bool            // a key has two names there
}

// adapter finds the type's adapter; what is wrong with it is a fault.
func (c *outputCheck) adapter(dbtType string) (spec Adapter, suits bool) {
	first := c.outs.List[0]
	at := first.Block
	if v := valueOf(first.Block, "type"); v != nil && v.Line > 0 {
		at = v
	}
	before := c.file.Count()
	spec, _ = c.file.dbtAdapter(c.target, at, dbtType)
	return spec, c.file.Count() == before
}

// jinja reports keys that must be literals, and returns those that better were.
func (c *outputCheck) jinja(spec Adapter, o Output) (asked []*yaml.Node) {
	provider := c.target.provider
	own := "" // the name that the file has for the block's key
	var walk func(top, key string, n *yaml.Node)
	walk = func(top, key string, n *yaml.Node) {
		for i, e := range n.Content {
			switch {
			case n.Kind == yaml.SequenceNode:
				walk(top, key, e)
			case n.Kind == yaml.MappingNode && i%2 == 1:
				walk(top, n.Content[i-1].Value, e)
			}
		}
		if n.Kind != yaml.ScalarNode || n.Line == 0 || !IsJinja(n.Value) {
			return
		}
		switch name := spec.literal(provider, top, key); {
		case name == "" || spec.IsLogin(top, key):
		case slices.Contains(nameKeys, name) && !slices.Contains(spec.Needed[provider], name):
			asked = append(asked, &yaml.Node{Value: own, Line: n.Line, Column: n.Column})
		default:
			if name == top {
				name = own
			}
			c.fault(o, n, own, fmt.Sprintf(wantLiteral, name))
		}
	}
	for i := 0; i+1 < len(o.Block.Content); i += 2 {
		own = o.Block.Content[i].Value
		key, v := spec.Canonical(own), o.Block.Content[i+1]
		if !slices.Contains(spec.Written, key) && !slices.Contains(spec.Given[provider], key) && !spec.IsLogin(key) {
			walk(key, key, v)
		}
	}
	return asked
}

// nameKeys choose who dbt is at the warehouse, which accepts only names that
// the credential is for.
var nameKeys = []string{"user", "role", "roles"}

// ask is the warning of names that the job chooses.
func (c *outputCheck) ask(o Output, keys []*yaml.Node) (w fault.Warning) {
	var places, names []string
	for _, k := range keys {
		w.Places = append(w.Places, fault.Place{File: c.outs.Path, Line: k.Line, Column: k.Column, Text: k.Value})
		places = append(places, fmt.Sprintf("%s (%s:%d:%d)", k.Value, c.outs.Path, k.Line, k.Column))
		if !slices.Contains(names, k.Value) {
			names = append(names, k.Value)
		}
	}
	w.Text = fmt.Sprintf("output %q of profile %q: the job's environment chooses %s, not the policy: to change that, add `%s` under `dbt`",
		c.outs.Name, o.Profile, strings.Join(places, ", "), withText(names))
	return w
}

// fault reports a fault at n, a node of the file; with key, of the block, the
// policy could mend it.
func (c *outputCheck) fault(o Output, n *yaml.Node, key, text string) {
	if id := fmt.Sprint(n.Line, ":", n.Column, " ", text); !c.seen[id] {
		c.seen[id] = true
		c.file.Report(n, "output %q of profile %q: %s", c.outs.Name, o.Profile, text)
	}
	if key != "" && !slices.Contains(c.keys, key) {
		c.keys = append(c.keys, key)
	}
}

// blockError reports what check has found.
func (c *outputCheck) blockError(spec Adapter, o Output, e *BlockError) {
	key, at := e.find(spec, o.Block)
	switch {
	case key == "":
		c.fault(o, o.Block, "", e.Text)
	case e.Kind == Duplicate && at != nil && at.Line > 0:
		c.twice = true
		c.fault(o, at, "", e.Text)
	case at == nil:
		if e.Kind != Missing && !slices.Contains(slices.Concat(spec.Required, spec.Literal, spec.NoClaims), key) {
			key = "" // nothing that `with` should give
		}
		c.fault(o, o.Block, key, e.Text)
	case at.Line > 0:
		c.file.hideMisshapen(e, at)
		c.fault(o, at, key, e.Text)
	default:
		c.given(o, key, e)
	}
}

// given reports a fault of a value that the policy gives.
func (c *outputCheck) given(o Output, key string, e *BlockError) {
	v := valueOf(c.target.dbt.With, key)
	for _, p := range c.target.dbt.Profiles {
		if own := valueOf(p.Keys, key); p.Name == o.Profile && own != nil {
			v = own
		}
	}
	if v != nil && !c.seen[e.Text] {
		c.seen[e.Text] = true
		c.policy.hideMisshapen(e, v)
		c.policy.Report(v, "%s", e.Text)
	}
}

// hint is the policy's answer to the faults of the file, "" where it has none.
func (c *outputCheck) hint() string {
	var hints []string
	if c.twice {
		hints = append(hints, "remove one of the two names from "+c.target.dbt.From)
	}
	if len(c.keys) == 0 {
		return strings.Join(hints, "")
	}
	var keys []string
	if with := c.target.dbt.With; with != nil {
		for i := 0; i < len(with.Content); i += 2 {
			keys = append(keys, with.Content[i].Value)
		}
	}
	for _, key := range c.keys {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	hints = append(hints, fmt.Sprintf("give the values in the policy: `dbt: {from: %s, output: %s, %s}`",
		c.target.dbt.From, c.outs.Name, withText(keys)))
	return strings.Join(hints, "; ")
}

func withText(keys []string) string {
	return "with: {" + strings.Join(keys, ": …, ") + ": …}"
}

// valueOf returns the value of a mapping's key, nil where it has none.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
