package job

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/profile"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// A project is what a run knows of the user's dbt: which profiles to write,
// and the output as the user described it.
type project struct {
	dbtType   string          // "" for a credentials-only target
	client    string          // of such a target: the warehouse whose other clients it is for; "" for none
	names     []string        // profile names
	output    string          // the output that gets the credential
	policyDir string          // where relative paths of the policy start
	relative  bool            // the policy has one
	source    *profile.Source // the user's profiles.yml, nil for an inline block
	blocks    []*yaml.Node    // the chosen output in each profile of source
	route     route.Route     // how dbt stays logged in; the zero Route where it reads the credential once
	// warehouse is what the exchange must know; as in route, no claims are
	// filled in until there is a grant.
	warehouse credential.Warehouse
	warnings  []fault.Warning // of source, and of logins that the blocks keep or lose
	dbt       []audit.Project // for the audit records
}

// readProject reads dbt_project.yml and, for `from`, profiles.yml.
func readProject(ctx context.Context, env Env, s Settings, t *policy.Target) (p project, err error) {
	if err := checkFiles(ctx, s, t); err != nil {
		return p, err
	}
	dbt := t.DBT()
	if dbt.Client || dbt.Type == "" && dbt.From == "" {
		return withoutProfile(t, dbt)
	}
	p = project{dbtType: dbt.Type, output: dbt.Output, policyDir: s.policyDir}
	if p.names, err = profile.Names(s.Root, s.ProjectDirs, s.Profiles); err != nil {
		return p, err
	}
	for _, further := range dbt.Profiles {
		if !slices.Contains(p.names, further.Name) {
			p.names = append(p.names, further.Name)
		}
	}
	for _, project := range profile.Projects(s.Root, s.ProjectDirs) {
		p.dbt = append(p.dbt, audit.Project{Name: project.Name, Lock: project.Lock, Packages: project.Packages})
	}
	if dbt.From == "" {
		err = p.takeInline(ctx, env, s, t)
	} else {
		err = p.takeFile(ctx, env, s, t)
	}
	return p, err
}

// withoutProfile returns what is known of a target that dbt does not log in to
// by a profile: one for other clients of a warehouse, or for credentials only.
func withoutProfile(t *policy.Target, dbt policy.DBT) (p project, err error) {
	if dbt.Client {
		p.client = dbt.Type
		p.route, err = clientRoute(t, p.client, dbt.Block)
	} else {
		p.route, err = adapter.Route("", t.Provider(), t.Exchange(), nil)
	}
	if err != nil {
		return p, err
	}
	return p, provider.Check(t.Provider(), t.Exchange(), p.warehouse)
}

// takeInline checks the policy's own block.
func (p *project) takeInline(ctx context.Context, env Env, s Settings, t *policy.Target) error {
	if err := t.CheckBlock(func(block *yaml.Node) []*policy.BlockError { return p.faults(t, block) }); err != nil {
		if s.inlinePolicy() {
			err = fault.At(err) // its lines are those of no file
		}
		return err
	}
	return p.check(ctx, env, s, t, p.inline(t.DBT())...)
}

// takeFile reads and checks the output of the user's profiles.yml.
func (p *project) takeFile(ctx context.Context, env Env, s Settings, t *policy.Target) error {
	dbt := t.DBT()
	path := filepath.Join(s.FirstProject(), filepath.FromSlash(dbt.From))
	text, err := readTrusted(ctx, env, s, path, "profiles")
	if err != nil {
		return err
	}
	if p.source, err = profile.ReadFrom(path, text); err != nil {
		return err
	}
	if err := p.give(dbt); err != nil {
		return err
	}
	outs, err := p.source.Outputs(p.names, p.output)
	if err != nil {
		return err
	}
	check := func(block *yaml.Node) []*policy.BlockError { return p.faults(t, block) }
	if p.warnings, err = t.CheckOutputs(outs, p.dbtType, check); err != nil {
		if s.inlinePolicy() {
			err = fileOnly(err, path)
		}
		return err
	}
	login := string(adapter.Asks(p.dbtType, t.Provider()).Login)
	if err := errors.Join(t.CheckLifetimes(p.dbtType, login), t.CheckIdentities(p.dbtType, login)); err != nil {
		return err
	}
	return p.check(ctx, env, s, t, p.blocks...)
}

