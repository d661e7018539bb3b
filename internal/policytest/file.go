// Package policytest runs a policy's own tests: cases that say which target a
// token must get, or must not, and which claims keep it out.
package policytest

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/explain"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// DefaultName is the name of a test file, next to its policy.
const DefaultName = "oidc-dbt.test.yml"

// DefaultPolicy is the policy of a file that names none, relative to the file.
const DefaultPolicy = "oidc-dbt.yml"

// MaxSize bounds a test file: ten thousand cases are 3 MiB.
const MaxSize = 8 << 20

// maxCases bounds the cases of a file.
const maxCases = 50_000

// A File is a parsed test file with its policy.
type File struct {
	Name     string
	Policy   *policy.Policy
	Cases    []Case
	Coverage bool // each rule must be matched by a case
}

// A Case is one token and what the policy must decide of it.
type Case struct {
	Name     string
	Line     int
	Identity string
	Claims   map[string]any // strings, booleans and lists of strings
	Allow    []string       // the targets that the token gets, and no other; nil for a denial
	Deny     []string       // the targets that it must not get; those of the policy with `deny: all`
	Because  []string       // the claims, and no others, that keep it out of the nearest rule; nil where the case does not say
	Login    map[string]string
	Guard    string // of the targets that the token gets, as explain prints it, "none" for none; "" where the case does not say
}

// A reader reads one test file.
type reader struct {
	*strictyaml.Document
	file *File
}

// Parse parses a test file. load parses the policy, whose path is relative to
// the file's folder. The error is of class Usage and holds every fault with its
// place, or is load's.
func Parse(name string, src []byte, load func(path string) (*policy.Policy, error)) (*File, error) {
	r := reader{file: &File{Name: name, Coverage: true}}
	r.Document = strictyaml.New(name, src, strictyaml.Format{
		Doing: "parse policy test", Noun: "policy test", Needs: "a policy test has `version` and `cases`", MaxSize: MaxSize,
		SecretKey: policy.SecretName, SecretValue: policy.SecretPattern(),
	})
	root, err := r.Load(nil)
	if err != nil {
		return nil, fault.New(fault.Usage, err, "")
	}
	if root != nil {
		if err := r.root(root, load); err != nil {
			return nil, err
		}
	}
	if err := r.Err(); err != nil {
		return nil, fault.New(fault.Usage, err, "")
	}
	return r.file, nil
}

var (
	rootKeys = []string{"version", "policy", "cases", "coverage"}
	caseKeys = []string{"name", "identity", "claims", "allow", "deny", "because", "login", "guard"}
)

func (r *reader) root(root *yaml.Node, load func(string) (*policy.Policy, error)) (err error) {
	m, ok := r.Mapping(root, root, "a policy test", rootKeys)
	if !ok {
		return nil
	}
	switch v := m.Get("version"); {
	case v == nil:
		m.Missing("version: want `version: 1`")
	case v.Value != "1" || v.Tag != "!!int" || v.Kind != yaml.ScalarNode:
		r.Report(v, "version is %s, this build reads version 1", v.Value)
	}
	path := DefaultPolicy
	if v := m.Get("policy"); v != nil {
		if path = r.Text(v, "policy"); path != "" && (filepath.IsAbs(path) || strings.Contains(path, "\\")) {
			r.Report(v, "policy %q: want a path relative to this file, with /", path)
		}
	}
	if v := m.Get("coverage"); v != nil {
		switch text := r.Text(v, "coverage"); text {
		case "rules", "":
		case "none":
			r.file.Coverage = false
		default:
			r.Report(v, "coverage is %q, valid values are %q", text, []string{"rules", "none"})
		}
	}
	cases := m.Get("cases")
	if cases == nil {
		m.Missing("cases")
	}
	if r.Count() > 0 || path == "" {
		return nil // which policy is meant is not sure
	}
	if r.file.Policy, err = load(path); err != nil {
		return err
	}
	r.cases(cases)
	return nil
}

func (r *reader) cases(n *yaml.Node) {
	switch {
	case n.Kind != yaml.SequenceNode:
		r.Report(n, "cases: want a list, got %s", strictyaml.KindOf(n))
		return
	case len(n.Content) == 0:
		r.Report(n, "cases is empty")
	case len(n.Content) > maxCases:
		r.Report(n, "cases has %d entries, want at most %d", len(n.Content), maxCases)
		return
	}
	lines := map[string]int{}
	for _, e := range n.Content {
		c := r.one(e)
		if first, ok := lines[c.Name]; ok && c.Name != "" {
			r.Report(e, "duplicate name %q, line %d has it too", c.Name, first)
		}
		lines[c.Name] = e.Line
		r.file.Cases = append(r.file.Cases, c)
	}
}

