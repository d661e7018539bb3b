package adapter

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// Roles returns the roles that dbt chooses by a block when a session begins, as
// a guard has them, with the block's key; none of a warehouse without a dialect.
// A role that only dbt will know is left out.
func Roles(dbtType string, block *yaml.Node) (roles []string, key string) {
	d := adapters[dbtType].dialect
	add := func(prefix string, n *yaml.Node) {
		if name := textOf(n); name != "" && !policy.IsJinja(name) {
			roles = append(roles, prefix+guard.RoleName(d, name))
		}
	}
	switch d {
	case statement.Postgres, statement.Redshift, statement.Snowflake:
		if n := value(block, "role"); textOf(n) != "" {
			key = "role"
			add("", n)
		}
	case statement.ClickHouse: // a parameter of each request
		if n := value(value(block, "custom_settings"), "role"); n != nil {
			key = "custom_settings"
			add("", n)
		}
	case statement.Trino: // by catalog
		if n := value(block, "roles"); n != nil && n.Kind == yaml.MappingNode {
			key = "roles"
			for i := 0; i+1 < len(n.Content); i += 2 {
				role := *n.Content[i+1]
				if name, ok := strings.CutPrefix(role.Value, "ROLE{"); ok { // the driver's older form
					role.Value = strings.TrimSuffix(name, "}")
				}
				add(n.Content[i].Value+"=", &role)
			}
		}
	}
	return roles, key
}

// User returns the user that dbt names in each request by a block, where the
// warehouse lets a login name another one, and whether the block has the key. A
// user that only dbt will know is left out.
func User(dbtType string, block *yaml.Node) (user string, has bool) {
	if adapters[dbtType].dialect != statement.Trino {
		return "", false
	}
	if user = textOf(value(block, "user")); policy.IsJinja(user) {
		return "", true
	}
	return user, user != ""
}
