package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

var (
	policyKeys = []string{"version", "requires", "start_jitter", "identities", "agents", "maps", "deny", "audit", "defaults", "targets"}
	targetKeys = []string{"dbt", "profiles", "client", "exchange", "allow", "lifetime", "max_lifetime", "proxy",
		"trust_reviewed", "trust_max_age", "agents", "guard"}
)

// nameText is what a target or an identity may be called: it becomes a dbt
// output, a tag, a part of a session's name.
var nameText = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).Where(func(s string) bool { return len(s) <= maxNameText })

const maxNameText = 64

const wantName = "want letters, digits, `.`, `_` and `-`, the first a letter or digit, at most 64"

// longestJitter bounds start_jitter: a job that waits costs minutes, too.
const longestJitter = 10 * time.Minute

func (d *document) policy(p *Policy, root *yaml.Node) {
	m, ok := d.Mapping(root, root, "the policy", policyKeys)
	if !ok {
		return
	}
	if v := m.Get("version"); v == nil {
		m.Missing("version, want `version: 1`")
	} else if v.Value != "1" || v.Tag != "!!int" {
		d.Report(v, "version is %s, want the number 1", versionShown(v))
	}
	if v := m.Get("requires"); v != nil {
		d.release(v)
	}
	if v := m.Get("start_jitter"); v != nil {
		if p.jitter = d.Duration(v, "start_jitter"); p.jitter > longestJitter {
			d.Report(v, "start_jitter is %s, want 10m at most", v.Value)
		}
	}
	d.identities(p, m.Get("identities"))
	if v := m.Get("agents"); v != nil {
		p.agents = d.Strings(v, "agents")
	}
	if v := m.Get("maps"); v != nil {
		d.maps(p, v)
	}
	if v := m.Get("deny"); v != nil {
		d.deny(p, v)
	}
	if v := m.Get("audit"); v != nil {
		d.audit(p, v)
	}
	if v := m.Get("defaults"); v != nil {
		d.defaults(v)
	}
	v := m.Get("targets")
	if v == nil {
		m.Missing("targets")
		return
	}
	targets, ok := d.Mapping(v, v, "targets", nil)
	if ok && len(v.Content) == 0 {
		d.Report(v, "targets is empty")
	}
	if !ok {
		return
	}
	for key, value := range targets.Pairs {
		if !nameText.MatchString(key.Value) {
			d.Report(key, "target name %q: %s", key.Value, wantName)
		}
		p.targets = append(p.targets, d.target(p, key, value))
	}
	d.bucketTarget(p)
	d.checkMapNames(p)
	d.checkDefaults()
}

func versionShown(v *yaml.Node) string {
	if v.Tag == "!!str" {
		return "the string " + strictyaml.Shown(v)
	}
	if v.Kind == yaml.ScalarNode && !strictyaml.IsNull(v) {
		return strictyaml.Cut(v.Value)
	}
	return strictyaml.KindOf(v)
}

const githubIssuer = "https://token.actions.githubusercontent.com"

// url reads an https URL, or an http one on loopback; "" after a fault.
func (d *document) url(n *yaml.Node, what string) string {
	s := d.Text(n, what)
	if s == "" {
		return ""
	}
	if d.userinfo(n, what) {
		return ""
	}
	if _, err := web.CheckURL(s); err != nil {
		d.Report(n, "%s %q: %v", what, s, err)
		return ""
	}
	return s
}

// userinfo reports a URL with user information, without showing it: a
// password is there.
func (d *document) userinfo(n *yaml.Node, what string) bool {
	found := userinfoText.MatchString(n.Value)
	if found {
		d.Hide(n)
		d.Report(n, "%s: contains user information (…): remove it from the URL", what)
	}
	return found
}

var userinfoText = lazy.MustCompile(`//[^/?#\s]*@`)

