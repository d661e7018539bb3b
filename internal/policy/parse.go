// Package policy decides who may have a credential: it parses a policy strictly, and only its Authorize gives a Grant.
//
// The action and every command use the same Parse, so they cannot disagree.
package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// maxSize bounds a policy: 10,000 rules in block style are 1.2 MiB.
const maxSize = 4 << 20

// A Policy is parsed once and never changes.
type Policy struct {
	name       string
	sha256     string
	identities map[string]Identity
	targets    []*Target
	agents     []string
	warnings   []string
}

// An Identity says who may ask: an issuer, and the kind of its tokens.
type Identity struct {
	Name     string
	Issuer   string
	Kind     string // one of kinds
	JWKS     string // the address of the issuer's keys, "" where it is known or found by discovery
	ClientID string // for people: the ID token's audience
	Flow     string // for people: "device" or "browser"
	Scopes   []string
}

// A Target is one credential that the policy gives.
type Target struct {
	name          string
	line          int
	provider      string
	exchange      Values
	audience      string
	dbt           DBT
	lifetime      time.Duration
	maxLifetime   time.Duration
	trustReviewed time.Time
	trustMaxAge   time.Duration
	rules         []rule
	identities    []Identity
	spec          Provider
}

type rule struct {
	index, line int
	identity    Identity
	matchers    []matcher
	byName      bool // binds by names, which can change hands
}

// Name returns the target's name.
func (t *Target) Name() string { return t.name }

// Provider returns the name of the provider under `exchange`.
func (t *Target) Provider() string { return t.provider }

// Audience returns the audience that the ID token must have.
func (t *Target) Audience() string { return t.audience }

// Exchange returns the provider's block, claims not filled in.
func (t *Target) Exchange() Values { return t.exchange }

// DBT returns the dbt block, claims not filled in.
func (t *Target) DBT() DBT { return t.dbt }

// Identities returns the identities that the target's rules name, each once.
func (t *Target) Identities() []Identity { return t.identities }

// SHA256 returns the hex SHA-256 of the policy's text.
func (p *Policy) SHA256() string { return p.sha256 }

// Warnings returns what is allowed but unwise, whatever the run.
func (p *Policy) Warnings() []string { return p.warnings }

// Targets returns the targets' names in the order of the file.
func (p *Policy) Targets() []string {
	names := make([]string, len(p.targets))
	for i, t := range p.targets {
		names[i] = t.name
	}
	return names
}

// Target returns a target by its name. The error lists the targets; it is of class Usage.
func (p *Policy) Target(name string) (*Target, error) {
	for _, t := range p.targets {
		if t.name == name {
			return t, nil
		}
	}
	return nil, fault.New(fault.Usage, fmt.Errorf("unknown target %q, %s has %q", name, p.name, p.Targets()), "")
}

// Parse parses and checks a policy; name is how errors call it. An error is
// of class Usage and holds every fault with its place.
func Parse(name string, src []byte, cat Catalog) (*Policy, error) {
	d := &document{Errors: &Errors{name: name, lines: strings.Split(string(src), "\n")}, catalog: cat}
	p := &Policy{name: name, identities: map[string]Identity{}}
	sum := sha256.Sum256(src)
	p.sha256 = hex.EncodeToString(sum[:])
	if root := d.load(src); root != nil {
		d.policy(p, root)
	}
	if err := d.result(); err != nil {
		return nil, fault.New(fault.Usage, err, "")
	}
	return p, nil
}

// A document is a policy on its way from YAML.
type document struct {
	*Errors
	catalog Catalog
}

// load returns the root of the one YAML document.
func (d *document) load(src []byte) *yaml.Node {
	switch {
	case len(src) > maxSize:
		d.add(0, 0, "is larger than %d MiB", maxSize>>20)
		return nil
	case len(bytes.TrimSpace(src)) == 0:
		d.add(0, 0, "is empty: a policy has `version`, `targets` and rules")
		return nil
	case !utf8.Valid(src) || bytes.IndexByte(src, 0) >= 0:
		d.add(0, 0, "is not text in UTF-8")
		return nil
	}
	for i, line := range d.lines {
		if indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; strings.Contains(indent, "\t") && strings.TrimSpace(line) != "" {
			d.add(i+1, strings.Index(line, "\t")+1, "is indented with a tab: YAML wants spaces")
		}
	}
	if len(d.faults) > 0 {
		return nil
	}
	var documents []*yaml.Node
	loader, err := yaml.NewLoader(bytes.NewReader(src))
	for err == nil && len(documents) < 2 {
		var n yaml.Node
		if err = loader.Load(&n); err == nil {
			documents = append(documents, &n)
		}
	}
	var le *yaml.LoadError
	switch {
	case len(documents) > 1:
		d.at(documents[1], "a second document: a policy is one")
		return nil
	case errors.As(err, &le) && le.Mark.Line > 0:
		d.add(le.Mark.Line, max(le.Mark.Column, 1), "is not YAML: %s", le.Message)
		return nil
	case len(documents) == 0:
		d.add(0, 0, "is empty: a policy has `version`, `targets` and rules")
		return nil
	}
	root := documents[0]
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	d.plain(root, 0)
	if len(d.faults) > 0 {
		return nil
	}
	return root
}

