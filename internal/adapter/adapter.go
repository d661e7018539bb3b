// Package adapter turns a credential into what dbt reads: keys of a profile's output, and variables beside it.
package adapter

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// adapter is one file of this package.
type adapter struct {
	spec policy.Adapter // Providers is filled in from render
	// render maps a provider's name to what its credential becomes.
	render map[string]func(Input) Output
	// check returns all that is wrong with the places where a block would have dbt
	// send the credential of a provider; audience is that of a token which is
	// itself the login, or is exchanged at the warehouse, else "". nil where a
	// block names none.
	check func(block *yaml.Node, provider, audience string) error
	// suits returns what is wrong with a credential, once it is there, for the
	// place; nil where every kind goes wherever check lets one go.
	suits func(block *yaml.Node, c credential.Credential) error
	// warehouse reads from the block what an exchange must know of the place;
	// Type is filled in. nil where that is nothing.
	warehouse func(block *yaml.Node) (credential.Warehouse, error)
	// routes maps a provider's name to how dbt stays logged in by a broker
	// beside it; nil where it cannot. direct is the same for dbt that is not to
	// connect through a proxy.
	routes, direct map[string]func(block *yaml.Node) (route.Route, error)
	// reroute changes a route by what the policy says under `exchange`; nil
	// where that does not matter.
	reroute func(r route.Route, exchange policy.Values) route.Route
	// roots is the key, or the key in a key, that names a file of certificate
	// authorities; nil where the adapter has none.
	roots []string
	// identities are keys that choose who dbt is and that the credential
	// replaces, with the key of each provider's that does the same, "" for none.
	identities map[string]map[string]string
	// entries returns further mappings of a block that have such keys; nil for none.
	entries func(block *yaml.Node, provider string) []*yaml.Node
	// client is for targets of other clients of the warehouse; nil where there are none.
	client *client
	// others are the places of logins for something else, which a credential of
	// ours does not replace: a key of the block, or that, `.` and the login's own.
	others []string
	// mappings are the places of values that dbt takes as mappings alone, and
	// lists those of lists of them: in another shape a login has no key to be
	// known by.
	mappings, lists []string
	// complete writes what settings say into where the credential goes; nil
	// where nothing else says it.
	complete func(provider string, block *yaml.Node) *yaml.Node
}

var adapters = map[string]adapter{
	"athena":     athena,
	"bigquery":   bigquery,
	"clickhouse": clickhouse,
	"databricks": databricks,
	"duckdb":     duckdb,
	"fabric":     fabric,
	"postgres":   postgres,
	"redshift":   redshift,
	"snowflake":  snowflake,
	"spark":      spark,
	"sqlserver":  sqlserver,
	"trino":      trino,
}

// Facts are what an adapter must know of a target: those of a grant or, for a
// profile without a credential, of an outline.
type Facts interface {
	Target() string
	Provider() string
	Audience() string
	Exchange() policy.Values
	Claim(name string) string // "" where there is none
}

// Input is what an adapter works from.
type Input struct {
	Facts      Facts
	Type       string     // dbt's adapter type
	Block      *yaml.Node // the output's mapping as the user wrote it (inline, or read `from`), without aliases and merge keys
	Credential credential.Credential
	Route      route.Address // where a broker serves the pair's route; zero without one
}

// Output is what an adapter adds to the user's block.
type Output struct {
	Remove []string   // keys of the block that must go: other logins
	Keys   []Key      // set in the output, in this order; they replace keys of the same name
	Env    []Variable // what the profile and the SDKs read
}

// A Key is one key of a profile's output.
type Key struct {
	Name  string
	Value *yaml.Node
}

// A Variable is one environment variable.
type Variable struct {
	Name   string
	Value  secret.Value
	Secret bool // to be masked; a public value (a region, a project) must not be
}

// Specs returns what a policy may say of each adapter's block.
func Specs() map[string]policy.Adapter {
	specs := make(map[string]policy.Adapter, len(adapters))
	for name, a := range adapters {
		a.spec.Providers = slices.Sorted(maps.Keys(a.render))
		specs[name] = a.spec
	}
	return specs
}

