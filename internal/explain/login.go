package explain

import (
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// A Login is what the provider and dbt get of an allowed run: values, none of
// them empty, by some of LoginNames.
type Login map[string]string

// LoginNames are the names that a Login may have, in the order for a reader.
var LoginNames = []string{
	"provider", "audience", "identity", "scope", "account", "role", "then_role", "service_account", "client_id", "application", "session_name",
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
	if l.Provider == "login" {
		setPerson(set, l)
	}
	taken := login["role"] != ""
	for _, block := range []*yaml.Node{l.DBT.Block, l.DBT.With} {
		for _, key := range []string{"user", "database", "project", "catalog", "warehouse", "schema", "dataset"} {
			set(key, scalar(block, key))
		}
		if taken {
			set("dbt_role", scalar(block, "role"))
		} else {
			set("role", scalar(block, "role"))
		}
	}
	return login
}

// setPerson sets what of a person's own login is used: a role in IAM Identity
// Center, or an access token for a scope. The default of that depends on the
// warehouse, which a profiles.yml may name later.
func setPerson(set func(name, value string), l policy.Login) {
	set("identity", l.Identity.Name)
	if sso := l.Identity.AWSSSO; sso != nil {
		set("account", sso.Account)
		set("role", sso.Role)
		return
	}
	w := credential.Warehouse{Role: scalar(l.DBT.Block, "role"), Asks: adapter.Asks(l.DBT.Type, l.Provider)}
	if l.DBT.Type == "" || w.Asks.Elsewhere && w.Role == "" {
		set("scope", l.Exchange.Get("scope"))
	} else {
		set("scope", provider.PersonScope(l.Exchange, w, l.Identity))
	}
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
