package policy

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

type object = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of policies, for editors. It
// is made from the tables that Parse works by; what a schema cannot say
// (bindings, endpoints, claims) only Parse checks.
func Schema(cat Catalog) []byte {
	text := func(doc string) object { return object{"type": "string", "minLength": 1, "description": doc} }
	list := func(doc string) object {
		return object{"description": doc,
			"oneOf": []any{object{"type": "string", "minLength": 1},
				object{"type": "array", "minItems": 1, "items": object{"type": "string", "minLength": 1}}}}
	}
	duration := func(doc string) object {
		return object{"type": "string", "pattern": strictyaml.DurationPattern, "description": doc}
	}

	providers := object{}
	var needDBT []any
	for _, name := range slices.Sorted(maps.Keys(cat.Providers)) {
		p := cat.Providers[name]
		providers[name] = keysSchema(p.Keys, text, list)
		if p.NeedsDBT {
			needDBT = append(needDBT, object{
				"if":   object{"properties": object{"exchange": object{"required": []string{name}}}},
				"then": object{"anyOf": []any{object{"required": []string{"dbt"}}, object{"required": []string{"client"}}}},
			})
		}
	}
	// secretKey matches what is named like a secret; Parse knows more forms.
	const secretKey = `^(?:[A-Za-z0-9_]*_)?(?:pass|passwd|passphrase|pwd|token|secret|secret_key|secret_access_key|` +
		`access_key|private_key|api_key|apikey|keyfile_json)$|[Pp]assword$`
	var outputs []any
	for _, name := range slices.Sorted(maps.Keys(cat.Adapters)) {
		a := cat.Adapters[name]
		properties := object{"type": object{"const": name}, "with": false,
			"output": text("The output's name in profiles.yml (default: the target's name).")}
		for _, key := range slices.Concat(a.Written, a.Secret) {
			for _, name := range a.NamesOf(key) {
				properties[name] = false // written by the product, or a secret
			}
		}
		required, either := []string{"type"}, []any{}
		for _, key := range a.Required {
			names := a.NamesOf(key)
			if len(names) == 1 {
				required = append(required, key)
				continue
			}
			var oneOf []any
			for _, name := range names {
				oneOf = append(oneOf, object{"required": []string{name}})
			}
			either = append(either, object{"oneOf": oneOf})
		}
		output := object{
			"type": "object", "properties": properties, "required": required,
			"patternProperties": object{secretKey: object{"type": []string{"boolean", "null"}}},
		}
		if len(either) > 0 {
			output["allOf"] = either
		}
		outputs = append(outputs, output)
	}
	outputs = append(outputs, object{
		"type": "object", "additionalProperties": false, "required": []string{"from"},
		"properties": object{
			"from":   text("A profiles.yml, relative to project-dir."),
			"output": text("The output in it that gets the credential (default: the target's name)."),
			"with": object{
				"type": "object", "minProperties": 1, "properties": object{"output": false},
				"patternProperties": object{secretKey: object{"type": []string{"boolean", "null"}}},
				"description":       "Keys of that output which the policy gives: they replace its own, or are added.",
			},
		},
	})

	clients := []any{object{"enum": clientNames(cat)}}
	for _, name := range clientNames(cat) {
		properties := object{"type": object{"const": name}}
		for _, key := range cat.Adapters[name].Client {
			properties[key] = object{"type": []string{"string", "integer"}}
		}
		clients = append(clients, object{
			"type": "object", "additionalProperties": false, "properties": properties, "required": []string{"type"},
			"dependentRequired": needing(cat.Adapters[name].Client),
		})
	}

	identity := object{
		"type": "object", "additionalProperties": false, "required": []string{"issuer"},
		"properties": object{
			"issuer": text("The issuer of the ID tokens, to the letter."),
			"kind": object{"enum": slices.Sorted(maps.Keys(kinds)),
				"description": "Whose tokens they are; left out where the issuer is a known one. This build has a token source for github only."},
			"jwks_uri":  text("The address of the issuer's keys (default: known for GitHub, else found by discovery)."),
			"client_id": text("For people: the audience of their ID tokens."),
			"flow":      object{"enum": []string{"browser", "device"}, "description": "For people: how they sign in."},
			"scopes":    list("For people: the scopes to ask for."),
		},
	}
	rule := object{
		"type": "object", "minProperties": 1,
		"propertyNames":        object{"pattern": claimText.String(), "maxLength": maxClaimName},
		"properties":           object{"identity": text("Whose tokens the rule is for (default: github).")},
		"additionalProperties": list("A claim and what it may be: `*` matches within one segment, `**` across segments."),
	}
	names := object{"pattern": nameText.String(), "maxLength": maxNameText}
	target := object{
		"type": "object", "additionalProperties": false, "required": []string{"exchange", "allow"},
		"not": object{"required": []string{"dbt", "client"}},
		"properties": object{
			"dbt": object{"description": "One output of profiles.yml without its secrets, or where to read it; " +
				"omitted for credentials only.", "oneOf": outputs},
			"client": object{"description": "In the place of dbt: the warehouse whose other clients get the credential, " +
				"or a mapping of its type and the place.", "oneOf": clients},
			"exchange": object{"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
				"properties": providers, "description": "The one provider that gives the credential."},
			"allow": object{"type": "array", "minItems": 1, "items": rule, "description": "Rules: any of them; inside a rule: all of it."},
			"profiles": object{
				"type": "object", "minProperties": 1, "propertyNames": object{"minLength": 1, "maxLength": maxProfileName},
				"description": "Further profiles that get the output with these keys in place of its own, " +
					"such as elementary's with a schema of its own.",
				"additionalProperties": object{
					"type": "object", "minProperties": 1, "properties": object{"output": false, "type": false},
					"patternProperties":    object{secretKey: object{"type": "boolean"}},
					"additionalProperties": object{"type": []string{"string", "number", "boolean"}},
				},
			},
			"lifetime":     duration("The lifetime to ask for (default: the provider's)."),
			"max_lifetime": duration("The longest lifetime that is accepted."),
			"proxy": object{"type": "boolean",
				"description": "Whether dbt may connect through a proxy on loopback that keeps it logged in (default: true; with client: false)."},
			"trust_reviewed": object{"type": "string", "format": "date", "description": "When the trust was last reviewed."},
			"trust_max_age":  duration("A review that is older denies every request."),
		},
	}
	if needDBT != nil {
		target["allOf"] = needDBT
	}
	schema := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "oidc-dbt policy",
		"type": "object", "additionalProperties": false, "required": []string{"version", "targets"},
		"properties": object{
			"version": object{"const": 1},
			"requires": object{"type": "string", "pattern": releaseText.String(),
				"description": "The oldest release that reads this policy; an older one says so, and nothing else."},
			"identities": object{"type": "object", "minProperties": 1, "propertyNames": names,
				"additionalProperties": identity, "description": "Who may ask (default: github, with GitHub's public issuer)."},
			"agents": list("Further accounts that AI agents act through."),
			"targets": object{"type": "object", "minProperties": 1, "propertyNames": names,
				"additionalProperties": target},
		},
	}
	out, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // maps of strings and lists always encode
	}
	return append(out, '\n')
}

// needing has each key but the first need that one.
func needing(keys []string) object {
	o := object{}
	for _, key := range keys[1:] {
		o[key] = keys[:1]
	}
	return o
}

func keysSchema(keys []Key, text, list func(string) object) object {
	properties := object{}
	required := []string{}
	for _, k := range keys {
		switch {
		case k.Keys != nil:
			properties[k.Name] = keysSchema(k.Keys, text, list)
			properties[k.Name].(object)["description"] = k.Doc
		case k.Names != nil:
			properties[k.Name] = object{"type": "object", "minProperties": 1,
				"additionalProperties": object{"type": "string", "minLength": 1}, "description": k.Doc}
		case k.Bool:
			properties[k.Name] = object{"type": "boolean", "description": k.Doc}
		case k.List:
			properties[k.Name] = list(k.Doc)
		default:
			properties[k.Name] = text(k.Doc)
		}
		if k.Required {
			required = append(required, k.Name)
		}
	}
	s := object{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
	if len(required) == 0 {
		s["type"] = []string{"object", "null"}
	}
	return s
}