// Types returns dbt's names of the adapters, sorted.
func Types() []string { return slices.Sorted(maps.Keys(adapters)) }

// Check returns an error of class Usage unless the adapter works with the
// provider; it lists what does.
func Check(dbtType, provider string) error {
	a, ok := adapters[dbtType]
	if !ok {
		return fault.New(fault.Usage, fmt.Errorf("unknown type %q, valid types are %q", dbtType, Types()), "")
	}
	if _, ok := a.render[provider]; !ok {
		return fault.New(fault.Usage, fmt.Errorf("type %q does not go with provider %q, valid providers are %q", dbtType, provider, slices.Sorted(maps.Keys(a.render))), "")
	}
	return nil
}

// CheckPlaces returns an error of class Usage, which joins one for each fault
// (fault.Each), when the block would take the credential somewhere else than the policy's audience says: to a host that is
// not the vendor's, over plain http, or to a place that only dbt will know.
func CheckPlaces(dbtType, provider, audience string, block *yaml.Node) error {
	if provider != "oidc" && provider != "databricks" {
		audience = "" // dbt gets a credential that is good for the warehouse only
	}
	a := adapters[dbtType]
	block, err := a.settle(provider, block)
	var f faults
	f.join(err)
	if a.check != nil {
		f.join(a.check(block, provider, audience))
	}
	return ofType(dbtType, f.err())
}

// ofType returns each of the errors that err joins as one of class Usage about
// a block.
func ofType(dbtType string, err error) error {
	var list []error
	for _, err := range fault.Each(err) {
		list = append(list, fmt.Errorf("dbt output of type %q: %w", dbtType, err))
	}
	if len(list) == 0 {
		return nil
	}
	return fault.New(fault.Usage, errors.Join(list...), "")
}

// RootsFile returns the key by which a block names the file of certificate
// authorities that the warehouse is verified with, and its value; nil where it
// names none, or only dbt will know.
func RootsFile(dbtType string, block *yaml.Node) (key string, path *yaml.Node) {
	keys := adapters[dbtType].roots
	if keys == nil {
		return "", nil
	}
	path = block
	for _, k := range keys {
		path = option(path, k) // DuckDB tells no case apart; a key of dbt's by another case is none
	}
	text := textOf(path)
	if path == nil || path.Tag != "!!str" || text == "" || text == "system" || policy.IsJinja(text) {
		return "", nil // a switch, libpq's word for the system's own, or not known yet
	}
	return strings.Join(keys, "."), path
}

// Warehouse returns what an exchange must know of the place that the block
// describes, or an error of class Usage where only dbt will know it.
func Warehouse(dbtType string, block *yaml.Node) (w credential.Warehouse, err error) {
	a := adapters[dbtType]
	if a.warehouse == nil {
		return credential.Warehouse{Type: dbtType}, nil
	}
	block, err = a.settle("", block)
	w, place := a.warehouse(block)
	if err = errors.Join(err, place); err != nil {
		return w, ofType(dbtType, err)
	}
	w.Type = dbtType
	return w, nil
}

