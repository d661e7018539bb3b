package explain

import (
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// A Login is what the provider and dbt get of an allowed run: values, none of
// them empty, by some of LoginNames.
type Login map[string]string

// LoginNames are the names that a Login may have, in the order for a reader.
var LoginNames = []string{
	"provider", "audience", "role", "then_role", "service_account", "client_id", "application", "session_name",
	"user", "dbt_role", "database", "project", "catalog", "warehouse", "schema", "dataset",
}

// LoginOf returns what a target's settings, with the claims filled in, log in with.
func LoginOf(l policy.Login, claims policy.ClaimSet) Login {
	login := Login{}
	set := func(name, value string) {
		if value != "" {
			login[name] = value
		}
	}
	set("provider", l.Provider)
	set("audience", l.Audience)
	set("session_name", provider.SessionName(l.Provider, l.Exchange, l.Identity, claims))
	set("then_role", l.Exchange.Get("then_assume.role"))
	for _, key := range []string{"role", "service_account", "client_id", "application"} {
		set(key, l.Exchange.Get(key))
	}
	for _, block := range []*yaml.Node{l.DBT.Block, l.DBT.With} {
		for _, key := range []string{"user", "database", "project", "catalog", "warehouse", "schema", "dataset"} {
			set(key, scalar(block, key))
		}
		if l.Exchange.Get("role") == "" {
			set("role", scalar(block, "role"))
		} else {
			set("dbt_role", scalar(block, "role"))
		}
	}
	return login
}

// scalar returns a key of a mapping, "" for none.
func scalar(n *yaml.Node, key string) string {
	if n == nil {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i+1].Kind == yaml.ScalarNode {
			return n.Content[i+1].Value
		}
	}
	return ""
}
