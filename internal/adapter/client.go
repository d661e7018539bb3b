package adapter

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// ClientRoute returns how the other clients of a warehouse stay logged in:
// through the proxy, if there is one, where the policy names the place and
// direct is not set. The error is of class Usage, and that of CheckPlaces where the
// policy names a place.
func ClientRoute(dbtType, provider, audience string, exchange policy.Values, block *yaml.Node, direct bool) (route.Route, error) {
	a, own := adapters[dbtType], route.Route{Kind: pairOf(dbtType, provider).client}
	if err := Check(dbtType, provider); err != nil {
		return route.Route{}, err
	}
	if scalar(block, a.spec.Client[0]) == "" {
		return own, nil // the place is theirs to know
	}
	if err := CheckPlaces(dbtType, provider, audience, block); err != nil {
		return route.Route{}, clientFault(dbtType, err)
	}
	r, err := Route(dbtType, provider, exchange, block)
	if err != nil {
		return r, clientFault(dbtType, err)
	}
	if direct && r.Kind.IsProxy() {
		return own, nil
	}
	return r, nil
}

// clientFault adds to a fault where it is.
func clientFault(dbtType string, err error) error {
	var list []error
	for _, err := range fault.Each(err) {
		if own := new(policy.BlockError); errors.As(err, &own) {
			err = own // without the output that it would be of
		}
		list = append(list, fmt.Errorf("client %q: %w", dbtType, err))
	}
	return fault.New(fault.Usage, errors.Join(list...), "")
}

// Client returns the variables by which the other clients of the warehouse
// find the place, where the policy names it, and the credential.
func Client(in Input) []Variable { return adapters[in.Type].client(in) }
