// Package profile writes profiles.yml: it puts the credential's keys into the user's output
// and leaves everything else as it was.
package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// Names returns the profiles to write, without duplicates: those that the
// projects name, and extra. Folders are relative to root; none means root itself.
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
		var unnamed unnamedError
		switch {
		case len(extra) > 0 && (errors.As(err, &unnamed) || len(dirs) == 1 && errors.Is(err, fs.ErrNotExist)):
			// extra names the profiles
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("read dbt_project.yml in %q: no such file: set project-dir, "+
				"or name the profiles in `profiles`", dir))
		case err != nil:
			errs = append(errs, fmt.Errorf("read dbt_project.yml in %q: %w", dir, err))
		default:
			add(name)
		}
	}
	for _, name := range extra {
		if !isName(name) {
			errs = append(errs, fmt.Errorf("profile name %q: %s", name, wantName))
		}
		add(name)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.New(fault.Usage, err, "")
	}
	return names, nil
}

// maxName bounds a profile's name. dbt has no limit.
const maxName = 255

const wantName = "want 1 to 255 characters, without line breaks or control characters"

// isName reports whether s is a valid profile name. dbt accepts any string, but
// the name is also an output of the step and a line of the input `profiles`.
func isName(s string) bool {
	return s != "" && utf8.RuneCountInString(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// unnamedError says why a project's profile is not known.
type unnamedError string

func (e unnamedError) Error() string { return string(e) + ": name the profile in `profiles`" }

func projectProfile(root, dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(root, filepath.FromSlash(dir))
	}
	text, err := readFile(filepath.Join(dir, "dbt_project.yml"))
	if err != nil {
		return "", err
	}
	project, err := parse(text)
	if err != nil {
		return "", err
	}
	v := get(project, "profile")
	switch {
	case v == nil, v.Tag == "!!null":
		return "", unnamedError("it names no profile")
	case isJinja(v.Value):
		return "", unnamedError(fmt.Sprintf("its profile %q is a template that only dbt can render", v.Value))
	case v.Tag != "!!str":
		return "", fmt.Errorf("its profile %q is not a string in YAML: put it in quotes", v.Value)
	case !isName(v.Value):
		return "", fmt.Errorf("its profile is %q, %s", v.Value, wantName)
	}
	return v.Value, nil
}

func readFile(path string) ([]byte, error) {
	text, err := disk.Read(path, maxFile)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return nil, pe.Err // the caller has named the file
	}
	return text, err
}

// Render returns a profiles.yml with only the output, under each of the names.
// blocks come from a policy, which is YAML 1.2, and outs are the adapter's
// results for them; names without a block of their own use the last one.
func Render(names []string, output string, blocks []*yaml.Node, outs ...adapter.Output) ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i, name := range names {
		i = min(i, len(blocks)-1)
		root = with(root, name, profileOf(output, inline(apply(blocks[i], outs[i]))))
	}
	e := emitter{}
	if err := e.mapping(root, 0, 0); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("write profiles.yml: the dbt block %w", err), "")
	}
	return e.out.Bytes(), nil
}

// profileOf returns a profile with one output, which is its target.
func profileOf(output string, block *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		text("target"), text(output),
		text("outputs"), {Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{text(output), block}},
	}}
}

// apply returns the block with the adapter's keys instead of any other login.
func apply(block *yaml.Node, out adapter.Output) *yaml.Node {
	applied := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(block.Content); i += 2 {
		if !slices.Contains(out.Remove, block.Content[i].Value) {
			applied.Content = append(applied.Content, block.Content[i], block.Content[i+1])
		}
	}
	for _, k := range out.Keys {
		applied = with(applied, k.Name, k.Value)
	}
	return applied
}

// A Source is the user's profiles.yml.
type Source struct {
	path string
	text []byte
	file *yaml.Node // as written
	root *yaml.Node // as dbt reads it
}

// ReadFrom parses a profiles.yml as dbt does, but does not render Jinja. Errors
// are of class Usage and name the file by path.
func ReadFrom(path string, text []byte) (*Source, error) {
	s := &Source{path: path, text: text}
	var err error
	if s.file, err = load(text); err == nil {
		s.root, err = expand(s.file)
	}
	if err != nil {
		place := fault.Place{File: path, Text: err.Error()}
		if m := linePlace.FindStringSubmatch(place.Text); m != nil {
			place.Line, _ = strconv.Atoi(m[1])
			place.Column, _ = strconv.Atoi(m[2])
			place.Text = m[3]
		}
		return nil, fault.At(fault.New(fault.Usage, fmt.Errorf("read profiles %q: %w", path, err), ""), place)
	}
	return s, nil
}

