package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

// secretKeys are the keys of profiles.yml, of any adapter and at
// any depth, that hold a secret.
var secretKeys = []string{
	"password", "pass", "passwd", "token", "access_token", "refresh_token", "jwt_token", "oauth_token", "session_token", "bearer_token",
	"private_key", "private_key_passphrase", "keyfile_json", "secret", "client_secret", "oauth_client_secret", "azure_client_secret",
	"secret_access_key", "aws_secret_access_key", "aws_session_token", "motherduck_token", "sslpassword",
}

// SecretKeys returns the keys of profiles.yml that hold a secret, in any adapter.
func SecretKeys() []string { return slices.Clone(secretKeys) }

// SecretName reports whether a key is one of SecretKeys or named like them.
func SecretName(name string) bool { return secretName(name) }

// secretValue matches what is a secret under any key: a key in
// PEM, a password in a URL, one in the parameters of a connection string or of
// a path (MotherDuck's token, libpq's and MySQL's password, S3's key, Azure's
// account key and signature).
var secretValue = lazy.MustCompile(secretForms).Where(func(s string) bool {
	return strings.Contains(s, "-----BEGIN") || strings.Contains(s, "@") && strings.Contains(s, "://") || strings.Contains(s, "=")
})

const secretForms = `-----BEGIN [A-Z ]*PRIVATE KEY|[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@|` +
	`(?i)(?:^|[?&;\s_])(?:password|passwd|passphrase|pwd|token|secret|access_?key|account_?key|shared_?access_?(?:key|` +
	`signature))\s?=\s?[^&;\s{]|` +
	`(?i)[?&]sig=[^&;\s{]`

// SecretValue reports whether a value is a secret under any key.
func SecretValue(value string) bool { return secretValue.MatchString(value) }

// hiddenValue matches values that are in no line that is shown: those that are
// secrets, those with a vendor's token, and scripts that assign a login.
var hiddenValue = lazy.MustCompile(`\b(?:` + vendorForms + `)|` + secretForms +
	`|(?i)(?:pass\w*|pwd|token|secret|key|credentials?)=["']?[^\s"'$]`)

// SecretPattern matches values of files that are not to be shown.
func SecretPattern() *lazy.Regexp { return hiddenValue }

// literalKeys choose server or identity, in any adapter, as do those that begin
// with proxy_: what Jinja renders there is known to dbt only, after the decision.
var literalKeys = []string{"account", "host", "server", "port", "http_path", "project", "user", "role"}

// hostKey matches keys of host, URL, account, authority or audience, in any adapter.
var hostKey = lazy.MustCompile(`^(?:type|account|authority|audience|(?:.*_)?(?:host|hostname|server|port|url|uri|endpoint)|proxy_.*)$`)

// hostClaim matches ${…} in the host of a URL. Buckets are names, not hosts.
var hostClaim = lazy.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*)://[^/]*\$\{`)

var bucketSchemes = []string{"s3", "s3a", "s3n", "gs", "gcs", "r2"}

// dbt reads the dbt block.
func (d *document) dbt(t *Target, n *yaml.Node) (fills []fill) {
	m, ok := d.Mapping(n, n, "dbt", nil)
	if !ok {
		return nil
	}
	t.dbt.Output = t.name
	if v := m.Get("output"); v != nil {
		t.dbt.Output = d.Text(v, "output")
		if t.dbt.Output != "" && !nameText.MatchString(t.dbt.Output) {
			d.Report(v, "output %q: %s", t.dbt.Output, wantName)
		}
	}
	if v := m.Get("from"); v != nil {
		d.Mapping(n, n, "dbt with from", []string{"from", "output", "with"})
		t.dbt.From = d.Text(v, "from")
		switch {
		case strings.Contains(t.dbt.From, "${"):
			d.Report(v, "from: ${…} is not allowed here: a claim must not choose a file")
		case strings.Contains(t.dbt.From, "\\") || strings.HasPrefix(t.dbt.From, "/"):
			d.Report(v, "from %q: want a path relative to project-dir, with /", t.dbt.From)
		}
		if v := m.Get("with"); v != nil {
			return d.with(t, v)
		}
		return nil
	}
	if v := m.Get("with"); v != nil {
		d.Report(v, "with requires `from`: write the keys in the block itself")
		return nil
	}
	spec, known := d.dbtType(t, m)
	t.dbt.Block, fills = d.dbtBlock(t, n, spec)
	if !known {
		return nil // which claims its keys may hold is not known
	}
	return fills
}

// dbtBlock checks the pairs of an output, and returns those that dbt gets.
func (d *document) dbtBlock(t *Target, n *yaml.Node, spec Adapter) (block *yaml.Node, fills []fill) {
	block = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}
	for key, value := range d.Pairs(n) {
		if key.Value == "output" {
			continue
		}
		block.Content = append(block.Content, key, value)
		if slices.Contains(spec.Written, spec.Canonical(key.Value)) && !spec.IsLogin(spec.Canonical(key.Value)) {
			d.Report(key, "%s is written by oidc-dbt, from the exchange: remove it", key.Value)
			continue
		}
		fills = append(fills, d.dbtValue(t, spec, key, []string{spec.Canonical(key.Value)}, value)...)
	}
	return block, fills
}

