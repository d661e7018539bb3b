// Package adapter turns a credential into what dbt reads: keys of a profile's output, and environment variables.
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
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// adapter is one file of this package.
type adapter struct {
	spec policy.Adapter // what depends on the provider is filled in from pairs
	// dialect is the SQL of the warehouse, where a proxy of ours reads it.
	dialect statement.Dialect
	// pairs are the adapter's rows, by provider.
	pairs map[string]pair
	// check returns what is wrong with the places where a block would have dbt
	// send the credential; audience is that of an exposed one, else "". nil
	// where a block names none.
	check func(block *yaml.Node, p pair, audience string) error
	// warehouse reads from the block what an exchange must know of the place;
	// nil where that is nothing.
	warehouse func(block *yaml.Node) (credential.Warehouse, error)
	// client returns the variables of other clients of the warehouse; nil where
	// there are no targets for them.
	client func(Input) []Variable
	// roots is the key, or the key in a key, that names a file of certificate
	// authorities; nil where the adapter has none.
	roots []string
	// others are the places of logins for something else, which a credential of
	// ours does not replace: a key of the block, or that, `.` and the login's own.
	others []string
	// mappings are the places of values that dbt takes only as mappings, and
	// lists those of lists of them: in another shape a login has no key to be
	// recognised by.
	mappings, lists []string
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
	GuardedAudience() string
	Exchange() policy.Values
	Claim(name string) string // "" where there is none
	Run() string              // what the CI system calls the run, "" where that is not known
}

// Input is what an adapter works from.
type Input struct {
	Facts      Facts
	Type       string     // dbt's adapter type
	Block      *yaml.Node // the output's mapping as the user wrote it (inline, or read `from`), without aliases and merge keys
	Credential credential.Credential
	Route      route.Address // where a broker serves the pair's route; zero without one

	pair pair
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
		specs[name] = specOf(a)
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
	if err := specOf(a).CheckProvider(fmt.Sprintf("type %q", dbtType), provider); err != nil {
		return fault.New(fault.Usage, err, "")
	}
	return nil
}

// CheckPlaces returns an error of class Usage, which joins one for each fault
// (fault.Each), when the block would take the credential somewhere else than the
// policy's audience says: to a host that is not the vendor's, over plain http,
// or to a place that only dbt will know.
func CheckPlaces(dbtType, provider, audience string, block *yaml.Node) error {
	_, err := checked(dbtType, provider, audience, block)
	return err
}

// checked returns the block as dbt reads it, with what is wrong with its places.
func checked(dbtType, provider, audience string, block *yaml.Node) (*yaml.Node, error) {
	a, p := adapters[dbtType], pairOf(dbtType, provider)
	if !p.exposed {
		audience = "" // dbt gets a credential that is good for the warehouse only
	}
	block, err := a.settle(p, block)
	var f faults
	f.join(err)
	if a.check != nil {
		f.join(a.check(block, p, audience))
	}
	if p.check != nil {
		f.join(p.check(block))
	}
	return block, ofType(dbtType, f.err())
}

// ofType returns each of the errors that err joins as a policy.BlockError of
// class Usage.
func ofType(dbtType string, err error) error {
	if err == nil {
		return nil
	}
	var f faults
	f.join(err)
	var list []error
	for _, err := range f.list {
		list = append(list, fmt.Errorf("dbt output of type %q: %w", dbtType, err))
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
// describes and what it asks of the provider, or an error of class Usage where
// only dbt will know it.
func Warehouse(dbtType, provider string, block *yaml.Node) (w credential.Warehouse, err error) {
	a := adapters[dbtType]
	if a.warehouse != nil {
		block, err = a.settle(pair{}, block)
		var place error
		w, place = a.warehouse(block)
		err = errors.Join(err, place)
	}
	if err != nil {
		return w, ofType(dbtType, err)
	}
	w.Name, w.Asks = fmt.Sprintf("type %q", dbtType), pairOf(dbtType, provider).asks
	return w, nil
}

// Render returns what the credential becomes for the adapter. Its errors are
// those of Check and CheckPlaces.
func Render(in Input) (Output, error) {
	provider := in.Facts.Provider()
	if err := Check(in.Type, provider); err != nil {
		return Output{}, err
	}
	a, p, block := adapters[in.Type], pairOf(in.Type, provider), in.Block
	settled, err := checked(in.Type, provider, in.Facts.GuardedAudience(), block)
	if err != nil {
		return Output{}, err
	}
	in.Block, in.pair = settled, p
	if p.suits != nil {
		if err := p.suits(in.Block, in.Credential); err != nil {
			return Output{}, ofType(in.Type, err)
		}
	}
	out := p.render(in)
	for _, key := range slices.Concat(a.spec.Written, a.spec.Secret, policy.SecretKeys()) {
		if !slices.Contains(a.others, key) {
			out.Remove = append(out.Remove, key)
		}
	}
	for _, key := range p.given {
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
		return 0, top("port").fault(" is %q, want a number", scalar(block, "port"))
	}
	if port < 1 || port > 65535 {
		return 0, top("port").fault(" is %d, want 1 to 65535", port)
	}
	return port, nil
}

var notTraceable = lazy.MustCompile(`[^A-Za-z0-9._/@:=-]`)

// runID names the run to the warehouse, "" where the CI system has no such
// claim. It is only for keys that are not the connection's.
func runID(in Input) string {
	return notTraceable.ReplaceAllString(in.Facts.Run(), "_")
}

// checkEndpoint returns what keeps a URL from being given a credential: it is
// not known yet, or is neither https nor on loopback.
func checkEndpoint(p place, endpoint string) (host string, err error) {
	if endpoint == "" {
		return "", nil
	}
	if policy.IsJinja(endpoint) {
		return "", p.fault(" must be a literal: the credential is sent there")
	}
	u, err := url.Parse(endpoint)
	switch {
	case strings.Contains(endpoint, "@"): // what is before it may be a password
		return "", p.fault(" contains a login, want a URL such as https://host")
	case err != nil || u.Hostname() == "":
		return "", p.fault(" is %q, want a URL such as https://host", endpoint)
	case u.Scheme != "https" && (u.Scheme != "http" || !policy.IsLoopback(u.Hostname())):
		return "", p.fault(" is %q, want https (http is for loopback only)", endpoint)
	}
	return u.Hostname(), nil
}