// linePlace matches the position in parse's errors.
var linePlace = lazy.MustCompile(`^line ([0-9]+)(?:, column ([0-9]+))?: ((?s).*)$`)

// fail returns an error of class Usage about n.
func (s *Source) fail(n *yaml.Node, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return fault.At(fault.New(fault.Usage, fmt.Errorf("read profiles %q: %w", s.path, err), ""),
		fault.Place{File: s.path, Line: n.Line, Column: n.Column, Text: err.Error()})
}

// With returns the file with a policy's pairs set in the output of each of the
// named profiles. If they have a type it must match the output's, unless that is
// a template; the error is of class Usage.
func (s *Source) With(names []string, output string, given *yaml.Node) (*Source, error) {
	if given == nil {
		return s, nil
	}
	out := *s
	for _, name := range names {
		p := get(out.root, name)
		if p == nil || get(p, "outputs") == nil {
			continue
		}
		block := get(get(p, "outputs"), output)
		if block == nil || block.Kind != yaml.MappingNode {
			continue // Output reports what is wrong
		}
		if own, t := get(block, "type"), get(given, "type"); own != nil && t != nil && own.Value != t.Value && !isJinja(own.Value) {
			return nil, s.fail(own, "type of output %q of profile %q is %q, but `with` has %q: remove it from `with`", output,
				name, own.Value, t.Value)
		}
		block = replaced(block, given)
		p = with(p, "outputs", with(get(p, "outputs"), output, block))
		out.root = with(out.root, name, p)
	}
	return &out, nil
}

// replaced returns the block with the given keys set. It drops the block's own
// values of them, including those under another of dbt's names for a key.
func replaced(block, given *yaml.Node) *yaml.Node {
	t := get(given, "type")
	if t == nil {
		t = get(block, "type")
	}
	var spec policy.Adapter
	if t != nil {
		spec = adapter.Specs()[t.Value]
	}
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: block.Line, Column: block.Column}
	for i := 0; i+1 < len(block.Content); i += 2 {
		name := block.Content[i].Value
		other := slices.ContainsFunc(spec.NamesOf(spec.Canonical(name)), func(n string) bool { return n != name && get(given, n) != nil })
		if !other {
			out.Content = append(out.Content, block.Content[i], block.Content[i+1])
		}
	}
	for i := 0; i+1 < len(given.Content); i += 2 {
		out = with(out, given.Content[i].Value, inline(given.Content[i+1]))
	}
	return out
}

// Override returns a block with a policy's pairs set.
func Override(block, given *yaml.Node) *yaml.Node { return replaced(block, given) }

// Override returns the file with the output of a profile, which is added if the
// file lacks it. It is the profile's own output, or else that of the first
// profile, with a policy's pairs set.
func (s *Source) Override(first, name, output string, given *yaml.Node) (*Source, error) {
	of := name
	if s.lacks(name, output) {
		of = first
	}
	block, _, err := s.Output(of, output)
	if err != nil {
		return nil, err
	}
	block = replaced(block, given)
	out := *s
	p := get(s.root, name)
	if p == nil {
		p = profileOf(output, block)
	} else {
		p = with(p, "outputs", with(get(p, "outputs"), output, block))
	}
	out.root = with(s.root, name, p)
	return &out, nil
}

// Outputs returns each of Blocks in the form that a policy checks.
func (s *Source) Outputs(names []string, output string) (policy.Outputs, error) {
	blocks, err := s.Blocks(names, output)
	outs := policy.Outputs{Path: s.path, Text: s.text, Root: s.file, Name: output}
	for i, block := range blocks {
		outs.List = append(outs.List, policy.Output{Profile: names[i], Block: block})
	}
	return outs, err
}

// isJinja reports whether a value is a template that only dbt can render.
func isJinja(s string) bool { return strings.Contains(s, "{{") || strings.Contains(s, "{%") }

// Output returns an output of a profile, with aliases and merge keys expanded,
// and its type. Errors list the choices.
func (s *Source) Output(profile, output string) (block *yaml.Node, dbtType string, err error) {
	p := get(s.root, profile)
	if p == nil {
		return nil, "", s.fail(s.root, "unknown profile %q, it has %q", profile, keys(s.root))
	}
	outputs := get(p, "outputs")
	if outputs == nil || outputs.Kind != yaml.MappingNode {
		return nil, "", s.fail(p, "profile %q has no outputs", profile)
	}
	if block = get(outputs, output); block == nil {
		for i := 0; i+1 < len(outputs.Content); i += 2 {
			if k := outputs.Content[i]; k.Value == output { // such as 2024 or yes, where dbt looks for a string
				return nil, "", s.fail(k, "output %s of profile %q is not a string in YAML: put it in quotes", output, profile)
			}
		}
		return nil, "", s.fail(outputs, "unknown output %q of profile %q, it has %q", output, profile, keys(outputs))
	}
	t := get(block, "type")
	switch {
	case block.Kind != yaml.MappingNode:
		return nil, "", s.fail(block, "output %q of profile %q is not a mapping", output, profile)
	case t == nil || t.Tag != "!!str" || t.Value == "":
		return nil, "", s.fail(block, "output %q of profile %q has no type", output, profile)
	case isJinja(t.Value):
		return nil, "", s.fail(t, "type of output %q of profile %q is a template that only dbt can render: want a literal, "+
			"or `with: {type: …}` in the policy", output, profile)
	}
	return block, t.Value, nil
}