func (d *document) target(p *Policy, key, n *yaml.Node) *Target {
	t := &Target{name: key.Value, maps: p.maps, origin: origin{d.name, d.src, d.catalog}}
	what := fmt.Sprintf("target %q", t.name)
	m, ok := d.Mapping(key, n, what, targetKeys)
	if !ok {
		return t
	}
	if d.common != nil {
		d.ReadBy(what)
		defer d.ReadBy("")
		m, _ = d.Mapping(key, d.withDefaults(n), what, nil)
	}
	d.lifetimes(t, m)
	if v := m.Get("proxy"); v != nil {
		t.direct = !d.Bool(v, "proxy")
	} else if m.Get("client") != nil {
		t.direct = true // not every client takes another host from the environment
	}
	d.trust(t, m)
	var fills []fill
	var checks func() // waits for the rules: which audiences are guarded depends on whose tokens they admit
	if v := m.Get("exchange"); v == nil {
		m.Missing("exchange: name one provider of %q", d.providerNames())
	} else {
		fills, checks = d.exchange(t, v, m.Get("lifetime"))
	}
	fills = append(fills, d.warehouse(t, m)...)
	for _, f := range t.lifetimeFaults(t.dbt.Type, d.catalog.Adapters[t.dbt.Type].Logins[t.provider]) {
		d.Report(m.Get(f.Key), "%v", f.Err)
	}
	if v := m.Get("guard"); v != nil {
		d.guard(t, v)
	}
	if v := m.Get("allow"); v == nil {
		m.Missing("allow: add at least one rule")
	} else {
		d.allow(p, t, v)
		d.suited(t)
		d.guardable(p, t, m)
	}
	if v := m.Get("agents"); v != nil {
		d.agents(t, v)
	}
	if v := m.Get("exchange"); v != nil {
		t.exchange.fixed = fixedByKind(t.identities)
		checks()
		d.fixedAudiences(p, t, v)
	}
	d.checkFills(t, fills)
	return t
}

// lifetimes reads the lifetime to ask for, and the longest that is accepted.
func (d *document) lifetimes(t *Target, m strictyaml.Mapping) {
	asked, longest := m.Get("lifetime"), m.Get("max_lifetime")
	if asked != nil {
		t.lifetime = d.Duration(asked, "lifetime")
	}
	if longest == nil {
		return
	}
	if longest.Kind == yaml.MappingNode {
		d.lifetimesByActor(t, longest)
		return
	}
	t.maxLifetime = d.Duration(longest, "max_lifetime")
	if t.lifetime > t.maxLifetime && t.maxLifetime > 0 {
		d.Report(longest, "max_lifetime is %s, shorter than lifetime, which is %s", longest.Value, asked.Value)
	}
}

// lifetimesByActor reads the longest lifetimes by the kind of actor.
func (d *document) lifetimesByActor(t *Target, n *yaml.Node) {
	m, ok := d.Mapping(n, n, "max_lifetime", actorKinds)
	if !ok {
		return
	}
	if len(n.Content) == 0 {
		d.Report(n, "max_lifetime is empty: give a duration, or one for each of %q", actorKinds)
	}
	t.maxLifetimes = map[string]time.Duration{}
	for key, value := range m.Pairs {
		life := d.Duration(value, "max_lifetime of "+key.Value)
		t.maxLifetimes[key.Value] = life
		if t.maxLifetime == 0 || life < t.maxLifetime {
			t.maxLifetime = life // for a kind that is not listed
		}
	}
}

// longest returns the longest lifetime for a kind of actor, 0 for no limit.
func (t *Target) longest(kind string) time.Duration {
	if life, ok := t.maxLifetimes[kind]; ok {
		return life
	}
	return t.maxLifetime
}

// asks returns the lifetime to ask for, for a kind of actor: never more than
// its limit, where each kind has its own.
func (t *Target) asks(kind string) time.Duration {
	if longest := t.longest(kind); t.maxLifetimes != nil && t.lifetime > longest {
		return longest
	}
	return t.lifetime
}

// agentRules are what a target may say of AI agents.
var agentRules = []string{"refuse", "only"}

// agents reads what a target says of AI agents.
func (d *document) agents(t *Target, n *yaml.Node) {
	t.agents = d.choice(n, "agents", agentRules)
}

// choice reads one of a few words.
func (d *document) choice(n *yaml.Node, what string, valid []string) string {
	text := d.Text(n, what)
	if text != "" && !slices.Contains(valid, text) {
		d.Report(n, "%s is %q, valid values are %q%s", what, text, valid, otherNames.DidYouMean(text, valid))
	}
	return text
}

// fixedAudiences checks that a target's audience is that of the identities
// whose tokens cannot have another, and warns of what that means.
func (d *document) fixedAudiences(p *Policy, t *Target, at *yaml.Node) {
	for _, id := range t.identities {
		if id.Audience == "" || id.Kind == "people" {
			continue
		}
		if id.Audience != t.audience {
			d.Report(at, "tokens of identity %q always have the audience %q, and target %q asks for %q: repeat that audience in `exchange`",
				id.Name, id.Audience, t.name, t.audience)
			continue
		}
		warning := fmt.Sprintf("target %q: tokens of identity %q always have the audience %q: "+
			"everyone who receives such a token could use it here",
			t.name, id.Name, id.Audience)
		p.warnings = append(p.warnings, warning)
	}
}

// fixedByKind returns the audience that all tokens of the identities have since
// their kind has no other, "" where there is a choice.
func fixedByKind(identities []Identity) (audience string) {
	for i, id := range identities {
		fixed := kinds[id.Kind].audience
		if fixed == "" || id.Audience != fixed || i > 0 && fixed != audience {
			return ""
		}
		audience = fixed
	}
	return audience
}