// maxDepth bounds nesting; a policy needs seven levels.
const maxDepth = 32

// plain refuses what makes a policy mean something else than it shows:
// aliases, merge keys, tags of one's own, keys that stand twice.
func (d *document) plain(n *yaml.Node, depth int) {
	if depth > maxDepth {
		d.at(n, "is nested more than %d levels deep", maxDepth)
		return
	}
	switch n.Kind {
	case yaml.AliasNode:
		d.at(n, "alias *%s: a policy says everything where it stands", n.Value)
		return
	case yaml.MappingNode:
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			switch {
			case key.Kind != yaml.ScalarNode:
				d.at(key, "a key is %s, want a string", nodeKind(key))
			case key.Tag == "!!merge" || key.Value == "<<":
				d.at(key, "merge key: a policy says everything where it stands")
			case seen[key.Value] > 0:
				d.at(key, "key %q stands twice, first on line %d", key.Value, seen[key.Value])
			default:
				seen[key.Value] = key.Line
			}
			d.plain(n.Content[i+1], depth+1)
		}
		return
	}
	for _, c := range n.Content {
		d.plain(c, depth+1)
	}
}

func nodeKind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!str":
			return "a string"
		case "!!int", "!!float":
			return "a number"
		case "!!bool":
			return "a boolean"
		case "!!null":
			return "nothing"
		case "!!timestamp":
			return "a date"
		}
	}
	return "of type " + n.Tag
}

// mapping returns the values of a mapping by key. Keys that are not in known are faults.
func (d *document) mapping(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		d.at(n, "%s is %s, want a mapping", what, nodeKind(n))
		return nil
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if len(known) > 0 && !slices.Contains(known, key.Value) {
			d.at(key, "unknown key %q in %s, valid keys are %q", key.Value, what, known)
			continue
		}
		values[key.Value] = n.Content[i+1]
	}
	return values
}

// text returns a string; "" after a fault.
func (d *document) text(n *yaml.Node, what string) string {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value == "":
		d.at(n, "%s is empty", what)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		d.at(n, "%s is %s, want a string: put it in quotes", what, nodeKind(n))
	default:
		d.at(n, "%s is %s, want a string", what, nodeKind(n))
	}
	return ""
}

// texts returns a list of strings; a lone string is a list of one. Elements
// keep their nodes, for faults of their own.
func (d *document) texts(n *yaml.Node, what string) (nodes []*yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		if d.text(n, what) == "" {
			return nil
		}
		return []*yaml.Node{n}
	}
	if len(n.Content) == 0 {
		d.at(n, "%s is an empty list", what)
	}
	for _, e := range n.Content {
		if d.text(e, what) != "" {
			nodes = append(nodes, e)
		}
	}
	return nodes
}

func (d *document) strings(n *yaml.Node, what string) (list []string) {
	for _, e := range d.texts(n, what) {
		list = append(list, e.Value)
	}
	return list
}

var durationText = regexp.MustCompile(`^([1-9][0-9]{0,5})(s|m|h|d)$`)

// duration reads 90s, 30m, 1h or 90d.
func (d *document) duration(n *yaml.Node, what string) time.Duration {
	m := durationText.FindStringSubmatch(n.Value)
	if n.Kind != yaml.ScalarNode || m == nil {
		d.at(n, "%s is %q, want a duration such as 30m, 1h or 90d", what, n.Value)
		return 0
	}
	count, _ := strconv.Atoi(m[1])
	return time.Duration(count) * map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[2]]
}

func (d *document) date(n *yaml.Node, what string) time.Time {
	t, err := time.Parse(time.DateOnly, n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.at(n, "%s is %q, want a date such as 2026-10-01", what, n.Value)
	}
	return t
}

var (
	policyKeys   = []string{"version", "identities", "agents", "targets"}
	identityKeys = []string{"issuer", "kind", "jwks_uri", "client_id", "flow", "scopes"}
	targetKeys   = []string{"dbt", "exchange", "allow", "lifetime", "max_lifetime", "trust_reviewed", "trust_max_age"}
)