// keys returns the keys of a mapping, except `config`, which is not a profile.
func keys(n *yaml.Node) (list []string) {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if k := n.Content[i].Value; k != "config" {
			list = append(list, k)
		}
	}
	return list
}

// Blocks returns the block that becomes the output in each of the named
// profiles: its own, or that of the first profile, which must have it. Blocks
// of different types are an error of class Usage.
func (s *Source) Blocks(names []string, output string) ([]*yaml.Node, error) {
	first, want, err := s.Output(names[0], output)
	if err != nil {
		return nil, err
	}
	blocks := []*yaml.Node{first}
	for _, name := range names[1:] {
		if s.lacks(name, output) {
			blocks = append(blocks, first)
			continue
		}
		own, got, err := s.Output(name, output)
		if err == nil && got != want {
			err = s.fail(get(own, "type"),
				"type of output %q is %q in profile %q and %q in profile %q: one credential cannot serve both", output, want, names[0], got, name)
		}
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, own)
	}
	return blocks, nil
}

// lacks reports whether a profile needs another's output: it is not in the file,
// or has outputs but not this one.
func (s *Source) lacks(name, output string) bool {
	p := get(s.root, name)
	if p == nil {
		return true
	}
	outputs := get(p, "outputs")
	return outputs != nil && outputs.Kind == yaml.MappingNode && get(outputs, output) == nil
}

// Render returns the file with the credential in the output of each named
// profile, which becomes the profile's target. dbt reads everything else as it
// was, except that secrets written in the file are left out. outs are the
// adapter's results for each of Blocks; profiles beyond them use the last one.
func (s *Source) Render(names []string, output string, outs ...adapter.Output) ([]byte, error) {
	blocks, err := s.Blocks(names, output)
	if err != nil {
		return nil, err
	}
	root := withoutSecrets(s.root)
	for i, name := range names {
		block := apply(blocks[i], outs[min(i, len(outs)-1)])
		p := get(root, name)
		if p == nil {
			root = with(root, name, profileOf(output, block))
			continue
		}
		p = with(p, "outputs", with(get(p, "outputs"), output, block))
		root = with(root, name, with(p, "target", text(output)))
	}
	e := emitter{}
	if err := e.mapping(root, 0, 0); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("read profiles %q: %w", s.path, err), "")
	}
	return e.out.Bytes(), nil
}

// traced are the claims that dbt's artifacts record, with the suffix of their
// variable's name; "" is the one that the identity's kind names the run by.
var traced = []struct{ variable, claim string }{
	{"SUBJECT", "sub"}, {"REPOSITORY", "repository"}, {"REF", "ref"}, {"SHA", "sha"}, {"ENVIRONMENT", "environment"},
	{"ACTOR", "actor"}, {"RUN_ID", ""}, {"RUN_ATTEMPT", "run_attempt"}, {"WORKFLOW_REF", "workflow_ref"},
	{"JOB_WORKFLOW_REF", "job_workflow_ref"},
}

var notTraceable = lazy.MustCompile(`[^A-Za-z0-9._/@:=-]`)

// Environment returns the variables that dbt copies into its artifacts'
// metadata, so that they record the identity of the run.
func Environment(g policy.Grant) []adapter.Variable {
	vars := []adapter.Variable{
		{Name: "DBT_ENV_CUSTOM_ENV_OIDC_TARGET", Value: secret.New(g.Target())},
		{Name: "DBT_ENV_CUSTOM_ENV_OIDC_ACTOR_KIND", Value: secret.New(g.ActorKind())},
	}
	for _, t := range traced {
		v := g.Claim(t.claim)
		if t.claim == "" {
			v = g.Run()
		}
		if v != "" {
			vars = append(vars, adapter.Variable{Name: "DBT_ENV_CUSTOM_ENV_OIDC_" + t.variable,
				Value: secret.New(notTraceable.ReplaceAllString(v, "_"))})
		}
	}
	return vars
}
