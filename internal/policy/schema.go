package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	sqlguard "github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

type object = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of policies, for editors. It
// is made from the tables that Parse works by; what a schema cannot say
// (bindings, endpoints, claims) only Parse checks.
func Schema(cat Catalog) []byte {
	names := object{"pattern": nameText.String(), "maxLength": maxNameText}
	schema := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "oidc-dbt policy",
		"type": "object", "additionalProperties": false, "required": []string{"version", "targets"},
		"properties": object{
			"version": object{"const": 1, "description": "The version of the policy's form."},
			"requires": object{"type": "string", "pattern": releaseText.String(), "examples": []string{"v1.4.0"},
				"description": "The oldest release that reads this policy; an older one says so, and nothing else."},
			"start_jitter": object{"type": "string", "pattern": strictyaml.DurationPattern, "examples": []string{"30s"},
				"description": "How long a run waits at most, by chance, before its first request, so that many that begin together do not " +
					"ask together: 10m at most."},
			"identities": object{"type": "object", "minProperties": 1, "propertyNames": names,
				"additionalProperties": identitySchema(), "description": "Who may ask (default: github, with GitHub's public issuer).",
				"examples": []any{object{"github": object{"issuer": "https://token.actions.githubusercontent.com/acme", "kind": "github"}}}},
			"agents": listSchema("Further accounts that AI agents act through: ids, or names.", "acme-agent[bot]", "198982749"),
			"maps":   mapsSchema(),
			"deny": object{"type": "array", "minItems": 1, "items": denyRuleSchema(),
				"description": "Rules that come before every target: whoever matches one is denied. They need no repository or owner.",
				"examples":    []any{[]any{object{"actor": "mallory"}, object{"repository_id": []string{"103", "104"}}}}},
			"audit":    auditSchema(),
			"defaults": defaultsSchema(cat),
			"targets": object{"type": "object", "minProperties": 1, "propertyNames": names,
				"description": "What can be asked for, by names of your own.", "examples": []any{object{"prod": exampleTarget()}}},
		},
		"if":   object{"required": []string{"defaults"}},
		"then": object{"properties": object{"targets": object{"additionalProperties": partialSchema(cat)}}},
		"else": object{"properties": object{"targets": object{"additionalProperties": targetSchema(cat)}}},
	}
	out, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // maps of strings and lists always encode
	}
	return append(out, '\n')
}

// exampleTarget is a whole target.
func exampleTarget() object {
	return object{
		"dbt": object{"type": "snowflake", "account": "acme-prod", "user": "DBT_PROD", "database": "ANALYTICS",
			"warehouse": "TRANSFORMING", "schema": "marts"},
		"exchange": object{"oidc": object{"audience": "snowflakecomputing.com"}},
		"allow":    []any{exampleRule()},
	}
}

func exampleRule() object {
	return object{"repository": "acme/analytics", "repository_id": "487920697", "environment": "production",
		"ref": "refs/heads/main"}
}

func textSchema(doc string, examples ...string) object {
	o := object{"type": "string", "minLength": 1, "description": doc}
	if len(examples) > 0 {
		o["examples"] = examples
	}
	return o
}

// listSchema is of a list of strings, or of one string.
func listSchema(doc string, examples ...string) object {
	o := object{"description": doc,
		"oneOf": []any{object{"type": "string", "minLength": 1},
			object{"type": "array", "minItems": 1, "items": object{"type": "string", "minLength": 1}}}}
	if len(examples) > 0 {
		o["examples"] = examples
	}
	return o
}

func durationSchema(doc string) object {
	return object{"type": "string", "pattern": strictyaml.DurationPattern, "description": doc,
		"examples": []string{"30m", "1h", "90d"}}
}

func identitySchema() object {
	return object{
		"type": "object", "additionalProperties": false,
		"if":   object{"not": object{"required": []string{"issuer"}}},
		"then": object{"required": []string{"kind"}, "properties": object{"kind": object{"enum": oneIssuer()}}},
		"properties": object{
			"issuer": textSchema("The issuer of the ID tokens, to the letter; left out for a kind with one issuer for all.",
				"https://token.actions.githubusercontent.com"),
			"kind": object{"enum": slices.Sorted(maps.Keys(kinds)),
				"description": "Whose tokens they are; left out where the issuer is a known one."},
			"jwks_uri": textSchema("The address of the issuer's keys (default: known for GitHub, else found by discovery).",
				"https://token.actions.githubusercontent.com/.well-known/jwks"),
			"jwks_file": textSchema("In the place of jwks_uri: a file with the issuer's JWK set, relative to the policy.", "jwks.json"),
			"jwks":      textSchema("In the place of jwks_uri: the issuer's JWK set, as JSON.", `{"keys": []}`),
			"audience":  textSchema("The audience of every token, where its source cannot ask for another.", "acme-dbt"),
			"source":    sourceSchema(),
			"bind":      listSchema("For a workload: the claims that every rule must match by literals.", "sub"),
			"ids":       listSchema("For a workload: the claims whose values are never reused.", "project_id"),
			"aws_sso":   ssoSchema(),
			"client_id": textSchema("For people: the audience of their ID tokens.", "oidc-dbt"),
			"client_secret": textSchema("For people at Google only: what its desktop and device clients have; it is no secret.",
				"GOCSPX-0123456789"),
			"flow":   object{"enum": []string{"browser", "device"}, "description": "For people: how they sign in."},
			"scopes": listSchema("For people: the scopes to ask for.", "openid"),
		},
	}
}