// nameText is what a target or an identity may be called: it becomes a dbt
// output, a tag, a part of a session's name.
var nameText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (d *document) policy(p *Policy, root *yaml.Node) {
	values := d.mapping(root, "the policy", policyKeys...)
	if values == nil {
		return
	}
	if v := values["version"]; v == nil {
		d.at(root, "the policy has no version, want `version: 1`")
	} else if v.Value != "1" || v.Tag != "!!int" {
		d.at(v, "version is %q, want 1", v.Value)
	}
	d.identities(p, values["identities"])
	if v := values["agents"]; v != nil {
		p.agents = d.strings(v, "agents")
	}
	targets := values["targets"]
	if targets == nil {
		d.at(root, "the policy has no targets")
		return
	}
	if d.mapping(targets, "targets") == nil {
		return
	}
	if len(targets.Content) == 0 {
		d.at(targets, "targets is empty")
	}
	for i := 0; i+1 < len(targets.Content); i += 2 {
		key := targets.Content[i]
		if !nameText.MatchString(key.Value) {
			d.at(key, "target name %q: want letters, digits, `.`, `_` and `-`, at most 64", key.Value)
		}
		p.targets = append(p.targets, d.target(p, key, targets.Content[i+1]))
	}
}

const githubIssuer = "https://token.actions.githubusercontent.com"

func (d *document) identities(p *Policy, n *yaml.Node) {
	if n == nil {
		p.identities["github"] = Identity{Name: "github", Issuer: githubIssuer, Kind: "github"}
		return
	}
	if d.mapping(n, "identities") == nil {
		return
	}
	if len(n.Content) == 0 {
		d.at(n, "identities is empty: leave it out for GitHub alone")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !nameText.MatchString(key.Value) {
			d.at(key, "identity name %q: want letters, digits, `.`, `_` and `-`, at most 64", key.Value)
		}
		p.identities[key.Value] = d.identity(key, value)
	}
}

func (d *document) identity(key, n *yaml.Node) Identity {
	id := Identity{Name: key.Value}
	what := fmt.Sprintf("identity %q", id.Name)
	values := d.mapping(n, what, identityKeys...)
	if values == nil {
		return id
	}
	if v := values["issuer"]; v == nil {
		d.at(n, "%s has no issuer", what)
	} else if id.Issuer = d.text(v, "issuer"); id.Issuer != "" {
		if _, err := web.CheckURL(id.Issuer); err != nil {
			d.at(v, "issuer %q: %v", id.Issuer, err)
		}
	}
	if v := values["kind"]; v != nil {
		id.Kind = d.text(v, "kind")
		if _, ok := kinds[id.Kind]; !ok && id.Kind != "" {
			d.at(v, "unknown kind %q, valid kinds are %q", id.Kind, slices.Sorted(maps.Keys(kinds)))
		}
	} else if id.Kind = knownKind(id.Issuer); id.Kind == "" && id.Issuer != "" {
		d.at(n, "%s has no kind, and its issuer is not a known one: valid kinds are %q", what, slices.Sorted(maps.Keys(kinds)))
	}
	if v := values["jwks_uri"]; v != nil {
		if id.JWKS = d.text(v, "jwks_uri"); id.JWKS != "" {
			if _, err := web.CheckURL(id.JWKS); err != nil {
				d.at(v, "jwks_uri %q: %v", id.JWKS, err)
			}
		}
	}
	people := id.Kind == "people"
	for _, name := range []string{"client_id", "flow", "scopes"} {
		if v := values[name]; v != nil && !people {
			d.at(v, "%s is for kind: people, this is kind %q", name, id.Kind)
		}
	}
	if !people {
		return id
	}
	if v := values["client_id"]; v != nil {
		id.ClientID = d.text(v, "client_id")
	} else {
		d.at(n, "%s has no client_id, which is the audience of people's ID tokens", what)
	}
	if v := values["flow"]; v != nil {
		if id.Flow = d.text(v, "flow"); id.Flow != "" && id.Flow != "device" && id.Flow != "browser" {
			d.at(v, "unknown flow %q, valid flows are %q", id.Flow, []string{"browser", "device"})
		}
	} else {
		id.Flow = "browser"
	}
	if v := values["scopes"]; v != nil {
		id.Scopes = d.strings(v, "scopes")
	}
	return id
}

