package adapter

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// alone are the routes of credentials-only targets, by provider.
var alone = map[string]func(exchange policy.Values) route.Route{
	"aws":        func(policy.Values) route.Route { return route.Route{Kind: route.AWSContainer} },
	"databricks": databricksTools,
	"entra":      func(policy.Values) route.Route { return route.Route{Kind: route.AzureTokenFile, IDToken: true} },
	"gcp":        func(policy.Values) route.Route { return route.Route{Kind: route.GoogleADC} },
}

// Route returns how dbt stays logged in at the place that the block describes,
// the zero Route where it reads the credential once. Without a type it is that
// of a credentials-only target. The error is of class Usage.
func Route(dbtType, provider string, exchange policy.Values, block *yaml.Node) (route.Route, error) {
	return find(adapters[dbtType].routes, dbtType, provider, exchange, block)
}

// Direct returns the route for dbt that is not to connect through a proxy. The
// error is of class Usage, also where the pair has no other way.
func Direct(dbtType, provider string, exchange policy.Values, block *yaml.Node) (route.Route, error) {
	r, err := Route(dbtType, provider, exchange, block)
	if err != nil || !r.Kind.IsProxy() {
		return r, err
	}
	if r.Only {
		return r, fault.New(fault.Usage, fmt.Errorf("type %q with provider %q works through the proxy alone", dbtType, provider), "remove `proxy: false` from the target")
	}
	return find(adapters[dbtType].direct, dbtType, provider, exchange, block)
}

func find(routes map[string]func(*yaml.Node) (route.Route, error), dbtType, provider string, exchange policy.Values, block *yaml.Node) (r route.Route, err error) {
	describe, tools, reroute := routes[provider], alone[provider], adapters[dbtType].reroute
	if block, err = adapters[dbtType].settle(provider, block); err != nil {
		return r, ofType(dbtType, err)
	}
	switch {
	case dbtType == "" && tools != nil:
		r = tools(exchange)
	case describe != nil:
		if r, err = describe(block); err != nil {
			return r, ofType(dbtType, err)
		}
	case provider == lender:
		r.Kind = route.Lease
	}
	if r.Kind == route.GoogleADC {
		r.Google = route.Google{Audience: "//iam.googleapis.com/" + exchange.Get("workload_identity_provider"), Universe: exchange.Get("universe_domain")}
	}
	if reroute != nil {
		r = reroute(r, exchange)
	}
	return r, nil
}

// lender is the provider whose credentials can be renewed where they are:
// whoever has read one once stays logged in.
const lender = "vault"

// awsContainer is the route of whatever finds an AWS session by itself.
func awsContainer(*yaml.Node) (route.Route, error) {
	return route.Route{Kind: route.AWSContainer}, nil
}