// oneIssuer are the kinds that have one issuer for all.
func oneIssuer() (names []string) {
	for _, name := range Kinds() {
		if kinds[name].issuer != "" {
			names = append(names, name)
		}
	}
	return names
}

// sourceSchema is of `source`.
func sourceSchema() object {
	return object{
		"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
		"description": "Where the identity's tokens come from (default: what the kind's system documents).",
		"examples":    []any{object{"file": "/var/run/secrets/oidc-dbt/token"}},
		"properties": object{
			"env":  textSchema("The name of a variable that holds the token.", "OIDC_DBT_ID_TOKEN"),
			"file": textSchema("A file that holds the token; it is read again for each.", "/var/run/secrets/oidc-dbt/token"),
			"command": listSchema("A program and its arguments, run without a shell, that prints the token; {audience} is the audience.",
				"spire-agent"),
			"unix_socket": object{"enum": unixSockets, "description": "The machine's own service that hands out tokens over a socket."},
		},
	}
}

// ssoSchema is of `aws_sso`.
func ssoSchema() object {
	return object{
		"type": "object", "additionalProperties": false, "required": ssoRequired,
		"description": "For people who sign in through AWS IAM Identity Center.",
		"examples": []any{object{"start_url": "https://acme.awsapps.com/start", "region": "eu-central-1", "account": "123456789012",
			"role": "Analyst"}},
		"properties": object{
			"start_url": textSchema("The address of the access portal.", "https://acme.awsapps.com/start"),
			"region":    textSchema("The region of IAM Identity Center.", "eu-central-1"),
			"account":   textSchema("The account of the role.", "123456789012"),
			"role":      textSchema("The permission set.", "Analyst"),
			"session":   textSchema("The name of the sso-session in the AWS CLI's configuration: `login` then signs the CLI in, too.", "acme"),
			"endpoint": textSchema("An address of loopback where AWS is simulated, for tests (default: AWS's own endpoints of the region).",
				"http://127.0.0.1:4566"),
		},
	}
}