func (d *document) target(p *Policy, key, n *yaml.Node) *Target {
	t := &Target{name: key.Value, line: key.Line}
	what := fmt.Sprintf("target %q", t.name)
	values := d.mapping(n, what, targetKeys...)
	if values == nil {
		return t
	}
	if v := values["lifetime"]; v != nil {
		t.lifetime = d.duration(v, "lifetime")
	}
	if v := values["max_lifetime"]; v != nil {
		t.maxLifetime = d.duration(v, "max_lifetime")
		if t.lifetime > t.maxLifetime && t.maxLifetime > 0 {
			d.at(v, "max_lifetime is %s, shorter than lifetime, which is %s", v.Value, values["lifetime"].Value)
		}
	}
	if v := values["trust_reviewed"]; v != nil {
		t.trustReviewed = d.date(v, "trust_reviewed")
	}
	if v := values["trust_max_age"]; v != nil {
		t.trustMaxAge = d.duration(v, "trust_max_age")
		if values["trust_reviewed"] == nil {
			d.at(v, "trust_max_age needs trust_reviewed, the date of the last review")
		}
	}
	var fills []fill
	if v := values["exchange"]; v == nil {
		d.at(n, "%s has no exchange: name one provider of %q", what, slices.Sorted(maps.Keys(d.catalog.Providers)))
	} else {
		fills = d.exchange(t, v, values["lifetime"])
	}
	if v := values["dbt"]; v != nil {
		fills = append(fills, d.dbt(t, v)...)
	}
	if v := values["allow"]; v == nil {
		d.at(n, "%s has no allow: without a rule nobody may use it", what)
	} else {
		d.allow(p, t, v)
	}
	d.checkFills(t, fills)
	return t
}

// exchange reads the one provider of a target.
func (d *document) exchange(t *Target, n, lifetime *yaml.Node) (fills []fill) {
	names := slices.Sorted(maps.Keys(d.catalog.Providers))
	values := d.mapping(n, "exchange", names...)
	if n.Kind == yaml.MappingNode && len(n.Content) != 2 {
		d.at(n, "exchange has %d providers, want exactly one of %q", len(n.Content)/2, names)
	}
	for name, block := range values {
		t.provider, t.spec = name, d.catalog.Providers[name]
		t.exchange.m = map[string][]string{}
		before := len(d.faults)
		places := map[string]*yaml.Node{}
		fills = d.keys(t, block, name, "", t.spec.Keys, places)
		if lifetime != nil && t.lifetime > 0 {
			switch r := t.spec.Lifetimes; {
			case r == nil:
				d.at(lifetime, "lifetime: provider %q cannot be asked for one", name)
			case t.lifetime < r.Min || t.lifetime > r.Max:
				d.at(lifetime, "lifetime is %s, provider %q gives %s to %s", lifetime.Value, name, short(r.Min), short(r.Max))
			}
		}
		if len(d.faults) > before {
			continue
		}
		if t.spec.Check != nil {
			for _, fault := range t.spec.Check(t.exchange, t.lifetime) {
				at := places[fault.Key]
				if at == nil {
					at = block
				}
				if fault.Key == "lifetime" && lifetime != nil {
					at = lifetime
				}
				d.at(at, "%s: %v", fault.Key, fault.Err)
			}
		}
		if t.spec.Audience != nil {
			t.audience = t.spec.Audience(t.exchange)
		}
	}
	return fills
}

func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return strings.TrimSuffix(s, "0m")
}

// keys reads the keys of a provider's block, or of a mapping in it.
func (d *document) keys(t *Target, n *yaml.Node, what, prefix string, keys []Key, places map[string]*yaml.Node) (fills []fill) {
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = k.Name
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column} // `oidc:` with nothing behind it
	}
	values := d.mapping(n, what, known...)
	if values == nil {
		return nil
	}
	for _, k := range keys {
		v, name := values[k.Name], prefix+k.Name
		if v == nil {
			if k.Required {
				d.at(n, "%s has no %s", what, k.Name)
			}
			continue
		}
		places[name] = v
		if k.Keys != nil {
			fills = append(fills, d.keys(t, v, what+"."+k.Name, name+".", k.Keys, places)...)
			t.exchange.m[name] = []string{""} // it is there
			continue
		}
		nodes := []*yaml.Node{v}
		if k.List {
			nodes = d.texts(v, name)
		} else if d.text(v, name) == "" {
			continue
		}
		for _, e := range nodes {
			t.exchange.m[name] = append(t.exchange.m[name], e.Value)
			if claims := placeholders(e.Value); len(claims) > 0 {
				if !k.Claims {
					d.at(e, "%s: ${…} is not allowed here: a claim must not choose a host, an account or an audience", name)
				}
				fills = append(fills, fill{node: e, where: name, claims: claims, check: k.Check})
				continue
			}
			if k.Check == nil {
				continue
			}
			if err := k.Check(e.Value); err != nil {
				d.at(e, "%s %q: %v", name, e.Value, err)
			}
		}
	}
	return fills
}

