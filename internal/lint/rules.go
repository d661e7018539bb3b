package lint

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A target is one of a policy, with its place.
type target struct {
	*policyFile
	*policy.Target
	key, node *yaml.Node // in the file; nil where it is not to be found
}

// A rule is one of a target, with its place.
type rule struct {
	target
	policy.RuleView
	node *yaml.Node
}

// eachTarget calls visit with each target of each policy that has no error.
func (in *files) eachTarget(visit func(t target)) {
	for _, f := range in.policies {
		for _, t := range f.targets() {
			visit(t)
		}
	}
}

// targets returns the policy's targets, none of a policy with an error.
func (f *policyFile) targets() (list []target) {
	if f.policy == nil {
		return nil
	}
	for _, name := range f.policy.Targets() {
		t, err := f.policy.Target(name)
		if err != nil {
			continue // it has just been listed
		}
		key, node := pair(get(f.root, "targets"), name)
		list = append(list, target{f, t, key, node})
	}
	return list
}

// find returns a key of the target by its path, or that of the policy's
// defaults, nil where neither has it.
func (t target) find(path ...string) *yaml.Node {
	last := len(path) - 1
	for _, n := range []*yaml.Node{t.node, get(t.root, "defaults")} {
		if key, _ := pair(get(n, path[:last]...), path[last]); key != nil {
			return key
		}
	}
	return nil
}

// rules returns the target's rules.
func (t target) rules() []rule {
	nodes := items(get(t.node, "allow"))
	views := t.Rules()
	list := make([]rule, len(views))
	for i, v := range views {
		list[i] = rule{target: t, RuleView: v}
		if i < len(nodes) {
			list[i].node = nodes[i]
		}
	}
	return list
}

// eachRule calls visit with each rule of each policy that has no error.
func (in *files) eachRule(visit func(r rule)) {
	in.eachTarget(func(t target) {
		for _, r := range t.rules() {
			visit(r)
		}
	})
}

// eachDenyRule calls visit with each rule of a policy's `deny`, and where it starts.
func (f *policyFile) eachDenyRule(visit func(r policy.RuleView, at place)) {
	if f.policy == nil {
		return
	}
	nodes := items(get(f.root, "deny"))
	for i, r := range f.policy.DenyRules() {
		if i < len(nodes) {
			visit(r, f.at(nodes[i]))
		}
	}
}

// place is where the rule starts.
func (r rule) place() place { return r.at(r.node) }

// claim is where the rule names a claim, else where it starts.
func (r rule) claim(name string) place {
	if key, _ := pair(r.node, name); key != nil {
		return r.at(key)
	}
	return r.place()
}

// pattern is where the i-th pattern of a claim is.
func (r rule) pattern(claim string, i int) place {
	if _, value := pair(r.node, claim); value != nil {
		if list := items(value); i < len(list) {
			return r.at(list[i])
		}
	}
	return r.claim(claim)
}

// String names the rule in a message.
func (r rule) String() string { return nameOf(r.Index, r.Target.Name()) }

func nameOf(index int, target string) string {
	return fmt.Sprintf("rule %d of target %q", index+1, target)
}

// isGitHub reports whether the rule is for GitHub's tokens.
func (r rule) isGitHub() bool { return r.Identity.Kind == "github" }

// isLiteral reports whether a pattern has no wildcard.
func isLiteral(pattern string) bool { return !strings.Contains(pattern, "*") }

// quoted lists texts of the file's in a message.
func quoted(texts []string) string {
	list := make([]string, len(texts))
	for i, text := range texts {
		list[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(list, ", ")
}