// lifetimesSchema is of `max_lifetime`: one for all, or one for each kind of actor.
func lifetimesSchema() object {
	byActor := object{}
	for _, kind := range actorKinds {
		byActor[kind] = durationSchema("The longest lifetime for this kind of actor.")
	}
	return object{
		"description": "The longest lifetime that is accepted, or one for each kind of actor; a kind that is not listed gets the shortest.",
		"examples":    []any{"1h", object{"user": "8h", "agent": "15m"}},
		"oneOf": []any{durationSchema("For all."),
			object{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": byActor}},
	}
}

// mapsSchema is of `maps`.
func mapsSchema() object {
	return object{
		"type": "object", "minProperties": 1, "propertyNames": object{"pattern": mapName.String(), "maxLength": maxNameText},
		"description": "Values by a claim: a map called team makes ${team} of it in the values under dbt and exchange.",
		"examples":    []any{object{"team": object{"repository_id": object{"101": "FINANCE", "102": "SALES"}}}},
		"additionalProperties": object{
			"type": "object", "minProperties": 1, "maxProperties": 1,
			"propertyNames": object{"pattern": claimText.String(), "maxLength": maxClaimName},
			"properties":    object{"sub": false, "pull_number": false},
			"description":   "The one claim that the map is by, which each rule of a target that uses it matches by literals of the map.",
			"additionalProperties": object{
				"type": "object", "minProperties": 1, "propertyNames": object{"pattern": `^[^*]*$`},
				"additionalProperties": object{"type": "string", "pattern": peopleText.String(), "maxLength": maxFill},
			},
		},
	}
}

// denyRuleSchema is of a rule of `deny`.
func denyRuleSchema() object {
	s := ruleSchema()
	s["not"] = object{"required": []string{"identity"}, "maxProperties": 1} // every token of the identity
	s["properties"].(object)["guard"] = false
	return s
}

func ruleSchema() object {
	return object{
		"type": "object", "minProperties": 1,
		"propertyNames": object{"pattern": claimText.String(), "maxLength": maxClaimName},
		"properties": object{"identity": textSchema("Whose tokens the rule is for (default: github).", "github"),
			"guard": guardSchema("Which statements go on of those whom the rule admits: it only tightens the target's guard.", ruleGuardKeys)},
		"additionalProperties": listSchema("A claim and what it may be: `*` matches within one segment, `**` across segments."),
	}
}

// guardSchema is of a guard with some of the keys.
func guardSchema(doc string, keys []string) object {
	class := object{"enum": sqlguard.Classes()}
	all := object{
		"statements": object{"enum": sqlguard.Levels, "description": "What is admitted: `read` (and transactions), " +
			"`build` (what dbt itself sends, except grants), or `any`."},
		"also": object{"description": "Classes that are admitted in addition.", "examples": []any{[]string{"grant"}},
			"oneOf": []any{class, object{"type": "array", "minItems": 1, "items": class}}},
		"limits": object{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": object{
			"statement_timeout": durationSchema("How long a statement may run: from 1s to 7d."),
			"scan": object{"type": "string", "pattern": sizePattern, "examples": []string{"500GB"},
				"description": "How much a statement may read, in B, kB, MB, GB, TB or PB, or KiB to PiB; at Trino and ClickHouse."},
		}, "description": "What the warehouse is asked to hold of each statement.",
			"examples": []any{object{"statement_timeout": "30m"}}},
		"mode": object{"enum": guardModes,
			"description": "`observe` lets pass what would be denied, and records it (default: enforce)."},
		"stop_after": object{"type": "integer", "minimum": 1, "maximum": maxStopAfter, "examples": []int{20},
			"description": "How many denials end the run (default: none do)."},
		"record": object{"enum": recordModes,
			"description": "Whether records have the text of statements, with the data in it (default: digest, its SHA-256 only)."},
	}
	properties := object{}
	for _, key := range keys {
		properties[key] = all[key]
	}
	return object{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": properties, "description": doc,
		"examples": []any{object{"statements": "read"}}}
}

// requiring returns a schema with keys that must be there.
func requiring(schema object, keys ...string) object {
	schema["required"] = keys
	return schema
}

// targetSchema is of a target.
func targetSchema(cat Catalog) object {
	target := object{
		"type": "object", "additionalProperties": false, "required": []string{"exchange", "allow"},
		"not": object{"required": []string{"dbt", "client"}},
		"properties": object{
			"dbt": object{"description": "One output of profiles.yml without its secrets, or where to read it; " +
				"omitted for credentials only.", "oneOf": outputsSchema(cat), "examples": []any{exampleTarget()["dbt"]}},
			"client": object{"description": "In the place of dbt: the warehouse whose other clients get the credential, " +
				"or a mapping of its type and the place.", "oneOf": clientsSchema(cat), "examples": []string{"snowflake"}},
			"exchange": object{"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
				"properties": providersSchema(cat), "description": "The one provider that gives the credential."},
			"allow": object{"type": "array", "minItems": 1, "items": ruleSchema(),
				"description": "Rules: any of them; inside a rule: all of it.", "examples": []any{[]any{exampleRule()}}},
			"profiles":     profilesSchema(),
			"lifetime":     durationSchema("The lifetime to ask for (default: the provider's)."),
			"max_lifetime": lifetimesSchema(),
			"agents": object{"enum": agentRules,
				"description": "Whether AI agents are refused, or are the only ones admitted (default: neither)."},
			"guard": requiring(guardSchema(
				"Which statements go on to the warehouse, by classes (default: all, unrecorded).", guardKeys), "statements"),
			"proxy": object{"type": "boolean",
				"description": "Whether dbt may connect through a proxy on loopback that keeps it logged in (default: true; with client: false)."},
			"trust_reviewed": object{"type": "string", "format": "date", "description": "When the trust was last reviewed.",
				"examples": []string{"2026-10-01"}},
			"trust_max_age": durationSchema("A review that is older denies every request."),
		},
	}
	if rules := needsDBTSchema(cat); rules != nil {
		target["allOf"] = rules
	}
	return target
}

// partialSchema is of a target that leaves keys to `defaults`: only Parse sees
// what the two come to.
func partialSchema(cat Catalog) object {
	target := targetSchema(cat)
	delete(target, "allOf")
	target["required"] = []string{"allow"}
	properties := target["properties"].(object)
	delete(properties["guard"].(object), "required")
	exchange := properties["exchange"].(object)
	for _, block := range exchange["properties"].(object) {
		loosen(block.(object))
		block.(object)["type"] = []string{"object", "null"}
	}
	properties["dbt"] = object{
		"type": "object", "minProperties": 1, "description": "One output of profiles.yml; keys that are left out are those of the defaults.",
		"properties": object{
			"type":   object{"enum": slices.Sorted(maps.Keys(cat.Adapters)), "description": typeDoc},
			"from":   textSchema("A profiles.yml, relative to project-dir.", "profiles.yml"),
			"output": textSchema("The output's name (default: the target's name).", "prod"),
			"with":   object{"type": "object", "minProperties": 1, "description": withDoc, "examples": withExamples()},
		},
		"patternProperties": object{secretKeyPattern: object{"type": []string{"boolean", "null"}}},
	}
	return target
}

// loosen lets keys be left out, at any depth.
func loosen(schema object) {
	delete(schema, "required")
	properties, _ := schema["properties"].(object)
	for _, s := range properties {
		if s, ok := s.(object); ok {
			loosen(s)
		}
	}
}

// defaultsSchema is of `defaults`.
func defaultsSchema(cat Catalog) object {
	s := partialSchema(cat)
	delete(s, "required")
	delete(s["properties"].(object), "allow")
	s["minProperties"] = 1
	s["description"] = "Keys that each target has unless it says otherwise: mappings are merged key by key, anything else is replaced. " +
		"Another provider, or a dbt block of another type, replaces the default."
	s["examples"] = []any{object{
		"dbt":           object{"type": "snowflake", "account": "acme-prod"},
		"exchange":      object{"oidc": object{"audience": "snowflakecomputing.com"}},
		"trust_max_age": "90d",
	}}
	return s
}

// providersSchema is of the blocks under `exchange`, by their names.
func providersSchema(cat Catalog) object {
	providers := object{}
	for name, p := range cat.Providers {
		providers[name] = keysSchema(p.Keys)
		providers[name].(object)["description"] = p.Doc
	}
	return providers
}

// needsDBTSchema is of the providers whose credential is of no use without a
// warehouse.
func needsDBTSchema(cat Catalog) (rules []any) {
	for _, name := range slices.Sorted(maps.Keys(cat.Providers)) {
		if cat.Providers[name].NeedsDBT {
			rules = append(rules, object{
				"if":   object{"properties": object{"exchange": object{"required": []string{name}}}},
				"then": object{"anyOf": []any{object{"required": []string{"dbt"}}, object{"required": []string{"client"}}}},
			})
		}
	}
	return rules
}

// secretKeyPattern matches what is named like a secret; Parse knows more forms.
const secretKeyPattern = `^(?:[A-Za-z0-9_]*_)?(?:pass|passwd|passphrase|pwd|token|secret|secret_key|secret_access_key|` +
	`access_key|private_key|api_key|apikey|keyfile_json)$|[Pp]assword$`

// outputsSchema is of the forms of a `dbt` block: an adapter's keys, or a file.
func outputsSchema(cat Catalog) (outputs []any) {
	for _, name := range slices.Sorted(maps.Keys(cat.Adapters)) {
		outputs = append(outputs, outputSchema(name, cat.Adapters[name]))
	}
	return append(outputs, fromSchema())
}

const (
	typeDoc = "The warehouse, by dbt's name for its adapter."
	withDoc = "Keys of that output which the policy gives: they replace its own, or are added."
)

func withExamples() []any { return []any{object{"account": "acme-prod"}} }

func typeSchema(name string) object { return object{"const": name, "description": typeDoc} }

func outputSchema(name string, a Adapter) object {
	properties := object{"type": typeSchema(name), "with": false,
		"output": textSchema("The output's name in profiles.yml (default: the target's name).", "prod")}
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
		"patternProperties": object{secretKeyPattern: object{"type": []string{"boolean", "null"}}},
	}
	if len(either) > 0 {
		output["allOf"] = either
	}
	return output
}