// Render returns what the credential becomes for the adapter. Its errors are
// those of Check and CheckPlaces.
func Render(in Input) (Output, error) {
	provider := in.Facts.Provider()
	if err := Check(in.Type, provider); err != nil {
		return Output{}, err
	}
	if err := CheckPlaces(in.Type, provider, in.Facts.Audience(), in.Block); err != nil {
		return Output{}, err
	}
	a, block := adapters[in.Type], in.Block
	settled, err := a.settle(provider, block)
	if err != nil {
		return Output{}, err // CheckPlaces has looked
	}
	in.Block = settled
	if a.suits != nil {
		if err := a.suits(in.Block, in.Credential); err != nil {
			return Output{}, fault.New(fault.Usage, fmt.Errorf("dbt output of type %q: %w", in.Type, err), "")
		}
	}
	out := a.render[provider](in)
	for _, key := range slices.Concat(a.spec.Written, a.spec.Secret, policy.SecretKeys()) {
		if !slices.Contains(a.others, key) {
			out.Remove = append(out.Remove, key)
		}
	}
	for _, key := range a.spec.Given[provider] {
		switch {
		case !policy.IsJinja(scalar(in.Block, key)), slices.ContainsFunc(out.Keys, func(k Key) bool { return k.Name == key }):
		case key == "user": // through a proxy any name will do, and this one asks for a variable
			out.Keys = append(out.Keys, Key{key, text(proxyUser)})
		default:
			out.Remove = append(out.Remove, key)
		}
	}
	out = a.changes(out, block, settled)
	if in.Credential.AWS != nil {
		out.Env = append(out.Env, awsEnvironment(*in.Credential.AWS, in.Route)...) // boto3, and DuckDB's chain
	}
	return out, nil
}

func envVar(name string) *yaml.Node { return text("{{ env_var('" + name + "') }}") }

func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
}

func integer(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

func boolean(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(b)}
}

// isOn reports whether dbt's YAML takes a switch for on.
func isOn(s string) bool {
	return slices.Contains([]string{"true", "yes", "on"}, strings.ToLower(s))
}

// isOff reports whether dbt's YAML takes a switch that is off by default for off.
func isOff(s string) bool {
	return slices.Contains([]string{"", "false", "no", "off"}, strings.ToLower(s))
}

// value returns the value of a key of a mapping, nil where it has none.
func value(block *yaml.Node, key string) *yaml.Node {
	if block == nil || block.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(block.Content); i += 2 {
		if k := block.Content[i]; k.Tag == "!!str" && k.Value == key { // `!!null host` is another key
			return block.Content[i+1]
		}
	}
	return nil
}

// scalar returns the text of a key's value, "" where there is none.
func scalar(block *yaml.Node, key string) string { return textOf(value(block, key)) }

func textOf(v *yaml.Node) string {
	if v == nil || v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
		return ""
	}
	return v.Value
}

// portOf returns the block's port, which an exchange or a proxy must know.
func portOf(block *yaml.Node) (int, error) {
	port, err := strconv.Atoi(scalar(block, "port"))
	if err != nil {
		return 0, fmt.Errorf("port is %q, want a number", scalar(block, "port"))
	}
	if port < 1 || port > 65535 {
		return 0, fmt.Errorf("port is %d, want 1 to 65535", port)
	}
	return port, nil
}

// tag names the target to the warehouse. It is the same in every run: a
// change in a connection's key would cost dbt its partial parsing.
func tag(in Input) *yaml.Node { return text("oidc-dbt target=" + in.Facts.Target()) }

var notTraceable = lazy.MustCompile(`[^A-Za-z0-9._/@:=-]`)

// runID names the run to the warehouse, "" where the CI system has no such
// claim. It is only for keys that are not the connection's.
func runID(in Input) string {
	return notTraceable.ReplaceAllString(in.Facts.Claim("run_id"), "_")
}

// checkEndpoint returns what keeps a URL from being given a credential: it is
// not known yet, or is neither https nor on loopback.
func checkEndpoint(key, endpoint string) (host string, err error) {
	if endpoint == "" {
		return "", nil
	}
	if policy.IsJinja(endpoint) {
		return "", fmt.Errorf("%s must be a literal: the credential goes there", key)
	}
	u, err := url.Parse(endpoint)
	switch {
	case strings.Contains(endpoint, "@"): // what stands before it may be a password
		return "", fmt.Errorf("%s holds a login, want a URL such as https://host", key)
	case err != nil || u.Hostname() == "":
		return "", fmt.Errorf("%s is %q, want a URL such as https://host", key, endpoint)
	case u.Scheme != "https" && (u.Scheme != "http" || !policy.IsLoopback(u.Hostname())):
		return "", fmt.Errorf("%s is %q, want https (http is for loopback only)", key, endpoint)
	}
	return u.Hostname(), nil
}
