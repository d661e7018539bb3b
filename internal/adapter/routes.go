package adapter

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// Route returns how dbt stays logged in at the place that the block describes,
// the zero Route where it reads the credential once. Without a type it is that
// of a credentials-only target. The error is of class Usage.
func Route(dbtType, provider string, exchange policy.Values, block *yaml.Node) (route.Route, error) {
	return find(pairOf(dbtType, provider).route, dbtType, provider, exchange, block)
}

// Direct returns the route for dbt that is not to connect through a proxy. The
// error is of class Usage, also where the pair has no other way.
func Direct(dbtType, provider string, exchange policy.Values, block *yaml.Node) (route.Route, error) {
	r, err := Route(dbtType, provider, exchange, block)
	if err != nil || !r.Kind.IsProxy() {
		return r, err
	}
	if r.Only {
		return r, fault.New(fault.Usage,
			fmt.Errorf("type %q with provider %q works only through the proxy", dbtType, provider), "remove `proxy: false` from the target")
	}
	return find(pairOf(dbtType, provider).direct, dbtType, provider, exchange, block)
}

func find(describe describe, dbtType, provider string, exchange policy.Values, block *yaml.Node) (r route.Route, err error) {
	if describe == nil {
		return r, nil
	}
	if block, err = adapters[dbtType].settle(pairOf(dbtType, provider), block); err == nil {
		r, err = describe(block, exchange)
	}
	if err != nil {
		return route.Route{}, ofType(dbtType, err)
	}
	return r, nil
}
