package explain

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

// A Login is what the provider and dbt get of an allowed run: names and values
// in a fixed order, none of them empty. In JSON it is an object.
type Login []Field

// A Field is one value of a Login.
type Field struct{ Name, Value string }

// Get returns a value, "" for none.
func (l Login) Get(name string) string {
	for _, f := range l {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// LoginNames are the names that a Login may have.
var LoginNames = []string{
	"provider", "audience", "role", "then_role", "service_account", "client_id", "application", "session_name",
	"user", "dbt_role", "database", "project", "catalog", "warehouse", "schema", "dataset",
}

// LoginOf returns what a target's settings, with the claims filled in, log in with.
func LoginOf(l policy.Login, claims policy.ClaimSet) (login Login) {
	values := map[string]string{
		"provider": l.Provider, "audience": l.Audience, "session_name": provider.SessionName(l.Provider, l.Exchange, claims),
		"then_role": l.Exchange.Get("then_assume.role"),
	}
	for _, key := range []string{"role", "service_account", "client_id", "application"} {
		values[key] = l.Exchange.Get(key)
	}
	for _, block := range []*yaml.Node{l.DBT.Block, l.DBT.With} {
		for _, key := range []string{"user", "database", "project", "catalog", "warehouse", "schema", "dataset"} {
			if v := scalar(block, key); v != "" {
				values[key] = v
			}
		}
		if role := scalar(block, "role"); role != "" && values["role"] == "" {
			values["role"] = role
		} else if role != "" {
			values["dbt_role"] = role
		}
	}
	for _, name := range LoginNames {
		if values[name] != "" {
			login = append(login, Field{name, values[name]})
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

// MarshalJSON implements json.Marshaler.
func (l Login) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(f.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.Value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