// trust reads when a target's trust was reviewed, and how long that is good for.
func (d *document) trust(t *Target, m strictyaml.Mapping) {
	reviewed := m.Get("trust_reviewed")
	if reviewed != nil {
		t.trustReviewed = d.Date(reviewed, "trust_reviewed")
		if now := d.catalog.Now; !now.IsZero() && t.trustReviewed.After(now.Add(day)) { // a day for time zones
			d.Report(reviewed, "trust_reviewed %s is in the future: it is the day of the last review", reviewed.Value)
		}
	}
	if v := m.Get("trust_max_age"); v != nil {
		t.trustMaxAge = d.Duration(v, "trust_max_age")
		if reviewed == nil {
			d.Report(v, "trust_max_age requires trust_reviewed, the date of the last review")
		}
	}
}

// warehouse reads what the credential is for: dbt, with its profiles, or
// another client.
func (d *document) warehouse(t *Target, m strictyaml.Mapping) (fills []fill) {
	dbt, client, profiles := m.Get("dbt"), m.Get("client"), m.Get("profiles")
	switch {
	case dbt != nil:
		fills = d.dbt(t, dbt)
		if client != nil {
			d.Report(client, "client cannot be combined with `dbt`: use a separate target")
		}
	case client != nil:
		fills = d.client(t, client)
	case t.spec.NeedsDBT:
		m.Missing("dbt: the credential of provider %q requires a warehouse", t.provider)
	}
	switch {
	case profiles == nil:
	case dbt == nil:
		d.Report(profiles, "profiles requires `dbt`")
	default:
		fills = append(fills, d.profiles(t, profiles)...)
	}
	return fills
}

func (d *document) providerNames() []string { return slices.Sorted(maps.Keys(d.catalog.Providers)) }

// exchange reads the one provider of a target; checks holds what was read to
// what the provider says of the whole.
func (d *document) exchange(t *Target, n, lifetime *yaml.Node) (fills []fill, checks func()) {
	names := d.providerNames()
	var all []func()
	checks = func() {
		for _, check := range all {
			check()
		}
	}
	m, ok := d.Mapping(n, n, "exchange", names)
	if !ok {
		return nil, checks
	}
	if len(n.Content) != 2 && !d.Merged(n) {
		d.Report(n, "exchange has %s, want exactly one of %q", plural(len(n.Content)/2, "provider"), names)
	}
	for key, block := range m.Pairs {
		spec, known := d.catalog.Providers[key.Value]
		if !known {
			continue
		}
		t.provider, t.spec = key.Value, spec
		t.exchange = Values{m: map[string][]string{}, lines: map[string]int{}}
		before := d.Count()
		places := map[string]*yaml.Node{}
		fills = append(fills, d.keys(t, key, block, key.Value, "", spec.Keys, places)...)
		sound := d.Count() == before
		if !sound {
			continue // the block's own faults come first: what follows from them would be noise
		}
		places["lifetime"] = lifetime
		v := t.exchange
		all = append(all, func() {
			v.fixed = t.exchange.fixed
			d.checkWhole(v, t.lifetime, spec, key, places)
		})
		if spec.Audience != nil {
			t.audience = spec.Audience(t.exchange)
		}
	}
	if len(n.Content) != 2 {
		t.provider, t.spec = "", Provider{} // which one is meant is not known
	}
	return fills, checks
}

// checkWhole reports what a provider has against its block as a whole, each
// fault at its place, else at the provider's name.
func (d *document) checkWhole(v Values, lifetime time.Duration, spec Provider, name *yaml.Node, places map[string]*yaml.Node) {
	if spec.Check == nil {
		return
	}
	for _, fault := range spec.Check(v, lifetime) {
		at := places[fault.Key]
		if at == nil {
			at = name
		}
		d.Report(at, "%s: %v", fault.Key, fault.Err)
	}
}

// lifetimeFaults holds what the target wants to what its provider can give as
// a login at a warehouse of dbt's type; both are "" where that is not known yet.
func (t *Target) lifetimeFaults(dbtType, login string) (faults []KeyError) {
	if t.provider == "" {
		return nil // a fault already
	}
	at := ""
	if _, ok := t.spec.Logins[login]; ok {
		at = fmt.Sprintf(" at type %q", dbtType)
	}
	add := func(key, format string, args ...any) {
		faults = append(faults, KeyError{Key: key, Err: fmt.Errorf("%s%s%s", key, fmt.Sprintf(format, args...), at)})
	}
	r := t.spec.LifetimesFor(login)
	if t.lifetime > 0 {
		switch {
		case r == nil:
			faults = append(faults, KeyError{Key: "lifetime",
				Err: fmt.Errorf("lifetime: provider %q cannot be asked for one%s: remove this line", t.provider, at)})
		case t.lifetime < r.Min || t.lifetime > r.Max:
			add("lifetime", " is %s, provider %q gives %s to %s", short(t.lifetime), t.provider, short(r.Min), short(r.Max))
		}
	}
	if t.maxLifetime > 0 && r != nil && t.maxLifetime < r.Min {
		add("max_lifetime", " is %s, provider %q gives at least %s", short(t.maxLifetime), t.provider, short(r.Min))
	}
	return faults
}

