package adapter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// freeForm are the keys under which each adapter takes names of the user's own.
var freeForm = map[string][]string{
	"athena":     {"seed_s3_upload_args", "lf_tags_database"},
	"bigquery":   {"dataproc_batch"},
	"clickhouse": {"custom_settings"},
	"databricks": {"connection_parameters", "session_properties", "compute"},
	"duckdb":     {"settings", "config_options", "remote", "retries", "secrets", "attach", "filesystems", "plugins"},
	"snowflake":  {"session_parameters"},
	"spark":      {"server_side_parameters"},
	"trino":      {"http_headers", "session_properties", "roles"},
}

// TestShapes: a login in a value of another shape than dbt takes is refused,
// and no error repeats it.
func TestShapes(t *testing.T) {
	t.Parallel()
	shapes := []string{
		`"X-Team: hunter2"`, `hunter2`, `4711`, `["X-Team: hunter2"]`, `["Authorization: Basic hunter2"]`, `[Authorization, hunter2]`, `[[Authorization, hunter2]]`, `[[X-Api-Key, hunter2]]`,
		`[{name: X-Api-Key, value: hunter2}]`, `[{key: password, value: hunter2}]`, `[X-Api-Key=hunter2]`, `{x: ["X-Api-Key: hunter2"]}`, `{x: [[X-Api-Key, hunter2]]}`, `{x: [{name: X-Api-Key, value: hunter2}]}`,
		`{x: {header: authorization, value: hunter2}}`,
	}
	for _, dbtType := range adapter.Types() {
		for _, key := range freeForm[dbtType] {
			provider := adapter.Specs()[dbtType].Providers[0]
			if dbtType == "duckdb" && slices.Contains([]string{"secrets", "attach", "plugins", "remote"}, key) {
				continue // logins for elsewhere; their shapes are below
			}
			for _, shape := range shapes {
				block := node(t, strings.TrimSuffix(standin.PairBlock(dbtType, provider), "}")+fmt.Sprintf(", %s: %s}", key, shape))
				err := adapter.CheckPlaces(dbtType, provider, "", block)
				if err == nil || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s with %s, %s: %s: %v", dbtType, provider, key, shape, err)
				}
			}
		}
	}
	const single, list = " is a single value, want a mapping", " is a list, want a mapping"
	testPlaces(t, []placeCase{
		{name: "a list of headers", provider: "oidc", audience: "trino.acme.example", block: `{type: trino, host: trino.acme.example, port: 443, database: d, schema: s, http_headers: ["Authorization: Bearer hunter2"]}`,
			err: "http_headers is a list, want a mapping\nhttp_headers[0] holds a secret (…): remove it"},
		{name: "headers as a text", provider: "oidc", audience: "trino.acme.example", block: `{type: trino, host: trino.acme.example, port: 443, database: d, schema: s, http_headers: x}`, err: "http_headers" + single},
		{name: "headers that dbt knows", provider: "oidc", audience: "trino.acme.example", block: `{type: trino, host: trino.acme.example, port: 443, database: d, schema: s, http_headers: "{{ env_var('H') }}"}`},
		{name: "no headers", provider: "oidc", audience: "trino.acme.example", block: `{type: trino, host: trino.acme.example, port: 443, database: d, schema: s, http_headers: null}`},
		{name: "Databricks' headers", provider: "databricks", block: `{type: databricks, host: acme.cloud.databricks.com, http_path: /sql, schema: s, connection_parameters: {http_headers: [x]}}`, err: "connection_parameters.http_headers" + list},
		{name: "parameters that dbt knows", provider: "databricks", block: `{type: databricks, host: acme.cloud.databricks.com, http_path: /sql, schema: s, connection_parameters: "{{ x }}"}`,
			err: "connection_parameters must be a literal: it decides where the token is sent"},
		{name: "a secret that is none", provider: "aws", block: `{type: duckdb, secrets: [x, {type: s3}]}`, err: "secrets[0]" + single},
		{name: "secrets as a mapping", provider: "aws", block: `{type: duckdb, secrets: {a: {type: s3}}}`, err: "secrets is a mapping, want a list of mappings"},
		{name: "options as a list", provider: "aws", block: `{type: duckdb, attach: [{path: p, options: [x]}]}`, err: "attach[0].options" + list},
		{name: "a list that is one", provider: "oidc", audience: "trino.acme.example", block: `{type: trino, host: trino.acme.example, port: 443, database: d, schema: s, client_tags: ["team: data", "a=b"]}`},
	})
}