// with reads the keys that replace an output's own or are added to it. Their
// type may be the file's to say: what only that forbids is found by CheckOutputs.
func (d *document) with(t *Target, n *yaml.Node) (fills []fill) {
	m, ok := d.Mapping(n, n, "with", nil)
	if !ok {
		return nil
	}
	if len(n.Content) == 0 {
		d.Report(n, "with is empty: remove it")
	}
	for key := range m.Pairs {
		if key.Value == "output" {
			d.Report(key, "output goes next to `with`, not in it")
		}
	}
	var spec Adapter
	if v := m.Get("type"); v != nil {
		spec, _ = d.dbtAdapter(t, v, d.Text(v, "type"))
	}
	t.dbt.With, fills = d.dbtBlock(t, n, spec)
	return fills
}

// dbtType reads the type and checks what it asks for.
func (d *document) dbtType(t *Target, m strictyaml.Mapping) (spec Adapter, known bool) {
	v := m.Get("type")
	if v == nil {
		m.Missing("type: want one of %q", d.adapterNames())
		return spec, false
	}
	t.dbt.Type = d.Text(v, "type")
	if spec, known = d.dbtAdapter(t, v, t.dbt.Type); !known {
		return spec, false
	}
	for _, name := range spec.Required {
		var found string
		for _, n := range spec.NamesOf(name) {
			v := m.Get(n)
			switch {
			case v == nil:
			case strictyaml.IsNull(v) || v.Kind == yaml.ScalarNode && v.Value == "":
				d.Report(v, "%s is empty", n)
			}
			if v != nil {
				found = n
			}
		}
		if found == "" {
			m.Missing("%s, which type %q needs", strings.Join(spec.NamesOf(name), " or "), t.dbt.Type)
		}
	}
	first := map[string]string{}
	for key := range m.Pairs {
		name := spec.Canonical(key.Value)
		if other := first[name]; other != "" && other != key.Value {
			d.Report(key, "%s", DuplicateKey(other, key.Value))
		}
		first[name] = key.Value
	}
	return spec, true
}

// dbtAdapter returns the adapter of a type, which is at n.
func (d *document) dbtAdapter(t *Target, n *yaml.Node, dbtType string) (spec Adapter, known bool) {
	if spec, known = d.catalog.Adapters[dbtType]; !known {
		if dbtType != "" {
			hint := otherNames.DidYouMean(dbtType, d.adapterNames())
			if other := instead[dbtType]; other != "" {
				hint = fmt.Sprintf(": connect to it with type %q", other)
			}
			d.Report(n, "unknown type %q, valid types are %q%s", dbtType, d.adapterNames(), hint)
		}
		return spec, false
	}
	d.supported(t, n, spec, fmt.Sprintf("type %q", dbtType))
	return spec, true
}

// supported reports a provider of the target that an adapter does not support.
func (d *document) supported(t *Target, n *yaml.Node, spec Adapter, what string) {
	if t.provider == "" {
		return // reported already
	}
	if err := spec.CheckProvider(what, t.provider); err != nil {
		d.Report(n, "%s", err)
	}
}

// instead are types of adapters that read no token from a profile, and the
// type that reaches the same warehouses. (dbt-synapse 1.8.5)
var instead = map[string]string{"synapse": "sqlserver"}

func (d *document) adapterNames() []string { return slices.Sorted(maps.Keys(d.catalog.Adapters)) }

const holdsSecret = "%s holds a secret (…), which a policy must not contain: remove it, the credential comes from the exchange"

// dbtValue checks one value of a dbt block; path are the keys that lead to it,
// the block's by its own name.
func (d *document) dbtValue(t *Target, spec Adapter, key *yaml.Node, path []string, n *yaml.Node) (fills []fill) {
	top := path[0]
	// A switch such as client_request_mfa_token is none.
	if spec.IsLogin(path...) && !strictyaml.IsNull(n) && n.Tag != "!!bool" {
		d.Report(key, holdsSecret, key.Value)
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for k, v := range d.Pairs(n) {
			fills = append(fills, d.dbtValue(t, spec, k, append(slices.Clone(path), k.Value), v)...)
		}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			fills = append(fills, d.dbtValue(t, spec, key, path, e)...)
		}
	case yaml.ScalarNode:
		if secretValue.MatchString(n.Value) {
			d.Hide(n)
			d.Report(n, holdsSecret, key.Value)
			return nil
		}
		if name := spec.literal(t.provider, top, key.Value); name != "" && IsJinja(n.Value) {
			if name == top && len(path) == 1 {
				name = key.Value
			}
			d.Report(n, wantLiteral, name)
		}
		if !strings.Contains(n.Value, "${") {
			break
		}
		for _, name := range []string{top, key.Value} {
			if hostKey.MatchString(name) || slices.Contains(spec.NoClaims, name) {
				d.Report(n, "%s: %s", name, noClaim)
				return nil
			}
		}
		if m := hostClaim.FindStringSubmatch(n.Value); m != nil && !slices.Contains(bucketSchemes, strings.ToLower(m[1])) {
			d.Report(n, "%s: %s", key.Value, noClaim)
			return nil
		}
		fills = append(fills, fill{node: n, where: key.Value})
	}
	return fills
}

const wantLiteral = "%s chooses server or identity: want a literal, not Jinja"

// literal returns which of two keys, a block's and one below it, is held to
// literals: it chooses server or identity. "" for none.
func (a Adapter) literal(provider, top, key string) string {
	for _, name := range []string{top, key} {
		chooses := slices.Contains(literalKeys, name) || strings.HasPrefix(name, "proxy_")
		if chooses || slices.Contains(a.Literal, name) || slices.Contains(a.Needed[provider], name) {
			return name
		}
	}
	return ""
}

// IsJinja reports whether only dbt, which renders it, will know a value.
func IsJinja(s string) bool {
	return strings.Contains(s, "{{") || strings.Contains(s, "{%") || strings.Contains(s, "{#")
}
