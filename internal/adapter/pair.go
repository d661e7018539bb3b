package adapter

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// A pair is one row of an adapter: all that is to be known of the adapter with
// one provider. A test names what a row lacks.
type pair struct {
	provider string // its name, for errors; filled in
	// gives is the kind of credential that dbt gets; that of a secret's fields
	// is in asks.
	gives credential.Kind
	// asks is what the warehouse takes of the provider.
	asks credential.Asks
	// render returns what the credential becomes.
	render func(Input) Output
	// route is how dbt stays logged in by a broker; direct is the same for dbt
	// that is not to connect through a proxy, nil where it reads the credential
	// once then.
	route, direct describe
	// guarded is set where every statement goes through a proxy of ours that
	// reads it.
	guarded bool
	// client is how other clients of the warehouse stay logged in where they
	// connect to it themselves.
	client route.Kind
	// exposed is set where the token is itself the login, or is exchanged at the
	// warehouse: its audience says where it may go.
	exposed bool
	// hosts are where the credential is a login; nil for the place that the
	// credential itself is for.
	hosts *hosts
	// check returns further faults of the places where a block would have dbt
	// send the credential; nil for none.
	check func(block *yaml.Node) error
	// suits returns what is wrong with a credential, once it is there, for the
	// place; nil where every kind goes wherever check lets one go.
	suits func(block *yaml.Node, c credential.Credential) error
	// needed are keys that the login is made from, given those whose values
	// come with the credential. (policy.Adapter)
	needed, given []string
	// identities are keys that choose who dbt is and that the credential
	// replaces, with the key of `exchange` that does the same, "" for none.
	identities map[string]string
	// entries returns further mappings of a block that have such keys; nil for none.
	entries func(block *yaml.Node) []*yaml.Node
	// since are the oldest versions of dbt's adapter that take what is written;
	// none where every version does that runs with dbt-core 1.8.
	since []since
	// complete writes what settings say into where the credential goes; nil
	// where nothing else says it.
	complete func(block *yaml.Node) *yaml.Node
}

// hosts are those of one vendor's. Whoever else got the credential could log in
// there.
type hosts struct {
	vendor  string
	pattern *lazy.Regexp // of names in small letters
}

// has reports whether a host is one of them, or this machine.
func (h *hosts) has(host string) bool {
	return policy.IsLoopback(host) || h.pattern.MatchString(strings.ToLower(host))
}

// A describe returns a route from the block, nil for a target without one, and
// the values under `exchange`.
type describe func(block *yaml.Node, exchange policy.Values) (route.Route, error)

// always is a route that is the same for every block.
func always(r route.Route) describe {
	return func(*yaml.Node, policy.Values) (route.Route, error) { return r, nil }
}

// from is a route that the block says all of.
func from(f func(block *yaml.Node) (route.Route, error)) describe {
	return func(block *yaml.Node, _ policy.Values) (route.Route, error) { return f(block) }
}

var (
	// awsContainer is the route of clients that find an AWS session by themselves.
	awsContainer = always(route.Route{Kind: route.AWSContainer})
	// lease is that of clients that read the credential once, where it is renewed in place.
	lease = always(route.Route{Kind: route.Lease})
)

// googleADC is the route of Google's client libraries.
func googleADC(_ *yaml.Node, exchange policy.Values) (route.Route, error) {
	return route.Route{Kind: route.GoogleADC, Google: route.Google{
		Audience: "//iam.googleapis.com/" + exchange.Get("workload_identity_provider"), Universe: exchange.Get("universe_domain"),
		Project: exchange.Get("user_project"),
	}}, nil
}

// kind is that of the credential which the provider gives; bearer is
// credential.Warehouse's.
func (p pair) kind(bearer bool) credential.Kind {
	switch {
	case p.gives != "":
		return p.gives
	case bearer:
		return credential.AccessToken
	}
	return p.asks.Fields[0]
}

// lends reports whether the provider lends another user for each run.
func (p pair) lends() bool { return p.asks.Fields != nil }

// brings reports whether a key's value comes with the credential.
func (p pair) brings(key string) bool { return slices.Contains(p.given, key) }

// tools are the rows of targets without dbt, by provider: the cloud's own
// tools find the credential in the environment.
var tools = map[string]pair{
	"aws":            {route: awsContainer, render: inEnvironment},
	"databricks":     {route: databricksTools, render: forDatabricksTools},
	"entra":          {route: always(route.Route{Kind: route.AzureTokenFile, IDToken: true}), render: forAzureTools},
	"gcp":            {route: googleADC, render: inEnvironment},
	"token_exchange": {route: always(route.Route{}), render: inEnvironment},
	"vault":          {route: lease, render: inEnvironment},
}

// pairOf returns the row of an adapter, "" for a target without one, and a
// provider.
func pairOf(dbtType, provider string) pair {
	p := adapters[dbtType].pairs[provider]
	if dbtType == "" {
		p = tools[provider]
	}
	p.provider = provider
	return p
}

// specOf returns what a policy may say of an adapter's block.
func specOf(a adapter) policy.Adapter {
	spec := a.spec
	spec.Providers = slices.Sorted(maps.Keys(a.pairs))
	spec.Needed, spec.Given, spec.Logins = map[string][]string{}, map[string][]string{}, map[string]string{}
	for name, p := range a.pairs {
		spec.Needed[name], spec.Given[name] = p.needed, p.given
		if p.asks.Login != credential.Usual {
			spec.Logins[name] = string(p.asks.Login)
		}
		if p.guarded {
			spec.Guarded = append(spec.Guarded, name)
		}
	}
	slices.Sort(spec.Guarded)
	return spec
}

// Dialect returns the SQL that a guard reads of the pair, "" where there can be none.
func Dialect(dbtType, provider string) statement.Dialect {
	if !pairOf(dbtType, provider).guarded {
		return ""
	}
	return adapters[dbtType].dialect
}

// Asks returns what a warehouse takes of a provider.
func Asks(dbtType, provider string) credential.Asks { return pairOf(dbtType, provider).asks }
