package policy_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// TestSchema: editors accept what Parse accepts, and complain about what a
// schema can say. Faults of meaning only Parse finds.
func TestSchema(t *testing.T) {
	t.Parallel()
	text := policy.Schema(catalog())
	if !bytes.Equal(text, policy.Schema(catalog())) {
		t.Error("the schema is another one each time")
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("policy.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(src string) error {
		var v any
		if err := yaml.Unmarshal([]byte(src), &v); err != nil {
			return err
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			return err
		}
		// YAML's date becomes a time on the way; editors see the text.
		asJSON = []byte(strings.ReplaceAll(string(asJSON), "T00:00:00Z", ""))
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			return err
		}
		return schema.Validate(instance)
	}
	for name, src := range map[string]string{
		"example": example, "starter": policy.Starter(func(string) string { return "" }), "rules": policyOf(`{repository: acme/analytics}`, `{repository_id: ["1", "2"]}`),
		"from":     "version: 1\ntargets: {prod: {dbt: {from: profiles.yml, output: prod}, exchange: {oidc: {audience: x}}, allow: [{repository_id: \"1\"}]}}",
		"profiles": "version: 1\ntargets: {prod: {dbt: {from: profiles.yml}, profiles: {elementary: {schema: e, threads: 2}}, exchange: {oidc: {audience: x}}, allow: [{repository_id: \"1\"}]}}",
		"chain":    "version: 1\ntargets: {lake: {exchange: {aws: {role: r, region: x, policy_arns: a, then_assume: {role: r}}}, allow: [{repository_id: \"1\"}], lifetime: 15m, trust_max_age: 90d}}",
		"defaults": defaulted,
		"audit":    shipped(`{otlp: {endpoint: "https://otel.acme.example"}, bucket: {target: audit-log, url: "s3://acme/"}, require: [otlp, bucket]}`, `{aws: {role: r, region: x}}`),
		"jitter":   "version: 1\nstart_jitter: 30s\ntargets: {prod: {client: snowflake, exchange: {oidc: {audience: x}}, allow: [{repository_id: \"1\"}]}}",
		"maps":     mapped("dbt-${team}", `{repository_id: ["2", "487920697"]}`),
		"deny":     denying(`{actor: mallory}`, `{identity: github, repository_id: ["1", "2"]}`),
		"guard":    guarding(`{statements: build, also: [grant], limits: {statement_timeout: 30m}, mode: observe, stop_after: 20, record: text}`, `{repository_id: "1", guard: {statements: read, also: write, limits: {statement_timeout: 1m}, mode: enforce}}`),
		"switch":   "version: 1\ntargets: {prod: {dbt: {type: snowflake, account: a, client_request_mfa_token: true}, exchange: {oidc: {audience: x}}, allow: [{repository_id: \"1\"}]}}",
	} {
		if err := validate(src); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	archive, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		t.Fatal(err)
	}
	refuses := map[string]bool{}
	for _, file := range archive.Files {
		if name, ok := strings.CutSuffix(file.Name, ".yml"); ok {
			refuses[name] = validate(string(file.Data)) != nil
		}
	}
	for _, name := range []string{
		"yaml/unknown-key", "yaml/not-a-mapping", "policy/no-version", "policy/version-2", "policy/version-string", "policy/no-targets", "policy/targets-empty", "policy/target-name",
		"identities/empty", "identities/no-issuer", "identities/unknown-kind", "identities/unknown-key", "rules/no-allow", "rules/allow-empty", "rules/empty-rule", "rules/string-rule",
		"rules/empty-list", "rules/empty-string", "rules/number", "rules/boolean", "rules/mapping", "rules/claim-name", "exchange/none", "exchange/empty", "exchange/two", "exchange/unknown",
		"exchange/missing-key", "exchange/switch-is-a-string", "exchange/switch-is-a-list", "exchange/unknown-key", "exchange/wrong-type", "exchange/nested", "exchange/list-empty", "exchange/oidc-without-dbt", "lifetime/not-a-duration", "lifetime/number",
		"trust/not-a-date", "dbt/list", "dbt/no-type", "dbt/unknown-type", "dbt/missing-key", "dbt/written-key", "dbt/from-and-keys", "secrets/password", "secrets/token", "secrets/adapters-own", "profiles/list", "profiles/empty", "profiles/secret", "profiles/nested",
		"defaults/list", "defaults/empty", "defaults/allow", "defaults/unknown-key", "defaults/unknown-nested-key", "defaults/secret", "defaults/no-target-key",
		"maps/list", "maps/empty", "maps/name", "maps/two-claims", "maps/no-claim", "maps/two-forms", "maps/wildcard", "maps/no-literals", "maps/number", "maps/value",
		"deny/list", "deny/empty", "deny/nothing", "deny/empty-rule", "deny/string-rule", "deny/only-identity", "deny/number", "jitter/number",
		"guard/not-a-mapping", "guard/empty", "guard/unknown-level", "guard/unknown-class", "guard/mode", "guard/stop-after", "guard/stop-after-text", "guard/record",
		"guard/limits-not-a-mapping", "guard/limits-empty", "guard/limits-unknown", "guard/limits-without-unit", "guard/limits-scan-unit",
		"guard/limits-scan-number", "guard/limits-scan-none", "guard/rule-record", "guard/rule-empty", "guard/deny",
	} {
		if refused, known := refuses[name]; !refused || !known {
			t.Errorf("%s: the schema accepts it (in testdata: %t)", name, known)
		}
	}
}