// CheckLifetimes returns an error of class Usage where the provider cannot
// give the target's lifetimes as a login at a warehouse of dbt's type. Parse has
// done it for a type that the policy names.
func (t *Target) CheckLifetimes(dbtType, login string) error {
	var errs []error
	for _, f := range t.lifetimeFaults(dbtType, login) {
		errs = append(errs, fmt.Errorf("target %q: %w", t.name, f.Err))
	}
	if len(errs) == 0 {
		return nil
	}
	return fault.New(fault.Usage, errors.Join(errs...), "")
}

const day = 24 * time.Hour

// short prints a duration as a policy writes it.
func short(d time.Duration) string {
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// keys reads the keys of a provider's block, or of a mapping in it.
func (d *document) keys(t *Target, at, n *yaml.Node, what, prefix string, keys []Key, places map[string]*yaml.Node) (fills []fill) {
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = k.Name
	}
	if strictyaml.IsNull(n) && !d.Faulty(n) {
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column} // `gcp:` with nothing behind it
	}
	m, ok := d.Mapping(at, n, what, known)
	if !ok {
		return nil
	}
	for _, k := range keys {
		v, name := m.Get(k.Name), prefix+k.Name
		if v == nil {
			if k.Required {
				m.Missing("%s", k.Name)
			}
			continue
		}
		places[name] = v
		t.exchange.lines[name] = v.Line
		if k.Keys != nil {
			fills = append(fills, d.keys(t, v, v, what+"."+k.Name, name+".", k.Keys, places)...)
			t.exchange.m[name] = []string{""} // it is there
			continue
		}
		if k.Names != nil {
			fills = append(fills, d.named(t, k, name, v)...)
			continue
		}
		if k.Bool {
			if d.Bool(v, name) {
				t.exchange.m[name] = []string{"true"}
			}
			continue
		}
		nodes := []*yaml.Node{v}
		if k.List {
			nodes = d.Texts(v, name)
		} else if d.Text(v, name) == "" {
			continue
		}
		fills = append(fills, d.values(t, k, name, nodes)...)
	}
	return fills
}

// named reads a mapping whose keys are the user's own.
func (d *document) named(t *Target, k Key, name string, n *yaml.Node) (fills []fill) {
	m, ok := d.Mapping(n, n, name, nil)
	if !ok {
		return nil
	}
	if len(n.Content) == 0 {
		d.Report(n, "%s is empty: remove it", name)
	}
	for key, value := range m.Pairs {
		if err := k.Names(key.Value); err != nil {
			d.Report(key, "%s has the key %q: %v", name, key.Value, err)
			continue
		}
		t.exchange.m[name] = append(t.exchange.m[name], key.Value)
		if below := name + "." + key.Value; d.Text(value, below) != "" {
			fills = append(fills, d.values(t, k, below, []*yaml.Node{value})...)
		}
	}
	return fills
}

// values takes in the value of a key, and checks it.
func (d *document) values(t *Target, k Key, name string, nodes []*yaml.Node) (fills []fill) {
	for _, e := range nodes {
		t.exchange.m[name] = append(t.exchange.m[name], e.Value)
		if d.userinfo(e, name) {
			continue
		}
		if secretValue.MatchString(e.Value) {
			d.Report(e, holdsSecret, name)
			continue
		}
		if strings.Contains(e.Value, "${") {
			if !k.Claims {
				d.Report(e, "%s: %s", name, noClaim)
				continue
			}
			fills = append(fills, fill{node: e, where: name, check: k.Check})
			continue
		}
		if k.Choices != nil && !slices.Contains(k.Choices, e.Value) {
			d.Report(e, "%s %q: valid values are %q", name, e.Value, k.Choices)
			continue
		}
		if k.Check == nil {
			continue
		}
		if err := k.Check(e.Value); err != nil {
			d.Report(e, "%s %q: %v", name, e.Value, err)
		}
	}
	return fills
}

// noClaim is why ${claim} is refused where it would choose with whom dbt or
// we speak.
const noClaim = "${…} is not allowed here: a claim must not choose a host, a URL, an account, an authority or an audience"
