// Package profile writes profiles.yml: the user's output with the credential's keys in it, and everything else as it was.
package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// maxFile bounds dbt_project.yml and profiles.yml; real ones are under 64 KiB.
const maxFile = 1 << 20

// Names returns the profiles to write: those that the projects name, and
// extra, each once. Folders are relative to root; none means root itself.
// Errors are of class Usage.
func Names(root string, projectDirs, extra []string) (names []string, err error) {
	dirs := projectDirs
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var errs []error
	for _, dir := range dirs {
		name, err := projectProfile(root, dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && len(projectDirs) <= 1 && len(extra) > 0:
			// the names are given
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("read dbt_project.yml in %q: there is no such file: set project-dir, or name the profiles in `profiles`", dir))
		case err != nil:
			errs = append(errs, fmt.Errorf("read dbt_project.yml in %q: %w", dir, err))
		default:
			add(name)
		}
	}
	for _, name := range extra {
		if !nameText.MatchString(name) {
			errs = append(errs, fmt.Errorf("profile name %q: want letters, digits, `.`, `_` and `-`", name))
		}
		add(name)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.New(fault.Usage, err, "")
	}
	return names, nil
}

var nameText = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 ._-]{0,127}$`)

func projectProfile(root, dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(root, filepath.FromSlash(dir))
	}
	text, err := readFile(filepath.Join(dir, "dbt_project.yml"))
	if err != nil {
		return "", err
	}
	doc, err := load(text)
	if err != nil {
		return "", err
	}
	v := get(doc, "profile")
	switch {
	case v == nil || v.Kind != yaml.ScalarNode || v.Value == "":
		return "", errors.New("it has no `profile:`; name the profile in `profiles`")
	case strings.Contains(v.Value, "{{"):
		return "", fmt.Errorf("its profile %q is only known when dbt renders it; name the profile in `profiles`", v.Value)
	case !nameText.MatchString(v.Value):
		return "", fmt.Errorf("its profile is %q, want letters, digits, `.`, `_` and `-`", v.Value)
	}
	return v.Value, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return nil, pe.Err
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return text, err
}

// load returns the root mapping of a YAML document.
func load(text []byte) (*yaml.Node, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		var le *yaml.LoadError
		if errors.As(err, &le) && le.Mark.Line > 0 {
			return nil, fmt.Errorf("line %d, column %d: is not YAML: %s", le.Mark.Line, le.Mark.Column, le.Message)
		}
		return nil, errors.New("is not one YAML document")
	}
	root := &doc
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("is not a mapping")
	}
	return root, nil
}

// get returns the value of a mapping's key, through aliases; the last one where a key stands twice, as dbt's reader does.
func get(n *yaml.Node, key string) *yaml.Node {
	if i := index(n, key); i >= 0 {
		return resolve(n.Content[i+1])
	}
	return nil
}

func index(n *yaml.Node, key string) int {
	for i := len(n.Content) - 2; n.Kind == yaml.MappingNode && i >= 0; i -= 2 {
		if n.Content[i].Value == key && n.Content[i].Kind == yaml.ScalarNode {
			return i
		}
	}
	return -1
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// Render returns a profiles.yml that holds nothing but the output, under each
// of the names. Every string in it is double-quoted.
func Render(names []string, output string, block *yaml.Node, out adapter.Output) ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, name := range names {
		root.Content = append(root.Content, text(name), profileOf(output, apply(block, out)))
	}
	e := emitter{}
	if err := e.mapping(root, 0); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("write profiles.yml: the dbt block %w", err), "")
	}
	return e.out.Bytes(), nil
}

func profileOf(output string, block *yaml.Node) *yaml.Node {
	outputs := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text(output), block}}
	return &yaml.Node{Kind: yaml.MappingNode, Content: slices.Concat(pair("target", text(output)), pair("outputs", outputs))}
}

// apply returns the block with the adapter's keys in the place of every other login.
func apply(block *yaml.Node, out adapter.Output) *yaml.Node {
	applied := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(block.Content); i += 2 {
		name := block.Content[i].Value
		if slices.Contains(out.Remove, name) || slices.ContainsFunc(out.Keys, func(k adapter.Key) bool { return k.Name == name }) {
			continue
		}
		key := block.Content[i]
		if isKey.MatchString(name) && !ambiguous[name] {
			key = pair(name, nil)[0]
		}
		applied.Content = append(applied.Content, key, block.Content[i+1])
	}
	for _, k := range out.Keys {
		applied.Content = append(applied.Content, pair(k.Name, k.Value)...)
	}
	return applied
}

// A Source is a profiles.yml of the user's.
type Source struct {
	path string
	root *yaml.Node
}

// ReadFrom parses a profiles.yml; path is how errors call it. It does not
// render Jinja. Errors are of class Usage.
func ReadFrom(path string, text []byte) (*Source, error) {
	root, err := load(text)
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read profiles %q: %w", path, err), "")
	}
	return &Source{path, root}, nil
}

// Output returns an output of a profile, merge keys resolved, and its type.
// The errors list what there is.
func (s *Source) Output(profile, output string) (block *yaml.Node, dbtType string, err error) {
	fail := func(format string, args ...any) error {
		return fault.New(fault.Usage, fmt.Errorf("read profiles %q: %w", s.path, fmt.Errorf(format, args...)), "")
	}
	p := get(s.root, profile)
	if p == nil {
		return nil, "", fail("unknown profile %q, it has %q", profile, keys(s.root))
	}
	outputs := get(p, "outputs")
	if outputs == nil || outputs.Kind != yaml.MappingNode {
		return nil, "", fail("profile %q has no outputs", profile)
	}
	found := get(outputs, output)
	if found == nil {
		return nil, "", fail("unknown output %q of profile %q, it has %q", output, profile, keys(outputs))
	}
	if block, err = flatten(found, 0); err != nil {
		return nil, "", fail("output %q of profile %q %w", output, profile, err)
	}
	t := get(block, "type")
	switch {
	case t == nil || t.Kind != yaml.ScalarNode:
		return nil, "", fail("output %q of profile %q has no type", output, profile)
	case strings.Contains(t.Value, "{{"):
		return nil, "", fail("type of output %q of profile %q is only known when dbt renders it: want a literal", output, profile)
	}
	return block, t.Value, nil
}

func keys(n *yaml.Node) (list []string) {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if k := n.Content[i].Value; k != "config" && k != "<<" {
			list = append(list, k)
		}
	}
	return list
}

// maxMerges bounds merge keys inside merge keys.
const maxMerges = 16

// flatten resolves merge keys as PyYAML does: what a mapping says itself
// comes after, and outranks, what it merges; of several merged mappings the
// first outranks the later ones.
func flatten(n *yaml.Node, depth int) (*yaml.Node, error) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("is not a mapping")
	}
	if depth > maxMerges {
		return nil, errors.New("has merge keys without end")
	}
	flat := &yaml.Node{Kind: yaml.MappingNode}
	set := func(key, value *yaml.Node) {
		if i := index(flat, key.Value); i >= 0 {
			flat.Content[i+1] = value
			return
		}
		flat.Content = append(flat.Content, key, value)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "<<" || n.Content[i].Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			continue
		}
		merged := []*yaml.Node{resolve(n.Content[i+1])}
		if merged[0].Kind == yaml.SequenceNode {
			merged = slices.Clone(merged[0].Content)
			slices.Reverse(merged)
		}
		for _, m := range merged {
			m, err := flatten(m, depth+1)
			if err != nil {
				return nil, err
			}
			for j := 0; j+1 < len(m.Content); j += 2 {
				set(m.Content[j], m.Content[j+1])
			}
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "<<" {
			set(n.Content[i], n.Content[i+1])
		}
	}
	return flat, nil
}

// Render returns the file with the credential in the output of each named
// profile, and all else as it was to dbt. A profile that the file does not
// have gets the output of the first one.
func (s *Source) Render(names []string, output string, out adapter.Output) ([]byte, error) {
	first, _, err := s.Output(names[0], output)
	if err != nil {
		return nil, err
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Content: slices.Clone(s.root.Content)}
	for _, name := range names {
		block := first
		if own, _, err := s.Output(name, output); err == nil {
			block = own
		}
		applied := apply(block, out)
		i := index(root, name)
		if i < 0 {
			root.Content = append(root.Content, text(name), profileOf(output, applied))
			continue
		}
		replaced, err := s.replace(resolve(root.Content[i+1]), output, applied)
		if err != nil {
			return nil, err
		}
		root.Content[i+1] = replaced
	}
	e := emitter{verbatim: true}
	if err := e.mapping(root, 0); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read profiles %q: %w", s.path, err), "")
	}
	return e.out.Bytes(), nil
}

// replace returns a copy of a profile with the output replaced and chosen.
func (s *Source) replace(profile *yaml.Node, output string, block *yaml.Node) (*yaml.Node, error) {
	flat, err := flatten(profile, 0)
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read profiles %q: a profile %w", s.path, err), "")
	}
	set(flat, "target", text(output))
	outputs := &yaml.Node{Kind: yaml.MappingNode}
	if have := get(flat, "outputs"); have != nil {
		if outputs, err = flatten(have, 0); err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("read profiles %q: outputs %w", s.path, err), "")
		}
	}
	set(outputs, output, block)
	set(flat, "outputs", outputs)
	return flat, nil
}

func set(n *yaml.Node, key string, value *yaml.Node) {
	if i := index(n, key); i >= 0 {
		n.Content[i+1] = value
		return
	}
	n.Content = append(n.Content, text(key), value)
}

// traced are the claims that dbt's own artifacts shall name, by the end of
// their variable's name.
var traced = []struct{ variable, claim string }{
	{"SUBJECT", "sub"}, {"REPOSITORY", "repository"}, {"REF", "ref"}, {"SHA", "sha"}, {"ENVIRONMENT", "environment"},
	{"ACTOR", "actor"}, {"RUN_ID", "run_id"}, {"RUN_ATTEMPT", "run_attempt"}, {"WORKFLOW_REF", "workflow_ref"}, {"JOB_WORKFLOW_REF", "job_workflow_ref"},
}

var notTraceable = regexp.MustCompile(`[^A-Za-z0-9._/@:=-]`)

// Environment returns the variables that dbt copies into its artifacts'
// metadata, so that these name the identity that they were made with.
func Environment(g policy.Grant) []adapter.Variable {
	vars := []adapter.Variable{
		{Name: "DBT_ENV_CUSTOM_ENV_OIDC_TARGET", Value: secret.New(g.Target())},
		{Name: "DBT_ENV_CUSTOM_ENV_OIDC_ACTOR_KIND", Value: secret.New(g.ActorKind())},
	}
	for _, t := range traced {
		if v, ok := g.Claims().String(t.claim); ok && v != "" {
			vars = append(vars, adapter.Variable{Name: "DBT_ENV_CUSTOM_ENV_OIDC_" + t.variable, Value: secret.New(notTraceable.ReplaceAllString(v, "_"))})
		}
	}
	return vars
}