// blocksOf returns the user's outputs, or the policy's block as each profile has it.
func (p *project) blocksOf(dbt policy.DBT) []*yaml.Node {
	if p.source != nil || dbt.Block == nil {
		return p.blocks
	}
	return p.inline(dbt)
}

// inline returns the policy's block as each profile has it; the last one
// serves the rest.
func (p *project) inline(dbt policy.DBT) []*yaml.Node {
	if len(dbt.Profiles) == 0 {
		return []*yaml.Node{dbt.Block}
	}
	blocks := make([]*yaml.Node, len(p.names))
	for i, name := range p.names {
		blocks[i] = dbt.Block
		for _, further := range dbt.Profiles {
			if further.Name == name {
				blocks[i] = profile.Override(dbt.Block, further.Keys)
			}
		}
	}
	return blocks
}

// give puts the policy's keys into the chosen output of each profile. A
// relative path of theirs starts at the policy's folder.
func (p *project) give(dbt policy.DBT) (err error) {
	file, with := p.source, dbt.With
	if p.source, err = file.With(p.names, p.output, with); err != nil {
		return err
	}
	if _, p.dbtType, err = p.source.Output(p.names[0], p.output); err != nil {
		return err
	}
	if placed := p.placed(with); placed != with {
		p.relative = true
		if p.source, err = file.With(p.names, p.output, placed); err != nil {
			return err
		}
	}
	// The first profile's own keys come last: what others get of it is without them.
	order := func(further policy.Profile) int {
		if further.Name == p.names[0] {
			return 1
		}
		return 0
	}
	all := slices.Clone(dbt.Profiles)
	slices.SortStableFunc(all, func(a, b policy.Profile) int { return order(a) - order(b) })
	for _, further := range all {
		if p.source, err = p.source.Override(p.names[0], further.Name, p.output, further.Keys); err != nil {
			return err
		}
	}
	p.blocks, err = p.source.Blocks(p.names, p.output)
	return err
}

// faults returns what an adapter has against a block, one fault a value.
func (p *project) faults(t *policy.Target, block *yaml.Node) (list []*policy.BlockError) {
	w, warehouse := adapter.Warehouse(p.dbtType, t.Provider(), block)
	_, way := routeOf(t, p.dbtType, block)
	all := []error{adapter.CheckPlaces(p.dbtType, t.Provider(), t.GuardedAudience(), block), warehouse, way}
	if warehouse == nil {
		all = append(all, provider.Check(t.Provider(), t.Exchange(), w))
	}
	seen := map[string]bool{}
	for _, err := range fault.Each(errors.Join(all...)) {
		// Of a value that one check has refused, the others say the same in
		// other words. What is no BlockError is about the pair, with any block.
		if e := new(policy.BlockError); errors.As(err, &e) && !seen[e.Where()] {
			seen[e.Where()] = true
			list = append(list, e)
		}
	}
	return list
}

// warning returns one about the node n, with its place in the user's
// profiles or, of an inline block, in the policy.
func (p *project) warning(s Settings, t *policy.Target, n *yaml.Node, text string) fault.Warning {
	place := fault.Place{File: t.File(), Line: n.Line, Column: n.Column}
	switch {
	case p.source != nil:
		place = p.source.Place(n)
	case s.inlinePolicy():
		return fault.Warning{Text: text} // its lines are those of no file
	}
	return at(place, text)
}

// at returns a warning that begins with its place, where it has one.
func at(place fault.Place, text string) fault.Warning {
	if place.Line == 0 {
		return fault.Warning{Text: text}
	}
	place.Text = text
	return fault.Warning{Text: fmt.Sprintf("%s:%d:%d: %s", place.File, place.Line, place.Column, text), Places: []fault.Place{place}}
}