// fromSchema is of an output that is read from a profiles.yml.
func fromSchema() object {
	return object{
		"type": "object", "additionalProperties": false, "required": []string{"from"},
		"properties": object{
			"from":   textSchema("A profiles.yml, relative to project-dir.", "profiles.yml"),
			"output": textSchema("The output in it that gets the credential (default: the target's name).", "prod"),
			"with": object{
				"type": "object", "minProperties": 1, "properties": object{"output": false},
				"patternProperties": object{secretKeyPattern: object{"type": []string{"boolean", "null"}}},
				"description":       withDoc, "examples": withExamples(),
			},
		},
	}
}

// clientExamples are values of the keys that clients may have.
var clientExamples = map[string][]any{
	"account": {"acme-prod"}, "database": {"ANALYTICS"}, "host": {"warehouse.acme.example"}, "port": {443},
	"protocol": {"https"}, "role": {"TRANSFORMER"}, "schema": {"marts"}, "user": {"DBT_PROD"}, "warehouse": {"TRANSFORMING"},
}

func clientsSchema(cat Catalog) []any {
	clients := []any{object{"enum": clientNames(cat)}}
	for _, name := range clientNames(cat) {
		properties := object{"type": typeSchema(name)}
		for _, key := range cat.Adapters[name].Client {
			properties[key] = object{"type": []string{"string", "integer"}, "examples": clientExamples[key],
				"description": "As in an output of dbt's: the client gets it."}
		}
		clients = append(clients, object{
			"type": "object", "additionalProperties": false, "properties": properties, "required": []string{"type"},
			"dependentRequired": needing(cat.Adapters[name].Client),
		})
	}
	return clients
}