func (r *reader) one(n *yaml.Node) (c Case) {
	c = Case{Line: n.Line, Identity: "github"}
	m, ok := r.Mapping(n, n, "a case", caseKeys)
	if !ok {
		return c
	}
	if v := m.Get("name"); v == nil {
		m.Missing("name")
	} else {
		c.Name = r.Text(v, "name")
	}
	if v := m.Get("identity"); v != nil {
		c.Identity = r.Text(v, "identity")
		r.identity(v, c.Identity)
	} else if _, ok := r.file.Policy.Identity(c.Identity); !ok {
		m.Missing("identity, and the policy has no \"github\": add one of %q", r.identities())
	}
	if v := m.Get("claims"); v == nil {
		m.Missing("claims")
	} else {
		c.Claims = r.claims(v, c.Identity)
	}
	r.expectation(m, &c)
	return c
}

func (r *reader) identity(n *yaml.Node, name string) {
	if _, ok := r.file.Policy.Identity(name); ok || name == "" {
		return
	}
	names := r.identities()
	r.Report(n, "unknown identity %q, the policy has %q%s", name, names, strictyaml.Synonyms{}.DidYouMean(name, names))
}

func (r *reader) identities() (names []string) {
	for _, id := range r.file.Policy.Identities() {
		names = append(names, id.Name)
	}
	return names
}

// expectation reads what the case expects.
func (r *reader) expectation(m strictyaml.Mapping, c *Case) {
	allow, deny := m.Get("allow"), m.Get("deny")
	switch {
	case allow == nil && deny == nil:
		m.Missing("allow or deny: add the target that the token gets, or one that it must not get")
	case allow != nil && deny != nil:
		r.Report(deny, "allow and deny exclude each other: allow means no other target; write two cases")
	case allow != nil:
		c.Allow = r.targets(allow, "allow")
	case deny.Kind == yaml.ScalarNode && deny.Value == "all":
		c.Deny = r.file.Policy.Candidates()
	default:
		c.Deny = r.targets(deny, "deny")
	}
	if v := m.Get("because"); v != nil {
		for _, e := range r.Texts(v, "because") {
			r.claimName(e, e.Value, c.Identity)
			c.Because = append(c.Because, e.Value)
		}
		if c.Allow != nil {
			r.Report(v, "because requires deny")
		}
	}
	if v := m.Get("login"); v != nil {
		c.Login = r.login(v)
		if c.Deny != nil {
			r.Report(v, "login requires allow")
		}
	}
	if v := m.Get("guard"); v != nil {
		c.Guard = r.Text(v, "guard")
		if c.Deny != nil {
			r.Report(v, "guard requires allow")
		}
	}
}

func (r *reader) targets(n *yaml.Node, what string) (names []string) {
	known := r.file.Policy.Targets()
	candidates := known
	if what == "deny" {
		candidates = append(slices.Clip(known), "all")
	}
	for _, e := range r.Texts(n, what) {
		switch {
		case slices.Contains(known, e.Value):
		case e.Value == "all" && what == "deny":
			r.Report(e, "all is not for a list: write `deny: all`")
		default:
			r.Report(e, "%s: unknown target %q, the policy has %q%s", what, e.Value, known,
				strictyaml.Synonyms{}.DidYouMean(e.Value, candidates))
		}
		names = append(names, e.Value)
	}
	return names
}

// claims reads the claims of a token. A name that no token has and that is near
// one is an error: a case that denies would pass by its misspelling.
func (r *reader) claims(n *yaml.Node, identity string) map[string]any {
	m, ok := r.Mapping(n, n, "claims", nil)
	if !ok {
		return nil
	}
	claims := map[string]any{}
	for key, value := range m.Pairs {
		r.claimName(key, key.Value, identity)
		claim, err := claimOf(value)
		if err != nil {
			r.Report(value, "%s: %v", key.Value, err)
		}
		claims[key.Value] = claim
	}
	return claims
}

// claimName reports a name that is probably a misspelt claim.
func (r *reader) claimName(n *yaml.Node, name, identity string) {
	id, _ := r.file.Policy.Identity(identity)
	if meant := policy.MeantClaim(id.Kind, name); meant != "" {
		r.Report(n, "%q is not a claim: did you mean %q?", name, meant)
	}
}

// claimOf returns a claim as JSON has it.
func claimOf(n *yaml.Node) (any, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value, nil
	case n.Kind == yaml.ScalarNode && n.Tag == "!!bool":
		return n.Value == "true", nil
	case n.Kind == yaml.ScalarNode && (n.Tag == "!!int" || n.Tag == "!!float"):
		return nil, fmt.Errorf("is a number, and tokens have strings: write %q", n.Value)
	case n.Kind == yaml.SequenceNode:
		var list []any
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode || e.Tag != "!!str" {
				return nil, errors.New("want a list of strings")
			}
			list = append(list, e.Value)
		}
		return list, nil
	}
	return nil, fmt.Errorf("want a string, got %s; leave out a claim that the token does not have", strictyaml.KindOf(n))
}

func (r *reader) login(n *yaml.Node) map[string]string {
	m, ok := r.Mapping(n, n, "login", explain.LoginNames)
	if !ok {
		return nil
	}
	login := map[string]string{}
	for key, value := range m.Pairs {
		login[key.Value] = r.Text(value, key.Value)
	}
	return login
}