// appendOnce adds a warning unless the list has it: profiles share anchors.
func appendOnce(list []fault.Warning, w fault.Warning) []fault.Warning {
	if slices.ContainsFunc(list, func(have fault.Warning) bool { return have.Text == w.Text }) {
		return list
	}
	return append(list, w)
}

// fileOnly returns err with its places in one file: an inline policy is none.
func fileOnly(err error, path string) error {
	places := slices.DeleteFunc(fault.Places(err), func(p fault.Place) bool { return p.File != path })
	return fault.At(err, places...)
}

// check holds the blocks, each of which gets the credential, to what adapter
// and provider ask of them, and sets the warehouse and the route.
func (p *project) check(ctx context.Context, env Env, s Settings, t *policy.Target, blocks ...*yaml.Node) error {
	if err := p.checkGuard(s, t, blocks...); err != nil {
		return err
	}
	for i, b := range blocks {
		if p.source == nil {
			placed := p.placed(b)
			p.relative = p.relative || placed != b
			b = placed
		}
		if key, roots := adapter.RootsFile(p.dbtType, b); roots != nil {
			path := roots.Value
			if !filepath.IsAbs(path) {
				path = filepath.Join(s.CommandDir, path) // where dbt would find it
			}
			_, given := adapter.RootsFile(p.dbtType, t.DBT().With)
			if err := checkRoots(ctx, env, s.ofProfile(p.source != nil && given == nil), path); err != nil {
				named := fmt.Errorf("dbt output of type %q: %s %q: %w", p.dbtType, key, roots.Value, disk.Cause(err))
				return fault.New(fault.Usage, named, fault.Hint(err))
			}
		}
		if err := adapter.CheckPlaces(p.dbtType, t.Provider(), t.GuardedAudience(), b); err != nil {
			return err
		}
		for _, note := range adapter.Notes(p.dbtType, t.Provider(), b) {
			p.warnings = appendOnce(p.warnings, p.warning(s, t, note.At, fmt.Sprintf("output %q: %s", p.output, note.Text)))
		}
		w, err := adapter.Warehouse(p.dbtType, t.Provider(), b)
		if err != nil {
			return err
		}
		r, err := routeOf(t, p.dbtType, b)
		if err != nil {
			return err
		}
		if r.Only && !s.Broker && !s.DryRun && !s.ProfileOnly {
			return fault.New(fault.Usage,
				fmt.Errorf("type %q with provider %q requires oidc-dbt to run next to dbt: dbt cannot hold this credential itself",
					p.dbtType, t.Provider()),
				"give the command to this step as `run:`, set `keep-fresh: true`, or call `oidc-dbt exec -- COMMAND`")
		}
		if i > 0 && (!reflect.DeepEqual(w, p.warehouse) || r != p.route) {
			return fault.New(fault.Usage,
				fmt.Errorf("read profiles: output %q of profile %q requires a different credential than that of profile %q",
					p.output, p.names[i], p.names[0]), "")
		}
		p.warehouse, p.route = w, r
	}
	return provider.Check(t.Provider(), t.Exchange(), p.warehouse)
}

// placed returns keys of the policy's with the file of certificate authorities
// below the policy's folder, wherever dbt runs.
func (p *project) placed(block *yaml.Node) *yaml.Node {
	if block == nil {
		return nil
	}
	if _, path := adapter.RootsFile(p.dbtType, block); path == nil || filepath.IsAbs(path.Value) {
		return block
	}
	block = clone(block) // the policy's does not change
	_, path := adapter.RootsFile(p.dbtType, block)
	path.Value = filepath.Join(p.policyDir, filepath.FromSlash(path.Value))
	return block
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = clone(child)
	}
	return &c
}

