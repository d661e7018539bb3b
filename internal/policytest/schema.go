package policytest

import (
	"encoding/json"

	"github.com/oidc-dbt/oidc-dbt/internal/explain"
)

type object = map[string]any

// loginExamples are values of a login, by explain.LoginNames.
var loginExamples = map[string]string{
	"provider": "aws", "audience": "sts.amazonaws.com", "identity": "engineers", "scope": "session:role:ANALYST", "account": "123456789012",
	"role":      "arn:aws:iam::123456789012:role/dbt",
	"then_role": "arn:aws:iam::123456789012:role/dbt-lake", "service_account": "dbt@acme-prod.iam.gserviceaccount.com",
	"client_id":    "7b9f3c1e-2a4d-4c8b-9e1f-0d5a6b7c8d9e",
	"application":  "arn:aws:sso::123456789012:application/ssoins-0123456789abcdef/apl-0123456789abcdef",
	"session_name": "dbt-production", "user": "DBT_PROD", "dbt_role": "TRANSFORMER", "database": "ANALYTICS",
	"project": "acme-prod", "catalog": "lake", "warehouse": "TRANSFORMING", "schema": "marts", "dataset": "marts",
}

// Schema returns the JSON Schema (draft 2020-12) of test files, for editors.
func Schema() []byte {
	texts := func(doc, example string) object {
		text := object{"type": "string", "minLength": 1}
		return object{"description": doc, "examples": []string{example},
			"oneOf": []any{text, object{"type": "array", "minItems": 1, "items": text}}}
	}
	login := object{}
	for _, key := range explain.LoginNames {
		login[key] = object{"type": "string", "examples": []string{loginExamples[key]},
			"description": "What explain must show as the login's " + key + "."}
	}
	one := object{
		"type": "object", "additionalProperties": false, "required": []string{"name", "claims"},
		"oneOf": []any{object{"required": []string{"allow"}}, object{"required": []string{"deny"}}},
		"properties": object{
			"name": object{"type": "string", "minLength": 1, "examples": []string{"production builds"},
				"description": "What the case shows; each name once."},
			"identity": object{"type": "string", "description": "Whose token it is (default: github).", "examples": []string{"github"}},
			"claims": object{"type": "object", "description": "The claims of the token. The rest of a push follows from them, as in explain.",
				"additionalProperties": object{"type": []string{"string", "boolean", "array"}, "items": object{"type": "string"}},
				"examples":             []any{object{"repository": "acme/analytics", "environment": "production"}}},
			"allow":   texts("The target that the token gets, and no other; or a list of all that it gets.", "prod"),
			"deny":    texts("The target that the token must not get, a list of them, or `all`.", "all"),
			"because": texts("With deny: exactly the claims that keep the token out of the nearest rule.", "environment"),
			"login": object{"type": "object", "additionalProperties": false, "properties": login,
				"description": "With allow: what explain must show as the login."},
			"guard": object{"type": "string", "minLength": 1, "examples": []string{"statements: read, stop_after: 20", "none"},
				"description": "With allow: what explain must show as the guard; none for no guard."},
		},
	}
	schema := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "oidc-dbt policy test",
		"type": "object", "additionalProperties": false, "required": []string{"version", "cases"},
		"properties": object{
			"version": object{"const": 1, "description": "The version of the file's form."},
			"policy": object{"type": "string", "minLength": 1, "examples": []string{DefaultPolicy},
				"description": "The policy, relative to this file (default: oidc-dbt.yml next to it)."},
			"cases": object{"type": "array", "minItems": 1, "maxItems": maxCases, "items": one,
				"description": "Tokens, and what the policy must decide of them.", "examples": []any{[]any{object{
					"name": "production builds", "allow": "prod",
					"claims": object{"repository": "acme/analytics", "environment": "production", "ref": "refs/heads/main"},
				}}}},
			"coverage": object{"enum": []string{"rules", "none"}, "description": "Whether each rule must be matched by a case (default: rules)."},
		},
	}
	out, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // maps of strings and lists always encode
	}
	return append(out, '\n')
}