// secretKeys are the keys of profiles.yml, of whatever adapter and at
// whatever depth, that hold a secret.
var secretKeys = []string{
	"password", "pass", "passwd", "token", "access_token", "refresh_token", "jwt_token", "oauth_token", "session_token", "bearer_token",
	"private_key", "private_key_passphrase", "keyfile_json", "secret", "client_secret", "oauth_client_secret", "azure_client_secret",
	"secret_access_key", "aws_secret_access_key", "aws_session_token", "motherduck_token", "sslpassword",
}

// SecretKeys returns the keys of profiles.yml that hold a secret, whatever the adapter.
func SecretKeys() []string { return slices.Clone(secretKeys) }

// dbt reads the dbt block.
func (d *document) dbt(t *Target, n *yaml.Node) (fills []fill) {
	values := d.mapping(n, "dbt")
	if values == nil {
		return nil
	}
	t.dbt.Output = t.name
	if v := values["output"]; v != nil {
		t.dbt.Output = d.text(v, "output")
		if t.dbt.Output != "" && !nameText.MatchString(t.dbt.Output) {
			d.at(v, "output %q: want letters, digits, `.`, `_` and `-`, at most 64", t.dbt.Output)
		}
	}
	if v := values["from"]; v != nil {
		d.mapping(n, "dbt with from", "from", "output")
		t.dbt.From = d.text(v, "from")
		if strings.Contains(t.dbt.From, "\\") || strings.HasPrefix(t.dbt.From, "/") {
			d.at(v, "from %q: want a path relative to project-dir, with /", t.dbt.From)
		}
		return nil
	}
	v := values["type"]
	if v == nil {
		d.at(n, "dbt has no type: want one of %q", slices.Sorted(maps.Keys(d.catalog.Adapters)))
		return nil
	}
	t.dbt.Type = d.text(v, "type")
	spec, ok := d.catalog.Adapters[t.dbt.Type]
	if !ok {
		if t.dbt.Type != "" {
			d.at(v, "unknown type %q, valid types are %q", t.dbt.Type, slices.Sorted(maps.Keys(d.catalog.Adapters)))
		}
		return nil
	}
	if t.provider != "" && !slices.Contains(spec.Providers, t.provider) {
		d.at(v, "type %q does not go with provider %q, valid providers are %q", t.dbt.Type, t.provider, spec.Providers)
	}
	for _, name := range spec.Required {
		if values[name] == nil {
			d.at(n, "dbt of type %q has no %s", t.dbt.Type, name)
		}
	}
	block := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Value == "output" {
			continue
		}
		block.Content = append(block.Content, key, value)
		if slices.Contains(spec.Written, key.Value) && !isSecret(spec, key.Value) {
			d.at(key, "%s is written by oidc-dbt from the exchange: leave it out", key.Value)
			continue
		}
		fills = append(fills, d.dbtValue(spec, key, key.Value, value)...)
	}
	t.dbt.Block = block
	return fills
}

func isSecret(spec Adapter, key string) bool {
	return slices.Contains(secretKeys, key) || slices.Contains(spec.Secret, key)
}

// dbtValue checks one value of a dbt block; top is the block's key that it is under.
func (d *document) dbtValue(spec Adapter, key *yaml.Node, top string, n *yaml.Node) (fills []fill) {
	if isSecret(spec, key.Value) && (n.Kind != yaml.ScalarNode || n.Tag != "!!null") {
		d.at(key, "%s holds a secret, and a policy holds none: the credential comes from the exchange; leave it out (…)", key.Value)
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			fills = append(fills, d.dbtValue(spec, n.Content[i], top, n.Content[i+1])...)
		}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			fills = append(fills, d.dbtValue(spec, key, top, e)...)
		}
	case yaml.ScalarNode:
		if slices.Contains(spec.Literal, top) && (strings.Contains(n.Value, "{{") || strings.Contains(n.Value, "{%")) {
			d.at(n, "%s chooses server or identity: want a literal, not Jinja", top)
		}
		claims := placeholders(n.Value)
		if len(claims) == 0 {
			break
		}
		if top == "type" || slices.Contains(spec.NoClaims, top) {
			d.at(n, "%s: ${…} is not allowed here: a claim must not choose a host, an account or an audience", top)
		}
		fills = append(fills, fill{node: n, where: top, claims: claims})
	}
	return fills
}