// identities warns of keys in the user's file that named an identity: the
// exchange determines it, and a run must not silently have another one.
func (p *project) identities(g policy.Grant) (warnings []fault.Warning) {
	for i, block := range p.blocks {
		for _, d := range adapter.Identities(p.dbtType, g.Provider(), g.Exchange(), block) {
			text := fmt.Sprintf("%s of output %q of profile %q was removed: the exchange determines who the run is", d.Key, p.output, p.names[i])
			if d.Exchange != "" {
				text = fmt.Sprintf("%s, by `%s` under `%s`", text, d.Exchange, g.Provider())
			}
			warnings = appendOnce(warnings, at(p.source.Place(d.At), text))
		}
	}
	return warnings
}

// settled are a target's settings as they go into the profile: those of a grant
// or, without a credential, of an outline.
type settled interface {
	adapter.Facts
	Direct() bool
	DBT() policy.DBT
}

// granted fills in the claims.
func (p *project) granted(g settled) (err error) {
	dbt := g.DBT()
	var block *yaml.Node
	switch {
	case dbt.Block != nil:
		block = p.placed(p.inline(dbt)[0])
	case dbt.With != nil || len(dbt.Profiles) > 0:
		if err := p.give(dbt); err != nil {
			return err
		}
		block = p.blocks[0]
	default:
		return nil
	}
	if p.client != "" {
		p.route, err = clientRoute(g, p.client, block)
		return err
	}
	if p.warehouse, err = adapter.Warehouse(p.dbtType, g.Provider(), block); err != nil {
		return err
	}
	p.route, err = routeOf(g, p.dbtType, block)
	return err
}

// granting is a target, or with the claims filled in a grant.
type granting interface {
	Direct() bool
	Provider() string
	GuardedAudience() string
	Exchange() policy.Values
}

// clientRoute returns how other clients of the warehouse stay logged in.
func clientRoute(t granting, client string, block *yaml.Node) (route.Route, error) {
	return adapter.ClientRoute(client, t.Provider(), t.GuardedAudience(), t.Exchange(), block, t.Direct())
}

// routeOf returns how dbt stays logged in.
func routeOf(t granting, dbtType string, block *yaml.Node) (route.Route, error) {
	if t.Direct() {
		return adapter.Direct(dbtType, t.Provider(), t.Exchange(), block)
	}
	return adapter.Route(dbtType, t.Provider(), t.Exchange(), block)
}

// outputs returns the chosen output, claims filled in, in each profile that has
// one of its own.
func (p *project) outputs(g settled) []*yaml.Node {
	if p.source != nil {
		return p.blocks
	}
	blocks := p.inline(g.DBT())
	for i, b := range blocks {
		blocks[i] = p.placed(b)
	}
	return blocks
}

// trace returns what the logs of the warehouse and the provider have of the
// credential.
func (p *project) trace(g policy.Grant, c credential.Credential) map[string]string {
	in := adapter.Input{Facts: g, Type: p.dbtType, Credential: c}
	switch {
	case p.client != "":
		in.Type, in.Block = p.client, g.DBT().Block
	case p.dbtType != "":
		in.Block = p.outputs(g)[0]
	}
	return adapter.Trace(in)
}

// render turns the credential into what dbt reads.
func (p *project) render(res *Result, g settled, c credential.Credential, served route.Address) error {
	if p.client != "" {
		res.client = p.client
		res.Variables = adapter.Client(adapter.Input{Facts: g, Type: p.client, Block: g.DBT().Block, Credential: c, Route: served})
		return nil
	}
	if p.dbtType == "" {
		res.Variables = adapter.Environment(g, c, served)
		return nil
	}
	blocks := p.outputs(g)
	var outs []adapter.Output
	for _, b := range blocks {
		out, err := adapter.Render(adapter.Input{Facts: g, Type: p.dbtType, Block: b, Credential: c, Route: served})
		if err != nil {
			return err
		}
		outs = append(outs, out)
	}
	var err error
	if p.source == nil {
		res.Profile, err = profile.Render(p.names, p.output, blocks, outs...)
	} else {
		res.Profile, err = p.source.Render(p.names, p.output, outs...)
		res.Warnings = append(res.Warnings, p.source.Kept(p.names, p.output, outs...)...)
	}
	res.ProfileNames, res.output = p.names, p.output
	res.Variables = outs[0].Env
	return err
}