func profilesSchema() object {
	return object{
		"type": "object", "minProperties": 1, "propertyNames": object{"minLength": 1, "maxLength": maxProfileName},
		"description": "Further profiles that get the output with these keys in place of its own, " +
			"such as elementary's with a schema of its own.",
		"examples": []any{object{"elementary": object{"schema": "elementary"}}},
		"additionalProperties": object{
			"type": "object", "minProperties": 1, "properties": object{"output": false, "type": false},
			"patternProperties":    object{secretKeyPattern: object{"type": "boolean"}},
			"additionalProperties": object{"type": []string{"string", "number", "boolean"}},
		},
	}
}

// needing has each key but the first need that one.
func needing(keys []string) object {
	o := object{}
	for _, key := range keys[1:] {
		o[key] = keys[:1]
	}
	return o
}

func keysSchema(keys []Key) object {
	properties := object{}
	required := []string{}
	for _, k := range keys {
		switch {
		case k.Keys != nil:
			properties[k.Name] = keysSchema(k.Keys)
			properties[k.Name].(object)["description"] = k.Doc
		case k.Names != nil:
			properties[k.Name] = object{"type": "object", "minProperties": 1,
				"additionalProperties": object{"type": "string", "minLength": 1}, "description": k.Doc}
		case k.Bool:
			properties[k.Name] = object{"type": "boolean", "description": k.Doc}
		case k.List:
			properties[k.Name] = listSchema(k.Doc)
		case k.Choices != nil:
			properties[k.Name] = object{"enum": k.Choices, "description": k.Doc}
		default:
			properties[k.Name] = textSchema(k.Doc)
		}
		name, value, _ := strings.Cut(k.Example, ": ")
		switch {
		case k.Example == "":
		case k.Names != nil:
			properties[k.Name].(object)["examples"] = []any{object{name: value}}
		default:
			properties[k.Name].(object)["examples"] = []string{k.Example}
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

// auditSchema is of `audit`.
func auditSchema() object {
	return object{
		"type": "object", "additionalProperties": false,
		"description": "Where audit records are shipped to, so that the job cannot change them there.",
		"anyOf":       []any{object{"required": []string{"otlp"}}, object{"required": []string{"bucket"}}},
		"properties": object{
			"otlp": object{
				"type": "object", "additionalProperties": false, "required": []string{"endpoint"},
				"description": "An OpenTelemetry collector, by OTLP/HTTP with JSON.",
				"properties": object{"endpoint": textSchema("The collector's URL; /v1/logs is added to it. "+
					"OpenTelemetry's variables may give headers and certificates.", "https://otel.acme.example")},
			},
			"bucket": object{
				"type": "object", "additionalProperties": false, "required": []string{"target", "url"},
				"description": "One object a record, which is never overwritten.",
				"properties": object{
					"target": textSchema("A target for credentials only, which may write the bucket and nothing else.", "audit-log"),
					"url": textSchema("s3://BUCKET/PREFIX/, gs://BUCKET/PREFIX/ or https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX/.",
						"s3://acme-audit/oidc-dbt/"),
					"endpoint": textSchema("Of S3 elsewhere than at AWS.", "https://minio.acme.example"),
				},
			},
			"require": object{"description": "Which of them must have a record before a credential is handed on (default: none).",
				"examples": []any{[]string{"bucket"}},
				"oneOf":    []any{object{"enum": auditWays}, object{"type": "array", "minItems": 1, "items": object{"enum": auditWays}}}},
		},
		"examples": []any{object{"otlp": object{"endpoint": "https://otel.acme.example"}}},
	}
}
