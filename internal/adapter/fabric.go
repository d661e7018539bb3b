package adapter

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// fabric logs in at Microsoft Fabric with a token of Entra ID, or as a
// service principal that a vault lends. (dbt-fabric 1.12)
var fabric = adapter{
	spec: policy.Adapter{
		Native:   "roles of the workspace and GRANT for an application of its own",
		Required: []string{"database", "schema"},
		Aliases:  withAliases(map[string]string{"workspace": "workspace_name", "purview": "purview_endpoint"}),
		Written: append([]string{
			"credential_class", "credential_kwargs", "federated_token_url", "federated_token_header", "federated_token_file", "token_scope",
		}, microsoftLogins...),
		Secret:   microsoftSecrets,
		Literal:  append([]string{"tenant_id"}, append(fabricAPIs, microsoftPlaces...)...),
		NoClaims: append([]string{"tenant_id"}, append(fabricAPIs, microsoftSwitches...)...),
	},
	warehouse: microsoftWarehouse,
	check: func(block *yaml.Node, _ pair, _ string) error {
		var f faults
		if oneOf(block, "host", "server") == "" {
			f.missing("host", ": without it dbt-fabric sends the login to Fabric's API to find it")
		}
		f.join(checkMicrosoft(block, &microsoftDatabases))
		// Up to 1.10 it is in a connection string.
		if driver := scalar(block, "driver"); driver != "" && !policy.IsJinja(driver) && !driverText.MatchString(driver) {
			f.add("driver", " is %q, want the name of an ODBC driver", driver)
		}
		for _, key := range fabricAPIs {
			host, err := checkEndpoint(top(key), scalar(block, key))
			f.join(err)
			if host != "" && !policy.IsLoopback(host) && !fabricAPIHosts.MatchString(strings.ToLower(host)) {
				f.add(key, ": host %q does not belong to Fabric, but the login would be sent there", host)
			}
		}
		return f.err()
	},
	pairs: map[string]pair{
		"entra": {
			since: []since{fabricAccessToken, fabricFederated, fabricDriver},
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://database.windows.net"},
			render: fabricEntra, route: fabricRoute, given: []string{"tenant_id"},
			identities: entraIdentities,
		},
		"login": {
			since: []since{fabricAccessToken, fabricManagedIdentity, fabricDriver},
			gives: credential.AccessToken, asks: credential.Asks{Resource: "https://database.windows.net"},
			render: fabricManaged, route: always(route.Route{Kind: route.AzureManagedIdentity}), given: []string{"tenant_id"},
			identities: personIdentities,
		},
		"vault": {
			since:  []since{fabricDriver},
			asks:   credential.Asks{Fields: []credential.Kind{credential.ServicePrincipal}},
			render: servicePrincipal, route: lease, identities: principalIdentities,
			check: func(block *yaml.Node) error {
				if tenant := scalar(block, "tenant_id"); !tenantText.MatchString(tenant) {
					return top("tenant_id").fault(" is %q, want the id of the service principal's tenant", tenant)
				}
				return nil
			},
		},
	},
}

// fabricRoute has dbt-fabric fetch the ID token and exchange it, or where it
// cannot, ask for the access token.
func fabricRoute(_ *yaml.Node, exchange policy.Values) (route.Route, error) {
	if exchangesItself(exchange) {
		return route.Route{Kind: route.FederatedTokenURL, IDToken: true}, nil
	}
	return route.Route{Kind: route.AzureManagedIdentity}, nil
}

// exchangesItself reports whether dbt-fabric can exchange the ID token: it
// asks for tokens of the public cloud, and for those that it wants.
func exchangesItself(exchange policy.Values) bool {
	authority := strings.TrimSuffix(exchange.Get("authority"), "/")
	return (authority == "" || authority == publicAuthority) && exchange.Get("scope") == ""
}

func fabricEntra(in Input) Output {
	switch exchange := in.Facts.Exchange(); {
	case in.Route == (route.Address{}):
		return entraToken(in)
	case exchangesItself(exchange):
		return Output{
			Keys: []Key{
				{"authentication", text("workload_identity")}, {"tenant_id", text(exchange.Get("tenant"))},
				{"client_id", text(exchange.Get("client_id"))},
				{"federated_token_url", text(fmt.Sprintf("http://%s:%d/token", in.Route.Host, in.Route.Port))},
				{"federated_token_header", text("Bearer {{ env_var('" + tokenVariable + "') }}")},
			},
			Env: []Variable{
				{tokenVariable, in.Route.Secret, true},
				{"AZURE_AUTHORITY_HOST", secret.New(publicAuthority), false}, // azure-identity would take another from the job's
			},
		}
	}
	return fabricManaged(in)
}

// fabricManaged has dbt-fabric ask for each access token, which is never its own
// exchange's.
func fabricManaged(in Input) Output {
	if in.Route == (route.Address{}) {
		return entraToken(in)
	}
	return Output{
		Keys: []Key{{"authentication", text("token_credential")}, {"credential_class", text("azure.identity.ManagedIdentityCredential")}},
		Env:  managedIdentity(in.Route),
	}
}

// fabricAPIs are where dbt-fabric sends tokens besides the warehouse.
var fabricAPIs = []string{"fabric_base_api_uri", "powerbi_base_api_uri", "purview_endpoint"}

var fabricAPIHosts = lazy.MustCompile(`^(?:[a-z0-9-]+\.)*(?:fabric\.microsoft\.com|powerbi\.com|powerbigov\.us|` +
	`powerbi\.cn|purview\.azure\.(?:com|us|cn)|purview\.microsoft\.com)$`)

var tenantText = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)
