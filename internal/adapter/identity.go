package adapter

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// An Identity is a key of a block that chose who dbt is, until the credential
// took its place.
type Identity struct {
	Key      string
	At       *yaml.Node // its value
	Exchange string     // the key of the provider's that does the same, "" for none
}

// Identities returns what in a block chose another identity than the exchange
// does. A login (a password, a key's file) is none: that it is replaced is what
// the product is for.
func Identities(dbtType, provider string, exchange policy.Values, block *yaml.Node) (list []Identity) {
	p := pairOf(dbtType, provider)
	blocks := []*yaml.Node{block}
	if p.entries != nil {
		blocks = append(blocks, p.entries(block)...)
	}
	for _, b := range blocks {
		for i := 0; b.Kind == yaml.MappingNode && i+1 < len(b.Content); i += 2 {
			key, v := strings.ToLower(b.Content[i].Value), b.Content[i+1]
			name, chooses := p.identities[key]
			if text := textOf(v); chooses && text != "" && !sameIdentity(text, exchange, name) {
				list = append(list, Identity{b.Content[i].Value, v, name})
			}
		}
	}
	return list
}

// sameIdentity reports whether the exchange has what a block says, be it in
// Google's URL for it, or that the login is by a password or key of the user's.
func sameIdentity(text string, exchange policy.Values, name string) bool {
	switch text {
	case "snowflake", "snowflake_jwt", "username_password_mfa", "workload_identity":
		return true
	}
	have := exchange.Get(name)
	if name == "then_assume" {
		have = exchange.Get("then_assume.role")
	}
	return have != "" && (text == have || strings.Contains(text, "/"+have+":") || strings.HasSuffix(text, "/"+have))
}
