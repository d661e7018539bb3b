package profile

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// withoutSecrets returns a file without the secrets written in it, in any
// profile: the chosen outputs are written anew, and dbt does not validate the
// others. References to variables stay.
func withoutSecrets(root *yaml.Node) *yaml.Node {
	s := stripping{keys: knownKeys(), known: map[string]bool{}}
	s.file(root) // first find the secrets: one may appear again under an anchor
	return s.file(root)
}

// StoredSecrets returns the values of a file that are secrets: what Render
// would leave out of it.
func (s *Source) StoredSecrets() (places []fault.Place) {
	strip := stripping{keys: knownKeys(), known: map[string]bool{}}
	strip.file(s.root)
	strip.found = nil
	strip.file(s.root)
	seen := map[fault.Place]bool{}
	for _, n := range strip.found {
		if place := s.Place(n); !seen[place] { // aliases are written out
			seen[place] = true
			places = append(places, place)
		}
	}
	return places
}

// A stripping leaves secrets out.
type stripping struct {
	found []*yaml.Node // what was left out
	keys  secretKeys
	known map[string]bool // values that were left out
	loose bool            // outside profiles: known values are dropped under any key
}

func (s *stripping) file(root *yaml.Node) *yaml.Node {
	return s.pairs(root, func(key string, v *yaml.Node) *yaml.Node {
		if outputs := get(v, "outputs"); outputs == nil || outputs.Kind != yaml.MappingNode {
			s.loose = true // profiles merge from it, say
			v = s.value(v, v.Kind == yaml.ScalarNode && s.keys.has(key))
			s.loose = false
			return v
		}
		return s.pairs(v, func(key string, v *yaml.Node) *yaml.Node { // the profile's own name is not checked
			if key != "outputs" {
				return s.value(v, s.keys.has(key))
			}
			return s.pairs(v, func(_ string, block *yaml.Node) *yaml.Node { return s.value(block, false) })
		})
	})
}

// pairs returns a mapping with f applied to each value, without the pairs for
// which f returns nil.
func (s *stripping) pairs(n *yaml.Node, f func(key string, v *yaml.Node) *yaml.Node) *yaml.Node {
	out := *n
	out.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if v := f(n.Content[i].Value, n.Content[i+1]); v != nil {
			out.Content = append(out.Content, n.Content[i], v)
		}
	}
	return &out
}

// value returns a value without secrets, nil if it is a secret itself; secret
// says that its key is a secret's.
func (s *stripping) value(n *yaml.Node, secret bool) *yaml.Node {
	switch n.Kind {
	case yaml.ScalarNode:
		if s.isSecret(n, secret) {
			s.known[n.Value] = true
			s.found = append(s.found, n)
			return nil
		}
		return n
	case yaml.MappingNode:
		paired := policy.PairedLogin(n)
		out := s.pairs(n, func(key string, v *yaml.Node) *yaml.Node {
			return s.value(v, secret && !slices.Contains(publicKeys, key) || s.keys.has(key) || v == paired)
		})
		if secret && len(out.Content) == 0 && len(n.Content) > 0 {
			return nil
		}
		return out
	case yaml.SequenceNode:
		out := *n
		out.Content = nil
		paired := policy.PairedLogin(n)
		for _, e := range n.Content {
			if e = s.value(e, secret || e == paired || e.Kind == yaml.ScalarNode && policy.NamedLogin(e.Value)); e != nil {
				out.Content = append(out.Content, e)
			}
		}
		if secret && len(out.Content) == 0 && len(n.Content) > 0 {
			return nil
		}
		return &out
	}
	return n
}

func (s *stripping) isSecret(n *yaml.Node, secret bool) bool {
	if n.Tag == "!!bool" || n.Tag == "!!null" || n.Value == "" {
		return false // a switch, or nothing
	}
	own := literals(n.Value)
	switch {
	case secret:
		return strings.TrimSpace(own) != ""
	case s.loose && s.known[n.Value]:
		return true
	}
	return policy.LooksLikeLoginValue(own) || policy.HasLoginDefault(n.Value)
}

// Kept warns of values that Render keeps in the outputs and that look like the
// file's own login, including references to variables: dbt gets them along with
// the credential.
func (s *Source) Kept(names []string, output string, outs ...adapter.Output) (warnings []fault.Warning) {
	blocks, err := s.Blocks(names, output)
	if err != nil {
		return nil // Render reports it
	}
	keys, seen := knownKeys(), map[string]bool{}
	for i, name := range names {
		var found []string
		var places []fault.Place
		var walk func(key string, secret bool, n *yaml.Node)
		walk = func(key string, secret bool, n *yaml.Node) {
			for i, e := range n.Content {
				switch {
				case n.Kind == yaml.SequenceNode:
					walk(key, secret, e)
				case n.Kind == yaml.MappingNode && i%2 == 1:
					walk(n.Content[i-1].Value, secret || keys.has(n.Content[i-1].Value), e)
				}
			}
			own := literals(n.Value)
			if n.Kind != yaml.ScalarNode || n.Line == 0 || n.Value == "" || n.Tag == "!!bool" || n.Tag == "!!null" { // written by us, or nothing
				return
			}
			place := fmt.Sprintf("%s:%d:%d", s.path, n.Line, n.Column)
			if !seen[place] && (secret || policy.LooksLikeLoginValue(own) || policy.NamesLoginVariable(n.Value)) {
				seen[place] = true
				found = append(found, fmt.Sprintf("%s (%s)", key, place))
				places = append(places, s.Place(n))
			}
		}
		walk("", false, apply(blocks[i], outs[min(i, len(outs)-1)]))
		if len(found) > 0 {
			warnings = append(warnings, fault.Warning{Places: places, Text: fmt.Sprintf(
				"output %q of profile %q keeps what looks like a stored secret: %s: remove it where this run's credential takes "+
					"its place", output, name, strings.Join(found, ", "))})
		}
	}
	return warnings
}

// Place returns a node's place in the file; the line is 0 for a node that is not in it.
func (s *Source) Place(n *yaml.Node) fault.Place {
	return fault.Place{File: s.path, Line: n.Line, Column: n.Column}
}

// publicKeys are the keys of a service account's key file that are not secret.
var publicKeys = []string{"type", "project_id", "client_id", "client_email", "auth_uri", "token_uri",
	"auth_provider_x509_cert_url", "client_x509_cert_url", "universe_domain"}

// secretKeys are the known adapters' keys for secrets.
type secretKeys map[string]bool

func knownKeys() secretKeys {
	keys := secretKeys{}
	for _, spec := range adapter.Specs() {
		for _, key := range spec.Secret {
			keys[key] = true
		}
	}
	return keys
}

func (k secretKeys) has(key string) bool {
	return k[key] || policy.LooksLikeLoginName(key)
}

var (
	jinjaPart = lazy.MustCompile(`(?s)\{\{.*?\}\}|\{%.*?%\}`)
	variable  = lazy.MustCompile(`env_var\s*\(\s*(?:'[^']*'|"[^"]*")`)
	constant  = lazy.MustCompile(`'[^']*'|"[^"]*"|\b[0-9][0-9A-Za-z_.]*`)
)

// literals returns the literal parts of a value: the text around Jinja, and the
// constants in it, except the names of variables.
func literals(s string) string {
	return jinjaPart.ReplaceAllStringFunc(s, func(part string) string {
		var out strings.Builder
		for _, c := range constant.FindAllStringSubmatch(variable.ReplaceAllString(part, ""), -1) {
			out.WriteString(strings.Trim(c[0], `'"`))
		}
		return out.String()
	})
}
